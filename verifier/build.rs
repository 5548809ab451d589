//! Generates the messages and clients of the two services that the crate calls, with `protox`, so that no `protoc` is needed.

use std::error::Error;

const PROTOS: &[&str] = &[
    "countersign/auth/v1/auth_service.proto",
    "countersign/auth/v1/verifier_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/countersign");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // The servers are for the crate's own tests, which have a feed of their own.
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
