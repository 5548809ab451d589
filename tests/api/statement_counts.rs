//! What a login costs the database on PostgreSQL: how many statements, and no transaction that writes beyond one.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use countersign::grpc::pb::FinishPasskeyLoginRequest;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use tokio::task;

use crate::{
    passkeys::{begin_login, user_with_passkey},
    support::{
        Kind, PASSWORD, TestDatabase, TestServer,
        factors::{STEP, totp},
        guesses::WRONG,
        reason,
    },
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

/// Statements of logins that were sent, those that begin and end transactions aside.
static STATEMENTS: AtomicUsize = AtomicUsize::new(0);
/// Transactions with such statements that wrote and were committed, single statements among them.
static COMMITS: AtomicUsize = AtomicUsize::new(0);

/// The tasks that send mails. They read users and write audit events, too, at the moment when a login that queues a mail is answered.
static MAIL_TASKS: Mutex<Vec<task::Id>> = Mutex::new(Vec::new());

/// Of one connection.
#[derive(Default)]
struct CountStatements {
    is_in_transaction: bool,
    has_written: bool,
}

/// Whether a statement is one of a task that reads or changes the outbox, or did so before. A login only adds to it.
fn is_of_mail_tasks(statement: &str) -> bool {
    let Some(task) = task::try_id() else {
        return false;
    };
    let mut tasks = MAIL_TASKS.lock().unwrap();
    if statement.contains("\"mails\"") && !statement.contains("INSERT") && !tasks.contains(&task) {
        tasks.push(task);
    }
    tasks.contains(&task)
}

/// What the background reads and writes is left out: the ping, the revocations, the positions of audit events, the outbox.
fn is_of_logins(statement: &str) -> bool {
    const TABLES: [&str; 6] = [
        "users",
        "login_failures",
        "sessions",
        "totp_factors",
        "passkeys",
        "used_challenges",
    ];
    let has_any = |names: &[&str]| names.iter().any(|name| statement.contains(name));
    has_any(&TABLES) || statement.contains("INSERT") && has_any(&["audit_events", "mails"])
}

fn writes(statement: &str) -> bool {
    ["INSERT INTO", "UPDATE", "DELETE FROM"]
        .iter()
        .any(|word| statement.contains(word))
}

impl Instrumentation for CountStatements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => {
                let text = query.to_string();
                if !is_of_mail_tasks(&text) && is_of_logins(&text) {
                    STATEMENTS.fetch_add(1, Ordering::SeqCst);
                    match self.is_in_transaction {
                        true => self.has_written |= writes(&text),
                        false => {
                            COMMITS.fetch_add(usize::from(writes(&text)), Ordering::SeqCst);
                        }
                    }
                }
            }
            InstrumentationEvent::BeginTransaction { .. } => {
                self.is_in_transaction = true;
                self.has_written = false;
            }
            InstrumentationEvent::CommitTransaction { .. } => {
                self.is_in_transaction = false;
                COMMITS.fetch_add(usize::from(self.has_written), Ordering::SeqCst);
            }
            InstrumentationEvent::RollbackTransaction { .. } => self.is_in_transaction = false,
            _ => {}
        }
    }
}

/// A database and a server with one connection, all of whose statements are counted.
async fn counted_server() -> TestServer {
    set_default_instrumentation(|| Some(Box::new(CountStatements::default()))).unwrap();
    let database = TestDatabase::create(Kind::Postgres).await;
    TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_POOL_SIZE", "1")]).await
}

/// What the call answers, and how many statements and commits it took.
async fn cost<T>(call: impl Future<Output = T>) -> (T, [usize; 2]) {
    let read = || [&STATEMENTS, &COMMITS].map(|count| count.load(Ordering::SeqCst));
    let before = read();
    let answer = Box::pin(call).await;
    let after = read();
    (answer, [after[0] - before[0], after[1] - before[1]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_half_of_a_login_costs_two_statements_more_than_a_login_and_each_is_one_transaction()
 {
    let server = counted_server().await;
    server.register(ADA).await.unwrap();
    server.register(BOB).await.unwrap();
    let (first, of_first) = cost(server.login_whole(BOB, "")).await;
    assert_eq!(of_first, [4, 1], "user, counter, user again, session");
    let device = first.unwrap().device_token;
    let (answer, of_login) = cost(server.login_whole(BOB, &device)).await;
    answer.unwrap();
    assert_eq!(of_login, [4, 1], "the audit event comes with the session");
    let (answer, of_unknown_device) = cost(server.login_whole(BOB, "")).await;
    answer.unwrap();
    assert_eq!(of_unknown_device, [5, 1], "and the mail to the owner");

    let (answer, of_failure) = cost(server.login_with(BOB, WRONG, &device)).await;
    assert_eq!(reason(answer), "INVALID_CREDENTIALS");
    assert_eq!(of_failure, [3, 1], "user, counter, failure");
    let (answer, of_success) = cost(server.login_with(BOB, PASSWORD, &device)).await;
    answer.unwrap();
    assert_eq!(of_success, [5, 1], "and the counter is cleared");

    let ada = server.login_whole(ADA, "").await.unwrap();
    let app = server.enroll(&ada.tokens.unwrap().access_token).await;
    server.clock.advance(std::time::Duration::from_secs(STEP));
    let (answer, of_first_half) = cost(server.login_whole(ADA, &ada.device_token)).await;
    assert_eq!(of_first_half, [2, 0], "user and counter");
    let challenge = answer.unwrap().challenge.unwrap();
    let proof = totp(app.code(&server));
    let (answer, of_second_half) = cost(server.complete(&challenge, proof)).await;
    answer.unwrap();
    assert_eq!(of_second_half, [of_login[0] + 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_by_passkey_begins_without_a_statement_and_is_one_transaction() {
    let server = counted_server().await;
    let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
    let mut device_token = String::new();
    for (statements, email) in [(7, ADA), (6, "")] {
        let (begun, of_begin) = cost(begin_login(&server, email)).await;
        assert_eq!(of_begin, [0, 0]);
        let response = authenticator.get(&begun.request_options_json);
        let request = FinishPasskeyLoginRequest {
            challenge_token: begun.challenge_token,
            passkey_response_json: response.to_string(),
            device_token,
            ..FinishPasskeyLoginRequest::default()
        };
        let mut client = server.auth();
        let (finished, of_finish) = cost(client.finish_passkey_login(request)).await;
        device_token = finished.unwrap().into_inner().device_token;
        // Passkey and user, counter, user again, challenge, passkey again, session; first the mail about a new device.
        assert_eq!(of_finish, [statements, 1]);
    }
}
