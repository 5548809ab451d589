//! Page tokens of filtered lists (AIP-158): where the next page begins, and for which list and filter.
//!
//! `csp_` and base64url of `key version (1) ‖ id of the last entry (16) ‖ MAC (16)`. The MAC also covers the name of the list
//! and the filter, so that a token is good for nothing else, and nobody can make one.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use super::{DerivedKeys, derived_keys::KeySet, mac_text};

const PREFIX: &str = "csp_";
const MESSAGE_LENGTH: usize = 1 + 16;
const MAC_LENGTH: usize = 16;
const TOKEN_LENGTH: usize = MESSAGE_LENGTH + MAC_LENGTH;

impl DerivedKeys {
    /// The token of the page behind the entry with this id, of the list with this name and filter.
    pub fn page_token(&self, list: &str, filter: &str, last: &[u8; 16]) -> String {
        let keys = self.active();
        let mut token = [0; TOKEN_LENGTH];
        token[0] = keys.version;
        token[1..MESSAGE_LENGTH].copy_from_slice(last);
        let mac = mac(keys, list, filter, &token[..MESSAGE_LENGTH]);
        token[MESSAGE_LENGTH..].copy_from_slice(&mac);
        mac_text::encode(PREFIX, &token).expose().clone()
    }

    /// The id of the entry before the page. `None` for anything but the exact text that [`page_token`](Self::page_token)
    /// made for this list and filter.
    pub fn parse_page_token(&self, list: &str, filter: &str, text: &str) -> Option<[u8; 16]> {
        let token: [u8; TOKEN_LENGTH] = mac_text::decode(PREFIX, text)?;
        let (message, given) = token.split_at(MESSAGE_LENGTH);
        let keys = self.of_version(message[0])?;
        verify_slices_are_equal(&mac(keys, list, filter, message), given).ok()?;
        message[1..].try_into().ok()
    }
}

fn mac(keys: &KeySet, list: &str, filter: &str, message: &[u8]) -> [u8; MAC_LENGTH] {
    let mut context = hmac::Context::with_key(&keys.page);
    for part in [list.as_bytes(), filter.as_bytes(), message] {
        // The length first, so that no two lists with their filters have one text.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mac = context.sign();
    mac.as_ref()[..MAC_LENGTH]
        .try_into()
        .expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::MasterKey, secret::Secret};

    fn keys(byte: u8) -> DerivedKeys {
        let key = Secret::new([byte; 32]);
        DerivedKeys::derive(&[MasterKey { version: 1, key }])
    }

    #[test]
    fn a_token_is_valid_only_for_its_list_and_filter() {
        let token = keys(1).page_token("users", "roles:admin", &[7; 16]);
        let parse = |list, filter| keys(1).parse_page_token(list, filter, &token);
        assert_eq!(parse("users", "roles:admin"), Some([7; 16]));
        assert_eq!(parse("users", "roles:editor"), None);
        assert_eq!(parse("audit", "roles:admin"), None);
        assert_eq!(parse("usersr", "oles:admin"), None);
        assert_eq!(
            keys(2).parse_page_token("users", "roles:admin", &token),
            None
        );
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = keys(1).page_token("users", "", &[7; 16]);
        for i in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(keys(1).parse_page_token("users", "", &changed), None, "{i}");
        }
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused_and_nothing_panics(text in "(csp_)?\\PC{0,60}") {
            prop_assert_eq!(keys(1).parse_page_token("users", "", &text), None);
        }
    }
}
