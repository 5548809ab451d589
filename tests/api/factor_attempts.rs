//! Guesses at second factors: they count like wrong passwords, a challenge allows five, and of parallel answers one wins, on
//! any number of replicas.

use std::time::Duration;

use countersign::{
    clock::Clock,
    grpc::pb::{
        LoginChallenge, TokenPair, complete_login_request::Proof,
        reauthenticate_request::Proof as Again,
    },
};
use futures_util::future::join_all;
use tonic::Status;

use crate::support::{
    PASSWORD, TestDatabase, TestServer,
    factors::{App, STEP, recovery, totp},
    failure, on_both_databases, reason,
    server::{servers, servers_at},
};

const ADA: &str = "ada@example.org";
const WRONG: &str = "not the password of anyone";
/// The default of `COUNTERSIGN_ACCOUNT_FAILURE_LIMIT`.
const LIMIT: usize = 10;
const NO_LIMIT: [(&str, &str); 1] = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "1000")];

/// Gives wrong codes, each to a challenge of its own, and each of which is judged.
async fn fail(server: &TestServer, app: &App, times: usize) {
    for _ in 0..times {
        let challenge = server.challenged(ADA).await;
        let answer = server
            .complete(&challenge, totp(app.wrong_code(server)))
            .await;
        assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
    }
}

/// Answers one challenge with all these proofs at once, by turns on each server.
async fn answer_at_once(
    servers: &[TestServer],
    challenge: &LoginChallenge,
    proofs: Vec<Proof>,
) -> (usize, Vec<Status>) {
    let answers = proofs
        .into_iter()
        .enumerate()
        .map(|(number, proof)| servers[number % servers.len()].complete(challenge, proof));
    let (right, wrong): (Vec<_>, Vec<_>) =
        join_all(answers).await.into_iter().partition(Result::is_ok);
    (
        right.len(),
        wrong.into_iter().filter_map(Result::err).collect(),
    )
}

on_both_databases! {
    async fn of_parallel_answers_to_one_challenge_one_opens_a_session(database: TestDatabase, clock: Clock) {
        let servers = servers_at(&database, &NO_LIMIT, clock).await;
        let (_, app) = servers[0].with_app(ADA).await;
        let sessions = database.count("sessions").await;
        let challenge = servers[0].challenged(ADA).await;
        // Each of these would be right.
        let mut proofs: Vec<_> = app.recovery_codes.iter().take(5).map(recovery).collect();
        proofs.push(totp(app.code(&servers[0])));
        let (right, wrong) = answer_at_once(&servers, &challenge, proofs).await;
        assert_eq!(right, 1);
        for status in &wrong {
            assert_eq!(failure(status).reason, "SECOND_FACTOR_INVALID");
        }
        assert_eq!(database.count("sessions").await, sessions + 1);
        // What the losers showed is not used up.
        let unused = database.count("recovery_codes WHERE used_at IS NULL").await;
        assert!(unused >= 9, "{unused}");
    }

    async fn of_parallel_logins_with_one_code_one_succeeds(database: TestDatabase, clock: Clock) {
        let servers = servers_at(&database, &NO_LIMIT, clock).await;
        let (_, app) = servers[0].with_app(ADA).await;
        let mut challenges = Vec::new();
        for _ in 0..6 {
            challenges.push(servers[0].challenged(ADA).await);
        }
        let code = app.code(&servers[0]);
        let answers = challenges.iter().enumerate().map(|(number, challenge)| {
            servers[number % servers.len()].complete(challenge, totp(&code))
        });
        let answers = join_all(answers).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for answer in answers.into_iter().filter(Result::is_err) {
            assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
        }
    }

    async fn a_challenge_allows_five_attempts(database: TestDatabase) {
        let servers = servers(&database, &NO_LIMIT).await;
        let (_, app) = servers[0].with_app(ADA).await;
        let challenge = servers[0].challenged(ADA).await;
        let wrong = (0..5).map(|_| totp(app.wrong_code(&servers[0]))).collect();
        let (right, _) = answer_at_once(&servers, &challenge, wrong).await;
        assert_eq!(right, 0);
        assert_eq!(database.count("used_challenges WHERE tries = 5 AND used_at IS NULL").await, 1);
        for server in &servers {
            let answer = server.complete(&challenge, totp(app.code(server))).await;
            assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
        }
        // The code itself is still good.
        servers[0].login_by_app(ADA, &app).await.unwrap();

        let challenge = servers[0].challenged(ADA).await;
        for _ in 0..4 {
            let answer = servers[0].complete(&challenge, totp(app.wrong_code(&servers[0]))).await;
            assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
        }
        servers[0].complete(&challenge, recovery(&app.recovery_codes[0])).await.unwrap();
    }

    async fn wrong_codes_in_parallel_are_each_counted(database: TestDatabase, clock: Clock) {
        let servers = servers_at(&database, &NO_LIMIT, clock).await;
        let (_, app) = servers[0].with_app(ADA).await;
        let mut challenges = Vec::new();
        for _ in 0..12 {
            challenges.push(servers[0].challenged(ADA).await);
        }
        let wrong = app.wrong_code(&servers[0]);
        let answers = challenges.iter().enumerate().map(|(number, challenge)| {
            servers[number % servers.len()].complete(challenge, totp(&wrong))
        });
        for answer in join_all(answers).await {
            assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
        }
        assert_eq!(database.count("login_failures WHERE failures = 12").await, 1);
    }

    async fn wrong_codes_delay_the_account_and_a_correct_password_does_not_reset_the_count(database: TestDatabase) {
        let servers = servers(&database, &[]).await;
        let server = &servers[0];
        let (_, app) = server.with_app(ADA).await;
        // Each of these follows a right password.
        fail(server, &app, LIMIT - 1).await;
        let challenge = server.challenged(ADA).await;
        let last = server.challenged(ADA).await;
        assert_eq!(reason(server.complete(&last, totp(app.wrong_code(server))).await), "SECOND_FACTOR_INVALID");
        // From here on nothing tells what was wrong.
        for server in &servers {
            let right = server.complete(&challenge, totp(app.code(server))).await;
            assert_eq!(reason(right), "ACCOUNT_THROTTLED");
            let wrong = server.complete(&challenge, totp(app.wrong_code(server))).await;
            assert_eq!(reason(wrong), "ACCOUNT_THROTTLED");
            for password in [PASSWORD, WRONG] {
                assert_eq!(reason(server.login_as(ADA, password).await), "ACCOUNT_THROTTLED");
            }
        }
        // After the delay one attempt is judged: password and code.
        server.clock.advance(Duration::from_secs(STEP));
        let challenge = server.challenged(ADA).await;
        server.complete(&challenge, totp(app.code(server))).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0, "a whole login resets the count");
    }

    async fn wrong_passwords_and_wrong_codes_have_one_count(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        fail(&server, &app, 5).await;
        for _ in 0..4 {
            assert_eq!(reason(server.login_as(ADA, WRONG).await), "INVALID_CREDENTIALS");
        }
        fail(&server, &app, 1).await;
        assert_eq!(reason(server.login_as(ADA, WRONG).await), "ACCOUNT_THROTTLED");
    }

    async fn a_known_device_has_a_count_of_its_own(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let challenge = server.challenged(ADA).await;
        let known = server.complete(&challenge, totp(app.code(&server))).await.unwrap().device_token;
        // Strangers delay the account, not the device.
        for _ in 0..LIMIT {
            assert_eq!(reason(server.login_as(ADA, WRONG).await), "INVALID_CREDENTIALS");
        }
        assert_eq!(reason(server.login_whole(ADA, "").await), "ACCOUNT_THROTTLED");
        server.clock.advance(Duration::from_secs(STEP));
        // The end of the delay, which grew, is not waited for.
        assert_eq!(reason(server.login_as(ADA, WRONG).await), "INVALID_CREDENTIALS");
        let challenge = server.login_whole(ADA, &known).await.unwrap().challenge.unwrap();
        let completed = server.complete(&challenge, totp(app.code(&server))).await.unwrap();
        assert_eq!(completed.device_token, known, "it stays the same device");
        // Its own wrong codes delay it.
        for _ in 0..LIMIT {
            let challenge = server.login_whole(ADA, &known).await.unwrap().challenge.unwrap();
            assert_eq!(reason(server.complete(&challenge, totp(app.wrong_code(&server))).await), "SECOND_FACTOR_INVALID");
        }
        assert_eq!(reason(server.login_whole(ADA, &known).await), "ACCOUNT_THROTTLED");
    }

    async fn codes_within_sessions_have_one_count_that_only_a_right_code_clears(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let other = server.login_by_app(ADA, &app).await.unwrap();
        server.clock.advance(Duration::from_secs(STEP));
        let again = async |tokens: &TokenPair, proof: Again| server.reauthenticate(&tokens.access_token, "", proof).await;
        let password = || Again::Password(PASSWORD.to_owned());
        for number in 0..LIMIT {
            let tokens = [&tokens, &other][number % 2];
            let wrong = Again::TotpCode(app.wrong_code(&server));
            assert_eq!(reason(again(tokens, wrong).await), "SECOND_FACTOR_INVALID");
            again(tokens, password()).await.unwrap();
        }
        for tokens in [&tokens, &other] {
            let right = Again::TotpCode(app.code(&server));
            assert_eq!(reason(again(tokens, right).await), "ACCOUNT_THROTTLED");
            again(tokens, password()).await.unwrap();
        }
        // Whoever holds the access token does not delay logins, and a login gives no further guesses.
        let third = server.login_by_app(ADA, &app).await.unwrap();
        assert_eq!(reason(again(&third, Again::TotpCode(app.code(&server))).await), "ACCOUNT_THROTTLED");
        server.clock.advance(Duration::from_secs(STEP));
        again(&tokens, Again::TotpCode(app.code(&server))).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn a_correct_code_resets_the_counter_only_if_the_transaction_commits(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let again = async |code: String| server.reauthenticate(&tokens.access_token, "", Again::TotpCode(code)).await;
        for _ in 0..3 {
            assert_eq!(reason(again(app.wrong_code(&server)).await), "SECOND_FACTOR_INVALID");
        }
        // The last statement of the change fails.
        database.execute("ALTER TABLE audit_events RENAME TO audit_events_away").await;
        assert!(again(app.code(&server)).await.is_err());
        database.execute("ALTER TABLE audit_events_away RENAME TO audit_events").await;
        assert_eq!(database.count("login_failures WHERE failures = 3").await, 1);
        again(app.code(&server)).await.unwrap();
        assert_eq!(database.count("login_failures").await, 0);
    }
}
