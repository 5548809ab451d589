//! The HTTP port: the public keys and the metadata that verifiers look for, metrics for Prometheus, and health for load
//! balancers.
//!
//! HTTP/1.1 in plain text, GET and HEAD only. Nothing here is secret, but `/metrics` shows how busy the service is: a
//! proxy that publishes this port to the internet should let only `/.well-known/` through.

mod accept;
mod client_address;
mod document;
mod issuer_metrics;
mod metadata;
mod metrics;
mod port;
mod readiness;
mod routes;

pub use accept::Acceptor;
pub use client_address::ClientAddress;
pub use port::{HttpLimits, HttpPort};
pub use readiness::Readiness;
pub use routes::Site;
