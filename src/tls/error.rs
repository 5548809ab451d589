//! Why the files of TLS cannot be used.

use std::path::{Path, PathBuf};

/// A file that cannot be used, under the name of its variable.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {} {problem}", path.display())]
pub struct TlsError {
    variable: &'static str,
    path: PathBuf,
    problem: String,
}

impl TlsError {
    pub(super) fn new(variable: &'static str, path: &Path, problem: impl Into<String>) -> Self {
        Self {
            variable,
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
