//! The audit trail: listed in pages, and exported in an order in which no event is missed.

use diesel::{
    dsl::{exists, select},
    prelude::*,
    sql_types::BigInt,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value, json};

use crate::{
    clock::Timestamp,
    domain::{AuditCondition, AuditEventId, TimeBound, first_uuid_of},
    store::{
        AuditEvent, Store, StoreError,
        audit::events::AuditEventRow,
        connections::sqlite::AsyncSqliteConnection,
        ids::parse_audit_event_id,
        list_window::{ListPage, last_in_window},
        prepared::Unprepared,
        read,
        schema::{audit_events, audit_positions},
        write,
    },
};

/// How many events get a position in one transaction.
const BATCH: i64 = 500;

/// Gives the oldest events without a position the next ones after `$1`.
const GIVE_POSITIONS: &str = "UPDATE audit_events SET position = CAST($1 AS BIGINT) + numbered.number \
     FROM (SELECT oldest.id AS id, row_number() OVER (ORDER BY oldest.id) AS number \
     FROM (SELECT id FROM audit_events WHERE position IS NULL ORDER BY id LIMIT 500) AS oldest) AS numbered \
     WHERE audit_events.id = numbered.id";

/// An event as it was written, by this version or another.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = audit_events)]
pub struct StoredAuditEvent {
    /// The id, a UUIDv7 of `created_at`.
    pub id: String,
    /// What happened: a name of [`AuditKind`](crate::store::AuditKind), or one that only another version knows.
    pub kind: String,
    /// The user whose access token authorised it.
    pub actor_id: Option<String>,
    #[diesel(column_name = user_id)]
    /// The user or service account concerned.
    pub subject_id: Option<String>,
    /// The session or service key concerned.
    pub session_id: Option<String>,
    /// Where the request came from.
    pub client_ip: String,
    /// The id of the request.
    pub request_id: String,
    /// When, in microseconds since the Unix epoch.
    pub created_at: i64,
    /// The version of the schema of its kind.
    pub version: i32,
    details: String,
    position: Option<i64>,
}

impl StoredAuditEvent {
    /// When.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.created_at)
    }

    /// What else there is to say: a JSON object.
    pub fn details(&self) -> Value {
        serde_json::from_str(&self.details).unwrap_or_else(|_| Value::Object(Map::new()))
    }

    /// The event as `docs/audit-schema/` describes it.
    pub fn to_json(&self) -> Value {
        let or_null = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        json!({
            "id": self.id,
            "kind": self.kind,
            "version": self.version,
            "time": self.at().to_rfc3339_micros(),
            "actor_id": self.actor_id,
            "subject_id": self.subject_id,
            "session_id": self.session_id,
            "client_ip": or_null(&self.client_ip),
            "request_id": or_null(&self.request_id),
            "details": self.details(),
        })
    }
}

impl Store {
    /// Audit events that meet all conditions, the newest first: `size` at most, beginning after the event `after`.
    ///
    /// An index finds the events of a subject and of a time. With other conditions, and without one on the subject, no more
    /// than `WINDOW` events are looked at; the page may then be short, or even empty, and have a next one.
    pub async fn list_audit_events(
        &self,
        after: Option<AuditEventId>,
        conditions: &[AuditCondition],
        size: u16,
    ) -> Result<ListPage<StoredAuditEvent, AuditEventId>, StoreError> {
        let is_by_subject = |condition| matches!(condition, &AuditCondition::Subject(_));
        let is_by_time = |condition| matches!(condition, &AuditCondition::Time(_));
        let is_bounded =
            !conditions.iter().any(is_by_subject) && !conditions.iter().all(is_by_time);
        let (first, last) = id_bounds(after, conditions);
        let (rows, bound): (Vec<StoredAuditEvent>, Option<String>) = read!(self, |conn| {
            let in_order = audit_events::table
                .filter(audit_events::id.ge(&first))
                .filter(audit_events::id.lt(&last))
                .order(audit_events::id.desc());
            let bound = last_in_window!(conn, in_order, audit_events::id, is_bounded);
            let mut query = in_order
                .limit(i64::from(size) + 1)
                .select(StoredAuditEvent::as_select())
                .into_boxed();
            if let Some(bound) = &bound {
                query = query.filter(audit_events::id.ge(bound));
            }
            for condition in conditions {
                query = match condition {
                    AuditCondition::Kind(kind) if kind.negated => {
                        query.filter(audit_events::kind.ne(&kind.text))
                    }
                    AuditCondition::Kind(kind) => query.filter(audit_events::kind.eq(&kind.text)),
                    AuditCondition::Subject(id) => {
                        query.filter(audit_events::user_id.eq(id.to_string()))
                    }
                    AuditCondition::Actor(id) => {
                        query.filter(audit_events::actor_id.eq(id.to_string()))
                    }
                    AuditCondition::Session(id) => {
                        query.filter(audit_events::session_id.eq(id.to_string()))
                    }
                    AuditCondition::ClientIp(address) if address.negated => {
                        query.filter(audit_events::client_ip.ne(&address.text))
                    }
                    AuditCondition::ClientIp(address) => {
                        query.filter(audit_events::client_ip.eq(&address.text))
                    }
                    AuditCondition::RequestId(id) => query.filter(audit_events::request_id.eq(id)),
                    AuditCondition::Time(TimeBound::From(time)) => {
                        query.filter(audit_events::created_at.ge(time.micros()))
                    }
                    AuditCondition::Time(TimeBound::Before(time)) => {
                        query.filter(audit_events::created_at.lt(time.micros()))
                    }
                };
            }
            Ok((Unprepared(query).load(conn).await?, bound))
        })?;
        ListPage::of(rows, size, bound, |event| &event.id, parse_audit_event_id)
    }

    /// Writes events on which nothing else depends: all of them or none. A few hundred at most, for each value is a parameter
    /// of the statement.
    pub async fn append_audit_events(&self, events: &[AuditEvent]) -> Result<(), StoreError> {
        let rows: Vec<AuditEventRow> = events.iter().map(AuditEvent::to_row).collect();
        write!(self, |conn| Ok(conn.insert_events(&rows).await?))
    }

    /// Gives positions to events that have none, some of them. `false`: there is none without.
    ///
    /// An event gets its position after its commit, by one transaction at a time: whoever has read all events up to a
    /// position has missed none with a lower one, in whatever order the transactions of the events committed.
    pub async fn position_audit_events(&self) -> Result<bool, StoreError> {
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                // Changes nothing, and takes the lock.
                let greatest: i64 = diesel::update(audit_positions::table)
                    .set(audit_positions::position.eq(audit_positions::position))
                    .returning(audit_positions::position)
                    .get_result(conn)
                    .await?;
                let given = diesel::sql_query(GIVE_POSITIONS)
                    .bind::<BigInt, _>(greatest)
                    .execute(conn)
                    .await?;
                if given == 0 {
                    // A purge may have deleted just those that were picked.
                    let left = audit_events::table.filter(audit_events::position.is_null());
                    return Ok(select(exists(left)).get_result(conn).await?);
                }
                // Not by `given`: where a purge deleted some of those that were picked, the numbers of the others reach beyond.
                diesel::update(audit_positions::table)
                    .set(audit_positions::position.eq(greatest + BATCH))
                    .execute(conn)
                    .await?;
                Ok(true)
            })
            .await
        })
    }

    /// The events behind a position, in the order of exports, each with its position: a batch at most.
    pub async fn audit_events_after(
        &self,
        position: i64,
    ) -> Result<Vec<(i64, StoredAuditEvent)>, StoreError> {
        let rows: Vec<StoredAuditEvent> = read!(self, |conn| {
            Ok(audit_events::table
                .filter(audit_events::position.gt(position))
                .order(audit_events::position)
                .limit(BATCH)
                .select(StoredAuditEvent::as_select())
                .load(conn)
                .await?)
        })?;
        let with_position = |row: StoredAuditEvent| Some((row.position?, row));
        Ok(rows.into_iter().filter_map(with_position).collect())
    }
}

/// A connection that inserts events, all or none, in the way that is fastest on its database.
pub(in crate::store) trait InsertEvents {
    async fn insert_events(&mut self, rows: &[AuditEventRow]) -> QueryResult<()>;
}

impl InsertEvents for AsyncPgConnection {
    /// One statement, which is a transaction.
    async fn insert_events(&mut self, rows: &[AuditEventRow]) -> QueryResult<()> {
        let insert = diesel::insert_into(audit_events::table).values(rows);
        insert.execute(self).await.map(drop)
    }
}

impl InsertEvents for AsyncSqliteConnection {
    /// One by one: the statement stays prepared, and there are no round trips.
    async fn insert_events(&mut self, rows: &[AuditEventRow]) -> QueryResult<()> {
        self.transaction(async |conn| {
            for row in rows {
                diesel::insert_into(audit_events::table)
                    .values(row)
                    .execute(conn)
                    .await?;
            }
            Ok(())
        })
        .await
    }
}

/// Between which ids the events lie: a time in the conditions bounds them, as ids are UUIDv7 of the time. The first is
/// included, the last is not.
fn id_bounds(after: Option<AuditEventId>, conditions: &[AuditCondition]) -> (String, String) {
    let mut first = String::new();
    // Sorts after every id.
    let mut last = after.map_or_else(|| "g".to_owned(), |id| id.to_string());
    for condition in conditions {
        match condition {
            AuditCondition::Time(TimeBound::From(time)) => {
                first = first.max(first_uuid_of(*time).to_string());
            }
            AuditCondition::Time(TimeBound::Before(time)) => {
                let next = Timestamp::from_micros(time.micros().saturating_add(1_000));
                last = last.min(first_uuid_of(next).to_string());
            }
            _ => {}
        }
    }
    (first, last)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
