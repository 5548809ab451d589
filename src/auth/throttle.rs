//! Slowing down guesses at one account. Sessions that are open go on; only logins and changes of the
//! password wait, never longer than a quarter of an hour.
//!
//! An attempt is counted *before* the password is looked at, by a conditional write: attempts in
//! parallel, on one replica or on many, cannot walk round the limit. A success forgets them all.

use std::time::Duration;

use super::{Auth, AuthError};
use crate::{
    clock::Timestamp,
    domain::{Email, Password, User},
    passwords::{HashingPlace, PasswordError, PasswordHash, Verdict},
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
    /// The account it is held against: a name that says nothing.
    pub(super) account: String,
    before: AttemptState,
    counted: AttemptState,
    at: Timestamp,
}

impl Auth {
    /// Counts an attempt, or refuses it while the account is slowed down. Returns with it the user of that address and
    /// the stored password hash, if there is one.
    pub(super) async fn begin_attempt(
        &self,
        email: &Email,
        now: Timestamp,
    ) -> Result<(CountedAttempt, Option<(User, String)>), AuthError> {
        let store = &self.parts.store;
        let account = self.parts.derived_keys.account_name(email);
        let attempt = |account, before, counted| CountedAttempt {
            account,
            before,
            counted,
            at: now,
        };
        // Whoever loses a race has seen another attempt counted; past the limit the account is refused, so the rounds
        // are bounded.
        loop {
            // Most accounts have nothing held against them: that is tried before it is looked up.
            let none = AttemptState::default();
            let first = self.one_more(none, now)?;
            let begun = store.begin_attempt(email, &account, first, now).await?;
            let Some(held) = begun.held else {
                return Ok((attempt(account, none, first), begun.credentials));
            };
            let next = self.one_more(held, now)?;
            if store.count_attempt(&account, held, next, now).await? {
                return Ok((attempt(account, held, next), begun.credentials));
            }
        }
    }

    /// The account with one failure beyond `before`.
    fn one_more(&self, before: AttemptState, now: Timestamp) -> Result<AttemptState, AuthError> {
        if before.retry_at > now {
            return Err(AuthError::AccountThrottled {
                retry_after: before.retry_at.since(now),
            });
        }
        let limit = self.parts.settings.account_failure_limit.get();
        let failures = before.failures.saturating_add(1);
        Ok(AttemptState {
            failures,
            retry_at: now + delay(failures.unsigned_abs(), limit),
        })
    }

    /// Compares the password with the stored hash, if there is one. An attempt whose password could not be looked at
    /// for want of time is taken back.
    pub(super) async fn judge_attempt(
        &self,
        attempt: &CountedAttempt,
        place: HashingPlace,
        password: Password,
        stored: Option<&str>,
    ) -> Result<Verdict, AuthError> {
        let stored = stored.map(|hash| PasswordHash::from_stored(hash.to_owned()));
        match place.verify(password, stored).await {
            Err(error @ PasswordError::Overloaded { .. }) => {
                self.uncount_attempt(attempt).await?;
                Err(error.into())
            }
            verdict => Ok(verdict?),
        }
    }

    async fn uncount_attempt(&self, attempt: &CountedAttempt) -> Result<(), AuthError> {
        let CountedAttempt {
            account,
            before,
            counted,
            at,
        } = attempt;
        self.parts
            .store
            .count_attempt(account, *counted, *before, *at)
            .await?;
        Ok(())
    }

    /// Takes back an attempt whose password was right, and which came to nothing all the same. The caller is
    /// owed an answer and does not wait; if the database fails again, the attempt stays counted.
    pub(super) fn uncount_in_the_background(&self, attempt: CountedAttempt) {
        let auth = self.clone();
        tokio::spawn(async move {
            if let Err(error) = auth.uncount_attempt(&attempt).await {
                tracing::debug!(%error, "a counted attempt stays counted");
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
