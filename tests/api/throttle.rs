//! Login throttling: delays after wrong passwords, parallel attempts, cancelled calls, wrong clocks, known devices.

use std::{ops::RangeInclusive, time::Duration};

use countersign::{
    clock::{Clock, ManualClock},
    grpc::pb::{ClearLoginFailuresRequest, LoginRequest},
};
use futures_util::future::join_all;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, eventually, failure,
    guesses::{CAP, Guesses, WRONG, delays_within, guess_at_once, throttled},
    is_undecided, on_both_databases,
    operator::bearing,
    process::{TestProcess, run},
    reason,
    server::{START, open_store, servers_at},
};

const ADA: &str = "ada@example.org";
/// The default of `COUNTERSIGN_ACCOUNT_FAILURE_LIMIT`.
const LIMIT: usize = 10;

/// One worker, and hashes that take long enough for a caller to go away meanwhile.
const SLOW_HASHES: [(&str, &str); 3] = [
    ("COUNTERSIGN_HASHING_WORKERS", "1"),
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "19456"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "8"),
];

/// The device token of a first login.
async fn device_token(server: &TestServer, email: &str) -> String {
    let response = server.login_with(email, PASSWORD, "").await.unwrap();
    assert!(response.device_token.starts_with("csd_"));
    response.device_token
}

/// Gives wrong passwords, each of which is judged.
async fn fail(server: &TestServer, email: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(
            reason(server.login_as(email, WRONG).await),
            "INVALID_CREDENTIALS"
        );
    }
}

/// The delay of the account, as `RetryInfo` reports it.
async fn delay(server: &TestServer, email: &str) -> Duration {
    throttled(&server.login(email).await.unwrap_err())
}

/// Two replicas on one database, each with this clock.
async fn replicas(database: &TestDatabase, clock: &Clock) -> [TestServer; 2] {
    let start = || async { TestServer::start_at(database, &[], clock.clone()).await };
    [start().await, start().await]
}

/// Whether just one counter has this many failures.
async fn has_failures(database: &TestDatabase, failures: usize) -> bool {
    database.count("login_failures").await == 1
        && database
            .count(&format!("login_failures WHERE failures = {failures}"))
            .await
            == 1
}

/// Just one counter has a number of failures that is possible: each attempt was counted once.
async fn assert_counted_once(database: &TestDatabase, possible: RangeInclusive<usize>) {
    let mut counted = Vec::new();
    for failures in possible.clone() {
        if has_failures(database, failures).await {
            counted.push(failures);
        }
    }
    assert_eq!(
        counted.len(),
        1,
        "each is counted once: {possible:?} possible"
    );
}

/// Starts a login and returns once a worker hashes for it.
async fn login_under_way(
    server: &TestServer,
    email: &str,
    password: &str,
) -> tokio::task::JoinHandle<()> {
    let (mut client, request) = (
        server.auth(),
        LoginRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            ..LoginRequest::default()
        },
    );
    let call = tokio::spawn(async move {
        let _ = client.login(request).await;
    });
    eventually("the password is being hashed", async || {
        server.core.service_metrics().hashing.running == 1
    })
    .await;
    call
}

fn is_idle(server: &TestServer) -> bool {
    let hashing = server.core.service_metrics().hashing;
    hashing.running == 0 && hashing.waiting == 0
}

on_both_databases! {
    async fn twenty_right_logins_at_once_succeed_although_nine_failed_before(database: TestDatabase, clock: Clock) {
        let servers = replicas(&database, &clock).await;
        servers[0].register(ADA).await.unwrap();
        fail(&servers[1], ADA, LIMIT - 1).await;
        let logins = join_all((0..20).map(|i| servers[i % 2].login(ADA))).await;
        for login in logins {
            login.expect("a right password below the limit is never refused");
        }
        assert_eq!(database.count("login_failures").await, 0, "a success resets the counter");
    }

    async fn fifty_parallel_guesses_are_judged_up_to_the_limit_and_each_counted_once(database: TestDatabase, clock: Clock) {
        let servers = replicas(&database, &clock).await;
        servers[0].register(ADA).await.unwrap();
        for email in [ADA, "nobody@example.org"] {
            let start = clock.now();
            let Guesses { judged, delays, unanswered } = guess_at_once(&servers, email, 50).await;
            let longest = LIMIT + delays_within(clock.now().since(start));
            assert_eq!(judged + delays.len(), 50);
            assert_counted_once(&database, judged.max(LIMIT)..=longest.min(judged + unanswered)).await;
            database.execute("DELETE FROM login_failures").await;
        }
    }

    async fn fifty_parallel_guesses_below_the_limit_count_as_fifty(database: TestDatabase, clock: Clock) {
        let limit = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "100")];
        let servers = servers_at(&database, &limit, clock).await;
        servers[0].register(ADA).await.unwrap();
        let Guesses { judged, unanswered, .. } = guess_at_once(&servers, ADA, 50).await;
        assert_eq!(judged, 50, "none is refused");
        assert_counted_once(&database, 50..=50 + unanswered).await;
    }

    async fn a_right_password_among_parallel_guesses_is_refused_beyond_the_limit(database: TestDatabase) {
        let servers = replicas(&database, &Clock::System).await;
        servers[0].register(ADA).await.unwrap();
        let start = Clock::System.now();
        let guesses = (0..50).map(|i| {
            let password = if i % 10 == 9 { PASSWORD } else { WRONG };
            servers[i % 2].login_as(ADA, password)
        });
        let mut wrong = 0;
        let mut successes = 0;
        for outcome in join_all(guesses).await {
            match outcome {
                Ok(_) => successes += 1,
                Err(status) if failure(&status).reason == "INVALID_CREDENTIALS" => wrong += 1,
                Err(status) => {
                    throttled(&status);
                }
            }
        }
        // A success resets the counter, after which ten more failures are answered.
        let allowed = LIMIT * (successes + 1) + delays_within(Clock::System.now().since(start));
        assert!(wrong <= allowed, "{wrong} wrong, {successes} right");
    }

    async fn after_a_delay_one_guess_at_a_time_is_checked(database: TestDatabase) {
        let clock = ManualClock::new(START);
        let servers = replicas(&database, &Clock::Manual(clock.clone())).await;
        servers[0].register(ADA).await.unwrap();
        fail(&servers[0], ADA, LIMIT).await;
        assert_eq!(delay(&servers[1], ADA).await, Duration::from_secs(1));
        for (round, next) in [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900].into_iter().enumerate() {
            clock.advance(delay(&servers[0], ADA).await);
            let Guesses { judged, delays, unanswered } = guess_at_once(&servers, ADA, 20).await;
            assert!(judged <= 1 && judged + unanswered >= 1, "round {round}: {judged} and {unanswered}");
            assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(next)), "{delays:?}");
            assert!(has_failures(&database, LIMIT + round + 1).await);
            assert_eq!(delay(&servers[1], ADA).await, Duration::from_secs(next));
        }
        clock.advance(CAP);
        servers[1].login(ADA).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_delay_that_is_over_by_the_system_clock_admits_the_right_password(database: TestDatabase) {
        let servers = replicas(&database, &Clock::System).await;
        servers[0].register(ADA).await.unwrap();
        fail(&servers[0], ADA, LIMIT).await;
        eventually("the right password logs in", async || servers[1].login(ADA).await.is_ok()).await;
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_cancelled_login_with_the_right_password_is_not_counted(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SLOW_HASHES).await;
        server.register(ADA).await.unwrap();
        for _ in 0..3 {
            login_under_way(&server, ADA, PASSWORD).await.abort();
            eventually("the hash ends", async || is_idle(&server)).await;
        }
        server.login(ADA).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_cancelled_login_with_a_wrong_password_is_counted_once_its_hash_has_begun(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SLOW_HASHES).await;
        server.register(ADA).await.unwrap();
        login_under_way(&server, ADA, WRONG).await.abort();
        eventually("the guess is counted", async || has_failures(&database, 1).await).await;
    }

    async fn a_login_whose_deadline_passes_while_its_password_is_hashed_counts_only_if_it_is_wrong(database: TestDatabase) {
        let slow = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "19456"), ("COUNTERSIGN_ARGON2_ITERATIONS", "32")];
        let server = TestServer::start_with(&database, &slow).await;
        server.register(ADA).await.unwrap();
        server.stop().await;
        // Less than a hash takes.
        let limit = [slow.as_slice(), &[("COUNTERSIGN_REQUEST_TIMEOUT", "100ms")]].concat();
        let server = TestServer::start_with(&database, &limit).await;
        for (password, counters) in [(PASSWORD, 0), (WRONG, 1)] {
            // On a busy machine the deadline may pass before the hash begins.
            eventually("the deadline passes during a hash", async || {
                let before = server.core.service_metrics().hashing.finished;
                let status = server.login_as(ADA, password).await.unwrap_err();
                assert!(is_undecided(&status), "{status:?}");
                eventually("the hash ends", async || is_idle(&server)).await;
                server.core.service_metrics().hashing.finished > before
            })
            .await;
            if counters > 0 {
                eventually("the guess is counted", async || has_failures(&database, 1).await).await;
            }
            assert_eq!(database.count("login_failures").await, counters);
        }
        assert_eq!(database.count("sessions").await, 0);
    }

    async fn after_a_cancelled_attempt_the_next_one_is_admitted(database: TestDatabase) {
        let limit = [SLOW_HASHES.as_slice(), &[("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "1")]].concat();
        let server = TestServer::start_with(&database, &limit).await;
        server.register(ADA).await.unwrap();
        fail(&server, ADA, 1).await;
        server.clock.advance(Duration::from_secs(1));
        // Somebody else keeps the worker busy, so that the trial waits in the queue.
        let other = login_under_way(&server, "nobody@example.org", WRONG).await;
        let trial = tokio::spawn({
            let (mut client, email) = (server.auth(), ADA.to_owned());
            async move {
                let request = LoginRequest { email, password: PASSWORD.to_owned(), ..LoginRequest::default() };
                client.login(request).await
            }
        });
        let claimed = format!("login_failures WHERE retry_at > {}", (START + Duration::from_secs(10)).micros());
        eventually("the trial is claimed", async || database.count(&claimed).await == 1).await;
        assert_eq!(throttled(&server.login(ADA).await.unwrap_err()), Duration::from_secs(2));
        trial.abort();
        eventually("the trial is given back", async || database.count(&claimed).await == 0).await;
        server.login(ADA).await.expect("the next attempt has the trial");
        other.await.unwrap();
    }

    async fn delays_written_by_a_wrong_clock_are_corrected(database: TestDatabase) {
        let clock = ManualClock::new(START);
        let [server, _] = replicas(&database, &Clock::Manual(clock.clone())).await;
        server.register(ADA).await.unwrap();
        fail(&server, ADA, LIMIT).await;
        let a_year = Duration::from_secs(365 * 24 * 3600);
        // The clock was ahead and was corrected: the delay begins when the mistake is seen, and ends.
        clock.advance(a_year);
        fail(&server, ADA, 1).await;
        clock.set(START);
        assert_eq!(delay(&server, ADA).await, Duration::from_secs(2));
        clock.advance(Duration::from_secs(2));
        server.login(ADA).await.unwrap();
        // The same for failures below the limit: they refuse nothing.
        clock.advance(a_year);
        fail(&server, ADA, LIMIT - 1).await;
        clock.set(START);
        server.login(ADA).await.unwrap();
        // A clock that is set back in the middle of the longest delay makes it no longer.
        fail(&server, ADA, LIMIT).await;
        database.execute("UPDATE login_failures SET failures = 40, retry_at = retry_at + 899000000").await;
        assert_eq!(delay(&server, ADA).await, CAP);
        clock.set(START - Duration::from_secs(3600));
        assert_eq!(delay(&server, ADA).await, CAP);
        clock.advance(CAP);
        server.login(ADA).await.unwrap();
    }

    async fn a_counter_dated_ahead_by_a_wrong_clock_is_deleted_a_day_after_the_next_purge(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        fail(&server, "nobody@example.org", 1).await;
        database.execute("UPDATE login_failures SET updated_at = updated_at + 31536000000000").await;
        let store = open_store(&database, &[]);
        store.purge(START).await.unwrap();
        assert_eq!(database.count("login_failures").await, 1);
        store.purge(START + Duration::from_secs(24 * 3600)).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_clock_difference_of_two_seconds_between_replicas_does_not_refuse_a_correct_password(database: TestDatabase) {
        let clock = ManualClock::new(START);
        let ahead = ManualClock::new(START + Duration::from_secs(2));
        let here = TestServer::start_at(&database, &[], Clock::Manual(clock.clone())).await;
        let there = TestServer::start_at(&database, &[], Clock::Manual(ahead.clone())).await;
        here.register(ADA).await.unwrap();
        fail(&there, ADA, 1).await;
        here.login(ADA).await.expect("one failure is far below the limit");
        fail(&there, ADA, LIMIT).await;
        assert!(delay(&here, ADA).await <= Duration::from_secs(3));
        clock.advance(Duration::from_secs(3));
        ahead.advance(Duration::from_secs(3));
        here.login(ADA).await.unwrap();
    }

    async fn a_stranger_s_guesses_do_not_delay_a_known_device(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let device = device_token(&server, ADA).await;
        fail(&server, ADA, LIMIT).await;
        assert_eq!(delay(&server, ADA).await, Duration::from_secs(1));
        let again = server.login_with(ADA, PASSWORD, &device).await.unwrap();
        assert_eq!(again.device_token, device, "the device keeps its token");
        assert_eq!(delay(&server, ADA).await, Duration::from_secs(1), "a success on the device resets no other counter");
    }

    async fn a_device_that_fails_too_often_is_delayed_and_nobody_else(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let (device, other) = (device_token(&server, ADA).await, device_token(&server, ADA).await);
        for _ in 0..LIMIT {
            assert_eq!(reason(server.login_with(ADA, WRONG, &device).await), "INVALID_CREDENTIALS");
        }
        let refused = server.login_with(ADA, PASSWORD, &device).await.unwrap_err();
        assert_eq!(throttled(&refused), Duration::from_secs(1));
        server.login_with(ADA, PASSWORD, &other).await.unwrap();
        server.login(ADA).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        server.login_with(ADA, PASSWORD, &device).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_forged_or_foreign_device_token_is_ignored(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for email in [ADA, "eve@example.org"] {
            server.register(email).await.unwrap();
        }
        let eves = device_token(&server, "eve@example.org").await;
        let forged = device_token(&server, ADA).await.replace("csd_", "csd_A");
        for token in [eves.as_str(), forged.as_str(), "csd_", "nonsense"] {
            let response = server.login_with(ADA, PASSWORD, token).await.unwrap();
            assert_ne!(response.device_token, token, "a new one is issued");
        }
        for i in 0..LIMIT {
            let token = [eves.as_str(), forged.as_str(), ""][i % 3];
            assert_eq!(reason(server.login_with(ADA, WRONG, token).await), "INVALID_CREDENTIALS");
        }
        for token in [eves.as_str(), forged.as_str(), ""] {
            throttled(&server.login_with(ADA, PASSWORD, token).await.unwrap_err());
        }
        assert!(has_failures(&database, LIMIT).await, "all are counted on the account");
        server.login_with("eve@example.org", PASSWORD, &eves).await.unwrap();
    }

    async fn logins_at_once_all_succeed_while_an_outdated_hash_is_renewed(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &[], clock.clone()).await;
        server.register(ADA).await.unwrap();
        server.stop().await;
        let server = TestServer::start_at(&database, &[("COUNTERSIGN_ARGON2_MEMORY_KIB", "128")], clock).await;
        for login in join_all((0..20).map(|_| server.login(ADA))).await {
            login.expect("the password is right, whichever hash is stored");
        }
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn attempts_on_one_account_do_not_fill_the_hashing_queue(database: TestDatabase) {
        let one_worker = [
            ("COUNTERSIGN_HASHING_WORKERS", "1"),
            ("COUNTERSIGN_HASHING_QUEUE", "12"),
            ("COUNTERSIGN_ARGON2_MEMORY_KIB", "19456"),
        ];
        let server = TestServer::start_with(&database, &one_worker).await;
        server.register(ADA).await.unwrap();
        let attempts = join_all((0..12).map(|_| server.login(ADA)));
        let other = async {
            eventually("the first attempts wait in the queue", async || {
                server.core.service_metrics().hashing.waiting >= 4
            })
            .await;
            let hashing = server.core.service_metrics().hashing;
            assert!(hashing.running + hashing.waiting <= 8, "no more of one account at once");
            server.login_as("nobody@example.org", WRONG).await
        };
        let (attempts, other) = tokio::join!(attempts, other);
        assert_eq!(reason(other), "INVALID_CREDENTIALS");
        for attempt in attempts {
            attempt.expect("an attempt that waited is served");
        }
    }

    async fn clear_login_failures_clears_every_counter_of_the_user(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.signed_in_as("root@example.org", "admin").await.access_token;
        let user_id = server.register(ADA).await.unwrap().user_id;
        let device = device_token(&server, ADA).await;
        fail(&server, ADA, LIMIT).await;
        for _ in 0..LIMIT {
            assert_eq!(reason(server.login_with(ADA, WRONG, &device).await), "INVALID_CREDENTIALS");
        }
        fail(&server, "eve@example.org", LIMIT).await;
        let forgive = async |user_id: &str| {
            let request = ClearLoginFailuresRequest { user_id: user_id.to_owned() };
            server.admin().clear_login_failures(bearing(&admin, request)).await
        };
        // Twice succeeds twice, and leaves one audit event.
        for _ in 0..2 {
            let response = forgive(&user_id).await.unwrap().into_inner();
            assert_eq!(response.user.unwrap().email, ADA);
        }
        assert_eq!(database.count("audit_events WHERE kind = 'login_failures_cleared'").await, 1);
        server.login_with(ADA, PASSWORD, &device).await.unwrap();
        server.login(ADA).await.unwrap();
        throttled(&server.login("eve@example.org").await.unwrap_err());
        assert_eq!(reason(forgive("01900000-0000-7000-8000-000000000000").await), "USER_NOT_FOUND");
        assert_eq!(reason(forgive("ada").await), "INVALID_FIELD");
        let request = ClearLoginFailuresRequest { user_id };
        assert_eq!(reason(server.admin().clear_login_failures(request).await), "TOKEN_MISSING");
    }

    async fn users_unlock_clears_the_delay_on_a_running_server(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        server.signed_in(ADA).await;
        for _ in 0..LIMIT {
            let request = LoginRequest { email: ADA.to_owned(), password: WRONG.to_owned(), ..LoginRequest::default() };
            assert_eq!(reason(server.auth().login(request).await), "INVALID_CREDENTIALS");
        }
        // The longest delay: the test may take longer than the first.
        database.execute("UPDATE login_failures SET failures = 20, retry_at = retry_at + 890000000").await;
        throttled(&server.login(ADA).await.unwrap_err());
        let output = run(&database, &[], &["users", "unlock", ADA]).await;
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("failed logins cleared") && !said.contains('@'), "{said}");
        server.login(ADA).await.unwrap();
        let output = run(&database, &[], &["users", "unlock", "nobody@example.org"]).await;
        assert_eq!(output.status.code(), Some(1));
    }
}
