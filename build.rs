//! Compiles the protobuf files with `protox`, so that no `protoc` is needed on the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, error::Error, fs, path::PathBuf, process::Command};

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

/// The commit that is built, if that is known: from the environment, or in a release from git. Other builds do not ask git,
/// or each commit would compile everything anew.
fn commit() -> Option<String> {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    if let Ok(given) = env::var("BUILD_COMMIT") {
        return Some(given).filter(|commit| is_word(commit));
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    if fs::exists(".git/HEAD").unwrap_or(false) {
        println!("cargo:rerun-if-changed=.git/HEAD");
    }
    let git = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    (git.status.success() && is_word(&commit)).then_some(commit)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// FNV-1a, 64 bits: tells apart which protos two programs were built with.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
