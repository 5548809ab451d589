//! Epochs of sessions: how all sessions of a user end in one row.
//!
//! Each user has an epoch, and each session the one in which it was opened. A session whose epoch lies below its user's
//! has ended, whatever its own row says; [`sweeps`](super::sweeps) brings the rows in line afterwards. An epoch is a
//! time in microseconds, moved beyond every session that the user has (a hybrid logical clock): a session opened by a
//! replica whose clock runs ahead ends with the others.

use crate::{clock::Timestamp, store::schema::sessions};

diesel::define_sql_function! {
    /// The first of both that is not null.
    fn coalesce(
        first: diesel::sql_types::Nullable<diesel::sql_types::BigInt>,
        second: diesel::sql_types::BigInt,
    ) -> diesel::sql_types::BigInt;
}

/// The SQL expression of a session's epoch. The index `sessions_open_by_user` has it in just these words.
pub(in crate::store) type SessionEpoch = coalesce<sessions::session_epoch, sessions::created_at>;

/// The epoch of a session. Versions that do not know the column leave it null; then its creation counts.
pub(in crate::store) fn session_epoch() -> SessionEpoch {
    coalesce(sessions::session_epoch, sessions::created_at)
}

/// The epoch of a session that is opened at `now` by a user at `user_epoch`.
pub(in crate::store) fn of_new_session(now: Timestamp, user_epoch: i64) -> i64 {
    now.micros().max(user_epoch)
}

/// The epoch that ends every session of a user: a millisecond beyond the user's own, the newest session's, and now. Tokens
/// are dated in milliseconds: those of the ended sessions before it, those of later sessions after it.
pub(in crate::store) fn after_all(
    now: Timestamp,
    user_epoch: i64,
    newest_session: Option<i64>,
) -> i64 {
    let newest = newest_session.unwrap_or(i64::MIN);
    now.micros()
        .max(user_epoch)
        .max(newest)
        .saturating_add(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_lies_beyond_every_session_whatever_the_clocks_say() {
        let now = Timestamp::from_micros(1_000);
        for (user_epoch, newest, expected) in [
            (0, None, 2_000),
            (0, Some(1_000), 2_000),
            (0, Some(5_000), 6_000),
            (7_000, Some(5_000), 8_000),
        ] {
            let epoch = after_all(now, user_epoch, newest);
            assert_eq!(epoch, expected);
            assert!(
                of_new_session(now, epoch) >= epoch,
                "the next login is live"
            );
        }
    }
}
