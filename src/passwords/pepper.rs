//! The key of the server that goes into password hashes.

use crate::secret::Secret;

/// A key that goes into every hash beside the salt (Argon2's secret value, RFC 9106 section 3.1), so that a stolen
/// database alone does not allow guessing.
#[derive(Clone, Debug)]
pub struct Pepper {
    /// Names the key in the hashes made with it: the one byte of their PHC parameter `keyid`.
    pub version: u8,
    /// The key.
    pub key: Secret<[u8; 32]>,
}
