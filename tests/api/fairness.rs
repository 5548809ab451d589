//! What one caller does must not hurt others: limits per user, queues before the pool, a circuit that contention does not
//! open, and calls that change nothing write nothing.

use std::{collections::BTreeMap, time::Duration};

use countersign::grpc::pb::{
    DisableUserRequest, EnableUserRequest, SetUserRolesRequest, TokenPair,
};
use futures_util::future::join_all;
use tokio_postgres::Transaction;
use tonic::Status;

use crate::{
    account::{Account, assert_live},
    support::{
        Kind, PASSWORD, TestDatabase, TestServer, eventually, failure, on_both_databases,
        operator::bearing, reason,
    },
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const STREAMS: usize = 64;
/// As few connections as a queue could use up quickly, and no limit but the queue's.
const SMALL_POOL: [(&str, &str); 2] = [
    ("COUNTERSIGN_DATABASE_POOL_SIZE", "3"),
    ("COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", "0"),
];

/// How often each answer came.
fn tally<T>(outcomes: &[Result<T, Status>]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes {
        let answer = match outcome {
            Ok(_) => "OK".to_owned(),
            Err(status) => failure(status).reason,
        };
        *tally.entry(answer).or_default() += 1;
    }
    tally
}

/// Bob's calls succeed, each of them, as if he were alone.
async fn assert_undisturbed(server: &TestServer, mut bob: TokenPair) -> TokenPair {
    for _ in 0..5 {
        bob = server.refresh(&bob.refresh_token).await.unwrap();
        server.login(BOB).await.unwrap();
        Account(server, &bob.access_token).sessions().await.unwrap();
    }
    bob
}

/// The calls of AccountService that take a bearer and change nothing that the next one needs.
const READS: [&str; 4] = [
    "GetCurrentUser",
    "ListSessions",
    "ListFactors",
    "BeginTotpEnrollment",
];
const WRITES: [&str; 3] = ["RevokeSession", "RevokeAllSessions", "ChangePassword"];

/// One of them; `session_id` is what RevokeSession names.
async fn call(account: &Account<'_>, rpc: &str, session_id: &str) -> Result<(), Status> {
    match rpc {
        "GetCurrentUser" => account.user().await.map(drop),
        "ListSessions" => account.sessions().await.map(drop),
        "ListFactors" => account.0.factors(account.1).await.map(drop),
        "BeginTotpEnrollment" => account.0.begin_totp(account.1).await.map(drop),
        "RevokeSession" => account.revoke(session_id).await,
        "RevokeAllSessions" => account.revoke_all(true).await.map(drop),
        "ChangePassword" => {
            let changed = account.change_password("wrong", "an engine that dreams");
            changed.await.map(drop)
        }
        other => panic!("{other}"),
    }
}

on_both_databases! {
    async fn sixty_four_streams_of_a_user_on_any_account_rpc_do_not_affect_other_users(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SMALL_POOL).await;
        let ada = server.signed_in(ADA).await;
        let mut bob = server.signed_in(BOB).await;
        let account = Account(&server, &ada.access_token);
        for rpc in READS.into_iter().chain(WRITES) {
            let other = server.login(ADA).await.unwrap();
            let storm = join_all((0..STREAMS).map(|_| call(&account, rpc, &other.session_id)));
            let (outcomes, undisturbed) = tokio::join!(storm, assert_undisturbed(&server, bob));
            bob = undisturbed;
            let tally = tally(&outcomes);
            let expected: &[&str] = match rpc {
                "ChangePassword" => &["INVALID_CREDENTIALS", "ACCOUNT_THROTTLED", "RATE_LIMITED"],
                _ if WRITES.contains(&rpc) => &["OK", "RATE_LIMITED"],
                _ => &["OK"],
            };
            assert!(tally.keys().all(|answer| expected.contains(&answer.as_str())), "{rpc}: {tally:?}");
        }
    }

    async fn a_user_beyond_the_account_rate_is_refused_and_nobody_else(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_ACCOUNT_RATE_BURST", "5"),
        ]).await;
        let ada = server.signed_in(ADA).await;
        let bob = server.signed_in(BOB).await;
        let account = Account(&server, &ada.access_token);
        let outcomes = join_all((0..STREAMS).map(|_| account.user())).await;
        let tally = tally(&outcomes);
        assert!((5..=7).contains(&tally["OK"]), "{tally:?}");
        assert_eq!(tally["RATE_LIMITED"], STREAMS - tally["OK"]);
        let refused = outcomes.into_iter().find_map(Result::err).unwrap();
        let retry_delay = failure(&refused).details.retry_info().unwrap().retry_delay.unwrap();
        assert!(retry_delay > Duration::ZERO && retry_delay <= Duration::from_secs(5));
        // Her other sessions count as well; what has no bearer does not.
        let other = server.login(ADA).await.unwrap();
        let refused = Account(&server, &other.access_token).sessions().await;
        assert_eq!(reason(refused), "RATE_LIMITED");
        assert_live(&server, &ada).await;
        Account(&server, &bob.access_token).user().await.unwrap();
    }

    async fn a_users_calls_do_not_block_an_administrators_call_on_that_user(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SMALL_POOL).await;
        let root = server.signed_in_as("root@example.org", "admin").await;
        let ada = server.signed_in(ADA).await;
        let user_id = server.validate(&ada.access_token).await.unwrap().user_id;
        let account = Account(&server, &ada.access_token);
        let calls = join_all((0..STREAMS).map(|_| account.change_password("wrong", "an engine that dreams")));
        let disable = async {
            let request = bearing(&root.access_token, DisableUserRequest { user_id });
            server.admin().disable_user(request).await
        };
        let (outcomes, disabled) = tokio::join!(calls, disable);
        assert!(disabled.unwrap().into_inner().user.unwrap().disabled);
        let tally = tally(&outcomes);
        assert!(tally["RATE_LIMITED"] > 0, "{tally:?}");
        assert!(!tally.contains_key("DATABASE_UNAVAILABLE"), "{tally:?}");
    }

    async fn calls_that_change_nothing_write_nothing(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as("root@example.org", "admin").await;
        let ada = server.signed_in(ADA).await;
        let other = server.login(ADA).await.unwrap();
        let user_id = server.validate(&ada.access_token).await.unwrap().user_id;
        let account = Account(&server, &ada.access_token);
        account.revoke(&other.session_id).await.unwrap();
        let phone = server.login(ADA).await.unwrap();
        server.logout(&phone.refresh_token).await.unwrap();
        let written = async || {
            let mut counts = Vec::new();
            for table in ["audit_events", "revocations", "session_sweeps", "users WHERE session_epoch > 0"] {
                counts.push(database.count(table).await);
            }
            counts
        };
        let before = written().await;
        server.clock.advance(Duration::from_secs(1));
        for _ in 0..3 {
            account.revoke(&other.session_id).await.unwrap();
            account.revoke(&phone.session_id).await.unwrap();
            assert_eq!(account.revoke_all(true).await.unwrap(), 0);
            server.logout(&phone.refresh_token).await.unwrap();
            let user_id = user_id.clone();
            let request = EnableUserRequest { user_id: user_id.clone() };
            server.admin().enable_user(bearing(&root.access_token, request)).await.unwrap();
            let request = SetUserRolesRequest { user_id, roles: Vec::new() };
            server.admin().set_user_roles(bearing(&root.access_token, request)).await.unwrap();
        }
        assert_eq!(written().await, before);
        let updated = "users WHERE email_key = 'ada@example.org' AND updated_at <> created_at";
        assert_eq!(database.count(updated).await, 0);
        assert_live(&server, &ada).await;
    }

    async fn changes_of_one_users_password_do_not_fill_the_hashing_queue(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_HASHING_WORKERS", "1"),
            ("COUNTERSIGN_HASHING_QUEUE", "2"),
            ("COUNTERSIGN_ARGON2_MEMORY_KIB", "8192"),
            ("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "1000"),
            ("COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", "0"),
        ]).await;
        let ada = server.signed_in(ADA).await;
        server.register(BOB).await.unwrap();
        let account = Account(&server, &ada.access_token);
        let storm = join_all((0..STREAMS).map(|_| account.change_password("wrong", "an engine that dreams")));
        let logins = async {
            for _ in 0..5 {
                server.login(BOB).await.unwrap();
            }
        };
        let (outcomes, ()) = tokio::join!(storm, logins);
        let tally = tally(&outcomes);
        assert_eq!(tally["RATE_LIMITED"] + tally["INVALID_CREDENTIALS"], STREAMS, "{tally:?}");
    }

    async fn one_verifier_cannot_open_all_watch_streams(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_WATCHERS", "4")]).await;
        let one = server.signed_in_as("one@example.org", "verifier").await;
        let two = server.signed_in_as("two@example.org", "verifier").await;
        let three = server.signed_in_as("three@example.org", "verifier").await;
        let first = server.watch(&one.access_token, "").await.unwrap();
        let _second = server.watch(&one.access_token, "").await.unwrap();
        let refused = server.watch(&one.access_token, "").await.map(drop);
        assert_eq!(reason(refused), "RATE_LIMITED");
        let _of_two = [
            server.watch(&two.access_token, "").await.unwrap(),
            server.watch(&two.access_token, "").await.unwrap(),
        ];
        let refused = server.watch(&three.access_token, "").await.map(drop);
        assert_eq!(reason(refused), "RATE_LIMITED");
        drop(first);
        eventually("the place is free again", async || {
            server.watch(&three.access_token, "").await.is_ok()
        })
        .await;
    }
}

/// Ada's calls meet a row that somebody else keeps locked: they queue in memory, and time out one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_one_users_row_do_not_exhaust_the_pool_or_open_the_circuit() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start_with(&database, &SMALL_POOL).await;
    let ada = server.signed_in(ADA).await;
    server.login(ADA).await.unwrap();
    let mut bob = server.signed_in(BOB).await;
    let mut client = database.client().await;
    let holder = lock(
        &mut client,
        "SELECT 1 FROM users WHERE email_key = 'ada@example.org' FOR UPDATE",
    )
    .await;
    let account = Account(&server, &ada.access_token);
    for _ in 0..3 {
        let storm = join_all((0..STREAMS).map(|_| account.revoke_all(true)));
        let others = assert_undisturbed(&server, bob);
        let (outcomes, undisturbed) = tokio::join!(storm, others);
        bob = undisturbed;
        let tally = tally(&outcomes);
        assert!(tally["RATE_LIMITED"] >= STREAMS - 9, "{tally:?}");
        assert!(tally["DATABASE_UNAVAILABLE"] >= 1, "{tally:?}");
        assert!(!tally.contains_key("INTERNAL"), "{tally:?}");
    }
    // Those that only read do not wait for the row.
    for rpc in READS {
        let storm = join_all((0..STREAMS).map(|_| call(&account, rpc, "")));
        let (outcomes, undisturbed) = tokio::join!(storm, assert_undisturbed(&server, bob));
        bob = undisturbed;
        let tally = tally(&outcomes);
        assert_eq!(tally["OK"], STREAMS, "{rpc}: {tally:?}");
    }
    holder.rollback().await.unwrap();
    assert_eq!(account.revoke_all(true).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_one_sessions_row_do_not_exhaust_the_pool_or_open_the_circuit() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start_with(&database, &SMALL_POOL).await;
    let ada = server.signed_in(ADA).await;
    let bob = server.signed_in(BOB).await;
    let mut client = database.client().await;
    let row = format!(
        "SELECT 1 FROM sessions WHERE id = '{}' FOR UPDATE",
        ada.session_id
    );
    let holder = lock(&mut client, &row).await;
    let logouts = join_all((0..STREAMS).map(|_| server.logout(&ada.refresh_token)));
    let (outcomes, bob) = tokio::join!(logouts, assert_undisturbed(&server, bob));
    let logouts = tally(&outcomes);
    assert!(logouts["RATE_LIMITED"] >= STREAMS - 9, "{logouts:?}");
    assert!(!logouts.contains_key("INTERNAL"), "{logouts:?}");
    let refreshes = join_all((0..STREAMS).map(|_| server.refresh(&ada.refresh_token)));
    let (outcomes, bob) = tokio::join!(refreshes, assert_undisturbed(&server, bob));
    let refreshes = tally(&outcomes);
    assert_eq!(
        refreshes["RATE_LIMITED"] + refreshes["DATABASE_UNAVAILABLE"],
        STREAMS,
        "{refreshes:?}"
    );
    let account = Account(&server, &ada.access_token);
    let revocations =
        join_all((0..STREAMS).map(|_| call(&account, "RevokeSession", &ada.session_id)));
    let (outcomes, _) = tokio::join!(revocations, assert_undisturbed(&server, bob));
    let revocations = tally(&outcomes);
    assert!(
        revocations["RATE_LIMITED"] >= STREAMS - 9,
        "{revocations:?}"
    );
    assert!(!revocations.contains_key("INTERNAL"), "{revocations:?}");
    holder.rollback().await.unwrap();
    server.logout(&ada.refresh_token).await.unwrap();
    assert_eq!(
        reason(server.login_as(ADA, "not the password").await),
        "INVALID_CREDENTIALS"
    );
    server.login_as(ADA, PASSWORD).await.unwrap();
}

/// All that revoke take their positions from one row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_the_order_of_revocations_do_not_exhaust_the_pool_or_open_the_circuit()
{
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start_with(&database, &SMALL_POOL).await;
    let mut sessions = vec![server.signed_in(ADA).await];
    for _ in 1..STREAMS {
        sessions.push(server.login(ADA).await.unwrap());
    }
    let bob = server.signed_in(BOB).await;
    let mut client = database.client().await;
    let holder = lock(&mut client, "SELECT 1 FROM feed_state FOR UPDATE").await;
    let logouts = join_all(
        sessions
            .iter()
            .map(|tokens| server.logout(&tokens.refresh_token)),
    );
    let (outcomes, _) = tokio::join!(logouts, assert_undisturbed(&server, bob));
    let logouts = tally(&outcomes);
    assert_eq!(logouts["DATABASE_UNAVAILABLE"], STREAMS, "{logouts:?}");
    holder.rollback().await.unwrap();
    for tokens in &sessions {
        server.logout(&tokens.refresh_token).await.unwrap();
    }
}

async fn lock<'a>(client: &'a mut tokio_postgres::Client, row: &str) -> Transaction<'a> {
    let holder = client.transaction().await.unwrap();
    holder.execute(row, &[]).await.unwrap();
    holder
}
