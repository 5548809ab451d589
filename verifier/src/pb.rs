//! The generated messages and clients.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

tonic::include_proto!("countersign.auth.v1");
