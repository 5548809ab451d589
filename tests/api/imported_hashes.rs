//! Users who bring a hash of another system: they log in, their hash is replaced, and guesses cost and count as always.

use countersign::{
    config::Config,
    passwords::{Argon2Cost, PasswordSettings, Passwords, Pepper, formats},
    tokens::DerivedKeys,
};
use serde_json::Value;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, on_both_databases, reason, server::test_variables,
};

const VECTORS: &str = include_str!("../vectors/password-hashes.jsonl");

/// The password of most lines.
const IMPORTED: &str = "correct horse battery staple";
const WRONG: &str = "not the password of anyone";

/// The default of `COUNTERSIGN_ACCOUNT_FAILURE_LIMIT`.
const LIMIT: usize = 10;

/// The cheap hash of [`IMPORTED`] whose source begins with this, of this algorithm.
fn hash_of(source: &str, algorithm: &str) -> String {
    let lines = VECTORS
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
    lines
        .filter(|line| text(line, "source").starts_with(source))
        .filter(|line| text(line, "algorithm") == algorithm && line["cost"].is_null())
        .find(|line| text(line, "password") == IMPORTED && line["matches"] == true)
        .map(|line| text(&line, "hash"))
        .unwrap()
}

/// One of each.
fn hashes() -> [(&'static str, String); 3] {
    [
        ("bcrypt@example.org", hash_of("Python bcrypt", "bcrypt")),
        ("django@example.org", hash_of("Django", "pbkdf2_sha256")),
        ("keycloak@example.org", hash_of("Keycloak", "pbkdf2-sha256")),
    ]
}

/// Registers a user and puts a hash in place of its own.
async fn import(server: &TestServer, database: &TestDatabase, email: &str, hash: &str) {
    server.register(email).await.unwrap();
    let sql = format!("UPDATE users SET password_hash = '{hash}' WHERE email = '{email}'");
    database.execute(&sql).await;
}

/// How many users have a hash of ours.
async fn upgraded(database: &TestDatabase) -> i64 {
    let ours = "users WHERE password_hash LIKE '$argon2id$v=19$%,keyid=AQ$%'";
    database.count(ours).await
}

/// The form in which an importer stores a hash, by the keys of this database's server.
fn sealed(database: &TestDatabase, hash: &str) -> String {
    let config = Config::from_vars(test_variables(database, &[])).unwrap();
    let keys = DerivedKeys::derive(config.master_keys.load().unwrap().as_slice());
    let pepper = |set: &countersign::tokens::KeySet| Pepper {
        version: set.version,
        key: set.pepper.clone(),
    };
    let settings = PasswordSettings {
        cost: Argon2Cost {
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
        },
        workers: 1,
        queue: 1,
        min_length: 15,
    };
    let passwords = Passwords::start(settings, keys.all().map(pepper).collect()).unwrap();
    let hash = passwords
        .sealer()
        .unwrap()
        .seal(&formats::accept(hash).unwrap())
        .unwrap();
    hash.as_str().to_owned()
}

on_both_databases! {
    async fn a_user_with_an_imported_hash_logs_in_and_gets_a_hash_of_ours(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for (n, (email, hash)) in (0..).zip(hashes()) {
            import(&server, &database, email, &hash).await;
            assert_eq!(upgraded(&database).await, n);
            for wrong in [WRONG, PASSWORD] {
                assert_eq!(reason(server.login_as(email, wrong).await), "INVALID_CREDENTIALS");
            }
            assert_eq!(upgraded(&database).await, n, "a wrong password replaced the hash");
            server.login_as(email, IMPORTED).await.unwrap();
            assert_eq!(upgraded(&database).await, n + 1);
            server.login_as(email, IMPORTED).await.unwrap();
            assert_eq!(reason(server.login_as(email, WRONG).await), "INVALID_CREDENTIALS");
        }
    }

    async fn wrong_passwords_for_an_imported_hash_count(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for (email, hash) in hashes() {
            import(&server, &database, email, &hash).await;
            for _ in 0..LIMIT {
                assert_eq!(reason(server.login_as(email, WRONG).await), "INVALID_CREDENTIALS");
            }
            assert_eq!(reason(server.login_as(email, IMPORTED).await), "ACCOUNT_THROTTLED");
        }
    }

    async fn an_encrypted_imported_hash_verifies_is_upgraded_and_cannot_be_changed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let hash = sealed(&database, &hash_of("Keycloak", "pbkdf2-sha256"));
        assert!(hash.starts_with("$imported$k=pbkdf2-sha256,w=200,keyid=AQ$"), "{hash}");
        import(&server, &database, "ada@example.org", &hash).await;
        // The cost that the head names is authenticated.
        import(&server, &database, "eve@example.org", &hash.replace("w=200", "w=1")).await;
        assert_eq!(reason(server.login_as("eve@example.org", IMPORTED).await), "INTERNAL");
        assert_eq!(reason(server.login_as("ada@example.org", WRONG).await), "INVALID_CREDENTIALS");
        server.login_as("ada@example.org", IMPORTED).await.unwrap();
        assert_eq!(upgraded(&database).await, 1);
    }

    async fn a_disabled_user_with_an_imported_hash_does_not_log_in_and_keeps_it(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let [(email, hash), ..] = hashes();
        import(&server, &database, email, &hash).await;
        database.execute("UPDATE users SET disabled_at = 1").await;
        assert_eq!(reason(server.login_as(email, IMPORTED).await), "INVALID_CREDENTIALS");
        assert_eq!(upgraded(&database).await, 0);
    }
}
