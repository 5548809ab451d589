//! Recovery codes, which replace a lost second factor. Each can be used once.
//!
//! Ten characters of Crockford's base32 are 50 bits. The database holds MACs under a master key, so a copy of it does
//! not allow offline guessing; online guesses are throttled like passwords.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    domain::{FieldViolation, UserId, ViolationReason},
    secret::Secret,
    tokens::{DerivedKeys, KeySet},
};

/// How many codes a user gets.
pub const COUNT: usize = 10;

/// Characters of a code.
const LENGTH: usize = 10;

/// Crockford's base32: no letter is taken for a digit or for another letter.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A recovery code.
pub struct RecoveryCode(Secret<[u8; LENGTH]>);

impl RecoveryCode {
    /// A new code.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn generate() -> Self {
        let mut code = [0; LENGTH];
        aws_lc_rs::rand::fill(&mut code).expect("the system has randomness");
        // 256 is a multiple of 32, so no character comes more often than another.
        for byte in &mut code {
            *byte = ALPHABET[usize::from(*byte % 32)];
        }
        Self(Secret::new(code))
    }

    /// Reads a code as a user entered it: in any case, with hyphens and blanks or without, and with the letters that are
    /// taken for digits.
    ///
    /// # Errors
    /// It is not ten characters of the alphabet.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        let malformed = || {
            let rule = "must be one of the recovery codes, ten letters and digits";
            FieldViolation::new(field, ViolationReason::Malformed, rule)
        };
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut count = 0;
        for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
            let byte = match byte.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                other => other,
            };
            if count == LENGTH || !ALPHABET.contains(&byte) {
                return Err(malformed());
            }
            code[count] = byte;
            count += 1;
        }
        match count {
            LENGTH => Ok(Self(Secret::new(*code))),
            _ => Err(malformed()),
        }
    }

    /// The code as it is shown: `xxxxx-xxxxx`.
    pub fn to_text(&self) -> Secret<String> {
        let (first, second) = self.0.expose().split_at(LENGTH / 2);
        let half = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
        Secret::new(format!("{}-{}", half(first), half(second)))
    }

    /// What stands for the code of this user in the database, under the active key.
    pub fn mac(&self, keys: &KeySet, user: UserId) -> String {
        let mut context = hmac::Context::with_key(&keys.recovery_code);
        context.update(user.as_bytes());
        context.update(self.0.expose());
        URL_SAFE_NO_PAD.encode(context.sign())
    }

    /// The same under every known key: the code may have been made under an older one.
    pub fn macs(&self, keys: &DerivedKeys, user: UserId) -> Vec<String> {
        keys.all().map(|set| self.mac(set, user)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::test_keys::keys;

    fn parsed(text: &str) -> Option<String> {
        let code = RecoveryCode::parse("recovery_code", text).ok()?;
        Some(code.to_text().expose().clone())
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let shown = "01abc-xyz89";
        for text in [
            shown,
            "01ABC-XYZ89",
            "01abcxyz89",
            " 01abc xyz89 ",
            "oiabcxyz89",
            "OLABC-XYZ89",
        ] {
            assert_eq!(parsed(text).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "01abc-xyz8",
            "01abc-xyz890",
            "01abc-xyz8u",
            "01abc-xyz8é",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn codes_differ_and_are_read_back() {
        let codes: Vec<_> = (0..100)
            .map(|_| RecoveryCode::generate().to_text())
            .collect();
        let distinct: std::collections::HashSet<_> = codes.iter().map(Secret::expose).collect();
        assert_eq!(distinct.len(), codes.len());
        for code in &codes {
            assert_eq!(parsed(code.expose()).as_ref(), Some(code.expose()));
        }
    }

    #[test]
    fn a_mac_is_of_one_user_and_one_key() {
        let code = RecoveryCode::parse("recovery_code", "01abc-xyz89").unwrap();
        let (ada, bob) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let (old, both) = (keys(&[(1, 7)]), keys(&[(2, 8), (1, 7)]));
        let stored = code.mac(old.active(), ada);
        assert!(code.macs(&both, ada).contains(&stored));
        assert!(!code.macs(&both, bob).contains(&stored));
        assert!(!code.macs(&keys(&[(2, 8)]), ada).contains(&stored));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}") {
            let _ = RecoveryCode::parse("recovery_code", &text);
        }
    }
}
