//! PostgreSQL: how a connection is opened, set and judged.

mod connection;
mod driver;
mod identity;
mod observer;
mod pooler;
mod rights;
mod session;
mod sqlstate;
mod stream;
mod tls;

use std::{
    error::Error as _,
    fmt,
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use tokio::{net, time};
use tokio_postgres::{
    Config,
    config::{SslMode, SslNegotiation},
    error::SqlState,
};

pub(in crate::store) use connection::{
    PostgresConnection, from_connection_error, to_connection_error,
};
pub(in crate::store) use driver::RunningDriver;
pub(in crate::store) use observer::Observed;
pub(in crate::store) use pooler::Access;
pub(in crate::store) use rights::SessionRights;
pub(in crate::store) use session::RawSession;
pub(in crate::store) use sqlstate::Keep;

use identity::Identity;
use pooler::Pooling;
use session::{Facts, settings, sorted};
use stream::{Address, Dialer, Established, socket_path};

use crate::{
    clock::monotonic_now,
    config::{Place, PostgresHost, PostgresUrl, TargetServer},
    store::{StoreError, connections::statement_spans::StatementSpans},
};

/// Knows how to open connections. Clones share what was learnt of the servers.
#[derive(Clone)]
pub(in crate::store) struct Connector {
    config: Config,
    hosts: Arc<[PostgresHost]>,
    dialer: Dialer,
    target: TargetServer,
    is_shuffled: bool,
    longest: Duration,
    learnt: Arc<Learnt>,
}

/// What earlier connections have shown.
#[derive(Default)]
struct Learnt {
    /// The host that was connected to last: the others may be gone.
    host: AtomicUsize,
    pooling: Pooling,
    identity: Identity,
}

impl Connector {
    /// Prepares for the servers of a URL.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a file of certificates or keys cannot be used.
    pub(in crate::store) fn new(url: &PostgresUrl) -> Result<Self, StoreError> {
        let mut config = url.credentials.clone();
        config
            .application_name(&url.application_name)
            // The stream is encrypted before tokio-postgres sees it.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        Ok(Self {
            config,
            hosts: url.hosts.clone().into(),
            dialer: Dialer {
                tls: url.tls.clone(),
                keepalive: url.keepalive,
                encrypt: tls::encryption(&url.tls)?,
            },
            target: url.target,
            is_shuffled: url.is_shuffled,
            longest: url.connect_timeout.unwrap_or(Duration::MAX),
            learnt: Arc::default(),
        })
    }

    /// The same, with a suffix to its name in the server's list of connections.
    pub(in crate::store) fn with_suffix(mut self, suffix: &str) -> Self {
        let name = self.config.get_application_name().unwrap_or_default();
        let name = format!("{name}{suffix}");
        self.config.application_name(name);
        self
    }

    /// Whether a pooler was found that does not keep sessions.
    pub(in crate::store) fn loses_sessions(&self) -> bool {
        self.learnt.pooling.loses_sessions()
    }

    /// Forgets which host was the last: the next connection tries them in the order of the URL.
    pub(in crate::store) fn forget_host(&self) {
        self.learnt.host.store(0, Ordering::Relaxed);
    }

    /// An SQL expression that names the database and its history; null on a standby.
    pub(in crate::store) fn server_identity(&self) -> String {
        self.learnt.identity.expression()
    }

    /// Opens a connection for the pool.
    pub(in crate::store) async fn connect(
        &self,
        within: Duration,
    ) -> Result<PostgresConnection, StoreError> {
        let opened = self.open(within, Access::Sessions).await?;
        let Opened {
            session,
            driver,
            facts,
        } = opened;
        if !facts.is_standby {
            self.learnt.identity.learn(&session).await;
        }
        let RawSession { client, observed } = session;
        let mut diesel = AsyncPgConnection::try_from(client)
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        diesel.set_instrumentation(StatementSpans::new("postgresql"));
        Ok(PostgresConnection {
            diesel,
            observed,
            process: facts.process,
            is_unwanted: false,
            _driver: driver,
        })
    }

    /// Opens a connection that is used without diesel, with its driver.
    pub(in crate::store) async fn connect_raw(
        &self,
        within: Duration,
        access: Access,
    ) -> Result<(RawSession, RunningDriver), StoreError> {
        let Opened {
            session, driver, ..
        } = self.open(within, access).await?;
        Ok((session, driver))
    }

    /// Tries every address of every host until one serves; the hosts that are left share the time that is left.
    async fn open(&self, within: Duration, access: Access) -> Result<Opened, StoreError> {
        let deadline = monotonic_now() + within.min(self.longest).min(LONGEST);
        let mut failure = StoreError::Unavailable("no address was found".to_owned());
        let order = self.order();
        for (tried, &index) in order.iter().enumerate() {
            let host = &self.hosts[index];
            let time_left = share(deadline, order.len() - tried);
            let looked_up = time::timeout(time_left, addresses(host)).await;
            let addresses = match looked_up {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(error)) => {
                    failure = more_telling(failure, unreachable(host, &error));
                    continue;
                }
                Err(_) => {
                    failure = more_telling(failure, unreachable(host, &"no answer in time"));
                    continue;
                }
            };
            let count = addresses.len();
            for (done, address) in addresses.iter().enumerate() {
                let time_left = share(deadline, order.len() - tried + count - done - 1);
                let opening = time::timeout(time_left, self.open_at(host, address, access));
                match opening.await {
                    Ok(Ok(opened)) => {
                        self.learnt.host.store(index, Ordering::Relaxed);
                        return Ok(opened);
                    }
                    Ok(Err(error)) => failure = more_telling(failure, error),
                    Err(_) => failure = more_telling(failure, silent(host)),
                }
            }
        }
        Err(failure)
    }

    /// The hosts in the order of this attempt.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        // Nothing secret depends on the order: the seed of the standard library's hash tables is random enough.
        let random = RandomState::new();
        match self.is_shuffled {
            true => order.sort_by_cached_key(|index| random.hash_one(index)),
            false => {
                let last = self.learnt.host.load(Ordering::Relaxed);
                order.sort_by_key(|&index| index != last);
            }
        }
        order
    }

    async fn open_at(
        &self,
        host: &PostgresHost,
        address: &Address,
        access: Access,
    ) -> Result<Opened, StoreError> {
        let (session, driver) = self.start(host, address).await?;
        let facts = self.configure(&session, access, host, address).await?;
        facts.check(self.target)?;
        Ok(Opened {
            session,
            driver,
            facts,
        })
    }

    /// Opens a session as the server gives it.
    async fn start(
        &self,
        host: &PostgresHost,
        address: &Address,
    ) -> Result<(RawSession, RunningDriver), StoreError> {
        let observed = Arc::new(Observed::default());
        let stream = self
            .dialer
            .open(address, &host.name, Arc::clone(&observed))
            .await;
        let stream = stream.map_err(|error| without_stream(host, &error))?;
        let connected = self.config.connect_raw(stream, Established).await;
        let (client, driver) = connected.map_err(|error| not_begun(&error, &observed))?;
        Ok((
            RawSession { client, observed },
            RunningDriver::start(driver),
        ))
    }

    /// Sets the session, unless a pooler would hand the settings to somebody else.
    async fn configure(
        &self,
        session: &RawSession,
        access: Access,
        host: &PostgresHost,
        address: &Address,
    ) -> Result<Facts, StoreError> {
        let pooling = &self.learnt.pooling;
        if pooling.is_direct() || pooling.keeps_sessions() {
            let facts = session.ask(&settings()).await?;
            if pooling.keeps_sessions() || facts.is_of(&session.observed) {
                facts.check_settings()?;
                return Ok(facts);
            }
        }
        let facts = session.ask("").await?;
        if facts.is_of(&session.observed) {
            pooling.learn_direct();
        } else {
            let other = self.start(host, address);
            pooling.learn(session, facts.process, other).await?;
            pooling.check(access)?;
            if !pooling.keeps_sessions() {
                return Ok(facts);
            }
        }
        let facts = session.ask(&settings()).await?;
        facts.check_settings()?;
        Ok(facts)
    }
}

impl Facts {
    /// Whether the process that answers is the one that was connected to, so that there is no pooler in between.
    fn is_of(&self, observed: &Observed) -> bool {
        u32::try_from(self.process).is_ok_and(|process| process == observed.key_process())
    }
}

/// No connection takes longer, whatever the URL says.
const LONGEST: Duration = Duration::from_secs(60);

struct Opened {
    session: RawSession,
    driver: RunningDriver,
    facts: Facts,
}

/// The time that one of those that are left may take.
fn share(deadline: Instant, left: usize) -> Duration {
    let remaining = deadline.saturating_duration_since(monotonic_now());
    remaining / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}

/// Where a host listens; a name is looked up each time.
async fn addresses(host: &PostgresHost) -> io::Result<Vec<Address>> {
    Ok(match &host.place {
        Place::Socket(folder) => vec![Address::Unix(socket_path(folder, host.port))],
        Place::Address(ip) => vec![Address::Tcp(SocketAddr::new(*ip, host.port))],
        Place::Name(name) => {
            let found = net::lookup_host((name.as_str(), host.port)).await?;
            found.map(Address::Tcp).collect()
        }
    })
}

/// The error that says more about why there is no connection; of equals the later.
fn more_telling(before: StoreError, now: StoreError) -> StoreError {
    let rank = |error: &StoreError| match error {
        StoreError::Refused(_) => 3,
        StoreError::TooManyConnections(_) => 2,
        StoreError::NotWritable(_) => 1,
        _ => 0,
    };
    if rank(&before) > rank(&now) {
        before
    } else {
        now
    }
}

fn shown(host: &PostgresHost) -> String {
    match &host.place {
        Place::Socket(folder) => socket_path(folder, host.port).display().to_string(),
        _ => format!("{}:{}", host.name, host.port),
    }
}

fn unreachable(host: &PostgresHost, error: &dyn fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", shown(host)))
}

fn silent(host: &PostgresHost) -> StoreError {
    StoreError::Silent(format!("{}: no answer in time", shown(host)))
}

/// Sorts why there is no stream: certificates do not mend themselves.
fn without_stream(host: &PostgresHost, error: &io::Error) -> StoreError {
    let is_tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some();
    if is_tls || error.kind() == io::ErrorKind::Unsupported {
        return StoreError::Refused(format!("{}: {error}", shown(host)));
    }
    unreachable(host, error)
}

/// Whether PgBouncer takes no more clients: in all, of this user or for this database. It gives all its refusals one code,
/// and its messages are in one language: they name the setting.
fn is_full_pooler(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::PROTOCOL_VIOLATION && error.message().contains("_client_conn")
    })
}

/// Sorts why a session did not begin. What has neither a code nor an I/O error behind it is a configuration that
/// the server does not accept, such as a missing password.
fn not_begun(error: &tokio_postgres::Error, observed: &Observed) -> StoreError {
    let is_io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some();
    match sorted(error, observed) {
        StoreError::Unavailable(text) if is_full_pooler(error) => {
            StoreError::TooManyConnections(text)
        }
        StoreError::Unavailable(text) if error.code().is_none() && !is_io && !error.is_closed() => {
            StoreError::Refused(text)
        }
        sorted => sorted,
    }
}

/// Sorts an error of a connection that is used without the pool.
pub(in crate::store) fn sort_by_code(observed: &Observed, error: StoreError) -> StoreError {
    match observed.code() {
        Some(code) => sqlstate::sort(&code, &error.to_string()).0,
        None => error,
    }
}
