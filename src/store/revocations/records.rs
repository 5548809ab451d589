//! Revocations: written with the change that causes them, read by every replica, visible in the order of their positions
//! (`feed_state`).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{PositionedRevocation, Revocation, RevokedSubject, uuid_v7},
    store::{
        Store, StoreError, connections::sqlite::AsyncSqliteConnection, ids::parse_user_id, read,
        schema::revocations,
    },
};

const SESSION: &str = "session";
const USER: &str = "user";

/// Rows read by one statement, which has to end in time however many there are. A page is held in memory as rows,
/// many times as large as what the index makes of them.
const PAGE: i64 = 256;

/// Rows written by one statement of PostgreSQL, which takes 65,535 parameters.
const ROWS: usize = 1_000;

#[derive(Insertable)]
#[diesel(table_name = revocations)]
pub(in crate::store) struct NewRevocationRow {
    id: String,
    kind: &'static str,
    subject: String,
    not_before: i64,
    created_at: i64,
    expires_at: i64,
    position: i64,
}

impl NewRevocationRow {
    fn new(revocation: &Revocation, position: i64) -> Self {
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
            position,
        }
    }
}

/// Gives the revocations the positions behind `taken`, in their order.
pub(in crate::store) fn in_order(
    revocations: Vec<Revocation>,
    taken: i64,
) -> (Vec<NewRevocationRow>, Vec<PositionedRevocation>) {
    let positioned =
        revocations
            .into_iter()
            .zip(taken.saturating_add(1)..)
            .map(|(revocation, position)| {
                let row = NewRevocationRow::new(&revocation, position);
                let revocation = PositionedRevocation {
                    position,
                    revocation,
                };
                (row, revocation)
            });
    positioned.unzip()
}

/// A connection on which many rows are written quickly.
pub(in crate::store) trait Append {
    /// Writes the rows.
    async fn append(&mut self, rows: &[NewRevocationRow]) -> Result<(), StoreError>;
}

impl Append for AsyncPgConnection {
    /// One round trip for many rows.
    async fn append(&mut self, rows: &[NewRevocationRow]) -> Result<(), StoreError> {
        if let [row] = rows {
            // Of which the connection keeps the statement.
            let insert = diesel::insert_into(revocations::table).values(row);
            insert.execute(self).await?;
            return Ok(());
        }
        for rows in rows.chunks(ROWS) {
            let insert = diesel::insert_into(revocations::table).values(rows);
            insert.execute(self).await?;
        }
        Ok(())
    }
}

impl Append for AsyncSqliteConnection {
    /// One by one: there are no round trips, and diesel cannot insert many rows at once on SQLite.
    async fn append(&mut self, rows: &[NewRevocationRow]) -> Result<(), StoreError> {
        for row in rows {
            let insert = diesel::insert_into(revocations::table).values(row);
            insert.execute(self).await?;
        }
        Ok(())
    }
}

/// Writes revocations and notifies the replicas. A transaction does this last of all: from the positions to the commit it
/// holds a lock that every transaction needs which revokes. A macro, because diesel's queries cannot be written once for
/// both kinds of connection in a function.
macro_rules! append_revocations {
    ($conn:expr, $revocations:expr) => {{
        use $crate::store::revocations::{
            changes::Announce as _,
            feed_state::TakePositions as _,
            records::{Append as _, in_order},
        };
        let revocations: Vec<$crate::domain::Revocation> = $revocations;
        // Sent with the commit, whenever it is asked for.
        $conn.announce_change().await?;
        let written_at = revocations.iter().map(|one| one.created_at).max();
        let taken = match written_at {
            Some(at) => $conn.take_positions(revocations.len(), at).await?,
            None => 0,
        };
        let (rows, positioned) = in_order(revocations, taken);
        $conn.append(&rows).await?;
        positioned
    }};
}

pub(in crate::store) use append_revocations;

#[derive(Queryable, Selectable)]
#[diesel(table_name = revocations)]
struct RevocationRow {
    id: String,
    kind: String,
    subject: String,
    not_before: i64,
    created_at: i64,
    expires_at: i64,
    position: i64,
}

impl RevocationRow {
    /// `None` when this version cannot read the row.
    fn read(&self) -> Option<PositionedRevocation> {
        let subject = match self.kind.as_str() {
            SESSION => RevokedSubject::Session(self.subject.parse().ok()?),
            USER => RevokedSubject::User(parse_user_id(&self.subject).ok()?),
            _ => return None,
        };
        Some(PositionedRevocation {
            position: self.position,
            revocation: Revocation {
                subject,
                not_before: Timestamp::from_micros(self.not_before),
                created_at: Timestamp::from_micros(self.created_at),
                expires_at: Timestamp::from_micros(self.expires_at),
            },
        })
    }
}

/// Where a page of revocations begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationCursor {
    position: i64,
    /// Rows of the same position are ordered by their id.
    after_id: String,
}

impl RevocationCursor {
    /// Before all rows with that position.
    pub const fn at(position: i64) -> Self {
        Self {
            position,
            after_id: String::new(),
        }
    }
}

/// Some revocations in the order of their positions.
#[derive(Debug)]
pub struct RevocationPage {
    /// Those that could be read.
    pub revocations: Vec<PositionedRevocation>,
    /// Positions of rows that this version cannot read: written by a newer one, or damaged.
    pub unreadable: Vec<i64>,
    /// The greatest position on the page.
    pub greatest: Option<i64>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<RevocationCursor>,
}

impl From<Vec<RevocationRow>> for RevocationPage {
    fn from(rows: Vec<RevocationRow>) -> Self {
        let is_full = i64::try_from(rows.len()).is_ok_and(|length| length >= PAGE);
        let mut page = Self {
            revocations: Vec::with_capacity(rows.len()),
            unreadable: Vec::new(),
            greatest: rows.last().map(|row| row.position),
            next: rows.last().filter(|_| is_full).map(|row| RevocationCursor {
                position: row.position,
                after_id: row.id.clone(),
            }),
        };
        for row in &rows {
            match row.read() {
                Some(revocation) => page.revocations.push(revocation),
                None => page.unreadable.push(row.position),
            }
        }
        page
    }
}

/// How many revocations there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationCounts {
    /// Of single sessions.
    pub sessions: usize,
    /// Of all sessions of a user.
    pub users: usize,
}

impl Store {
    /// How many revocations expire after `live_after`.
    pub async fn count_revocations(
        &self,
        live_after: Timestamp,
    ) -> Result<RevocationCounts, StoreError> {
        let kinds: Vec<(String, i64)> = read!(self, |conn| {
            Ok(revocations::table
                .filter(revocations::expires_at.gt(live_after.micros()))
                .group_by(revocations::kind)
                .select((revocations::kind, diesel::dsl::count_star()))
                .load(conn)
                .await?)
        })?;
        let of = |kind| {
            let count = kinds.iter().find(|(found, _)| found == kind);
            count.map_or(0, |(_, count)| usize::try_from(*count).unwrap_or_default())
        };
        Ok(RevocationCounts {
            sessions: of(SESSION),
            users: of(USER),
        })
    }

    /// A page of the revocations from `cursor` on that expire after `live_after`.
    pub async fn revocations_from(
        &self,
        cursor: &RevocationCursor,
        live_after: Timestamp,
    ) -> Result<RevocationPage, StoreError> {
        let position = cursor.position;
        let beyond = revocations::position
            .gt(position)
            .or(revocations::id.gt(&cursor.after_id));
        let rows: Vec<RevocationRow> = read!(self, |conn| {
            Ok(revocations::table
                .filter(revocations::position.ge(position))
                .filter(beyond)
                .filter(revocations::expires_at.gt(live_after.micros()))
                .order((revocations::position, revocations::id))
                .limit(PAGE)
                .select(RevocationRow::as_select())
                .load(conn)
                .await?)
        })?;
        Ok(rows.into())
    }
}
