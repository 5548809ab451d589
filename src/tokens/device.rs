//! The device token: proof that a user logged in on this device before (the device cookie of OWASP's "Slow Down
//! Online Guessing Attacks with Device Cookies").
//!
//! `csd_` and base64url of `key version (1) ‖ user id (16) ‖ device id (16) ‖ MAC (32)`. Nothing about it is stored.
//! It gives no access by itself: it only determines the counter to which a failed login is added.

use aws_lc_rs::hmac;

use super::{DerivedKeys, mac_text};
use crate::{
    domain::{DeviceId, UserId},
    secret::Secret,
};

const PREFIX: &str = "csd_";
const MESSAGE_LENGTH: usize = 1 + 16 + 16;
const TOKEN_LENGTH: usize = MESSAGE_LENGTH + 32;

/// A device as an authentic token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownDevice {
    /// Who logged in on it.
    pub user_id: UserId,
    /// The device.
    pub device_id: DeviceId,
}

impl DerivedKeys {
    /// The token of a device, under the active key.
    pub fn device_token(&self, device: KnownDevice) -> Secret<String> {
        let keys = self.active();
        let mut token = [0; TOKEN_LENGTH];
        token[0] = keys.version;
        token[1..17].copy_from_slice(device.user_id.as_bytes());
        token[17..MESSAGE_LENGTH].copy_from_slice(device.device_id.as_bytes());
        let mac = hmac::sign(&keys.device, &token[..MESSAGE_LENGTH]);
        token[MESSAGE_LENGTH..].copy_from_slice(mac.as_ref());
        mac_text::encode(PREFIX, &token)
    }

    /// Reads a device token and checks its MAC in constant time. `None` for anything but the exact text that
    /// [`device_token`](Self::device_token) made under a key that is still known: such a token counts as none.
    pub fn parse_device_token(&self, text: &str) -> Option<KnownDevice> {
        let token: [u8; TOKEN_LENGTH] = mac_text::decode(PREFIX, text)?;
        let (message, mac) = token.split_at(MESSAGE_LENGTH);
        let keys = self.of_version(message[0])?;
        hmac::verify(&keys.device, message, mac).ok()?;
        Some(KnownDevice {
            user_id: UserId::from_bytes(message[1..17].try_into().expect("16 bytes")),
            device_id: DeviceId::from_bytes(message[17..].try_into().expect("16 bytes")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::test_keys::keys;

    fn device() -> KnownDevice {
        KnownDevice {
            user_id: UserId::from_bytes([5; 16]),
            device_id: DeviceId::from_bytes([9; 16]),
        }
    }

    #[test]
    fn a_token_with_a_changed_bit_or_another_length_is_ignored() {
        let keys = keys(&[(1, 7)]);
        let text = keys.device_token(device()).expose().clone();
        assert_eq!(keys.parse_device_token(&text), Some(device()));
        assert_eq!(text.len(), PREFIX.len() + 87);
        for i in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(keys.parse_device_token(&changed), None, "{changed}");
            }
            assert_eq!(keys.parse_device_token(&text[..i]), None);
        }
        for other in [
            String::new(),
            format!("{text}A"),
            format!("{text}="),
            format!(" {text}"),
        ] {
            assert_eq!(keys.parse_device_token(&other), None);
        }
    }

    #[test]
    fn a_token_of_an_older_key_is_valid_and_renewed_with_the_active_key() {
        let old = keys(&[(1, 7)]).device_token(device());
        let keys_now = keys(&[(2, 8), (1, 7)]);
        let known = keys_now.parse_device_token(old.expose()).unwrap();
        let renewed = keys_now.device_token(known);
        assert_ne!(renewed.expose(), old.expose());
        let without_the_old = keys(&[(2, 8)]);
        assert_eq!(
            without_the_old.parse_device_token(renewed.expose()),
            Some(device())
        );
        assert_eq!(without_the_old.parse_device_token(old.expose()), None);
    }

    #[test]
    fn a_refresh_token_is_no_device_token() {
        let keys = keys(&[(1, 7)]);
        let refresh = keys.refresh_token(crate::domain::SessionId::from_bytes([9; 16]), 3);
        assert_eq!(keys.parse_device_token(refresh.expose()), None);
    }

    proptest! {
        #[test]
        fn an_issued_token_is_parsed_back(user: [u8; 16], device: [u8; 16], version in 1..=255u8) {
            let keys = keys(&[(version, 1)]);
            let known = KnownDevice {
                user_id: UserId::from_bytes(user),
                device_id: DeviceId::from_bytes(device),
            };
            let token = keys.device_token(known);
            prop_assert_eq!(keys.parse_device_token(token.expose()), Some(known));
        }

        #[test]
        fn any_other_text_is_ignored_and_nothing_panics(text in "(csd_)?\\PC{0,100}") {
            prop_assert_eq!(keys(&[(1, 1)]).parse_device_token(&text), None);
        }
    }
}
