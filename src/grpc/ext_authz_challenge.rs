//! `WWW-Authenticate` (RFC 9110 section 11.6.1): what is wrong with the token, and what is required.

use std::{fmt::Write as _, time::Duration};

use super::Reason;
use crate::auth::AuthError;

/// The challenge of a refusal; `None` for one that another token would not change.
pub(super) fn challenge(error: &AuthError) -> Option<String> {
    Some(match error {
        // Who has sent no token is told no error (RFC 6750 section 3.1), but every challenge has a parameter (section 3).
        AuthError::TokenMissing => r#"Bearer realm="countersign""#.to_owned(),
        AuthError::TokenInvalid => bearer("invalid_token", Reason::TokenInvalid),
        AuthError::TokenExpired => bearer("invalid_token", Reason::TokenExpired),
        AuthError::TokenRevoked => bearer("invalid_token", Reason::TokenRevoked),
        AuthError::InsufficientRole => bearer("insufficient_scope", Reason::InsufficientRole),
        AuthError::StepUpRequired {
            acr_values,
            max_age,
        } => step_up(acr_values, *max_age),
        _ => return None,
    })
}

/// RFC 6750 section 3.
fn bearer(error: &str, reason: Reason) -> String {
    let description = reason.message();
    format!(r#"Bearer error="{error}", error_description="{description}""#)
}

/// RFC 9470 section 3.
fn step_up(acr_values: &str, max_age: Option<Duration>) -> String {
    let mut text = bearer("insufficient_user_authentication", Reason::StepUpRequired);
    if !acr_values.is_empty() {
        text.push_str(", acr_values=\"");
        for letter in acr_values.chars() {
            // RFC 9110 section 5.6.4. The values are visible ASCII.
            if matches!(letter, '"' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
        text.push('"');
    }
    if let Some(age) = max_age {
        let _ = write!(text, r#", max_age="{}""#, age.as_secs());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_token_is_challenged_without_an_error_code() {
        let text = challenge(&AuthError::TokenMissing).unwrap();
        assert_eq!(text, r#"Bearer realm="countersign""#);
    }

    #[test]
    fn only_refusals_that_another_token_would_change_have_a_challenge() {
        assert_eq!(challenge(&AuthError::RevocationStateStale), None);
        assert!(
            challenge(&AuthError::InsufficientRole)
                .unwrap()
                .contains("insufficient_scope")
        );
    }

    #[test]
    fn a_step_up_repeats_the_demand() {
        let error = |acr_values: &str, max_age| AuthError::StepUpRequired {
            acr_values: acr_values.to_owned(),
            max_age,
        };
        let text = challenge(&error("a \"b\\", Some(Duration::from_secs(5)))).unwrap();
        let end = r#", acr_values="a \"b\\", max_age="5""#;
        assert!(
            text.starts_with(r#"Bearer error="insufficient_user_authentication", "#),
            "{text}"
        );
        assert!(text.ends_with(end), "{text}");
        let text = challenge(&error("", None)).unwrap();
        assert!(
            !text.contains("acr_values") && !text.contains("max_age"),
            "{text}"
        );
    }

    #[test]
    fn no_description_needs_an_escape() {
        // RFC 6750 section 3: error_description has neither `"` nor `\`.
        for reason in Reason::ALL {
            assert!(!reason.message().contains(['"', '\\']), "{reason:?}");
        }
    }
}
