//! The refresh token: an opaque text with a MAC, so that nothing about it is stored.
//!
//! `csr_` and base64url of `key version (1) ‖ session id (16) ‖ generation (4, big endian) ‖ MAC (32)`.
//! The successor of a token can be derived, so a lost response can be repeated. A forged token is refused without the
//! database. A leaked database holds no token.

use aws_lc_rs::hmac;

use super::{DerivedKeys, derived_keys::KeySet, mac_text};
use crate::{domain::SessionId, secret::Secret};

const PREFIX: &str = "csr_";
const MESSAGE_LENGTH: usize = 1 + 16 + 4;
const TOKEN_LENGTH: usize = MESSAGE_LENGTH + 32;

/// The token was not issued by this service, or was changed since.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token of ours")]
pub struct RefreshTokenError;

/// The content of an authentic refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedRefreshToken {
    /// The session it belongs to.
    pub session_id: SessionId,
    /// Which rotation issued it; 0 at login.
    pub generation: i32,
}

impl DerivedKeys {
    /// The refresh token of a session's `generation`, under the active key.
    pub fn refresh_token(&self, session_id: SessionId, generation: i32) -> Secret<String> {
        let keys = self.active();
        let message = message(keys.version, session_id, generation);
        let mac = hmac::sign(&keys.refresh, &message);
        let mut token = [0; TOKEN_LENGTH];
        token[..MESSAGE_LENGTH].copy_from_slice(&message);
        token[MESSAGE_LENGTH..].copy_from_slice(mac.as_ref());
        mac_text::encode(PREFIX, &token)
    }

    /// Reads a refresh token and checks its MAC, in constant time.
    ///
    /// # Errors
    /// It is anything but the exact text that [`refresh_token`](Self::refresh_token) made under a key
    /// that is still known.
    pub fn parse_refresh_token(&self, text: &str) -> Result<ParsedRefreshToken, RefreshTokenError> {
        let token: [u8; TOKEN_LENGTH] = mac_text::decode(PREFIX, text).ok_or(RefreshTokenError)?;
        let (message, mac) = token.split_at(MESSAGE_LENGTH);
        let keys: &KeySet = self.of_version(message[0]).ok_or(RefreshTokenError)?;
        hmac::verify(&keys.refresh, message, mac).map_err(|_| RefreshTokenError)?;
        let session_id = message[1..17].try_into().expect("16 bytes");
        let generation = message[17..].try_into().expect("4 bytes");
        Ok(ParsedRefreshToken {
            session_id: SessionId::from_bytes(session_id),
            generation: i32::from_be_bytes(generation),
        })
    }
}

fn message(version: u8, session_id: SessionId, generation: i32) -> [u8; MESSAGE_LENGTH] {
    let mut message = [0; MESSAGE_LENGTH];
    message[0] = version;
    message[1..17].copy_from_slice(session_id.as_bytes());
    message[17..].copy_from_slice(&generation.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::test_keys::keys;

    fn token() -> (DerivedKeys, String) {
        let keys = keys(&[(1, 7)]);
        let token = keys.refresh_token(SessionId::from_bytes([9; 16]), 3);
        let text = token.expose().clone();
        (keys, text)
    }

    #[test]
    fn every_changed_bit_and_length_is_refused() {
        let (keys, text) = token();
        assert_eq!(text.len(), PREFIX.len() + 71, "53 bytes in base64url");
        for i in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                let garbled = String::from_utf8(bytes).unwrap();
                assert!(keys.parse_refresh_token(&garbled).is_err(), "{garbled}");
            }
            assert!(keys.parse_refresh_token(&text[..i]).is_err());
        }
        for other in [
            format!("{text}A"),
            format!("{text}="),
            format!(" {text}"),
            text.to_uppercase(),
        ] {
            assert!(keys.parse_refresh_token(&other).is_err());
        }
    }

    #[test]
    fn an_older_key_verifies_and_a_foreign_one_does_not() {
        let (_, text) = token();
        assert!(keys(&[(2, 8), (1, 7)]).parse_refresh_token(&text).is_ok());
        assert!(keys(&[(1, 8)]).parse_refresh_token(&text).is_err());
        assert!(keys(&[(2, 7)]).parse_refresh_token(&text).is_err());
    }

    proptest! {
        #[test]
        fn an_issued_token_is_parsed_back(id: [u8; 16], generation in 0..=i32::MAX, version in 1..=255u8) {
            let keys = keys(&[(version, 1)]);
            let token = keys.refresh_token(SessionId::from_bytes(id), generation);
            let parsed = keys.parse_refresh_token(token.expose()).unwrap();
            prop_assert_eq!(parsed.session_id, SessionId::from_bytes(id));
            prop_assert_eq!(parsed.generation, generation);
            let again = keys.refresh_token(parsed.session_id, parsed.generation);
            prop_assert_eq!(again.expose(), token.expose());
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "(csr_)?\\PC{0,90}") {
            prop_assert!(keys(&[(1, 1)]).parse_refresh_token(&text).is_err());
        }
    }
}
