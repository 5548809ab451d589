//! TLS on both ports: the certificates, their reload, the handshake, and who the client is.
//!
//! TLS 1.3 and 1.2 by rustls with aws-lc-rs. Sessions are never resumed: a session ticket would outlive the certificate, or the
//! authority, that was checked when the ticket was issued.

mod clients;
mod error;
mod handshake;
mod pair;
mod peer;
mod refusals;
mod reload;
mod server;

pub use error::TlsError;
pub use handshake::{Accepted, TlsPort};
pub use peer::PeerCertificate;
pub use refusals::{Refusal, Refusals};
pub use reload::{TlsReloader, TlsState};

#[cfg(test)]
mod tests;
