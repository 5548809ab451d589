//! Slowing down guesses at one account, without a lock that anyone could put on anyone for long.
//!
//! An attempt is counted *before* the password is looked at, by a conditional write: attempts in
//! parallel, on one replica or on many, cannot walk round the limit. A success forgets them all.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Auth, AuthError};
use crate::{clock::Timestamp, domain::Email, store::AttemptState};

/// The longest an account is slowed down.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// How long the account waits after its `failures`-th failure in a row: nothing below the limit, then
/// one second, doubled each time, at most [`MAX_DELAY`].
fn delay(failures: u32, limit: u32) -> Duration {
    match failures.checked_sub(limit) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1_u64 << beyond.min(20)).min(MAX_DELAY),
    }
}

/// The name under which attempts are counted. A hash: addresses that nobody registered are counted
/// too, so that the answer does not tell them apart, and need not be stored for that.
pub(super) fn account_key(email: &Email) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, email.key().as_bytes()))
}

/// An attempt that has been counted as failed in advance.
pub(super) struct CountedAttempt {
    before: Option<AttemptState>,
    counted: AttemptState,
}

impl Auth {
    /// Counts an attempt, or refuses it while the account is slowed down.
    pub(super) async fn count_attempt(
        &self,
        account: &str,
        now: Timestamp,
    ) -> Result<Option<CountedAttempt>, AuthError> {
        let limit = self.parts.settings.account_failure_limit;
        if limit == 0 {
            return Ok(None);
        }
        // Each round that loses its race saw another attempt counted; past the limit the account is
        // refused, so the rounds are bounded.
        loop {
            let before = self.parts.store.attempt_state(account).await?;
            let seen = before.unwrap_or_default();
            if seen.retry_at > now {
                return Err(AuthError::AccountThrottled {
                    retry_after: seen.retry_at.since(now),
                });
            }
            let failures = seen.failures.saturating_add(1);
            let counted = AttemptState {
                failures,
                retry_at: now + delay(failures.unsigned_abs(), limit),
            };
            let store = &self.parts.store;
            if store.count_attempt(account, before, counted, now).await? {
                return Ok(Some(CountedAttempt { before, counted }));
            }
        }
    }

    /// Takes back an attempt whose password was never looked at.
    pub(super) async fn uncount_attempt(
        &self,
        account: &str,
        attempt: Option<CountedAttempt>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let Some(CountedAttempt { before, counted }) = attempt else {
            return Ok(());
        };
        let store = &self.parts.store;
        let before = before.unwrap_or_default();
        store
            .count_attempt(account, Some(counted), before, now)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_the_limit_to_a_quarter_of_an_hour() {
        for (failures, seconds) in [
            (1, 0),
            (9, 0),
            (10, 1),
            (11, 2),
            (12, 4),
            (19, 512),
            (20, 900),
            (1_000_000, 900),
        ] {
            assert_eq!(
                delay(failures, 10),
                Duration::from_secs(seconds),
                "{failures}"
            );
        }
    }

    #[test]
    fn one_account_has_one_key_whatever_the_case() {
        let key = |text| account_key(&Email::parse("email", text).unwrap());
        assert_eq!(key("Ada@Example.org"), key("ada@example.org"));
        assert_ne!(key("ada@example.org"), key("bob@example.org"));
        assert!(!key("ada@example.org").contains("ada"));
    }
}
