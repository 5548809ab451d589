//! The HTTP port: the public keys and where to find them, for verifiers; metrics, for Prometheus.
//!
//! HTTP/1.1 in plain text, for GET and HEAD. It tells nothing that is secret, but who reads `/metrics`
//! learns how busy the service is: what publishes this port to the world should let in
//! `/.well-known/` alone.

mod accept;
mod document;
mod metadata;
mod metrics;
mod port;
mod routes;

pub use accept::next_connection;
pub use port::HttpPort;
pub use routes::Site;
