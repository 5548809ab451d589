//! Passwords that are known from breaches: refused as new ones, marked when they are used, and the file is checked.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use countersign::grpc::pb::{
    ChangePasswordRequest, RegisterRequest, RequestPasswordResetRequest, ResetPasswordRequest, User,
};
use tonic::Status;

use crate::{
    audit::assert_valid,
    support::{
        Kind, PASSWORD, TestDatabase, TestServer,
        audit_events::exported,
        factors::{STEP, totp},
        failure,
        mailbox::mail,
        on_both_databases,
        operator::bearing,
        process::{TestProcess, run, run_with_input},
        web::get,
    },
};

const BREACHED: &str = "a harp that nobody tunes at noon";
const GOOD: &str = "an engine that dreams of looms";
const VARIABLE: &str = "COUNTERSIGN_BREACHED_PASSWORDS_FILE";

/// A line of a public list.
fn line(password: &str, count: u32) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let mut line = String::new();
    for byte in hash.as_ref() {
        write!(line, "{byte:02X}").unwrap();
    }
    line + &format!(":{count}\r\n")
}

/// The list of these passwords, in order, with others around them.
fn list(passwords: &[&str]) -> String {
    let mut lines: Vec<_> = passwords.iter().map(|password| line(password, 7)).collect();
    lines.extend((0..500).map(|n| line(&format!("filler {n}"), 3)));
    lines.sort();
    lines.concat()
}

/// Makes the filter of a list by the command.
async fn filter(database: &TestDatabase, passwords: &[&str]) -> PathBuf {
    let folder = database.folder.path();
    let (from, to) = (folder.join("list.txt"), folder.join("breached.bin"));
    fs::write(&from, list(passwords)).unwrap();
    let arguments = [
        "passwords",
        "build-filter",
        from.to_str().unwrap(),
        to.to_str().unwrap(),
    ];
    let output = run(database, &[], &arguments).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("passwords in"), "{said}");
    to
}

/// The call must have failed because the password is known from a breach.
fn assert_breached<T: std::fmt::Debug>(result: Result<T, Status>, field: &str) {
    let failure = failure(&result.expect_err("the password was accepted"));
    assert_eq!(failure.reason, "WEAK_PASSWORD");
    let request = failure.details.bad_request().unwrap();
    let violation = &request.field_violations[0];
    assert_eq!(violation.field, field);
    assert_eq!(violation.reason, "BREACHED");
}

on_both_databases! {
    async fn a_breached_new_password_is_refused_by_every_rpc_and_another_is_accepted(database: TestDatabase) {
        let file = filter(&database, &[BREACHED]).await;
        let server = TestServer::start_with(&database, &[(VARIABLE, file.to_str().unwrap())]).await;
        let register = |password: &str| RegisterRequest {
            email: "eve@example.org".to_owned(),
            password: password.to_owned(),
            display_name: String::new(),
        };
        assert_breached(server.auth().register(register(BREACHED)).await, "password");
        server.auth().register(register(GOOD)).await.unwrap();
        let ada = server.signed_in("ada@example.org").await;
        let change = ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: BREACHED.to_owned(),
        };
        let changed = server.account().change_password(bearing(&ada.access_token, change)).await;
        assert_breached(changed, "new_password");
        let request = RequestPasswordResetRequest { email: "ada@example.org".to_owned() };
        server.account().request_password_reset(request).await.unwrap();
        let reset_token = mail(&database, "ada@example.org", "Reset your password", 1).await.token();
        let reset = |new_password: &str| ResetPasswordRequest {
            reset_token: reset_token.clone(),
            new_password: new_password.to_owned(),
        };
        assert_breached(server.account().reset_password(reset(BREACHED)).await, "new_password");
        server.account().reset_password(reset(GOOD)).await.unwrap();
    }

    async fn the_audit_events_of_logins_mark_breached_passwords(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.register("root@example.org").await.unwrap();
        database.execute("UPDATE users SET roles = 'admin'").await;
        let ada = server.register("ada@example.org").await.unwrap();
        server.stop().await;
        let file = filter(&database, &[PASSWORD]).await;
        let server = TestServer::start_with(&database, &[(VARIABLE, file.to_str().unwrap())]).await;
        // The newest first; of one time they have no order.
        let details = async |access_token: &str| {
            server.clock.advance(Duration::from_secs(1));
            let events = server.audit_events(access_token, "kind = logged_in").await;
            let said = events.iter().map(|event| (event.subject_id.clone(), event.details_json.clone()));
            said.collect::<Vec<_>>()
        };
        let breached = |user: &User, new_device: bool| {
            (user.user_id.clone(), format!(r#"{{"breached_password":true,"new_device":{new_device}}}"#))
        };
        let tokens = server.login("root@example.org").await.unwrap();
        let change = ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: GOOD.to_owned(),
        };
        let changed = server.account().change_password(bearing(&tokens.access_token, change)).await.unwrap();
        let admin = changed.into_inner().tokens.unwrap().access_token;
        assert_eq!(details(&admin).await, [breached(&root, true)]);

        let first = server.login_with("ada@example.org", PASSWORD, "").await.unwrap();
        assert_eq!(details(&admin).await[0], breached(&ada, true));
        // The second half of a login is an event of its password as well.
        let app = server.enroll(&first.tokens.unwrap().access_token).await;
        server.clock.advance(Duration::from_secs(STEP));
        let challenge = server.login_whole("ada@example.org", &first.device_token).await.unwrap().challenge.unwrap();
        server.complete(&challenge, totp(app.code(&server))).await.unwrap();
        assert_eq!(details(&admin).await[0], breached(&ada, false));

        server.login_as("root@example.org", GOOD).await.unwrap();
        assert_eq!(details(&admin).await[0], (root.user_id, r#"{"new_device":true}"#.to_owned()));
        for event in exported(&database, None).await {
            assert_valid(&event);
        }
    }

    async fn a_login_with_a_breached_password_succeeds_and_is_counted(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("ada@example.org").await.unwrap();
        server.stop().await;
        let file = filter(&database, &[PASSWORD]).await;
        let variables = [(VARIABLE, file.to_str().unwrap())];
        let (server, log) = TestProcess::start_recorded(&database, &variables).await;
        server.login("ada@example.org").await.unwrap();
        let metrics = get(server.http(), "/metrics").await.body;
        assert!(metrics.contains("countersign_breached_passwords_used_total 1"), "{metrics}");
        server.end(rustix::process::Signal::TERM).await;
        let (_, errors) = log.finish().await;
        let line = errors.lines().find(|line| line.contains("known from a breach")).expect("a line");
        assert!(!errors.contains(PASSWORD) && !line.contains("ada@"), "{line}");
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_missing_or_no_filter_stops_the_start_and_the_check_of_the_configuration()
 {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let file = filter(&database, &[BREACHED]).await;
    let good = fs::read(&file).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let variables = [(VARIABLE, path.as_str())];
    let output = run(&database, &variables, &["config", "check"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("501 breached ones are refused"), "{said}");
    let mut flipped = good.clone();
    let last = flipped.len() - 40;
    flipped[last] ^= 1;
    for bytes in [&good[..good.len() - 1], &flipped, b"nonsense", b""] {
        fs::write(&file, bytes).unwrap();
        for (arguments, code) in [(&["config", "check"][..], 78), (&["serve"], 1)] {
            let output = run(&database, &variables, arguments).await;
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{errors}");
            assert!(
                errors.contains(VARIABLE) && errors.contains(&path),
                "{errors}"
            );
        }
    }
    fs::remove_file(&file).unwrap();
    let output = run(&database, &variables, &["config", "check"]).await;
    assert_eq!(output.status.code(), Some(78));
}

#[tokio::test]
async fn a_malformed_or_unsorted_list_creates_no_filter_and_keeps_the_old_one() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let file = filter(&database, &[BREACHED]).await;
    let good = fs::read(&file).unwrap();
    let (a, b) = (line("a", 1), line("b", 1));
    let backwards = if a < b { b + &a } else { a + &b };
    let out = file.to_str().unwrap();
    for (text, expected) in [
        (
            "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:3\nnonsense\n",
            "line 2",
        ),
        (backwards.as_str(), "line 2 of the list is out of order"),
        ("", "no password"),
    ] {
        let arguments = ["passwords", "build-filter", "-", out];
        let output = run_with_input(&database, &arguments, text.as_bytes()).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    let others = fs::read_dir(database.folder.path()).unwrap();
    let is_part = |name: &str| name.contains(".part");
    assert!(
        !others
            .flatten()
            .any(|entry| is_part(entry.file_name().to_str().unwrap()))
    );
}
