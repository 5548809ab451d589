//! Countersign: a gRPC authentication service.
//!
//! The layers, top to bottom; each imports only layers below it (`tests/tidy.rs` checks it):
//! `cli` → `server` → `grpc` → `http` → `tls` → `auth` → `import` → `mail` → `revocation` → `workloads` → `factors` → `tokens` → `passwords` → `store` → `domain`
//! → `telemetry` → `config` → `clock`, `cores`, `secret`.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cores;
pub mod domain;
pub mod factors;
pub mod grpc;
pub mod http;
pub mod import;
pub mod mail;
pub mod passwords;
pub mod revocation;
pub mod secret;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod workloads;
