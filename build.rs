//! Compiles the protobuf files with `protox`, so that no `protoc` is needed on the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: &[&str] = &[
    "countersign/auth/v1/account_service.proto",
    "countersign/auth/v1/admin_service.proto",
    "countersign/auth/v1/auth_service.proto",
    "countersign/auth/v1/service_account_service.proto",
    "countersign/auth/v1/token_service.proto",
    "countersign/auth/v1/verifier_service.proto",
    "envoy/service/auth/v3/external_auth.proto",
    // For reflection: clients that read the protos from there can then show the details of an error.
    "google/rpc/error_details.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");

    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Reflection serves this file; the path is the one `grpc/mod.rs` includes.
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;

    // `Bytes` fields and boxed enums are not in use: the messages are small and flat.
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
