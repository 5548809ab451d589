//! Opens signing keys as they are stored: sealed by a master key.

use zeroize::Zeroizing;

use super::{DerivedKeys, KeyringError, SigningKey, sealing::UnsealError};
use crate::store::StoredSigningKey;

/// The key of a row, ready to sign and to verify.
pub(super) fn open(
    stored: &StoredSigningKey,
    keys: &DerivedKeys,
) -> Result<SigningKey, KeyringError> {
    let pkcs8 = unseal(stored, keys)?;
    Ok(SigningKey::from_pkcs8(&stored.algorithm, &pkcs8)?)
}

/// The private key of a row, in PKCS #8.
pub(super) fn unseal(
    stored: &StoredSigningKey,
    keys: &DerivedKeys,
) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let kid = || stored.kid.clone();
    let version = stored.sealed_by;
    let master = keys
        .of_version(version)
        .ok_or_else(|| KeyringError::MasterKeyMissing {
            kid: kid(),
            version,
        })?;
    master
        .open(&stored.kid, &stored.sealed_private_key)
        .map_err(|UnsealError| KeyringError::MasterKeyWrong {
            kid: kid(),
            version,
        })
}
