//! Mails that were given up, for an administrator, and how many mails there are.
//!
//! Of two attempts at one mail, which overlap after a long stall, one may give up what the other has sent: such a mail is done. The
//! index `mails_failed` is of those that are not.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    store::{Store, StoreError, read, schema::mails, write},
};

/// A mail that was given up.
#[derive(Clone, Debug)]
pub struct FailedMail {
    /// The id of the row.
    pub id: String,
    /// What it is about.
    pub kind: String,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it was given up.
    pub failed_at: Timestamp,
    /// Attempts.
    pub attempts: i32,
    /// The last error.
    pub failure: String,
}

/// How many mails there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailCounts {
    /// To be sent.
    pub waiting: u64,
    /// Given up.
    pub failed: u64,
}

impl Store {
    /// The mails that were given up, the latest first, 1,000 at most.
    pub async fn failed_mails(&self) -> Result<Vec<FailedMail>, StoreError> {
        type Row = (String, String, i64, Option<i64>, i32, String);
        let rows: Vec<Row> = read!(self, |conn| {
            Ok(mails::table
                .filter(mails::done_at.is_null())
                .filter(mails::failed_at.is_not_null())
                .order(mails::id.desc())
                .limit(1_000)
                .select((
                    mails::id,
                    mails::kind,
                    mails::created_at,
                    mails::failed_at,
                    mails::attempts,
                    mails::failure,
                ))
                .load(conn)
                .await?)
        })?;
        let failed = |(id, kind, created_at, failed_at, attempts, failure): Row| FailedMail {
            id,
            kind,
            created_at: Timestamp::from_micros(created_at),
            failed_at: Timestamp::from_micros(failed_at.unwrap_or_default()),
            attempts,
            failure,
        };
        Ok(rows.into_iter().map(failed).collect())
    }

    /// Has mails that were given up tried again, one or all of them, and says how many those are.
    pub async fn requeue_mails(
        &self,
        id: Option<&str>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let retry = (
            mails::failed_at.eq(None::<i64>),
            mails::attempts.eq(0),
            mails::created_at.eq(now.micros()),
            mails::due_at.eq(now.micros()),
        );
        let all = mails::table
            .filter(mails::done_at.is_null())
            .filter(mails::failed_at.is_not_null());
        match id {
            Some(id) => {
                let one = diesel::update(all.filter(mails::id.eq(id.to_owned()))).set(retry);
                write!(self, |conn| Ok(one.execute(conn).await?))
            }
            None => {
                let every = diesel::update(all).set(retry);
                write!(self, |conn| Ok(every.execute(conn).await?))
            }
        }
    }

    /// How many mails wait and how many were given up.
    pub async fn count_mails(&self) -> Result<MailCounts, StoreError> {
        let counts: (i64, i64) = read!(self, |conn| {
            let open = mails::table.filter(mails::done_at.is_null());
            let waiting = open
                .filter(mails::failed_at.is_null())
                .count()
                .get_result(conn)
                .await?;
            let failed = open
                .filter(mails::failed_at.is_not_null())
                .count()
                .get_result(conn)
                .await?;
            Ok((waiting, failed))
        })?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(MailCounts {
            waiting: count(counts.0),
            failed: count(counts.1),
        })
    }
}
