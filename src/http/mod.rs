//! The HTTP port: the public keys and the metadata that verifiers look for, the OAuth endpoints, metrics for Prometheus,
//! and health for load balancers.
//!
//! HTTP/1.1. The documents are public, but `/metrics` shows how busy the service is: a proxy that publishes this port
//! should let only `/.well-known/` and `/oauth2/` through.

mod accept;
mod client_address;
mod document;
mod issuer_metrics;
mod metadata;
mod metrics;
mod oauth;
mod places;
mod port;
mod readiness;
mod routes;

pub use accept::Acceptor;
pub use client_address::ClientAddress;
pub use places::{Place, Places};
pub use port::{HttpLimits, HttpPort};
pub use readiness::Readiness;
pub use routes::Site;
