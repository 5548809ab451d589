//! What must hold for the claims of an assertion whose signature was verified (RFC 7523 section 3).

use std::time::Duration;

use super::{assertion::Claims, refused::RefusalCause};
use crate::clock::Timestamp;

/// How far the clocks of an issuer and of this service may differ, in both directions. A remembered `jti` lives as much
/// longer: one number, so that nothing is accepted that is already forgotten.
pub const LEEWAY: Duration = Duration::from_secs(10);

/// Longest time from `iat` to `exp`. Kubelets renew projected tokens after a day at the latest; a token of a year is one
/// that somebody can steal for a year.
pub const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Whether the claims are those of an assertion for `audience` that is valid at `now`.
pub(super) fn judge(claims: &Claims, audience: &str, now: Timestamp) -> Result<(), RefusalCause> {
    if !claims.aud.iter().any(|aud| aud == audience) {
        return Err(RefusalCause::Audience);
    }
    let [issued, expires] = [claims.iat, claims.exp].map(Timestamp::from_seconds);
    if expires + LEEWAY <= now {
        return Err(RefusalCause::Expired);
    }
    let not_before = claims.nbf.map_or(issued, Timestamp::from_seconds);
    if not_before.max(issued) > now + LEEWAY {
        return Err(RefusalCause::NotYetValid);
    }
    // From `iat`, and from now: an old `iat` must not hide that it is good for long.
    let life = expires.since(issued).max(expires.since(now));
    if life > LONGEST_LIFE + LEEWAY {
        return Err(RefusalCause::TooLongLived);
    }
    Ok(())
}

/// When the assertion is no longer accepted.
pub(super) fn accepted_until(claims: &Claims) -> Timestamp {
    Timestamp::from_seconds(claims.exp) + LEEWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn judged(iat: i64, nbf: Option<i64>, exp: i64) -> Result<(), RefusalCause> {
        let now = NOW.seconds();
        let claims = Claims {
            iss: None,
            sub: "s".to_owned(),
            aud: vec!["x".to_owned(), "countersign".to_owned()],
            exp: now.saturating_add(exp),
            iat: now.saturating_add(iat),
            nbf: nbf.map(|nbf| now.saturating_add(nbf)),
            jti: None,
        };
        assert_eq!(judge(&claims, "other", NOW), Err(RefusalCause::Audience));
        judge(&claims, "countersign", NOW)
    }

    #[test]
    fn ten_seconds_of_difference_between_clocks_are_tolerated() {
        assert_eq!(judged(10, Some(10), 60), Ok(()));
        assert_eq!(judged(-60, None, -9), Ok(()));
        assert_eq!(judged(-60, None, -10), Err(RefusalCause::Expired));
        assert_eq!(judged(11, None, 60), Err(RefusalCause::NotYetValid));
        assert_eq!(judged(0, Some(11), 60), Err(RefusalCause::NotYetValid));
        assert_eq!(judged(11, Some(0), 60), Err(RefusalCause::NotYetValid));
    }

    #[test]
    fn an_assertion_valid_for_more_than_a_day_is_refused() {
        let day = 24 * 3600;
        assert_eq!(judged(0, None, day), Ok(()));
        assert_eq!(judged(0, None, day + 11), Err(RefusalCause::TooLongLived));
        assert_eq!(judged(-day, None, day), Err(RefusalCause::TooLongLived));
        assert_eq!(judged(0, None, 365 * day), Err(RefusalCause::TooLongLived));
        assert_eq!(judged(0, None, i64::MAX), Err(RefusalCause::TooLongLived));
        assert_eq!(judged(i64::MIN, None, 60), Err(RefusalCause::TooLongLived));
        assert_eq!(judged(i64::MIN, None, i64::MIN), Err(RefusalCause::Expired));
    }
}
