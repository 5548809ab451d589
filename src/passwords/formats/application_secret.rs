//! The secret that an application keeps beside its hashes, and the form in which a hash carries it.

use zeroize::Zeroizing;

use super::{
    Refusal,
    text::{base64, to_base64},
};
use crate::secret;

/// What a hash begins with whose application needs a secret besides: Base64 without padding and `$` follow, then the hash.
pub(super) const WITH_SECRET: &str = "$with-secret$";

/// The longest secret; Devise's pepper has 128 bytes.
const MAX_SECRET: usize = 256;

/// A pepper or a signer key of the exporting application.
pub(super) type Secret = secret::Secret<Vec<u8>>;

/// The canonical text of a hash with the secret of its application.
pub(super) fn with_secret(secret: &Secret, hash: &str) -> String {
    let secret = Zeroizing::new(to_base64(secret.expose()));
    format!("{WITH_SECRET}{}{hash}", *secret)
}

/// The secret and the hash, of what stands after [`WITH_SECRET`].
pub(super) fn split(rest: &str) -> Result<(Secret, &str), Refusal> {
    let secret = rest.split('$').next().unwrap_or_default();
    let hash = &rest[secret.len()..];
    let secret = base64(secret).filter(|secret| (1..=MAX_SECRET).contains(&secret.len()));
    let reason = "with-secret: the secret is not Base64 of 1 to 256 bytes";
    let secret = secret.ok_or_else(|| Refusal::malformed(reason))?;
    Ok((Secret::new(secret), hash))
}
