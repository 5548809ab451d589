//! The token of an enrollment that has begun: it carries the secret of the authenticator app, so that nothing is stored
//! before the app has shown a right code.
//!
//! `cse_` and base64url of `key version (1) ‖ sealed (expiry, Unix seconds (8) ‖ secret (20))`, sealed for one user.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::TotpSecret;
use crate::{clock::Timestamp, domain::UserId, secret::Secret, tokens::DerivedKeys};

const PREFIX: &str = "cse_";

/// Longer than any token that was made, in bytes.
const MAX_LENGTH: usize = 256;

/// How long an enrollment may take.
pub const ENROLLMENT_TTL: Duration = Duration::from_secs(600);

/// A token for this user, good until `expires_at`.
pub fn enrollment_token(
    keys: &DerivedKeys,
    user: UserId,
    secret: &TotpSecret,
    expires_at: Timestamp,
) -> Secret<String> {
    let keys = keys.active();
    let mut plain = Zeroizing::new(expires_at.seconds().to_be_bytes().to_vec());
    plain.extend_from_slice(secret.expose());
    let mut bytes = vec![keys.version];
    bytes.extend(keys.seal(&sealed_for(user), &plain));
    let mut text = PREFIX.to_owned();
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    Secret::new(text)
}

/// The secret of a token. `None` for anything but a token that was made for this user and has not expired.
pub fn parse_enrollment_token(
    keys: &DerivedKeys,
    user: UserId,
    text: &str,
    now: Timestamp,
) -> Option<TotpSecret> {
    let encoded = text.strip_prefix(PREFIX)?;
    if encoded.len() > MAX_LENGTH {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let (&version, sealed) = bytes.split_first()?;
    let plain = keys
        .of_version(version)?
        .open(&sealed_for(user), sealed)
        .ok()?;
    let (expiry, secret) = plain.split_first_chunk::<8>()?;
    let expires_at = Timestamp::from_seconds(i64::from_be_bytes(*expiry));
    match now < expires_at {
        true => TotpSecret::from_bytes(secret),
        false => None,
    }
}

fn sealed_for(user: UserId) -> String {
    format!("totp enrollment of {user}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::MasterKey;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_800_000_600);
    const ADA: UserId = UserId::from_bytes([1; 16]);
    const BOB: UserId = UserId::from_bytes([2; 16]);

    fn keys() -> DerivedKeys {
        DerivedKeys::derive(&[MasterKey {
            version: 1,
            key: Secret::new([7; 32]),
        }])
    }

    #[test]
    fn a_token_gives_its_secret_to_its_user_until_it_expires() {
        let (keys, secret) = (keys(), TotpSecret::generate());
        let token = enrollment_token(&keys, ADA, &secret, LATER);
        let read = |user, now| parse_enrollment_token(&keys, user, token.expose(), now);
        assert_eq!(read(ADA, NOW).unwrap().expose(), secret.expose());
        assert!(read(BOB, NOW).is_none());
        assert!(read(ADA, LATER).is_none());
        assert!(!token.expose().contains(secret.to_base32().expose()));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = keys();
        let token = enrollment_token(&keys, ADA, &TotpSecret::generate(), LATER);
        let text = token.expose();
        for i in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(parse_enrollment_token(&keys, ADA, &changed, NOW).is_none());
            assert!(parse_enrollment_token(&keys, ADA, &text[..i], NOW).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused_and_nothing_panics(text in "(cse_)?\\PC{0,120}") {
            prop_assert!(parse_enrollment_token(&keys(), ADA, &text, NOW).is_none());
        }
    }
}
