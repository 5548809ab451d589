//! The real server in this process, on a free port, with a clock that the test moves.

use std::net::SocketAddr;

use countersign::{
    auth::Auth,
    clock::{Clock, ManualClock, Timestamp},
    config::{Config, Tls},
    grpc::pb::auth_service_client::AuthServiceClient,
    server::{Server, StartError},
    store::Store,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

use super::{Kind, TestDatabase};

/// When the clock of every test starts: 2026-11-24T00:00:00Z.
pub const START: Timestamp = Timestamp::from_seconds(1_795_478_400);

/// A master key for tests.
pub const MASTER_KEYS: &str = "v1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A running server.
pub struct TestServer {
    pub address: SocketAddr,
    /// Where HTTP is served, unless it is off.
    pub http: Option<SocketAddr>,
    /// The server's clock; without effect if it runs on the machine's.
    pub clock: ManualClock,
    /// What it runs on: `clock`, or the machine's.
    runs_on: Clock,
    pub database: TestDatabase,
    pub channel: Channel,
    /// The use cases behind the port, for what no RPC tells.
    pub core: Auth,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), StartError>>,
}

impl TestServer {
    /// A server with the settings of all tests: cheap hashes, no rate limit.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// A server with other settings; each pair is a variable and its value.
    pub async fn start_with(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let clock = ManualClock::new(START);
        Self::try_start(database, variables, clock).await.unwrap()
    }

    /// A server that shares the clock, and by the database everything else, with `self`.
    pub async fn replica(&self, variables: &[(&str, &str)]) -> Self {
        let (clock, runs_on) = (self.clock.clone(), self.runs_on.clone());
        Self::try_start_on(&self.database, variables, clock, runs_on)
            .await
            .unwrap()
    }

    /// What time it is for the server.
    pub fn now(&self) -> Timestamp {
        self.runs_on.now()
    }

    /// Whether it runs on the machine's clock, which no test moves.
    pub const fn is_on_system_clock(&self) -> bool {
        self.runs_on.is_of_machine()
    }

    /// A server, if it starts.
    pub async fn try_start(
        database: &TestDatabase,
        variables: &[(&str, &str)],
        clock: ManualClock,
    ) -> Result<Self, StartError> {
        let running_clock = Clock::Manual(clock.clone());
        Self::try_start_on(database, variables, clock, running_clock).await
    }

    /// A server on the system clock, for races: a clock that stands still hides races of times. `clock` stays where it
    /// is and moves nothing.
    pub async fn start_on_system_clock(
        database: &TestDatabase,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_at(database, variables, Clock::System).await
    }

    /// A server on that clock. If it is the system clock, `clock` of the result moves nothing.
    pub async fn start_at(
        database: &TestDatabase,
        variables: &[(&str, &str)],
        clock: Clock,
    ) -> Self {
        let manual = match &clock {
            Clock::Manual(manual) => manual.clone(),
            Clock::System | Clock::SystemAhead(_) => ManualClock::new(START),
        };
        Self::try_start_on(database, variables, manual, clock)
            .await
            .unwrap()
    }

    async fn try_start_on(
        database: &TestDatabase,
        variables: &[(&str, &str)],
        clock: ManualClock,
        running_clock: Clock,
    ) -> Result<Self, StartError> {
        let config = Config::from_vars(test_variables(database, variables)).unwrap();
        let is_plain = config.tls == Tls::Off;
        // On the heap: each test's future would hold it otherwise.
        let runs_on = running_clock.clone();
        let server = Box::pin(Server::build(config, running_clock)).await?;
        let (address, http) = (server.grpc_addr(), server.http_addr());
        let core = server.auth().clone();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Ok(Self {
            address,
            http,
            clock,
            runs_on,
            database: database.clone(),
            channel: match is_plain {
                true => connect(address).await,
                // Calls of the test bring a channel of their own.
                false => Channel::from_static("http://tls.invalid").connect_lazy(),
            },
            core,
            stop: Some(stop),
            running,
        })
    }

    /// The generated client on the server's shared connection.
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http.expect("HTTP is not off")
    }

    /// Tells the server to stop, without waiting.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops the server and waits until it has drained.
    pub async fn stop(mut self) {
        self.begin_stop();
        // An open connection is not a running call; it does not hold the server up.
        self.running.await.unwrap().unwrap();
    }
}

/// One server, or two replicas where the database allows it.
pub async fn servers(database: &TestDatabase, variables: &[(&str, &str)]) -> Vec<TestServer> {
    servers_at(database, variables, Clock::Manual(ManualClock::new(START))).await
}

/// The same on that clock.
pub async fn servers_at(
    database: &TestDatabase,
    variables: &[(&str, &str)],
    clock: Clock,
) -> Vec<TestServer> {
    let mut servers = vec![TestServer::start_at(database, variables, clock).await];
    if database.kind == Kind::Postgres {
        let second = servers[0].replica(variables).await;
        servers.push(second);
    }
    servers
}

/// The database as a server with these variables opens it.
pub fn open_store(database: &TestDatabase, variables: &[(&str, &str)]) -> Store {
    let config = Config::from_vars(test_variables(database, variables)).unwrap();
    Store::open(&config.database).unwrap()
}

/// A connection of its own.
pub async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// The variables of a test, later ones winning.
pub fn test_variables(
    database: &TestDatabase,
    variables: &[(&str, &str)],
) -> Vec<(String, String)> {
    let mails = database.folder.path().join("mail");
    let common = [
        ("COUNTERSIGN_PROFILE", "test"),
        ("COUNTERSIGN_GRPC_ADDR", "127.0.0.1:0"),
        ("COUNTERSIGN_HTTP_ADDR", "127.0.0.1:0"),
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_DATABASE_POOL_SIZE", "8"),
        ("COUNTERSIGN_MASTER_KEYS", MASTER_KEYS),
        ("COUNTERSIGN_ARGON2_MEMORY_KIB", "64"),
        ("COUNTERSIGN_ARGON2_ITERATIONS", "1"),
        ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "0"),
        ("COUNTERSIGN_MAIL_FOLDER", mails.to_str().unwrap()),
        // Hashing has the lowest priority: beside other busy processes a hash may take seconds.
        ("COUNTERSIGN_REQUEST_TIMEOUT", "2m"),
    ];
    let mut merged: std::collections::BTreeMap<String, String> = common
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    for (name, value) in variables {
        merged.insert((*name).to_owned(), (*value).to_owned());
    }
    merged.into_iter().collect()
}
