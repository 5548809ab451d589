//! What a caller requires of a token (`max_auth_age`, `acceptable_acrs`): parsed, and bounded because a refusal repeats it.

use std::time::Duration;

use prost_types::Duration as PbDuration;

use crate::{
    auth::{AuthError, ClientCertificate},
    domain::{FieldViolation, ViolationReason},
};

/// The most values of `acr` that a call may accept.
const MAX_ACRS: usize = 8;
/// The longest of them, in bytes.
const MAX_ACR_LENGTH: usize = 128;

/// How old an authentication may be.
pub(super) fn max_auth_age(age: Option<&PbDuration>) -> Result<Option<Duration>, AuthError> {
    age.map(|age| {
        not_negative(*age).ok_or_else(|| {
            let rule = "must be a duration that is not negative";
            refused("max_auth_age", ViolationReason::Malformed, rule)
        })
    })
    .transpose()
}

/// As google/protobuf/duration.proto defines it: seconds and nanoseconds of one sign, less than a second of the latter.
fn not_negative(age: PbDuration) -> Option<Duration> {
    let seconds = u64::try_from(age.seconds).ok()?;
    let nanos = u32::try_from(age.nanos).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// The values of `acr` that are good enough.
pub(super) fn acceptable_acrs(values: &[String]) -> Result<&[String], AuthError> {
    const FIELD: &str = "acceptable_acrs";
    if values.len() > MAX_ACRS {
        let rule = "must be at most 8 values";
        return Err(refused(FIELD, ViolationReason::TooLong, rule));
    }
    let is_value = |value: &String| {
        (1..=MAX_ACR_LENGTH).contains(&value.len())
            && value.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if values.iter().all(is_value) {
        return Ok(values);
    }
    let rule = "each must have 1 to 128 visible ASCII characters without spaces";
    Err(refused(FIELD, ViolationReason::Malformed, rule))
}

/// The client certificate with which the token came to the caller.
pub(super) fn client_certificate(sha256: &[u8]) -> Result<ClientCertificate, AuthError> {
    match sha256 {
        [] => Ok(ClientCertificate::Absent),
        sha256 => sha256
            .try_into()
            .map(ClientCertificate::Sha256)
            .map_err(|_| {
                const FIELD: &str = "client_certificate_sha256";
                refused(
                    FIELD,
                    ViolationReason::Malformed,
                    "must be 32 bytes, or empty",
                )
            }),
    }
}

fn refused(field: &'static str, reason: ViolationReason, rule: &'static str) -> AuthError {
    AuthError::InvalidFields(vec![FieldViolation::new(field, reason, rule)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_zero_or_more() {
        let age = |seconds, nanos| max_auth_age(Some(&PbDuration { seconds, nanos }));
        assert_eq!(age(0, 0).unwrap(), Some(Duration::ZERO));
        assert_eq!(age(90, 5).unwrap(), Some(Duration::new(90, 5)));
        for (seconds, nanos) in [(-1, 0), (0, -1), (-5, -5), (1, 1_000_000_000)] {
            assert!(age(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        assert_eq!(max_auth_age(None).unwrap(), None);
    }

    #[test]
    fn acr_values_are_short_and_visible_ascii() {
        let one = |value: &str| {
            acceptable_acrs(&[value.to_owned()])
                .map(<[String]>::len)
                .ok()
        };
        assert_eq!(one("urn:countersign:acr:1"), Some(1));
        for value in ["", "a b", "\u{e9}", "a\n", &"x".repeat(129)] {
            assert_eq!(one(value), None, "{value:?}");
        }
        assert!(acceptable_acrs(&vec!["a".to_owned(); 8]).is_ok());
        assert!(acceptable_acrs(&vec!["a".to_owned(); 9]).is_err());
    }
}
