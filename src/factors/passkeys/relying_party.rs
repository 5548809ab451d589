//! The relying party: the name under which passkeys are made, and the pages that may use them.

use aws_lc_rs::digest::{SHA256, digest};

/// The service as authenticators and browsers know it.
#[derive(Clone, Debug)]
pub struct RelyingParty {
    id: String,
    origins: Vec<String>,
    id_hash: [u8; 32],
}

impl RelyingParty {
    /// `id` is a domain; each of `origins` is compared byte by byte with what browsers report.
    pub fn new(id: String, origins: Vec<String>) -> Self {
        Self {
            id_hash: sha256(id.as_bytes()),
            id,
            origins,
        }
    }

    /// The RP id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 of the RP id, as authenticator data begin with it.
    pub(super) const fn id_hash(&self) -> &[u8; 32] {
        &self.id_hash
    }

    /// Whether a page of that origin may use the passkeys.
    pub(super) fn has_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }
}

/// SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
