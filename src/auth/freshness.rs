//! Read-your-writes for revocations (`at_least_cursor`): the cursor of a revocation, and calls that wait until this replica
//! has reached one.

use std::time::{Duration, Instant};

use tokio::time;

use super::{Auth, AuthError, Revoked, user_places::Bounds};
use crate::{clock::monotonic_now, domain::FieldViolation, revocation::Cursor};

/// The answer has to leave before the deadline: by a tenth of the time there is, and by no more than this.
const TIME_TO_ANSWER: Duration = Duration::from_secs(1);

/// How many calls may wait at once on one replica: each holds a stream and some hundred bytes. All of them together have the
/// database read no more often than one.
pub(super) const PLACES: Bounds = Bounds {
    all: 1_024,
    per_user: 128,
    retry_after: Duration::from_secs(1),
};

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

    /// Waits until this replica has reached the cursor, at most up to the deadline and to the
    /// server's own limit of a call. Only a good token waits: what is invalid, expired or revoked already stays so.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for text that is no cursor, those of [`Auth::validate`] for the token,
    /// [`AuthError::RevocationStateStale`] when the time is up, [`AuthError::RateLimited`] when very many calls wait.
    pub async fn wait_for_cursor(
        &self,
        cursor: &str,
        access_token: &str,
        deadline: Option<Instant>,
    ) -> Result<(), AuthError> {
        let cursor = Cursor::parse("at_least_cursor", cursor)
            .map_err(|violation: FieldViolation| AuthError::InvalidFields(vec![violation]))?;
        if self.parts.revocations.cursor().is_at_least(cursor) {
            return Ok(());
        }
        let user = self.user_of(access_token)?;
        let _place = self.waiting_places.take(user)?;
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
