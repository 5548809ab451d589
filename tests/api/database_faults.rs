//! The database answers, and cannot do its work: callers get a retryable error, health says so, and all heals.

use std::time::Duration;

use countersign::grpc::pb::TokenPair;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use uuid::Uuid;

use crate::support::{
    Kind, PATIENCE, TestDatabase, TestServer,
    cluster::Cluster,
    eventually, on_both_databases,
    process::{TestProcess, run},
    reason,
};

const UNAVAILABLE: &str = "DATABASE_UNAVAILABLE";

async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut client = HealthClient::new(channel.clone());
    client.check(request).await.unwrap().into_inner().status()
}

/// Whether all services that need the database have this status. They are asked one after the other, so while the status
/// changes they may differ.
async fn all_are(channel: &Channel, expected: ServingStatus) -> bool {
    for name in ["AuthService", "AccountService", "AdminService"] {
        if health(channel, &format!("countersign.auth.v1.{name}")).await != expected {
            return false;
        }
    }
    true
}

async fn serves(channel: &Channel) -> bool {
    all_are(channel, ServingStatus::Serving).await
}

/// While the fault lasts: health says so, calls are refused as passing, validation goes on.
async fn is_refused_as_passing(server: &TestServer, tokens: &TokenPair) {
    eventually("health says NOT_SERVING", async || {
        all_are(&server.channel, ServingStatus::NotServing).await
    })
    .await;
    assert_eq!(reason(server.login("ada@example.org").await), UNAVAILABLE);
    assert_eq!(
        reason(server.refresh(&tokens.refresh_token).await),
        UNAVAILABLE
    );
    server.validate(&tokens.access_token).await.unwrap();
    assert_eq!(health(&server.channel, "").await, ServingStatus::Serving);
}

async fn is_well_again(server: &TestServer, tokens: &TokenPair) {
    eventually("health says SERVING", async || {
        serves(&server.channel).await
    })
    .await;
    server.login("ada@example.org").await.unwrap();
    server.refresh(&tokens.refresh_token).await.unwrap();
}

/// A login, until its answer is another than `UNAVAILABLE`; any other failure is wrong.
async fn login_until_ok(server: &TestServer) {
    let start = Instant::now();
    loop {
        match server.login("ada@example.org").await {
            Ok(_) => return,
            Err(status) => assert_eq!(reason::<()>(Err(status)), UNAVAILABLE),
        }
        assert!(start.elapsed() < PATIENCE);
    }
}

on_both_databases! {
    async fn a_missing_table_is_an_outage_until_it_is_back(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        database.execute("ALTER TABLE sessions RENAME TO sessions_elsewhere").await;
        // The ping's own table is well: only an operation shows the fault.
        assert_eq!(reason(server.login("ada@example.org").await), UNAVAILABLE);
        is_refused_as_passing(&server, &tokens).await;
        database.execute("ALTER TABLE sessions_elsewhere RENAME TO sessions").await;
        is_well_again(&server, &tokens).await;
    }
}

/// A primary that steps down, or a managed service whose disk is full. Sessions that began read-only stay so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_an_outage_and_its_connections_are_replaced() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let tokens = server.signed_in("ada@example.org").await;
    let name = database.url.rsplit_once('/').unwrap().1.to_owned();
    let client = database.client().await;
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    client.batch_execute(&read_only).await.unwrap();
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    is_refused_as_passing(&server, &tokens).await;
    let writable = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    client
        .batch_execute("SET default_transaction_read_only = off")
        .await
        .unwrap();
    client.batch_execute(&writable).await.unwrap();
    is_well_again(&server, &tokens).await;
    for _ in 0..20 {
        server.login("ada@example.org").await.unwrap();
    }
}

/// PostgreSQL refuses a prepared statement whose result has another type now (0A000).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_prepared_before_a_column_changed_are_replaced() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    server.signed_in("ada@example.org").await;
    for _ in 0..5 {
        server.login("ada@example.org").await.unwrap();
    }
    database
        .execute("ALTER TABLE users ALTER COLUMN password_hash TYPE varchar(1000)")
        .await;
    login_until_ok(&server).await;
    for _ in 0..10 {
        login_until_ok(&server).await;
    }
    assert!(serves(&server.channel).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_default_isolation_level_is_overridden() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let name = database.url.rsplit_once('/').unwrap().1.to_owned();
    let strict =
        format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    database.execute(&strict).await;
    let server = TestServer::start(&database).await;
    server.signed_in("ada@example.org").await;
    let logins = (0..20).map(|_| server.login("ada@example.org"));
    for login in futures_util::future::join_all(logins).await {
        login.unwrap();
    }
}

/// Writing fails with an input or output error, as on a disk that is full or broken, and then works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_cannot_be_written_is_an_outage_until_it_can() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let server = TestProcess::start(&database).await;
    let tokens = server.signed_in("ada@example.org").await;
    let pid = Pid::from_raw(i32::try_from(server.child.id().unwrap()).unwrap());
    let longest_file = |bytes| {
        let maximum = None;
        prlimit(
            pid,
            Resource::Fsize,
            Rlimit {
                current: bytes,
                maximum,
            },
        )
        .unwrap();
    };
    longest_file(Some(0));
    assert_eq!(reason(server.login("ada@example.org").await), UNAVAILABLE);
    eventually("health says NOT_SERVING", async || {
        !serves(&server.channel).await
    })
    .await;
    assert_eq!(
        reason(server.refresh(&tokens.refresh_token).await),
        UNAVAILABLE
    );
    server.validate(&tokens.access_token).await.unwrap();
    longest_file(None);
    eventually("health says SERVING", async || {
        serves(&server.channel).await
    })
    .await;
    server.login("ada@example.org").await.unwrap();
    server.refresh(&tokens.refresh_token).await.unwrap();
}

/// A role of its own, dropped with everything that it owns.
struct Role {
    name: String,
    database: TestDatabase,
    url: String,
}

impl Role {
    async fn create(database: &TestDatabase, attributes: &str) -> Self {
        let name = format!("r_{}", Uuid::now_v7().simple());
        database
            .execute(&format!("CREATE ROLE {name} LOGIN {attributes}"))
            .await;
        let url = database
            .url
            .replace("postgres://postgres@", &format!("postgres://{name}@"));
        assert_ne!(url, database.url, "the tests connect as the role postgres");
        Self {
            name,
            database: database.clone(),
            url,
        }
    }

    async fn remove(self) {
        let name = &self.name;
        self.database
            .execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_fewer_connections_than_the_pool_makes_callers_wait() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let role = Role::create(&database, "CONNECTION LIMIT 4").await;
    let name = database.url.rsplit_once('/').unwrap().1.to_owned();
    database
        .execute(&format!("ALTER DATABASE {name} OWNER TO {}", role.name))
        .await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", role.url.as_str()),
        ("COUNTERSIGN_HASHING_QUEUE", "300"),
    ];
    let server = TestServer::start_with(&database, &settings).await;
    for user in 0..30 {
        server
            .register(&format!("u{user}@example.org"))
            .await
            .unwrap();
    }
    let emails: Vec<_> = (0..30).map(|user| format!("u{user}@example.org")).collect();
    let logins = emails.iter().map(|email| server.login(email));
    for login in futures_util::future::join_all(logins).await {
        login.unwrap();
    }
    assert!(serves(&server.channel).await);
    server.stop().await;
    database
        .execute(&format!("ALTER DATABASE {name} OWNER TO postgres"))
        .await;
    role.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_create_serves_and_missing_privileges_are_named() {
    let database = TestDatabase::create(Kind::Postgres).await;
    TestServer::start(&database).await.stop().await;
    let role = Role::create(&database, "").await;
    let settings = [("COUNTERSIGN_DATABASE_URL", role.url.as_str())];
    let config_clock = countersign::clock::ManualClock::new(crate::support::server::START);
    let refused = TestServer::try_start(&database, &settings, config_clock).await;
    let refused = refused
        .err()
        .expect("it may not read the tables")
        .to_string();
    assert!(
        refused.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON users"),
        "{refused}"
    );
    let grant = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
        role.name
    );
    database.execute(&grant).await;
    let server = TestServer::start_with(&database, &settings).await;
    let tokens = server.signed_in("ada@example.org").await;
    // Taken back while it serves: an outage, until it is given again.
    let revoke = format!("REVOKE INSERT ON sessions FROM {}", role.name);
    database.execute(&revoke).await;
    assert_eq!(reason(server.login("ada@example.org").await), UNAVAILABLE);
    eventually("health says NOT_SERVING", async || {
        !serves(&server.channel).await
    })
    .await;
    database.execute(&grant).await;
    is_well_again(&server, &tokens).await;
    server.stop().await;
    role.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_not_create_tables_waits_for_them() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let role = Role::create(&database, "").await;
    let grant = format!(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}",
        role.name
    );
    database.execute(&grant).await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", role.url.as_str()),
        ("COUNTERSIGN_DATABASE_START_TIMEOUT", "0s"),
    ];
    let output = run(&database, &settings, &[]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`countersign migrate` first"), "{said}");

    let starting = TestServer::start_with(&database, &settings[..1]);
    let migrating = async {
        // By now the server has looked in vain.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let migrated = run(&database, &[], &["migrate"]).await;
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    };
    let (server, ()) = tokio::join!(starting, migrating);
    server.signed_in("ada@example.org").await;
    server.stop().await;
    role.remove().await;
}

/// COMMIT waits for a standby that is gone, and ends by no time-out: the connections are given up here and held at the
/// server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_commits_wait_the_server_sees_no_more_connections_than_the_pool_has() {
    const POOL: i64 = 4;
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = TestDatabase::of_cluster(cluster.url());
    let settings = [("COUNTERSIGN_DATABASE_POOL_SIZE", "4")];
    let server = TestServer::start_with(&database, &settings).await;
    let tokens = server.signed_in("ada@example.org").await;
    database.hold_commits().await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let logins = (0..8).map(|_| server.login("ada@example.org"));
        for login in futures_util::future::join_all(logins).await {
            assert_eq!(reason(login), UNAVAILABLE);
        }
        // The pool, the listener, and one that asks about the others now and then.
        let held = database.count("pg_stat_activity WHERE application_name LIKE 'countersign%'");
        let held = held.await;
        assert!(held <= POOL + 2, "{held}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!serves(&server.channel).await);
    server.validate(&tokens.access_token).await.unwrap();
    database.release_commits().await;
    let healed = eventually("login again", async || {
        server.login("ada@example.org").await.is_ok()
    });
    let healed = healed.await;
    println!("healed after {healed:?}");
}

/// The first host takes connections and is silent; the second is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_first_host_does_not_use_up_the_time_of_the_second() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = silent.local_addr().unwrap();
    let url = database.url.replacen('@', &format!("@{first},"), 1);
    let server = TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &url)]).await;
    server.signed_in("ada@example.org").await;
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    login_until_ok(&server).await;
    assert!(serves(&server.channel).await);
}

/// Rows that a policy hides are unknown, not gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_security_that_hides_rows_is_an_outage_until_it_is_disabled() {
    const TABLES: [&str; 4] = ["users", "sessions", "signing_keys", "revocations"];
    let database = TestDatabase::create(Kind::Postgres).await;
    TestServer::start(&database).await.stop().await;
    let role = Role::create(&database, "").await;
    let name = &role.name;
    let grant =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}");
    database.execute(&grant).await;
    let settings = [("COUNTERSIGN_DATABASE_URL", role.url.as_str())];
    let server = TestServer::start_with(&database, &settings).await;
    let tokens = server.signed_in("ada@example.org").await;
    let secure = async |word: &str| {
        for table in TABLES {
            let change = format!("ALTER TABLE {table} {word} ROW LEVEL SECURITY");
            database.execute(&change).await;
        }
    };
    secure("ENABLE").await;
    is_refused_as_passing(&server, &tokens).await;
    secure("DISABLE").await;
    is_well_again(&server, &tokens).await;
    server.stop().await;
    role.remove().await;
}
