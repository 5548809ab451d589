//! Slowing down guesses at one account. Sessions that are open go on; only new logins wait, never
//! longer than a quarter of an hour.
//!
//! An attempt is counted *before* the password is looked at, by a conditional write: attempts in
//! parallel, on one replica or on many, cannot walk round the limit. A success forgets them all.

use std::time::Duration;

use super::{Auth, AuthError};
use crate::{
    clock::Timestamp,
    domain::{Email, User},
    store::AttemptState,
};

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

/// An attempt that has been counted as failed in advance.
pub(super) struct CountedAttempt {
    before: AttemptState,
    counted: AttemptState,
}

impl Auth {
    /// Counts an attempt, or refuses it while the account is slowed down. Returns with it the user of that address and
    /// the stored password hash, if there is one.
    pub(super) async fn begin_attempt(
        &self,
        email: &Email,
        account: &str,
        now: Timestamp,
    ) -> Result<(CountedAttempt, Option<(User, String)>), AuthError> {
        let store = &self.parts.store;
        // Whoever loses a race has seen another attempt counted; past the limit the account is refused, so the rounds
        // are bounded.
        loop {
            // Most accounts have nothing held against them: that is tried before it is looked up.
            let first = self.one_more(AttemptState::default(), now)?;
            let begun = store
                .begin_attempt(email, account, first.counted, now)
                .await?;
            let Some(held) = begun.held else {
                return Ok((first, begun.credentials));
            };
            let next = self.one_more(held, now)?;
            if store
                .count_attempt(account, held, next.counted, now)
                .await?
            {
                return Ok((next, begun.credentials));
            }
        }
    }

    /// An attempt beyond `before`.
    fn one_more(&self, before: AttemptState, now: Timestamp) -> Result<CountedAttempt, AuthError> {
        if before.retry_at > now {
            return Err(AuthError::AccountThrottled {
                retry_after: before.retry_at.since(now),
            });
        }
        let limit = self.parts.settings.account_failure_limit.get();
        let failures = before.failures.saturating_add(1);
        let counted = AttemptState {
            failures,
            retry_at: now + delay(failures.unsigned_abs(), limit),
        };
        Ok(CountedAttempt { before, counted })
    }

    /// Takes back an attempt whose password was never looked at.
    pub(super) async fn uncount_attempt(
        &self,
        account: &str,
        attempt: CountedAttempt,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let CountedAttempt { before, counted } = attempt;
        self.parts
            .store
            .count_attempt(account, counted, before, now)
            .await?;
        Ok(())
    }

    /// Takes back an attempt whose password was right, and whose session could not be opened. The caller is
    /// owed an answer and does not wait; if the database fails again, the attempt stays counted.
    pub(super) fn uncount_in_the_background(
        &self,
        account: String,
        attempt: CountedAttempt,
        now: Timestamp,
    ) {
        let auth = self.clone();
        tokio::spawn(async move {
            if let Err(error) = auth.uncount_attempt(&account, attempt, now).await {
                tracing::debug!(%error, "an attempt to log in stays counted");
            }
        });
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
}
