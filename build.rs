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
    // cargo gives these to the programs that it starts as well: they must not look like variables of our configuration.
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");

    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Reflection serves this file; the path is the one `grpc/mod.rs` includes.
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    let encoded = descriptors.encode_to_vec();
    println!(
        "cargo:rustc-env=BUILD_PROTOS={:016x}",
        fingerprint(&encoded)
    );
    fs::write(out, encoded)?;

    // `Bytes` fields and boxed enums are not in use: the messages are small and flat.
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The commit that is built, if the environment tells it. git is not asked: cargo would have to compile everything anew after
/// each commit, or the program would name an older one.
fn commit() -> Option<String> {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    env::var("BUILD_COMMIT")
        .ok()
        .filter(|commit| is_word(commit))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// FNV-1a, 64 bits: tells apart which protos two programs were built with.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
