//! Imports of users: a batch is one transaction, and an address that is taken fails its own row alone.

use std::collections::{HashMap, HashSet};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Nullable, Text},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Roles, User},
    store::{
        AuditDetails, AuditEvent, AuditKind, Store, StoreError,
        audit::{events::AuditEventRow, log::InsertEvents as _},
        connections::sqlite::AsyncSqliteConnection,
        prepared::Prepared,
        schema::{audit_events, users},
        write,
    },
};

/// A user to be imported.
pub struct ImportedUser {
    /// The user.
    pub user: User,
    /// The hash in the form in which it is stored.
    pub password_hash: String,
    /// MACs of the record that the user comes from: the first is stored, each of them tells the record again.
    pub marks: Vec<String>,
}

/// What became of one user of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// The user was created.
    Imported,
    /// The user was created from the same record before.
    Before,
    /// Another user has the address.
    EmailTaken,
}

#[derive(Insertable)]
#[diesel(table_name = users)]
struct ImportRow<'a> {
    id: String,
    email: &'a str,
    email_key: String,
    email_identity: String,
    display_name: &'a str,
    password_hash: &'a str,
    roles: String,
    email_verified_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
    disabled_at: Option<i64>,
    import_mark: &'a str,
}

impl<'a> ImportRow<'a> {
    fn of(imported: &'a ImportedUser) -> Self {
        let user = &imported.user;
        Self {
            id: user.id.to_string(),
            email: user.email.as_str(),
            email_key: user.email.legacy_key(),
            email_identity: user.email.key(),
            display_name: user.display_name.as_str(),
            password_hash: &imported.password_hash,
            roles: user.roles.to_stored(),
            email_verified_at: user.email_verified_at.map(Timestamp::micros),
            created_at: user.created_at.micros(),
            updated_at: user.updated_at.micros(),
            disabled_at: user.disabled_at.map(Timestamp::micros),
            import_mark: imported.marks.split_first().map_or("", |(first, _)| first),
        }
    }
}

/// All columns are arrays, so that the statement is the same, and prepared, whatever the length of the batch.
const INSERT: &str = "\
    INSERT INTO users (id, email, email_key, email_identity, display_name, password_hash, roles, email_verified_at,
        created_at, updated_at, disabled_at, import_mark)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[])
    ON CONFLICT DO NOTHING RETURNING id";

#[derive(QueryableByName)]
struct InsertedId {
    #[diesel(sql_type = Text)]
    id: String,
}

/// Inserts rows whose unique values are free, in the way that is fastest on each database.
trait InsertFree {
    /// The ids of the rows that were inserted.
    async fn insert_free(&mut self, rows: &[ImportRow<'_>]) -> QueryResult<HashSet<String>>;
}

impl InsertFree for AsyncPgConnection {
    async fn insert_free(&mut self, rows: &[ImportRow<'_>]) -> QueryResult<HashSet<String>> {
        fn column<'a, 'b, T>(
            rows: &'a [ImportRow<'b>],
            of: impl Fn(&'a ImportRow<'b>) -> T,
        ) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        let insert = diesel::sql_query(INSERT)
            .bind::<Array<Text>, _>(column(rows, |row| row.id.as_str()))
            .bind::<Array<Text>, _>(column(rows, |row| row.email))
            .bind::<Array<Text>, _>(column(rows, |row| row.email_key.as_str()))
            .bind::<Array<Text>, _>(column(rows, |row| row.email_identity.as_str()))
            .bind::<Array<Text>, _>(column(rows, |row| row.display_name))
            .bind::<Array<Text>, _>(column(rows, |row| row.password_hash))
            .bind::<Array<Text>, _>(column(rows, |row| row.roles.as_str()))
            .bind::<Array<Nullable<BigInt>>, _>(column(rows, |row| row.email_verified_at))
            .bind::<Array<BigInt>, _>(column(rows, |row| row.created_at))
            .bind::<Array<BigInt>, _>(column(rows, |row| row.updated_at))
            .bind::<Array<Nullable<BigInt>>, _>(column(rows, |row| row.disabled_at))
            .bind::<Array<Text>, _>(column(rows, |row| row.import_mark));
        let inserted: Vec<InsertedId> = Prepared(insert).get_results(self).await?;
        Ok(inserted.into_iter().map(|row| row.id).collect())
    }
}

impl InsertFree for AsyncSqliteConnection {
    async fn insert_free(&mut self, rows: &[ImportRow<'_>]) -> QueryResult<HashSet<String>> {
        let mut inserted = HashSet::new();
        for row in rows {
            let insert = diesel::insert_into(users::table)
                .values(row)
                .on_conflict_do_nothing();
            if insert.execute(self).await? == 1 {
                inserted.insert(row.id.clone());
            }
        }
        Ok(inserted)
    }
}

/// The events of those users whose roles open services of Countersign itself: the event of a batch names nobody.
fn grants(batch: &[ImportedUser], event: &AuditEvent) -> Vec<AuditEventRow> {
    let users = batch.iter().map(|imported| &imported.user);
    let granted = users.filter(|user| user.roles.gives_access_to_countersign());
    let event_of = |user: &User| {
        let granted = AuditEvent {
            kind: AuditKind::UserRolesChanged,
            details: AuditDetails::Roles {
                before: Roles::default(),
                after: user.roles.clone(),
            },
            ..event.clone()
        };
        granted.to_row_for(user.id)
    };
    granted.map(event_of).collect()
}

impl Store {
    /// Creates the users whose addresses are free, in one transaction, and records the batch if it created any, and each
    /// user whose roles open services of Countersign. The result has one entry for each user, in the same order.
    ///
    /// A batch may be repeated: what it created is found to be there from before.
    ///
    /// # Errors
    /// The database fails; then no user of the batch was created, or all of them if the answer to the commit was lost.
    pub async fn import_users(
        &self,
        batch: &[ImportedUser],
        event: &AuditEvent,
    ) -> Result<Vec<Import>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<_> = batch.iter().map(ImportRow::of).collect();
        let (event, grants) = (event.to_row(), grants(batch, event));
        let (inserted, marks) = write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let inserted = conn.insert_free(&rows).await?;
                if !inserted.is_empty() {
                    diesel::insert_into(audit_events::table)
                        .values(&event)
                        .execute(conn)
                        .await?;
                }
                let created = |id: Option<&String>| id.is_some_and(|id| inserted.contains(id));
                let granted: Vec<AuditEventRow> = grants
                    .iter()
                    .filter(|grant| created(grant.user_id.as_ref()))
                    .cloned()
                    .collect();
                for some in granted.chunks(EVENTS) {
                    conn.insert_events(some).await?;
                }
                let mut marks = Vec::new();
                let left = rows.iter().filter(|row| !inserted.contains(&row.id));
                for some in left.collect::<Vec<_>>().chunks(LOOK_UPS) {
                    let keys = some.iter().map(|row| row.email_key.as_str());
                    let identities = some.iter().map(|row| row.email_identity.as_str());
                    let owners = users::email_key
                        .eq_any(keys.collect::<Vec<_>>())
                        .or(users::email_identity.eq_any(identities.collect::<Vec<_>>()));
                    let columns = (users::email_key, users::email_identity, users::import_mark);
                    let found = users::table.filter(owners).select(columns).load(conn);
                    marks.extend(found.await?);
                }
                Ok((inserted, marks))
            })
            .await
        })?;
        let marks = Marks::of(marks);
        let result = |(row, user): (&ImportRow<'_>, &ImportedUser)| {
            if inserted.contains(&row.id) {
                Import::Imported
            } else if marks.know(row, &user.marks) {
                Import::Before
            } else {
                Import::EmailTaken
            }
        };
        Ok(rows.iter().zip(batch).map(result).collect())
    }
}

/// Audit events that one statement inserts.
const EVENTS: usize = 200;

/// Addresses that one statement looks up, of each of two kinds: SQLite has a parameter for each.
const LOOK_UPS: usize = 500;

type MarkRow = (String, Option<String>, Option<String>);

/// The marks of users, by their keys.
struct Marks {
    by_key: HashMap<String, Option<String>>,
    by_identity: HashMap<String, Option<String>>,
}

impl Marks {
    fn of(rows: Vec<MarkRow>) -> Self {
        let (mut by_key, mut by_identity) = (HashMap::new(), HashMap::new());
        for (key, identity, mark) in rows {
            if let Some(identity) = identity {
                by_identity.insert(identity, mark.clone());
            }
            by_key.insert(key, mark);
        }
        Self {
            by_key,
            by_identity,
        }
    }

    /// Whether a user who has the address of this row was made from a record with one of these marks.
    fn know(&self, row: &ImportRow<'_>, marks: &[String]) -> bool {
        let owners = [
            self.by_key.get(&row.email_key),
            self.by_identity.get(&row.email_identity),
        ];
        let known = owners.into_iter().flatten().flatten();
        known.into_iter().any(|mark| marks.contains(mark))
    }
}
