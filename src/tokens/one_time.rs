//! One-time tokens: sent by mail; a returned one proves that its sender reads that mailbox.
//!
//! `cso_` and base64url of `key version (1) ‖ purpose (1) ‖ user id (16) ‖ expiry, Unix seconds (8) ‖ binding (16) ‖
//! MAC (32)`. Nothing about it is stored. The binding is a MAC of what the token changes, the password hash or the
//! address: once that has changed, the token is used up, and so is every other one for the same change.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use super::{
    DerivedKeys,
    derived_keys::KeySet,
    mac_text::{self, BINDING_LENGTH},
};
use crate::{clock::Timestamp, domain::UserId, secret::Secret};

const PREFIX: &str = "cso_";
const MESSAGE_LENGTH: usize = 1 + 1 + 16 + 8 + BINDING_LENGTH;
const TOKEN_LENGTH: usize = MESSAGE_LENGTH + 32;

/// What a one-time token is for. One token is good for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OneTimePurpose {
    /// It sets a new password; bound to the stored hash of the old one.
    ResetPassword = 1,
    /// It marks an address as verified; bound to that address.
    VerifyEmail = 2,
    /// It sets the first password of an invited user; bound to what is stored in place of a hash.
    Invitation = 3,
}

/// An authentic token that has not expired.
pub struct OneTimeToken {
    /// The user whom it is for.
    pub user_id: UserId,
    purpose: OneTimePurpose,
    version: u8,
    binding: [u8; BINDING_LENGTH],
}

impl DerivedKeys {
    /// A token under the active key, good until `expires_at`, and for as long as `bound_to` is what it is.
    pub fn one_time_token(
        &self,
        purpose: OneTimePurpose,
        user_id: UserId,
        expires_at: Timestamp,
        bound_to: &str,
    ) -> Secret<String> {
        let keys = self.active();
        let mut token = [0; TOKEN_LENGTH];
        token[0] = keys.version;
        token[1] = purpose as u8;
        token[2..18].copy_from_slice(user_id.as_bytes());
        token[18..26].copy_from_slice(&expires_at.seconds().to_be_bytes());
        token[26..MESSAGE_LENGTH].copy_from_slice(&binding(keys, purpose, bound_to));
        let mac = hmac::sign(&keys.one_time, &token[..MESSAGE_LENGTH]);
        token[MESSAGE_LENGTH..].copy_from_slice(mac.as_ref());
        mac_text::encode(PREFIX, &token)
    }

    /// Reads a token and checks its MAC in constant time. `None` for anything but the exact text that
    /// [`one_time_token`](Self::one_time_token) made for this purpose, and after its expiry. Whether it is used up is
    /// for [`is_bound_to`](Self::is_bound_to).
    pub fn parse_one_time_token(
        &self,
        purpose: OneTimePurpose,
        text: &str,
        now: Timestamp,
    ) -> Option<OneTimeToken> {
        let token: [u8; TOKEN_LENGTH] = mac_text::decode(PREFIX, text)?;
        let (message, mac) = token.split_at(MESSAGE_LENGTH);
        let keys = self.of_version(message[0])?;
        hmac::verify(&keys.one_time, message, mac).ok()?;
        let expires_at = i64::from_be_bytes(message[18..26].try_into().expect("8 bytes"));
        if message[1] != purpose as u8 || now >= Timestamp::from_seconds(expires_at) {
            return None;
        }
        Some(OneTimeToken {
            user_id: UserId::from_bytes(message[2..18].try_into().expect("16 bytes")),
            purpose,
            version: keys.version,
            binding: message[26..].try_into().expect("16 bytes"),
        })
    }

    /// Whether the token was made for just this state: false once the change it allows has been made.
    pub fn is_bound_to(&self, token: &OneTimeToken, state: &str) -> bool {
        self.of_version(token.version).is_some_and(|keys| {
            let expected = binding(keys, token.purpose, state);
            verify_slices_are_equal(&expected, &token.binding).is_ok()
        })
    }
}

fn binding(keys: &KeySet, purpose: OneTimePurpose, state: &str) -> [u8; BINDING_LENGTH] {
    mac_text::binding(&keys.one_time, &[0, purpose as u8], state)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::test_keys::keys;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_800_000_600);

    fn token(keys: &DerivedKeys) -> String {
        let user = UserId::from_bytes([5; 16]);
        let token = keys.one_time_token(OneTimePurpose::ResetPassword, user, LATER, "old hash");
        token.expose().clone()
    }

    #[test]
    fn a_token_is_valid_for_its_purpose_until_it_expires_or_the_state_changes() {
        let keys = keys(&[(1, 7)]);
        let text = token(&keys);
        let parse = |purpose, now| keys.parse_one_time_token(purpose, &text, now);
        let read = parse(OneTimePurpose::ResetPassword, NOW).unwrap();
        assert_eq!(read.user_id, UserId::from_bytes([5; 16]));
        assert!(keys.is_bound_to(&read, "old hash"));
        assert!(!keys.is_bound_to(&read, "new hash"));
        assert!(parse(OneTimePurpose::VerifyEmail, NOW).is_none());
        assert!(parse(OneTimePurpose::ResetPassword, LATER).is_none());
    }

    #[test]
    fn a_token_with_a_changed_bit_or_another_length_is_refused() {
        let keys = keys(&[(1, 7)]);
        let text = token(&keys);
        let is_good = |text: &str| {
            keys.parse_one_time_token(OneTimePurpose::ResetPassword, text, NOW)
                .is_some()
        };
        assert!(is_good(&text));
        for i in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                assert!(!is_good(&String::from_utf8(bytes).unwrap()));
            }
            assert!(!is_good(&text[..i]));
        }
        assert!(!is_good(&format!("{text}A")) && !is_good(&format!("{text}=")));
    }

    #[test]
    fn a_token_of_an_older_key_is_valid_while_that_key_is_configured() {
        let text = token(&keys(&[(1, 7)]));
        let both = keys(&[(2, 8), (1, 7)]);
        let read = both.parse_one_time_token(OneTimePurpose::ResetPassword, &text, NOW);
        assert!(both.is_bound_to(&read.unwrap(), "old hash"));
        let parse_without = keys(&[(2, 8)]);
        assert!(
            parse_without
                .parse_one_time_token(OneTimePurpose::ResetPassword, &text, NOW)
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused_and_nothing_panics(text in "(cso_)?\\PC{0,110}") {
            let keys = keys(&[(1, 1)]);
            prop_assert!(keys.parse_one_time_token(OneTimePurpose::VerifyEmail, &text, NOW).is_none());
        }
    }
}
