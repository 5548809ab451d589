//! Generates the messages and clients of the three services that the crate calls, with `protox`, so that no `protoc` is needed.

use std::error::Error;

const PROTOS: &[&str] = &[
    "countersign/auth/v1/auth_service.proto",
    "countersign/auth/v1/token_service.proto",
    "countersign/auth/v1/verifier_service.proto",
];

/// For the examples alone.
const EXAMPLES: &[&str] = &["orders.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/countersign");
    println!("cargo:rerun-if-changed=examples/proto");
    // The servers are for the crate's own tests, which have a feed of their own.
    for (protos, folder) in [(PROTOS, "proto"), (EXAMPLES, "examples/proto")] {
        let descriptors = protox::compile(protos, [folder])?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    }
    Ok(())
}
