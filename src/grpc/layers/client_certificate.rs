//! The client certificate of the connection that a request came over.

use std::sync::Arc;

use http::Extensions;

use crate::tls::PeerCertificate;

/// The verified certificate of the client; in the extensions of every request of a connection that has one.
#[derive(Clone, Debug)]
pub struct ConnectionCertificate(pub Arc<PeerCertificate>);

impl ConnectionCertificate {
    /// The certificate of the client whose request has these extensions.
    pub(in crate::grpc) fn of(extensions: &Extensions) -> Option<&PeerCertificate> {
        extensions.get::<Self>().map(|certificate| &*certificate.0)
    }

    /// Its SHA-256.
    pub(in crate::grpc) fn sha256(extensions: &Extensions) -> Option<[u8; 32]> {
        Self::of(extensions).map(|certificate| certificate.sha256)
    }
}
