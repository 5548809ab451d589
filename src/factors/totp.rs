//! Authenticator apps: TOTP (RFC 6238) with SHA-1, 6 digits and steps of 30 s, which is what every app supports.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use crate::{
    clock::Timestamp,
    domain::{FactorId, FieldViolation, ViolationReason},
    secret::Secret,
    tokens::{DerivedKeys, UnsealError},
};

/// Bytes of a secret: as many as the hash function has (RFC 4226 section 4, R6).
const SECRET_LENGTH: usize = 20;

/// Digits of a code.
const DIGITS: usize = 6;

/// Seconds of a step.
const STEP: i64 = 30;

/// How many steps a code may be early or late (RFC 6238 section 5.2).
const DRIFT: i64 = 1;

/// What is not escaped in the label and the parameters of the URI (RFC 3986 section 2.3). Apps take `+` for itself, so a
/// space is `%20`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The secret that an authenticator app shares with the service.
pub struct TotpSecret(Secret<[u8; SECRET_LENGTH]>);

/// Six digits as a user entered them.
pub struct TotpCode(Secret<[u8; DIGITS]>);

impl TotpCode {
    /// Reads a code. Blanks are left out, since apps show `123 456`.
    ///
    /// # Errors
    /// It is not six digits.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        let mut digits = Zeroizing::new([0; DIGITS]);
        let mut count = 0;
        let malformed =
            || FieldViolation::new(field, ViolationReason::Malformed, "must be six digits");
        for byte in text.bytes().filter(|byte| *byte != b' ') {
            if !byte.is_ascii_digit() || count == DIGITS {
                return Err(malformed());
            }
            digits[count] = byte;
            count += 1;
        }
        match count {
            DIGITS => Ok(Self(Secret::new(*digits))),
            _ => Err(malformed()),
        }
    }
}

impl TotpSecret {
    /// A new secret.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn generate() -> Self {
        let mut bytes = [0; SECRET_LENGTH];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
        Self(Secret::new(bytes))
    }

    /// The secret with these bytes; `None` for another number of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Secret::new(bytes)))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The secret in base32 without padding, as apps have it typed in.
    pub fn to_base32(&self) -> Secret<String> {
        Secret::new(
            totp_rs::Secret::from(self.expose())
                .to_base32()
                .as_str()
                .to_owned(),
        )
    }

    /// The newest step whose code this is, of those within the drift around `now` and after `last_used_step`. `None` when
    /// it is none of them. All steps are tried whatever the first one gives.
    pub fn matching_step(
        &self,
        code: &TotpCode,
        now: Timestamp,
        last_used_step: Option<i64>,
    ) -> Option<i64> {
        let totp = self.totp();
        let current = now.seconds().div_euclid(STEP);
        let mut found = None;
        for step in current - DRIFT..=current + DRIFT {
            let Ok(time) = u64::try_from(step * STEP) else {
                continue;
            };
            let expected = Zeroizing::new(totp.generate(time).to_string());
            let is_same = verify_slices_are_equal(expected.as_bytes(), code.0.expose()).is_ok();
            if is_same && last_used_step.is_none_or(|last| step > last) {
                found = Some(step);
            }
        }
        found
    }

    /// Seals the secret for the row of this factor. Returns the version of the master key as well.
    pub fn seal(&self, keys: &DerivedKeys, factor: FactorId) -> (Vec<u8>, u8) {
        let keys = keys.active();
        (keys.seal(&name_of_row(factor), self.expose()), keys.version)
    }

    /// Opens what [`seal`](Self::seal) made for the same factor.
    ///
    /// # Errors
    /// The master key is not among those given, or the text was changed.
    pub fn open(
        keys: &DerivedKeys,
        factor: FactorId,
        sealed: &[u8],
        sealed_by: u8,
    ) -> Result<Self, UnsealError> {
        let keys = keys.of_version(sealed_by).ok_or(UnsealError)?;
        let plain = keys.open(&name_of_row(factor), sealed)?;
        Self::from_bytes(&plain).ok_or(UnsealError)
    }

    fn totp(&self) -> Totp {
        Builder::new()
            .with_secret(self.expose())
            .build()
            .expect("20 bytes are long enough, and everything else is the default")
    }
}

/// The URI of a QR code, in the form that apps read (the "Key Uri Format" of Google Authenticator): issuer as prefix of the
/// label and as parameter, and all values though they are the defaults, since some apps demand them.
pub fn otpauth_uri(secret: &TotpSecret, issuer: &str, account: &str) -> Secret<String> {
    let issuer = utf8_percent_encode(issuer, ESCAPED);
    let account = utf8_percent_encode(account, ESCAPED);
    let secret = secret.to_base32();
    Secret::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP}",
        secret.expose()
    ))
}

/// What the sealed text is bound to.
fn name_of_row(factor: FactorId) -> String {
    format!("totp factor {factor}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::MasterKey;

    /// The secret of RFC 6238 appendix B.
    fn secret() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").unwrap()
    }

    fn step(code: &str, seconds: i64, last_used: Option<i64>) -> Option<i64> {
        let code = TotpCode::parse("totp_code", code).unwrap();
        secret().matching_step(&code, Timestamp::from_seconds(seconds), last_used)
    }

    #[test]
    fn the_codes_of_rfc_6238_are_accepted() {
        // The last six of the eight digits of appendix B.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step(code, seconds, None), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn a_code_is_accepted_at_most_one_step_early_or_late() {
        let (code, made) = ("050471", 1_111_111_111_i64);
        let of_step = made / 30;
        for (distance, is_good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let now = made + distance * 30;
            assert_eq!(
                step(code, now, None),
                is_good.then_some(of_step),
                "{distance}"
            );
        }
    }

    #[test]
    fn no_step_is_accepted_twice_nor_one_before_it() {
        let of_step = 1_111_111_111 / 30;
        assert_eq!(
            step("050471", 1_111_111_111, Some(of_step - 1)),
            Some(of_step)
        );
        assert_eq!(step("050471", 1_111_111_111, Some(of_step)), None);
        assert_eq!(step("050471", 1_111_111_111, Some(of_step + 1)), None);
    }

    #[test]
    fn the_uri_escapes_everything_that_apps_take_for_something_else() {
        let uri = otpauth_uri(&secret(), "Anna & Söhne: Auth", "a+b@example.org");
        assert_eq!(
            uri.expose(),
            "otpauth://totp/Anna%20%26%20S%C3%B6hne%3A%20Auth:a%2Bb%40example.org\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Anna%20%26%20S%C3%B6hne%3A%20Auth&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn an_encrypted_secret_decrypts_only_for_its_factor_and_with_its_key() {
        let keys = |list: &[(u8, u8)]| {
            let masters: Vec<_> = list
                .iter()
                .map(|&(version, byte)| MasterKey {
                    version,
                    key: Secret::new([byte; 32]),
                })
                .collect();
            DerivedKeys::derive(&masters)
        };
        let (factor, other) = (FactorId::from_bytes([1; 16]), FactorId::from_bytes([2; 16]));
        let (sealed, version) = secret().seal(&keys(&[(1, 7)]), factor);
        let both = keys(&[(2, 8), (1, 7)]);
        let opened = TotpSecret::open(&both, factor, &sealed, version).unwrap();
        assert_eq!(opened.expose(), secret().expose());
        assert!(TotpSecret::open(&both, other, &sealed, version).is_err());
        assert!(TotpSecret::open(&both, factor, &sealed, 2).is_err());
        assert!(TotpSecret::open(&keys(&[(2, 8)]), factor, &sealed, version).is_err());
    }

    #[test]
    fn codes_are_six_digits_with_or_without_blanks() {
        for good in ["123456", "123 456", " 123456 "] {
            assert!(TotpCode::parse("totp_code", good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "12345",
            "1234567",
            "12345a",
            "+12345",
            "１２３４５６",
            "123\u{a0}456",
        ] {
            assert!(TotpCode::parse("totp_code", bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_time_makes_it_panic(text in "\\PC{0,12}", micros: i64, last: Option<i64>) {
            if let Ok(code) = TotpCode::parse("totp_code", &text) {
                secret().matching_step(&code, Timestamp::from_micros(micros), last);
            }
        }
    }
}
