//! How a connection to PostgreSQL is encrypted: the parameters `ssl…` of its URL, with libpq's meaning.

use std::path::PathBuf;

use super::{
    postgres_parameters::{Wrong, choice},
    regular_file::open_regular,
};

/// `sslmode` and the files that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTls {
    /// How far encryption is demanded.
    pub mode: TlsMode,
    /// The certificates that are trusted (`sslrootcert`); `None` are the system's.
    pub root_file: Option<PathBuf>,
    /// The client's certificate and its key (`sslcert`, `sslkey`).
    pub client_files: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins without asking (`sslnegotiation=direct`, PostgreSQL 17).
    pub is_direct: bool,
    /// Whether TLS 1.2 is refused (`ssl_min_protocol_version=TLSv1.3`).
    pub only_1_3: bool,
}

/// How far encryption is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// None.
    Disable,
    /// Where the server has it.
    Prefer,
    /// Always, with any certificate.
    Require,
    /// With a certificate of the given authority, whatever host it names.
    VerifyCa,
    /// With a certificate of a trusted authority for this host.
    VerifyFull,
}

#[derive(Default)]
pub(super) struct TlsReader {
    mode: Option<TlsMode>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    is_direct: bool,
    only_1_3: bool,
}

impl TlsReader {
    pub fn parameter(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        match key {
            "sslmode" => {
                let modes = [
                    ("disable", TlsMode::Disable),
                    ("prefer", TlsMode::Prefer),
                    ("require", TlsMode::Require),
                    ("verify-ca", TlsMode::VerifyCa),
                    ("verify-full", TlsMode::VerifyFull),
                ];
                self.mode = Some(choice(key, value, &modes)?);
            }
            "sslrootcert" => self.root = Some(value.to_owned()),
            "sslcert" => self.certificate = Some(PathBuf::from(value)),
            "sslkey" => self.key = Some(PathBuf::from(value)),
            "sslnegotiation" => {
                self.is_direct = choice(key, value, &[("postgres", false), ("direct", true)])?;
            }
            "ssl_min_protocol_version" => {
                self.only_1_3 = choice(key, value, &[("TLSv1.2", false), ("TLSv1.3", true)])?;
            }
            "sslcompression" => choice(key, value, &[("0", ())])?,
            "sslsni" => choice(key, value, &[("1", ())])?,
            _ => return Err(format!("the parameter {key} is not supported")),
        }
        Ok(())
    }

    /// The settings; `only_sockets` when no server is reached over TCP.
    pub fn finish(self, only_sockets: bool) -> Result<PostgresTls, Wrong> {
        let uses_system = self.root.as_deref() == Some("system");
        let mut mode = self.mode.unwrap_or(match uses_system {
            true => TlsMode::VerifyFull,
            false => TlsMode::Prefer,
        });
        let root_file = self.root.filter(|_| !uses_system).map(PathBuf::from);
        // As to libpq: whoever names an authority wants it to be asked.
        if mode == TlsMode::Require && root_file.is_some() {
            mode = TlsMode::VerifyCa;
        }
        if uses_system && mode < TlsMode::VerifyFull {
            return Err("sslrootcert=system needs sslmode=verify-full".to_owned());
        }
        if mode == TlsMode::VerifyCa && root_file.is_none() {
            return Err(
                "sslmode=verify-ca needs sslrootcert=FILE: by the system's authorities any host could \
                 pass for this one; use sslmode=verify-full"
                    .to_owned(),
            );
        }
        if self.is_direct && mode < TlsMode::Require {
            return Err("sslnegotiation=direct needs sslmode=require or more".to_owned());
        }
        let client_files = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("sslcert and sslkey belong together".to_owned()),
        };
        // A socket is not encrypted, to libpq neither.
        if only_sockets {
            mode = TlsMode::Disable;
        }
        let tls = PostgresTls {
            mode,
            root_file,
            client_files,
            is_direct: self.is_direct,
            only_1_3: self.only_1_3,
        };
        check_files(&tls)?;
        Ok(tls)
    }
}

/// Whether the files can be read now; that they hold what they should is checked when they are used.
fn check_files(tls: &PostgresTls) -> Result<(), Wrong> {
    let client = tls.client_files.as_ref();
    let files = [
        ("sslrootcert", tls.root_file.as_ref()),
        ("sslcert", client.map(|(certificate, _)| certificate)),
        ("sslkey", client.map(|(_, key)| key)),
    ];
    for (key, file) in files {
        if let Some(Err(error)) = file.map(|file| open_regular(file)) {
            return Err(format!("the file of {key} cannot be read: {error}"));
        }
    }
    Ok(())
}
