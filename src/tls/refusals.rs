//! Why handshakes are refused: a small set of reasons, counted.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{CertificateError, Error};

use crate::telemetry::LogLimit;

/// Why a handshake was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client has no certificate, and one is required.
    NoCertificate,
    /// Its certificate comes from an authority that is not accepted.
    UnknownIssuer,
    /// Its certificate has expired or is not valid yet.
    Expired,
    /// Its certificate is not for clients.
    Purpose,
    /// Its certificate cannot be used for another reason.
    BadCertificate,
    /// There is no protocol version, cipher suite or signature that both know.
    NothingInCommon,
    /// It offers no protocol of this port (ALPN).
    NoProtocol,
    /// It does not speak TLS.
    PlainText,
    /// It sent an alert: as a rule it does not accept the server's certificate.
    Alert,
    /// It closed the connection.
    Closed,
    /// It took too long.
    TimedOut,
    /// Anything else.
    Other,
}

impl Refusal {
    const ALL: [Self; 12] = [
        Self::NoCertificate,
        Self::UnknownIssuer,
        Self::Expired,
        Self::Purpose,
        Self::BadCertificate,
        Self::NothingInCommon,
        Self::NoProtocol,
        Self::PlainText,
        Self::Alert,
        Self::Closed,
        Self::TimedOut,
        Self::Other,
    ];

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::Purpose => "purpose",
            Self::BadCertificate => "bad_certificate",
            Self::NothingInCommon => "nothing_in_common",
            Self::NoProtocol => "no_alpn",
            Self::PlainText => "plaintext",
            Self::Alert => "alert",
            Self::Closed => "closed",
            Self::TimedOut => "timed_out",
            Self::Other => "other",
        }
    }

    /// The reason behind an error of a handshake.
    pub(super) fn of(error: &io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(error) => Self::of_tls(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Other,
            },
        }
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::InvalidMessage(_) => Self::PlainText,
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            _ => Self::BadCertificate,
        }
    }
}

/// How many handshakes were refused for each reason.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts([RefusalCount; Refusal::ALL.len()]);

#[derive(Debug, Default)]
struct RefusalCount {
    total: AtomicU64,
    log_limit: Mutex<LogLimit>,
}

impl RefusalCounts {
    /// Counts a refusal. Whether it may be logged.
    pub(super) fn add(&self, refusal: Refusal) -> bool {
        let count = &self.0[refusal as usize];
        count.total.fetch_add(1, Ordering::Relaxed);
        let limit = count.log_limit.lock();
        limit.unwrap_or_else(PoisonError::into_inner).permits()
    }

    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = Refusal::ALL.iter().zip(&self.0);
        counts
            .map(|(refusal, count)| (refusal.name(), count.total.load(Ordering::Relaxed)))
            .collect()
    }
}
