//! The database: the only layer with SQL.
//!
//! # How to add a table
//! 1. Write `migrations/<date>_<name>/up.sql` and `down.sql` in the SQL that SQLite and PostgreSQL
//!    share: `TEXT`, `BIGINT`, `INTEGER`, `BYTEA`, nullable times for flags.
//! 2. Declare the table in `schema.rs`.
//! 3. Give it a file in the folder that it belongs to, with an `impl Store`: a `*Row` type that stays in `store/`, and functions that take and
//!    return types of `domain/`, each body written once inside `read!` or `write!`.
//!    One row is `get_result`: the `LIMIT` of `first` makes SQLite prepare the statement again at every execution.

mod audit;
mod backup;
mod connections;
mod error;
mod factors;
mod ids;
mod keys;
mod list_window;
mod mails;
mod migrate;
mod prepared;
mod retention;
mod revocations;
mod schema;
mod schema_version;
mod services;
mod sessions;
mod users;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::Notify;

pub use audit::{
    events::{AuditDetails, AuditEvent, AuditKind},
    log::StoredAuditEvent,
};
pub use backup::{BackupError, back_up_sqlite};
pub use connections::{
    pool_load::{PoolLoad, pool_waits},
    sqlite_file::ServerLock,
};
pub use error::StoreError;
pub use factors::{
    factor_changes::{ChangeRefused, JudgedCaller},
    passkeys::StoredPasskey,
    proofs::{ChallengeUse, FactorProof, FactorUse},
    records::{Enrolled, Enrollment, NewFactor, Removal, RemovedFactors},
    recovery_codes::NewRecoveryCodes,
    totp_factors::StoredTotp,
};
pub use keys::signing_keys::StoredSigningKey;
pub use list_window::ListPage;
pub use mails::{
    failed::{FailedMail, MailCounts},
    outbox::ClaimedMail,
};
pub use revocations::{
    changes::ChangeListener,
    feed_state::FeedState,
    records::{RevocationCounts, RevocationCursor, RevocationPage},
};
pub use services::{
    accounts::RevokedAccount,
    directory::{DirectoryVersion, Versioned},
    service_keys::RevokedKey,
};
pub use sessions::{
    ending::EndedSessions,
    login_failures::{Clearing, CounterKey, Counting, Failure},
    logins::{Login, OpenedSession, Opening},
    records::RefreshSubject,
    rotation_queue::{Rotated, Rotation},
    session_claims::{ClaimsRenewal, RenewedSession},
    sweeps::{Sweep, SweptBatch},
};
pub use users::{
    credentials::{Credentials, UserCredentials},
    email_identities::{EmailConflict, EmailIdentities},
    imports::{Import, ImportedUser},
    password_change::{ChangedPassword, PasswordChange},
    recovery::{PasswordReset, RecoverySubject, ResetSessions},
};

use connections::{
    availability::Availability,
    circuit::{Circuit, circuit_open},
    pool::Pool,
    pool_load::pool_wait,
    postgres::Connector,
    sqlite_file,
};
use migrate::WithoutRights;
use revocations::revoking_turns::RevokingTurns;
use sessions::rotation_queue::RotationQueue;

use crate::{
    clock::Clock,
    config::{DatabaseSettings, DatabaseUrl},
    domain::uuid_v7,
};

/// The longest an operation may take, waiting for a connection included: callers are promised an
/// answer within two seconds.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(1_800);

/// Runs a query on a connection that may read. The body is written once and compiled for both databases. It awaits
/// nothing but statements: on SQLite they are over at once, and anything else would panic.
macro_rules! read {
    ($store:expr, |$conn:ident| $body:expr) => {
        $crate::store::on_connection!($store, bounded_read, readers, |$conn| $body)
    };
}

/// The same on a connection that may write.
macro_rules! write {
    ($store:expr, |$conn:ident| $body:expr) => {
        $crate::store::on_connection!($store, bounded, writer, |$conn| $body)
    };
}

/// The same for a transaction that revokes, which waits for its turn before it takes a connection.
macro_rules! revoke {
    ($store:expr, |$conn:ident| $body:expr) => {
        $crate::store::on_connection!($store, bounded_in_turn, writer, |$conn| $body)
    };
}

macro_rules! on_connection {
    ($store:expr, $bounded:ident, $sqlite_pool:ident, |$conn:ident| $body:expr) => {
        $store
            .$bounded(Box::pin(::tracing::Instrument::instrument(
                async {
                    match &$store.pool {
                        $crate::store::connections::pool::Pool::Postgres(pool) => {
                            let mut lease = $crate::store::pool_wait(pool.get()).await?;
                            let $conn = lease.begin();
                            let result = $crate::store::same(async { $body }).await;
                            lease.end(result)
                        }
                        $crate::store::connections::pool::Pool::Sqlite { $sqlite_pool, .. } => {
                            let pooled = $crate::store::pool_wait($sqlite_pool.get()).await?;
                            $crate::store::connections::sqlite::in_place(pooled, async |$conn| {
                                $body
                            })
                        }
                    }
                },
                ::tracing::debug_span!(
                    "database",
                    code.module = module_path!(),
                    code.line = line!()
                ),
            )))
            .await
    };
}

use {on_connection, read, revoke, write};

/// An operation under way. Boxed, because every future around it would hold it twice, as its argument and as what it
/// awaits: a login's came to 39 KB.
type Operation<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Names the result type of an operation, which the compiler cannot infer in a block.
async fn same<T>(operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    operation.await
}

/// The repository: every query of the service. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    url: DatabaseUrl,
    circuit: Arc<Circuit>,
    availability: Arc<Availability>,
    /// Names this process among those that share the database.
    replica_id: Arc<str>,
    /// An operation failed in a way that a plain ping may not notice.
    is_suspect: Arc<AtomicBool>,
    suspicion: Arc<Notify>,
    /// Whether notifications of other replicas arrived when that was last tested.
    receives_notifications: Arc<AtomicBool>,
    start_timeout: Duration,
    rotation_queue: Arc<RotationQueue>,
    audit_retention: Duration,
    sweep_requested: Arc<Notify>,
    mail_queued: Arc<Notify>,
    revoking_turns: RevokingTurns,
}

impl Store {
    /// Builds the pools of a database that exists; connections are opened when first needed.
    ///
    /// # Errors
    /// The URL is malformed, or there is no SQLite file.
    pub fn open(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        if let DatabaseUrl::Sqlite(path) = &settings.url {
            sqlite_file::demand(path)?;
        }
        Self::open_or_create(settings)
    }

    /// The same, but creates a missing SQLite file: for the server and for `migrate`, and for nothing else.
    ///
    /// # Errors
    /// The URL is malformed, or the SQLite file cannot be created.
    pub fn open_or_create(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let is_new = matches!(&settings.url, DatabaseUrl::Sqlite(path) if !path.exists());
        let pool = Pool::build(settings)?;
        if let DatabaseUrl::Sqlite(path) = &settings.url
            && is_new
        {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            tracing::info!(path = %path.display(), "created a database");
        }
        Ok(Self {
            pool,
            url: settings.url.clone(),
            circuit: Arc::default(),
            availability: Arc::new(Availability::new(Clock::System)),
            replica_id: uuid_v7(Clock::System.now()).to_string().into(),
            is_suspect: Arc::default(),
            suspicion: Arc::default(),
            receives_notifications: Arc::new(AtomicBool::new(true)),
            start_timeout: settings.start_timeout,
            rotation_queue: Arc::default(),
            audit_retention: settings.audit_retention,
            sweep_requested: Arc::default(),
            mail_queued: Arc::default(),
            revoking_turns: RevokingTurns::of_pool(settings.pool_size),
        })
    }

    /// The same with another clock to time its outages by.
    pub fn on_clock(mut self, clock: Clock) -> Self {
        self.availability = Arc::new(Availability::new(clock));
        self
    }

    /// Waits for the database, a bounded time, and brings the tables up to date. Replicas that start together take
    /// turns.
    ///
    /// # Errors
    /// The database stays out of reach, refuses, is locked, or was migrated by a newer version.
    pub async fn migrate(&self) -> Result<usize, StoreError> {
        self.migrate_with(WithoutRights::Fail).await
    }

    /// The same, but where the role may not create tables it waits until another has brought them up to date.
    ///
    /// # Errors
    /// As [`Store::migrate`].
    pub async fn migrate_or_wait(&self) -> Result<usize, StoreError> {
        self.migrate_with(WithoutRights::Wait).await
    }

    async fn migrate_with(&self, without_rights: WithoutRights) -> Result<usize, StoreError> {
        match (&self.url, &self.pool) {
            (DatabaseUrl::Sqlite(path), _) => migrate::sqlite(path),
            (_, Pool::Postgres(pool)) => {
                let (shown, patience) = (self.url.describe(), self.start_timeout);
                migrate::postgres(&pool.connector, &shown, patience, without_rights).await
            }
            (DatabaseUrl::Postgres(_), Pool::Sqlite { .. }) => unreachable!("one URL, one pool"),
        }
    }

    /// Whether the settings can be used, as far as that can be said without the database.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: a file of certificates or keys cannot be used.
    pub fn check(settings: &DatabaseSettings) -> Result<(), StoreError> {
        match &settings.url {
            DatabaseUrl::Sqlite(_) => Ok(()),
            DatabaseUrl::Postgres(url) => Connector::new(url).map(drop),
        }
    }

    /// Keeps the servers of other processes off a SQLite file while the lock is held. PostgreSQL needs none.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock_for_serving(&self) -> Result<Option<ServerLock>, StoreError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => ServerLock::take(path).map(Some),
            DatabaseUrl::Postgres(_) => Ok(None),
        }
    }

    /// Whether the database is reached through a pooler that does not keep sessions, so that only [`Store::migrate`] works.
    pub fn loses_sessions(&self) -> bool {
        match &self.pool {
            Pool::Postgres(pool) => pool.connector.loses_sessions(),
            Pool::Sqlite { .. } => false,
        }
    }

    /// Whether this is a file of this machine and not a server that replicas share.
    pub const fn is_local(&self) -> bool {
        matches!(self.url, DatabaseUrl::Sqlite(_))
    }

    /// Whether the last operations found the database answering.
    pub fn is_available(&self) -> bool {
        self.circuit.is_closed()
    }

    /// The same as a result, for callers that have expensive work to do before they write.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while the circuit is open.
    pub fn check_available(&self) -> Result<(), StoreError> {
        if self.is_available() {
            Ok(())
        } else {
            Err(circuit_open())
        }
    }

    /// How busy the connections are.
    pub fn pool_loads(&self) -> Vec<PoolLoad> {
        self.pool.loads()
    }

    /// Refuses at once while the circuit is open; otherwise runs the operation and learns from it.
    async fn bounded<T>(&self, operation: Operation<'_, T>) -> Result<T, StoreError> {
        self.check_available()?;
        self.run(operation).await
    }

    /// The same for a transaction that revokes.
    async fn bounded_in_turn<T>(&self, operation: Operation<'_, T>) -> Result<T, StoreError> {
        let in_turn = async {
            let _turn = self.revoking_turns.take().await?;
            operation.await
        };
        self.bounded(Box::pin(in_turn)).await
    }

    /// The same for an operation that only reads: a database that does not write can still be read.
    async fn bounded_read<T>(&self, operation: Operation<'_, T>) -> Result<T, StoreError> {
        if !self.circuit.lets_reads_through() {
            return Err(circuit_open());
        }
        self.run(operation).await
    }

    async fn run<T>(&self, operation: Operation<'_, T>) -> Result<T, StoreError> {
        let began = self.availability.now();
        let timed = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
        let result =
            timed.unwrap_or_else(|_| Err(StoreError::Busy("no answer in time".to_owned())));
        self.circuit.record(&result);
        // A read that succeeds while the database does not write ends no outage.
        if result.is_err() || self.is_available() {
            self.availability.record(began, &result);
        }
        self.suspect(&result);
        result
    }
}
