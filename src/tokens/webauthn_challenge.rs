//! The challenge of a WebAuthn ceremony: derived from the challenge token, so that it is stored nowhere.

use aws_lc_rs::hmac;

use super::{Challenge, DerivedKeys};

/// What the message of the MAC begins with. A challenge token begins with the version of a key, and those begin at 1; a
/// binding with another second byte.
const OF_WEBAUTHN: [u8; 2] = [0, 2];

impl DerivedKeys {
    /// The 32 bytes that an authenticator signs for this challenge (WebAuthn section 13.4.3 demands at least 16 random
    /// ones).
    ///
    /// # Panics
    /// When the challenge is of another master key than these are derived from.
    pub fn webauthn_challenge(&self, challenge: &Challenge) -> [u8; 32] {
        let keys = self
            .of_version(challenge.key_version)
            .expect("a challenge is made or read by these keys");
        let mut context = hmac::Context::with_key(&keys.challenge);
        context.update(&OF_WEBAUTHN);
        context.update(challenge.id.as_bytes());
        let mac = context.sign();
        mac.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        tokens::{ChallengePurpose, NewChallenge, test_keys::keys},
    };

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_800_000_300);

    fn challenge(keys: &DerivedKeys) -> Challenge {
        keys.new_challenge(NewChallenge {
            purpose: ChallengePurpose::PasskeyLogin,
            user_id: None,
            now: NOW,
            expires_at: LATER,
            bound_to: None,
            login: None,
        })
    }

    #[test]
    fn a_challenge_read_from_its_token_has_the_same_bytes_also_after_a_change_of_the_master_key() {
        let before = keys(&[(1, 7)]);
        let made = challenge(&before);
        let token = before.challenge_token(&made);
        let after = keys(&[(2, 8), (1, 7)]);
        let purpose = ChallengePurpose::PasskeyLogin;
        let read = after.parse_challenge(purpose, token.expose(), NOW).unwrap();
        assert_eq!(
            after.webauthn_challenge(&read),
            before.webauthn_challenge(&made)
        );
    }

    #[test]
    fn each_challenge_and_each_key_has_bytes_of_its_own() {
        let (ours, other) = (keys(&[(1, 7)]), keys(&[(1, 8)]));
        let (first, second) = (challenge(&ours), challenge(&ours));
        assert_ne!(
            ours.webauthn_challenge(&first),
            ours.webauthn_challenge(&second)
        );
        assert_ne!(
            ours.webauthn_challenge(&first),
            other.webauthn_challenge(&first)
        );
    }
}
