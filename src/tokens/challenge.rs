//! Challenges: what a client answers by a second factor or a passkey.
//!
//! `csc_` and base64url of `key version (1) ‖ content in JSON ‖ MAC (32)`. Nothing about it is stored before it is
//! answered: what the login asked for travels in it.

use std::time::Duration;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    DerivedKeys,
    derived_keys::KeySet,
    mac_text::{self, BINDING_LENGTH},
};
use crate::{
    clock::Timestamp,
    domain::{ChallengeId, DeviceId, DeviceLabel, UserId},
    secret::Secret,
};

const PREFIX: &str = "csc_";
const MAC_LENGTH: usize = 32;

/// How long a challenge may be answered, and how long a browser waits for the user of a passkey.
pub const CHALLENGE_TTL: Duration = Duration::from_secs(300);

/// The longest text that is decoded, in bytes. A device label and many audiences fit.
const MAX_LENGTH: usize = 32 * 1024;

/// What the MAC of a binding begins with, before the purpose.
const OF_BINDING: [u8; 2] = [0, 1];

/// What a challenge is for. One challenge is good for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChallengePurpose {
    /// It completes a login whose password was right; bound to the stored hash of that password.
    Login,
    /// It is answered by a passkey, and by whom is not known before.
    PasskeyLogin,
    /// It adds a passkey to a user.
    PasskeyRegistration,
}

/// An authentic challenge that has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Names the challenge: of all answers one succeeds.
    pub id: ChallengeId,
    /// What it is for.
    pub purpose: ChallengePurpose,
    /// Whose it is, if that is known.
    pub user_id: Option<UserId>,
    /// When it expires, in whole seconds.
    pub expires_at: Timestamp,
    /// The version of the key that authenticates it.
    pub key_version: u8,
    /// What the session is to be, for the purpose `Login`.
    pub login: Option<PendingLogin>,
    binding: Option<String>,
}

/// A login that waits for a second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogin {
    /// The name of the counter that admitted the attempt: wrong codes are counted there.
    pub counter: String,
    /// The known device whose counter that is.
    pub device_id: Option<DeviceId>,
    /// The label of the session.
    pub device_label: DeviceLabel,
    /// The audiences of the session; `None` for all.
    pub audiences: Option<Vec<String>>,
    /// Whether the password of the login is known from a breach.
    pub is_breached: bool,
}

/// What a new challenge is made of.
pub struct NewChallenge<'a> {
    /// What it is for.
    pub purpose: ChallengePurpose,
    /// Whose it is.
    pub user_id: Option<UserId>,
    /// When it is made.
    pub now: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// It is good for as long as this is what it is.
    pub bound_to: Option<&'a str>,
    /// What the session is to be.
    pub login: Option<PendingLogin>,
}

/// The content as it is written down. The names are short because browsers send it back.
#[derive(Serialize, Deserialize)]
struct Content {
    p: ChallengePurpose,
    i: String,
    u: Option<String>,
    e: i64,
    b: Option<String>,
    l: Option<LoginContent>,
}

#[derive(Serialize, Deserialize)]
struct LoginContent {
    c: String,
    d: Option<String>,
    n: String,
    a: Option<Vec<String>>,
    /// Left out when false, as versions do that do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    r: bool,
}

impl DerivedKeys {
    /// A new challenge under the active key.
    pub fn new_challenge(&self, new: NewChallenge<'_>) -> Challenge {
        let keys = self.active();
        Challenge {
            id: ChallengeId::generate(new.now),
            purpose: new.purpose,
            user_id: new.user_id,
            expires_at: new.expires_at.floor_to_second(),
            key_version: keys.version,
            login: new.login,
            binding: new
                .bound_to
                .map(|state| URL_SAFE_NO_PAD.encode(binding(keys, new.purpose, state))),
        }
    }

    /// The text of a challenge of these keys.
    ///
    /// # Panics
    /// When the challenge is of another master key than these are derived from.
    pub fn challenge_token(&self, challenge: &Challenge) -> Secret<String> {
        let keys = self
            .of_version(challenge.key_version)
            .expect("a challenge is made by these keys");
        let mut bytes = vec![keys.version];
        let content = Content::from(challenge);
        serde_json::to_writer(&mut bytes, &content).expect("strings and numbers can be written");
        let mac = hmac::sign(&keys.challenge, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        let mut text = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        Secret::new(text)
    }

    /// Reads a challenge and checks its MAC in constant time. `None` for anything but the exact text that
    /// [`challenge_token`](Self::challenge_token) made for this purpose, and after its expiry.
    pub fn parse_challenge(
        &self,
        purpose: ChallengePurpose,
        text: &str,
        now: Timestamp,
    ) -> Option<Challenge> {
        let encoded = text.strip_prefix(PREFIX)?;
        if encoded.len() > MAX_LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (message, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LENGTH)?)?;
        let (&version, content) = message.split_first()?;
        let keys = self.of_version(version)?;
        hmac::verify(&keys.challenge, message, mac).ok()?;
        let content: Content = serde_json::from_slice(content).ok()?;
        let challenge = content.into_challenge(version)?;
        (challenge.purpose == purpose && now < challenge.expires_at).then_some(challenge)
    }

    /// Whether the challenge was made for just this state.
    pub fn is_challenge_bound_to(&self, challenge: &Challenge, state: &str) -> bool {
        let bound = challenge.binding.as_ref();
        let bound = bound.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let keys = self.of_version(challenge.key_version);
        bound.zip(keys).is_some_and(|(bound, keys)| {
            let expected = binding(keys, challenge.purpose, state);
            verify_slices_are_equal(&expected, &bound).is_ok()
        })
    }
}

impl Challenge {
    /// Whether it is bound to anything.
    pub const fn is_bound(&self) -> bool {
        self.binding.is_some()
    }
}

fn binding(keys: &KeySet, purpose: ChallengePurpose, state: &str) -> [u8; BINDING_LENGTH] {
    let [first, second] = OF_BINDING;
    mac_text::binding(&keys.challenge, &[first, second, purpose as u8], state)
}

impl From<&Challenge> for Content {
    fn from(challenge: &Challenge) -> Self {
        Self {
            p: challenge.purpose,
            i: challenge.id.to_string(),
            u: challenge.user_id.map(|id| id.to_string()),
            e: challenge.expires_at.seconds(),
            b: challenge.binding.clone(),
            l: challenge.login.as_ref().map(|login| LoginContent {
                c: login.counter.clone(),
                d: login.device_id.map(|id| id.to_string()),
                n: login.device_label.as_str().to_owned(),
                a: login.audiences.clone(),
                r: login.is_breached,
            }),
        }
    }
}

impl Content {
    fn into_challenge(self, key_version: u8) -> Option<Challenge> {
        let login = match self.l {
            None => None,
            Some(login) => Some(PendingLogin {
                counter: login.c,
                device_id: login.d.map(|id| id.parse()).transpose().ok()?,
                device_label: DeviceLabel::from_stored(login.n),
                audiences: login.a,
                is_breached: login.r,
            }),
        };
        Some(Challenge {
            id: self.i.parse().ok()?,
            purpose: self.p,
            user_id: self.u.map(|id| id.parse()).transpose().ok()?,
            expires_at: Timestamp::from_seconds(self.e),
            key_version,
            login,
            binding: self.b,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::test_keys::keys;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_800_000_300);

    fn challenge(keys: &DerivedKeys) -> Challenge {
        keys.new_challenge(NewChallenge {
            purpose: ChallengePurpose::Login,
            user_id: Some(UserId::from_bytes([5; 16])),
            now: NOW,
            expires_at: LATER,
            bound_to: Some("the hash"),
            login: Some(PendingLogin {
                counter: "counter".to_owned(),
                device_id: Some(DeviceId::from_bytes([9; 16])),
                device_label: DeviceLabel::from_stored("Ada's \"phone\"".to_owned()),
                audiences: Some(vec!["billing".to_owned()]),
                is_breached: true,
            }),
        })
    }

    #[test]
    fn a_challenge_is_read_back_for_its_purpose_until_it_expires_or_the_state_changes() {
        let keys = keys(&[(1, 7)]);
        let made = challenge(&keys);
        let text = keys.challenge_token(&made);
        let parse = |purpose, now| keys.parse_challenge(purpose, text.expose(), now);
        let read = parse(ChallengePurpose::Login, NOW).unwrap();
        assert_eq!(read, made);
        assert!(keys.is_challenge_bound_to(&read, "the hash"));
        assert!(!keys.is_challenge_bound_to(&read, "another hash"));
        assert_eq!(parse(ChallengePurpose::PasskeyLogin, NOW), None);
        assert_eq!(parse(ChallengePurpose::Login, LATER), None);
    }

    #[test]
    fn a_challenge_with_a_changed_bit_or_another_length_is_refused() {
        let keys = keys(&[(1, 7)]);
        let text = keys.challenge_token(&challenge(&keys)).expose().clone();
        let is_good = |text: &str| {
            keys.parse_challenge(ChallengePurpose::Login, text, NOW)
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
        assert!(!is_good(&format!("{PREFIX}{}", "A".repeat(100_000))));
    }

    #[test]
    fn a_challenge_of_an_older_key_is_valid_while_that_key_is_configured() {
        let before = keys(&[(1, 7)]);
        let text = before.challenge_token(&challenge(&before));
        let both = keys(&[(2, 8), (1, 7)]);
        let read = both.parse_challenge(ChallengePurpose::Login, text.expose(), NOW);
        assert!(both.is_challenge_bound_to(&read.unwrap(), "the hash"));
        let without = keys(&[(2, 8)]);
        assert_eq!(
            without.parse_challenge(ChallengePurpose::Login, text.expose(), NOW),
            None
        );
    }

    #[test]
    fn a_challenge_that_is_bound_to_nothing_is_bound_to_no_state() {
        let keys = keys(&[(1, 7)]);
        let free = keys.new_challenge(NewChallenge {
            purpose: ChallengePurpose::PasskeyLogin,
            user_id: None,
            now: NOW,
            expires_at: LATER,
            bound_to: None,
            login: None,
        });
        assert!(!free.is_bound());
        assert!(!keys.is_challenge_bound_to(&free, ""));
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused_and_nothing_panics(text in "(csc_)?\\PC{0,200}") {
            let keys = keys(&[(1, 1)]);
            prop_assert!(keys.parse_challenge(ChallengePurpose::Login, &text, NOW).is_none());
        }

        #[test]
        fn no_content_under_a_right_mac_makes_it_panic(content: Vec<u8>) {
            let keys = keys(&[(1, 1)]);
            let mut bytes = vec![1];
            bytes.extend_from_slice(&content);
            let mac = hmac::sign(&keys.active().challenge, &bytes);
            bytes.extend_from_slice(mac.as_ref());
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(keys.parse_challenge(ChallengePurpose::Login, &text, NOW).is_none());
        }
    }
}
