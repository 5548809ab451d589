//! The process: hands the command line to `cli` and turns its outcome into an exit code.

use std::process::ExitCode;

/// Validation allocates a handful of small strings per call; mimalloc makes that nearly free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::cli::run()
}
