//! The service key: an opaque text with a MAC, so that nothing is stored from which one could be made.
//!
//! `csk_` and base64url of `key version (1) ‖ key id (16) ‖ MAC (32)`. The directory has its account and whether
//! it is valid; a forged key is refused before a look-up.

use aws_lc_rs::hmac;

use crate::{
    domain::ServiceKeyId,
    secret::Secret,
    tokens::{DerivedKeys, mac_text},
};

const PREFIX: &str = "csk_";
const MESSAGE_LENGTH: usize = 1 + 16;
const KEY_LENGTH: usize = MESSAGE_LENGTH + 32;

impl DerivedKeys {
    /// The secret of a service key, under the active master key.
    pub fn service_key(&self, id: ServiceKeyId) -> Secret<String> {
        let keys = self.active();
        let mut key = [0; KEY_LENGTH];
        key[0] = keys.version;
        key[1..MESSAGE_LENGTH].copy_from_slice(id.as_bytes());
        let mac = hmac::sign(&keys.service_key, &key[..MESSAGE_LENGTH]);
        key[MESSAGE_LENGTH..].copy_from_slice(mac.as_ref());
        mac_text::encode(PREFIX, &key)
    }

    /// Reads a service key and checks its MAC in constant time. `None` for anything but the exact text that
    /// [`service_key`](Self::service_key) made under a master key that is still known.
    pub fn parse_service_key(&self, text: &str) -> Option<ServiceKeyId> {
        let key: [u8; KEY_LENGTH] = mac_text::decode(PREFIX, text)?;
        let (message, mac) = key.split_at(MESSAGE_LENGTH);
        let keys = self.of_version(message[0])?;
        hmac::verify(&keys.service_key, message, mac).ok()?;
        message[1..].try_into().ok().map(ServiceKeyId::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::SessionId, tokens::test_keys::keys};

    const ID: ServiceKeyId = ServiceKeyId::from_bytes([9; 16]);

    #[test]
    fn a_key_with_a_changed_bit_or_another_length_is_refused() {
        let keys = keys(&[(1, 7)]);
        let text = keys.service_key(ID).expose().clone();
        assert_eq!(keys.parse_service_key(&text), Some(ID));
        assert_eq!(text.len(), PREFIX.len() + 66);
        for i in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(keys.parse_service_key(&changed), None, "{changed}");
            }
            assert_eq!(keys.parse_service_key(&text[..i]), None);
        }
        for other in [format!("{text}A"), format!("{text}="), format!(" {text}")] {
            assert_eq!(keys.parse_service_key(&other), None);
        }
    }

    #[test]
    fn a_key_works_as_long_as_its_master_key_is_known() {
        let old = keys(&[(1, 7)]).service_key(ID);
        assert_eq!(
            keys(&[(2, 8), (1, 7)]).parse_service_key(old.expose()),
            Some(ID)
        );
        assert_eq!(keys(&[(2, 8)]).parse_service_key(old.expose()), None);
    }

    #[test]
    fn a_refresh_token_is_no_service_key_whatever_its_prefix() {
        let keys = keys(&[(1, 7)]);
        let refresh = keys.refresh_token(SessionId::from_bytes([9; 16]), 3);
        let renamed = refresh.expose().replacen("csr_", "csk_", 1);
        assert_eq!(keys.parse_service_key(&renamed), None);
    }

    proptest! {
        #[test]
        fn a_created_key_is_parsed_back(id: [u8; 16], version in 1..=255u8) {
            let keys = keys(&[(version, 1)]);
            let id = ServiceKeyId::from_bytes(id);
            prop_assert_eq!(keys.parse_service_key(keys.service_key(id).expose()), Some(id));
        }

        #[test]
        fn any_other_text_is_refused_and_nothing_panics(text in "(csk_)?\\PC{0,100}") {
            prop_assert_eq!(keys(&[(1, 1)]).parse_service_key(&text), None);
        }
    }
}
