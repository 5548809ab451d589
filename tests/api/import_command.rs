//! `countersign users import`: users of other systems are there afterwards, log in with their old passwords, and what
//! cannot be imported is reported by its line.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    audit::assert_valid,
    support::{
        Kind, TestDatabase, TestServer,
        audit_events::exported,
        mailbox::mail,
        on_both_databases,
        process::{run, run_on_terminal, run_with_input},
        reason,
    },
};

const VECTORS: &str = include_str!("../vectors/password-hashes.jsonl");

/// The password of the exports and of most vectors.
const PASSWORD: &str = "correct horse battery staple";
/// A hash of it.
const BCRYPT: &str = "$2b$04$9NKIZ4axYpeEiq3o56T8hehibNiGT.b/n618oAW4HPZfQE9eojp9u";
const NEW_PASSWORD: &str = "an engine that dreams of looms";

fn text(line: &Value, member: &str) -> Option<String> {
    line[member].as_str().map(str::to_owned)
}

/// The record of a line of the vectors, as `docs/import.md` says.
fn record_of_vector(number: usize, line: &Value) -> Value {
    let hash = text(line, "hash").unwrap();
    let mut record = json!({"email": format!("v{number}@example.org")});
    let secret = text(line, "pepper").or_else(|| text(line, "secret"));
    if let Some(secret) = secret {
        record["password_secret"] = json!(STANDARD.encode(secret));
    }
    record["password_hash"] = json!(match line {
        line if line["mem_cost"].is_u64() => format!(
            "$fbscrypt$v=1,n={},r={},p=1,ss={},sk={}${}${hash}",
            line["mem_cost"],
            line["rounds"],
            text(line, "salt_separator").unwrap(),
            text(line, "signer_key").unwrap(),
            text(line, "salt").unwrap(),
        ),
        line if line["signer_key"].is_string() => {
            record["password_secret"] = line["signer_key"].clone();
            hash
        }
        line if line["prf"].is_string() => format!(
            "$spring-pbkdf2$h={},i={},s={}${hash}",
            text(line, "prf").unwrap().trim_start_matches("hmac-"),
            text(line, "iterations").unwrap(),
            text(line, "salt_bytes").unwrap(),
        ),
        line if line["algorithm"] == "md5 hex" => format!("$md5-hex${hash}"),
        _ => hash,
    });
    record
}

/// Writes a file of records, one a line.
fn file_of(database: &TestDatabase, lines: impl IntoIterator<Item = String>) -> String {
    let path = database.folder.path().join("users.jsonl");
    fs::write(&path, lines.into_iter().collect::<Vec<_>>().join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn record(email: &str) -> String {
    json!({"email": email, "password_hash": BCRYPT}).to_string()
}

fn export(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports");
    folder.join(name).to_str().unwrap().to_owned()
}

/// What was written to standard output, by lines; the exit code must be this.
fn lines(output: &Output, code: i32) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{errors}");
    text.lines().map(str::to_owned).collect()
}

async fn import(database: &TestDatabase, code: i32, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["users", "import"][..], arguments].concat();
    lines(&run(database, &[], &arguments).await, code)
}

/// How many users were imported.
async fn imported(database: &TestDatabase) -> i64 {
    database.count("users WHERE import_mark IS NOT NULL").await
}

on_both_databases! {
    async fn the_vectors_are_imported_or_refused_as_they_say_and_one_of_each_algorithm_logs_in(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let vectors: Vec<Value> = VECTORS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records = vectors.iter().enumerate().map(|(n, line)| record_of_vector(n + 1, line).to_string());
        let file = file_of(&database, records);
        let said = import(&database, 1, &[&file]).await;
        let refused: BTreeSet<usize> = said
            .iter()
            .filter_map(|line| line.strip_prefix("line ")?.split(':').next()?.parse().ok())
            .collect();
        let left_out = ["$gy$", "$1$", "$md5,"];
        let mut known = BTreeSet::new();
        for (number, line) in (1..).zip(&vectors) {
            let hash = text(line, "hash").unwrap();
            let is_left_out = left_out.iter().any(|start| hash.starts_with(start));
            if line["rejects"] == true || is_left_out {
                // An account whose mark says that it has no password is imported without one.
                let email = format!("v{number}@example.org");
                let without = format!("users WHERE email = '{email}' AND password_hash LIKE '$none$%'");
                let is_without = database.count(&without).await == 1;
                assert!(refused.contains(&number) != is_without, "line {number} was imported with a password");
                continue;
            }
            assert!(!refused.contains(&number), "line {number} was refused");
            let is_cheap = line["matches"] == true && line["cost"].is_null();
            let has_password = text(line, "password").as_deref() == Some(PASSWORD);
            if is_cheap && has_password && known.insert(text(line, "algorithm").unwrap()) {
                let login = server.login_as(&format!("v{number}@example.org"), PASSWORD).await;
                assert!(login.is_ok(), "line {number}: {login:?}");
            }
        }
        assert!(known.len() > 40, "{}", known.len());
    }

    async fn a_repeated_import_skips_what_it_did_and_refuses_addresses_of_others(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("taken@example.org").await.unwrap();
        let emails = ["ada@example.org", "taken@example.org", "Bob@Example.org"];
        let file = file_of(&database, emails.map(record));
        let taken = "line 2: email: a user or an earlier record has this address";
        for (imported, skipped) in [(2, 0), (0, 2)] {
            let said = import(&database, 1, &[&file]).await;
            let counts = format!(
                "countersign: {imported} users imported, {skipped} already imported, 1 refused"
            );
            assert_eq!(said, [taken, &counts]);
        }
        // A changed record of an imported user is no repetition.
        let file = file_of(&database, [record("ada@example.org").replace("$2b$", "$2a$")]);
        let said = import(&database, 1, &[&file]).await;
        assert!(said[0].starts_with("line 1: email: "), "{said:?}");
        // The user has logged in and got another hash: the record is still known.
        server.login_as("ada@example.org", PASSWORD).await.unwrap();
        let file = file_of(&database, [record("ada@example.org")]);
        let said = import(&database, 0, &[&file]).await;
        assert_eq!(said, ["countersign: 0 users imported, 1 already imported, 0 refused"]);
        let events = database.count("audit_events WHERE kind = 'users_imported'").await;
        assert_eq!(events, 1, "an event for each batch that created users");
    }

    async fn a_bad_line_is_refused_by_its_number_and_the_others_are_imported(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let with_hash = |n: usize, hash: &str| {
            json!({"email": format!("u{n}@example.org"), "password_hash": hash}).to_string().into_bytes()
        };
        let bad: [(Vec<u8>, &str); 13] = [
            (format!("{{\"email\":\"{}\"}}", "x".repeat(10 << 20)).into_bytes(), "longer than 64 KiB"),
            (b"{\"email\":\"\xff\xfe@example.org\"}".to_vec(), "not UTF-8"),
            (b"nonsense".to_vec(), "not one JSON object"),
            (b"{\"email\":\"ada@example.org\",\"isAdmin\":true}".to_vec(), "unknown member \"isAdmin\""),
            (b"{\"email\":\"a@b.org\",\"email\":\"a@c.org\"}".to_vec(), "member \"email\" occurs twice"),
            (b"{\"email\":\"no address\"}".to_vec(), "email: "),
            (record("ADA@example.org").into_bytes(), "email: a user or an earlier record has this address"),
            (record("first@example.org").replace("$04$", "$05$").into_bytes(), "email: a user or an earlier record"),
            (with_hash(1, "$rot13$abc"), "password_hash: "),
            (with_hash(2, &BCRYPT.replace("$04$", "$31$")), "password_hash: "),
            (with_hash(3, "$argon2id$v=19$m=4194304,t=10,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGg"),
                "password_hash: "),
            (with_hash(4, "{noop}correct horse battery staple"), "password_hash: "),
            (b"{\"email\":\"a@b.org\",\"roles\":[\"Not A Role\"]}".to_vec(), "roles: "),
        ];
        let mut bytes = [record("ada@example.org"), record("first@example.org")].join("\n").into_bytes();
        for (line, _) in &bad {
            bytes.push(b'\n');
            bytes.extend(line);
        }
        bytes.extend(format!("\r\n\n{}\n", record("last@example.org")).into_bytes());
        let file = database.folder.path().join("bad.jsonl");
        fs::write(&file, bytes).unwrap();
        let said = import(&database, 1, &[file.to_str().unwrap()]).await;
        assert_eq!(said.len(), bad.len() + 1, "{said:#?}");
        for ((number, (_, expected)), line) in (3..).zip(&bad).zip(&said) {
            assert!(line.starts_with(&format!("line {number}: {expected}")), "{line}");
            assert!(!line.contains("correct horse") && line.len() < 200, "{line}");
        }
        assert_eq!(imported(&database).await, 3);
    }

    async fn exports_of_other_systems_are_imported_and_their_users_log_in(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let [realm, firebase, config, auth0, dump, django, django_lines, csv, json] = [
            "keycloak-realm.json", "firebase-users.json", "firebase-hash-config.txt", "auth0-users.jsonl",
            "auth0-password-hashes.jsonl", "django-users.json", "django-users.jsonl", "wordpress-users.csv",
            "wordpress-users.json",
        ].map(export);
        for (arguments, code, users) in [
            (vec!["--from", "keycloak", "--keep-roles", &realm], 1, 3),
            (vec!["--from", "firebase", "--firebase-hash-config", &config, &firebase], 1, 3),
            (vec!["--from", "auth0", "--password-hashes", &dump, &auth0], 0, 3),
            (vec!["--from", "auth0", &dump], 0, 2),
            (vec!["--from", "django", &django], 1, 3),
            (vec!["--from", "django", &django_lines], 1, 3),
            (vec!["--from", "wordpress", &csv], 1, 2),
            (vec!["--from", "wordpress", "--keep-roles", &json], 1, 2),
        ] {
            database.execute("DELETE FROM users").await;
            import(&database, code, &arguments).await;
            assert_eq!(imported(&database).await, users, "{arguments:?}");
            let tokens = server.login_as("ada@example.org", PASSWORD).await;
            assert!(tokens.is_ok(), "{arguments:?}: {tokens:?}");
            let wrong = server.login_as("ada@example.org", "not the password of anyone").await;
            assert_eq!(reason(wrong), "INVALID_CREDENTIALS", "{arguments:?}");
            let roles = database.count("users WHERE roles LIKE '%editor%'").await;
            assert_eq!(roles, i64::from(arguments.contains(&"--keep-roles")), "{arguments:?}");
            assert_eq!(database.count("users WHERE roles LIKE '%admin%' AND roles NOT LIKE '%administrator%'").await, 0);
        }
    }

    async fn a_disabled_user_and_one_without_a_password_are_imported_as_such(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let file = file_of(&database, [
            json!({"email": "off@example.org", "password_hash": BCRYPT, "disabled": true}).to_string(),
            json!({"email": "none@example.org", "email_verified": true, "create_time": "2020-01-31T08:30:00Z"}).to_string(),
        ]);
        let said = import(&database, 0, &[&file]).await;
        assert_eq!(said[1], "countersign: 1 imported without a password: these users must reset it");
        for password in [PASSWORD, "!", "*"] {
            for email in ["off@example.org", "none@example.org"] {
                assert_eq!(reason(server.login_as(email, password).await), "INVALID_CREDENTIALS");
            }
        }
        let whole = "users WHERE created_at = 1580459400000000 AND email_verified_at IS NOT NULL";
        assert_eq!(database.count(whole).await, 1);
        let request = countersign::grpc::pb::RequestPasswordResetRequest { email: "none@example.org".to_owned() };
        server.account().request_password_reset(request).await.unwrap();
        let reset = countersign::grpc::pb::ResetPasswordRequest {
            reset_token: mail(&database, "none@example.org", "Reset your password", 1).await.token(),
            new_password: NEW_PASSWORD.to_owned(),
        };
        server.account().reset_password(reset.clone()).await.unwrap();
        server.login_as("none@example.org", NEW_PASSWORD).await.unwrap();
        assert_eq!(reason(server.account().reset_password(reset).await), "ONE_TIME_TOKEN_INVALID");
    }

    async fn a_file_of_many_batches_is_imported_and_an_interrupted_import_can_be_repeated(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let records: Vec<_> = (0..1_600).map(|n| record(&format!("u{n}@example.org"))).collect();
        let whole = records.join("\n").into_bytes();
        // As after a crash: the last line is incomplete.
        let cut = whole.len() * 2 / 3;
        let output = run_with_input(&database, &["users", "import", "-"], &whole[..cut]).await;
        lines(&output, 1);
        let before = imported(&database).await;
        assert!((1_000..1_600).contains(&before), "{before}");
        let output = run_with_input(&database, &["users", "import", "-"], &whole).await;
        let said = lines(&output, 0);
        let counts = format!(
            "countersign: {} users imported, {before} already imported, 0 refused",
            1_600 - before
        );
        assert_eq!(said, [counts]);
        assert_eq!(imported(&database).await, 1_600);
    }

    async fn a_terminal_shows_how_many_were_read_how_fast_and_the_time_left(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let file = file_of(&database, (0..3_000).map(|n| record(&format!("u{n}@example.org"))));
        let arguments = ["users", "import", &file];
        let (output, shown) = run_on_terminal(&database, &arguments).await;
        lines(&output, 0);
        for read in [1_000, 2_000] {
            // 1000 records, 4321/s  3s left
            let (_, rest) = shown
                .split_once(&format!(" %  {read} records, "))
                .unwrap_or_else(|| panic!("{read} records are not shown: {shown:?}"));
            let (rate, rest) = rest.split_once("/s  ").unwrap();
            assert!(rate.parse::<u64>().is_ok_and(|rate| rate > 0), "{rate:?} in {shown:?}");
            let (left, _) = rest.split_once(" left").unwrap();
            // 3s, or 2m on a busy machine.
            let number = left.trim_end_matches(['s', 'm']);
            assert!(number.parse::<u64>().is_ok() && number != left, "{left:?} in {shown:?}");
        }
        // A file gets lines, and none of so short an import.
        let output = run(&database, &[], &arguments).await;
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }

    async fn the_cost_of_imported_hashes_is_listed_for_failed_logins(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let file = file_of(&database, [record("ada@example.org")]);
        import(&database, 0, &[&file]).await;
        let listed = "password_parameters WHERE parameters = '$imported$k=bcrypt,w=16'";
        assert_eq!(database.count(listed).await, 1);
    }

    async fn a_role_that_gives_access_to_countersign_is_audited_for_its_user(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let with_roles = |email: &str, roles: &[&str]| json!({"email": email, "roles": roles}).to_string();
        let file = file_of(&database, [
            with_roles("root@example.org", &["editor", "admin"]),
            with_roles("watch@example.org", &["verifier"]),
            with_roles("ada@example.org", &["editor"]),
            with_roles("bob@example.org", &[]),
        ]);
        // A user who was there already gets no event.
        for _ in 0..2 {
            import(&database, 0, &[&file]).await;
            let events = exported(&database, None).await;
            events.iter().for_each(assert_valid);
            let granted: Vec<_> = events.iter().filter(|event| event["kind"] == "user_roles_changed").collect();
            let mut roles: Vec<_> = granted.iter().map(|event| event["details"].clone()).collect();
            roles.sort_by_key(Value::to_string);
            assert_eq!(roles, [
                json!({"roles_before": [], "roles": ["admin", "editor"]}),
                json!({"roles_before": [], "roles": ["verifier"]}),
            ]);
            for event in granted {
                let id = event["subject_id"].as_str().unwrap();
                let owners = format!("users WHERE id = '{id}' AND (roles LIKE '%admin%' OR roles = 'verifier')");
                assert_eq!(database.count(&owners).await, 1, "{event}");
                assert_eq!(event["client_ip"], "command line");
                assert_eq!(event["request_id"], "countersign users import");
            }
        }
    }

    async fn hashes_are_not_encrypted_under_a_master_key_that_is_not_the_servers(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let file = file_of(&database, [record("ada@example.org")]);
        let other = [("COUNTERSIGN_MASTER_KEYS", "v1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")];
        let output = run(&database, &other, &["users", "import", &file]).await;
        lines(&output, 1);
        assert_eq!(imported(&database).await, 0);
    }

    async fn a_truncated_export_keeps_what_was_read_and_names_the_position(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let whole = fs::read_to_string(export("keycloak-realm.json")).unwrap();
        let end = whole.find("service-account-orders").unwrap();
        let file = database.folder.path().join("realm.json");
        fs::write(&file, &whole[..end]).unwrap();
        let arguments = ["users", "import", "--from", "keycloak", file.to_str().unwrap()];
        let output = run(&database, &[], &arguments).await;
        lines(&output, 1);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("it ends too early"), "{errors}");
        assert_eq!(imported(&database).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_do_not_fit_the_file_and_files_that_are_missing_are_refused_before_anything_is_written()
 {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let file = file_of(&database, [record("ada@example.org")]);
    for arguments in [
        vec![file.as_str(), "--from", "firebase"],
        vec![file.as_str(), "--password-hashes", "x"],
        vec![file.as_str(), "--firebase-hash-config", "x"],
        vec![file.as_str(), "--keep-roles"],
        vec![file.as_str(), "--from", "nonsense"],
        vec![],
    ] {
        import(&database, 64, &arguments).await;
    }
    let bad = [("COUNTERSIGN_DATABASE_POOL_SIZE", "nonsense")];
    let output = run(&database, &bad, &["users", "import", &file]).await;
    lines(&output, 78);
    import(&database, 1, &["/does/not/exist.jsonl"]).await;
    let folder = database.folder.path().to_str().unwrap().to_owned();
    import(&database, 1, &[&folder]).await;
    let missing = ["--from", "auth0", "--password-hashes", "/none", &file];
    import(&database, 1, &missing).await;
    // Without a database: only the server and `migrate` create one.
    import(&database, 1, &[&file]).await;
    assert!(!database.sqlite_path().exists());
    // A dry run needs none.
    let said = import(&database, 0, &["--dry-run", &file]).await;
    assert_eq!(
        said,
        ["countersign: 0 users imported, 0 already imported, 0 refused"]
    );
}
