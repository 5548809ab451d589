//! "At least as fresh as": the cursor of a revocation, and calls that wait until this replica has reached one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time};

use super::{Auth, AuthError};
use crate::{
    clock::monotonic_now,
    domain::{FieldViolation, PositionedRevocation},
    revocation::Cursor,
};

/// How many calls may wait at once on one replica. Each costs a few hundred bytes; all of them together have the database
/// read no more often than one.
const MAX_WAITING: usize = 1_024;

/// When a call that found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer has to leave so long before the deadline, or a tenth of the time there is.
const TIME_TO_ANSWER: Duration = Duration::from_millis(100);

/// The places of calls that wait.
pub(super) type FreshnessPlaces = Arc<Semaphore>;

/// All places.
pub(super) fn all_places() -> FreshnessPlaces {
    Arc::new(Semaphore::new(MAX_WAITING))
}

/// What a use case that revokes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked<T> {
    /// Its result.
    pub outcome: T,
    /// The greatest position among the revocations that were written; `None` when none was, because others had written
    /// them before.
    pub(super) position: Option<i64>,
}

impl<T> Revoked<T> {
    pub(super) fn new(outcome: T, written: &[PositionedRevocation]) -> Self {
        let position = written.iter().map(|one| one.position).max();
        Self {
            outcome,
            // Of a revocation that only this replica's index was told.
            position: position.filter(|position| *position > 0),
        }
    }
}

impl Auth {
    /// The cursor after which every reader knows what was revoked.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`], where the database has to be asked because nothing was written.
    pub async fn revocation_cursor<T>(&self, revoked: &Revoked<T>) -> Result<Cursor, AuthError> {
        let position = match revoked.position {
            Some(position) => position,
            None => self.parts.store.newest_position().await?,
        };
        Ok(Cursor::new(
            self.parts.revocations.cursor().epoch(),
            position,
        ))
    }

    /// Waits until this replica knows at least what the cursor stands for, at most up to the deadline and to the
    /// server's own limit of a call.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for text that is no cursor, [`AuthError::RevocationStateStale`] when the time is up,
    /// [`AuthError::RateLimited`] when very many calls wait.
    pub async fn wait_until_as_fresh_as(
        &self,
        cursor: &str,
        deadline: Option<Instant>,
    ) -> Result<(), AuthError> {
        let cursor = Cursor::parse("at_least_cursor", cursor)
            .map_err(|violation: FieldViolation| AuthError::InvalidFields(vec![violation]))?;
        if self.parts.revocations.cursor().is_at_least(cursor) {
            return Ok(());
        }
        let Ok(_place) = self.freshness_places.try_acquire() else {
            return Err(AuthError::RateLimited {
                retry_after: RETRY_AFTER,
            });
        };
        let now = monotonic_now();
        let longest = self.parts.settings.request_timeout;
        let left = deadline.map_or(longest, |deadline| {
            longest.min(deadline.saturating_duration_since(now))
        });
        let patience = left.saturating_sub(TIME_TO_ANSWER.min(left / 10));
        let reached = time::timeout(patience, self.parts.revocations.is_at_least(cursor));
        reached.await.map_err(|_| AuthError::RevocationStateStale)
    }
}
