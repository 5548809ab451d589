//! Why handshakes are refused: a small set of reasons, counted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{CertificateError, Error};

use crate::telemetry::LogLimit;

/// The type of the record with which a client begins (RFC 8446 section 5.1). Neither HTTP/2 nor a request of HTTP/1.1 begins with
/// this byte.
const HANDSHAKE_RECORD: u8 = 22;

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
    /// The client does not use TLS.
    PlainText,
    /// The client uses TLS on a port without TLS.
    TlsOff,
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
    const ALL: [Self; 13] = [
        Self::NoCertificate,
        Self::UnknownIssuer,
        Self::Expired,
        Self::Purpose,
        Self::BadCertificate,
        Self::NothingInCommon,
        Self::NoProtocol,
        Self::PlainText,
        Self::TlsOff,
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
            Self::TlsOff => "tls_off",
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

/// How many handshakes were refused for each reason, on both ports. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<[RefusalCount; Refusal::ALL.len()]>);

#[derive(Debug, Default)]
struct RefusalCount {
    total: AtomicU64,
    log_limit: Mutex<LogLimit>,
}

impl Refusals {
    /// Counts a refusal, and logs it unless one for the same reason was logged lately.
    pub(super) fn add(&self, refusal: Refusal, cause: &str, peer: SocketAddr) {
        let count = &self.0[refusal as usize];
        count.total.fetch_add(1, Ordering::Relaxed);
        let limit = count.log_limit.lock();
        if limit.unwrap_or_else(PoisonError::into_inner).permits() {
            let reason = refusal.name();
            tracing::warn!(%peer, reason, cause, "TLS: a handshake was refused");
        }
    }

    /// Looks at the first bytes that a client sends to a port without TLS, and counts a client that begins a handshake. The
    /// protocol of the port answers it, in plain text, and clients say that the version is wrong.
    pub fn count_tls_client_hello(&self, first_bytes: &[u8], peer: SocketAddr) {
        if first_bytes.first() == Some(&HANDSHAKE_RECORD) {
            let cause = "the client speaks TLS, and this port speaks plain text (COUNTERSIGN_TLS)";
            self.add(Refusal::TlsOff, cause, peer);
        }
    }

    /// Whether a port without TLS may have refused for this reason, which is the only one there.
    pub fn is_of_plain_text(reason: &str) -> bool {
        reason == Refusal::TlsOff.name()
    }

    /// The counts, by reason.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = Refusal::ALL.iter().zip(self.0.iter());
        counts
            .map(|(refusal, count)| (refusal.name(), count.total.load(Ordering::Relaxed)))
            .collect()
    }
}
