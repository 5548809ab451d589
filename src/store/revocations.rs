//! Revocations: written with the change that causes them, read by every replica.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, StoreError, read, schema::revocations, users::parse_user_id};
use crate::{
    clock::Timestamp,
    domain::{Revocation, RevokedSubject, uuid_v7},
};

const SESSION: &str = "session";
const USER: &str = "user";

#[derive(Insertable)]
#[diesel(table_name = revocations)]
pub(super) struct NewRevocationRow {
    id: String,
    kind: &'static str,
    subject: String,
    not_before: i64,
    pub(super) created_at: i64,
    expires_at: i64,
}

impl From<&Revocation> for NewRevocationRow {
    fn from(revocation: &Revocation) -> Self {
        let (kind, subject) = match revocation.subject {
            RevokedSubject::Session(id) => (SESSION, id.to_string()),
            RevokedSubject::User(id) => (USER, id.to_string()),
        };
        Self {
            id: uuid_v7(revocation.created_at).to_string(),
            kind,
            subject,
            not_before: revocation.not_before.micros(),
            created_at: revocation.created_at.micros(),
            expires_at: revocation.expires_at.micros(),
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = revocations)]
struct RevocationRow {
    kind: String,
    subject: String,
    not_before: i64,
    created_at: i64,
    expires_at: i64,
}

impl TryFrom<RevocationRow> for Revocation {
    type Error = StoreError;

    fn try_from(row: RevocationRow) -> Result<Self, StoreError> {
        let subject = match row.kind.as_str() {
            SESSION => row.subject.parse().ok().map(RevokedSubject::Session),
            USER => parse_user_id(&row.subject).ok().map(RevokedSubject::User),
            _ => None,
        };
        Ok(Self {
            subject: subject
                .ok_or_else(|| StoreError::Corrupt(format!("revocation of kind {:?}", row.kind)))?,
            not_before: Timestamp::from_micros(row.not_before),
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: Timestamp::from_micros(row.expires_at),
        })
    }
}

impl Store {
    /// The revocations that were written after `since` and still matter at `now`.
    ///
    /// Commits become visible out of the order of their `created_at`, and replicas' clocks differ: a
    /// caller that reads on passes a `since` that lies well before the last one it saw.
    pub async fn revocations_since(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, StoreError> {
        let rows: Vec<RevocationRow> = read!(self, |conn| {
            Ok(revocations::table
                .filter(revocations::created_at.gt(since.micros()))
                .filter(revocations::expires_at.gt(now.micros()))
                .select(RevocationRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(Revocation::try_from).collect()
    }
}
