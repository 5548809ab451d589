//! The authorities whose client certificates are accepted.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::TlsError;
use crate::clock::Timestamp;

const CLIENT_CA: &str = "COUNTERSIGN_TLS_CLIENT_CA_FILE";

/// The authorities.
#[derive(Debug)]
pub(super) struct ClientAuthorities {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of their certificates expires.
    pub(super) not_after: Timestamp,
}

impl ClientAuthorities {
    /// Reads the certificates of a PEM file. Unless `required`, a client may come without a certificate; a wrong one is
    /// refused in any case.
    ///
    /// # Errors
    /// The file is no PEM, or holds no usable certificate.
    pub(super) fn read(
        (path, pem): (&Path, &[u8]),
        required: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let wrong = |problem: &str| TlsError::new(CLIENT_CA, path, problem);
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong("is not a PEM file"))?;
        let mut roots = RootCertStore::empty();
        let mut not_after = None;
        for certificate in certificates {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|_| wrong("holds a certificate that cannot be read"))?;
            let end = parsed.validity().not_after.timestamp();
            not_after = Some(not_after.map_or(end, |earliest: i64| earliest.min(end)));
            roots
                .add(certificate)
                .map_err(|_| wrong("holds a certificate that cannot be used"))?;
        }
        let Some(not_after) = not_after else {
            return Err(wrong("holds no certificate"));
        };
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let verifier = builder
            .build()
            .map_err(|_| wrong("holds no usable authority"))?;
        Ok(Self {
            verifier,
            not_after: Timestamp::from_seconds(not_after),
        })
    }
}
