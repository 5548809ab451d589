//! The log at TRACE holds nothing secret, and logging never blocks a call.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign::{
    config::Config,
    grpc::pb::{
        ChangePasswordRequest, ListSessionsRequest, LoginRequest, LogoutRequest, RefreshRequest,
        RegisterRequest, TokenPair, ValidateTokenRequest,
        account_service_client::AccountServiceClient,
    },
    store::Store,
    tokens::DerivedKeys,
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::support::{
    TestDatabase,
    forge::hex,
    on_both_databases,
    operator::bearing,
    process::{PATIENCE, TestProcess},
    reason,
    server::{MASTER_KEYS, test_variables},
    web::get,
};

const EMAIL: &str = "Ada.Lovelace@Analytical-Engine.example";
const PASSWORD: &str = "a mill that weaves algebra";
const WRONG_PASSWORD: &str = "zanzibar marmalade tuba";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const NAME: &str = "Augusta Ada Byron";
const LABEL: &str = "notebook of the countess";

on_both_databases! {
    async fn nothing_secret_is_written_at_any_level(database: TestDatabase) {
        for format in ["json", "pretty"] {
            // SQLite's file and PostgreSQL's tables are shared: each round has an address of its own.
            let email = format!("{format}.{EMAIL}");
            let (server, recording) = TestProcess::start_recorded(&database, &[
                ("COUNTERSIGN_LOG", "trace"),
                ("COUNTERSIGN_LOG_FORMAT", format),
                ("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3"),
            ]).await;
            let mut secrets = use_everything(&server, &email).await;
            secrets.extend(break_everything(&server, &database, &email).await);
            secrets.extend(secrets_of_the_database(&database).await);
            let metrics = get(server.http(), "/metrics").await.body;
            assert!(metrics.contains("countersign_log_lines_dropped_total 0\n"), "some lines were dropped");
            assert_eq!(server.end(Signal::TERM).await, Some(0));

            let (output, errors) = recording.finish().await;
            for method in ["Register", "Login", "Refresh", "ValidateToken", "Logout", "ChangePassword", "ListSessions"] {
                assert!(errors.contains(method), "{method} was not logged: {errors}");
            }
            assert!(errors.contains("database unavailable"), "the failure of the database was not logged: {errors}");
            let said = format!("{output}{errors}").to_lowercase();
            for (what, secret) in secrets {
                assert!(secret.len() >= 8, "{what} is too short: it could occur by chance");
                assert!(!said.contains(&secret.to_lowercase()), "{what} was written: {secret}");
            }
        }
    }

    async fn a_blocked_log_reader_does_not_stop_the_server(database: TestDatabase) {
        let server = TestProcess::start_unread(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let refused = async || {
            // Each writes a line; together they are more than the 64 KiB that a pipe holds.
            for _ in 0..600 {
                let refused = server.refresh("csr_nothing-that-was-ever-issued").await;
                assert_eq!(reason(refused), "REFRESH_TOKEN_INVALID");
            }
            server.validate(&tokens.access_token).await.unwrap();
        };
        timeout(PATIENCE, refused()).await.expect("calls are answered");
        assert_eq!(server.end(Signal::TERM).await, Some(0));
    }
}

type Secrets = Vec<(&'static str, String)>;

fn parts_of(tokens: &TokenPair) -> Secrets {
    let refresh = tokens.refresh_token.trim_start_matches("csr_");
    let mut secrets = vec![
        ("a refresh token", refresh.to_owned()),
        ("the head of a refresh token", refresh[..30].to_owned()),
        (
            "the MAC of a refresh token",
            refresh[refresh.len() - 40..].to_owned(),
        ),
    ];
    let parts = tokens.access_token.split('.').skip(1);
    secrets.extend(parts.map(|part| ("a part of an access token", part[..40].to_owned())));
    secrets
}

/// Calls every RPC, rightly and wrongly. Returns what must not be logged.
async fn use_everything(server: &TestProcess, email: &str) -> Secrets {
    let register = async |email: &str, password: &str| register(server, email, password).await;
    register(email, PASSWORD).await.unwrap();
    assert_eq!(reason(register(email, PASSWORD).await), "EMAIL_TAKEN");
    assert_eq!(
        reason(register("weak@password.example", "password1234567").await),
        "WEAK_PASSWORD"
    );
    assert_eq!(
        reason(register("not-an-address-at-all", PASSWORD).await),
        "INVALID_FIELD"
    );
    assert_eq!(
        reason(register(email, "nul\0in-the-password").await),
        "INVALID_FIELD"
    );

    let tokens = login(server, email, PASSWORD).await.unwrap();
    let stranger = &format!("{}@elsewhere.example", email.replace('@', "."));
    assert_eq!(
        reason(login(server, stranger, PASSWORD).await),
        "INVALID_CREDENTIALS"
    );
    assert_eq!(
        reason(login(server, stranger, WRONG_PASSWORD).await),
        "INVALID_CREDENTIALS"
    );
    assert_eq!(
        reason(login(server, stranger, WRONG_PASSWORD).await),
        "INVALID_CREDENTIALS"
    );
    assert_eq!(
        reason(login(server, stranger, WRONG_PASSWORD).await),
        "ACCOUNT_THROTTLED"
    );
    assert_eq!(
        reason(login(server, email, WRONG_PASSWORD).await),
        "INVALID_CREDENTIALS"
    );

    let device_token = use_device_token(server, email).await;
    let mut secrets = use_tokens(server, &tokens, email).await;
    secrets.extend([
        (
            "a device token",
            device_token.trim_start_matches("csd_").to_owned(),
        ),
        ("an e-mail address", email.to_owned()),
        ("a part of an e-mail address", EMAIL[..12].to_owned()),
        (
            "the domain of an e-mail address",
            "analytical-engine".to_owned(),
        ),
        ("a stranger's address", "elsewhere.example".to_owned()),
        ("a refused address", "not-an-address-at-all".to_owned()),
        (
            "an address with a weak password",
            "password.example".to_owned(),
        ),
        ("a password", PASSWORD.to_owned()),
        ("the beginning of a password", PASSWORD[..11].to_owned()),
        ("a new password", NEW_PASSWORD.to_owned()),
        ("a wrong password", WRONG_PASSWORD.to_owned()),
        ("a weak password", "password1234567".to_owned()),
        ("a refused password", "in-the-password".to_owned()),
        (
            "a garbled access token",
            "an-access-token-of-nobody".to_owned(),
        ),
        (
            "a garbled refresh token",
            "of-nobody-and-nowhere".to_owned(),
        ),
        ("a user's name", NAME.to_owned()),
        ("the label of a device", LABEL.to_owned()),
    ]);
    secrets
}

/// Every RPC that takes a token.
async fn use_tokens(server: &TestProcess, tokens: &TokenPair, email: &str) -> Secrets {
    let mut secrets = parts_of(tokens);
    validate(server, &tokens.access_token).await.unwrap();
    validate(server, &tokens.access_token).await.unwrap();
    let mut bearer = Request::new(ValidateTokenRequest::default());
    let header = format!("Bearer {}", tokens.access_token).parse().unwrap();
    bearer.metadata_mut().insert("authorization", header);
    server.auth().validate_token(bearer).await.unwrap();
    let tampered = format!("{}tampered", tokens.access_token);
    assert_eq!(reason(validate(server, &tampered).await), "TOKEN_INVALID");
    assert_eq!(
        reason(validate(server, "an-access-token-of-nobody").await),
        "TOKEN_INVALID"
    );
    assert_eq!(reason(validate(server, "").await), "TOKEN_MISSING");

    let first = &tokens.refresh_token;
    let second = refresh(server, first).await.unwrap();
    refresh(server, first).await.unwrap();
    let third = refresh(server, &second.refresh_token).await.unwrap();
    secrets.extend(parts_of(&second));
    secrets.extend(parts_of(&third));
    assert_eq!(reason(refresh(server, first).await), "REFRESH_TOKEN_REUSED");
    assert_eq!(
        reason(refresh(server, &third.refresh_token).await),
        "SESSION_REVOKED"
    );
    assert_eq!(
        reason(validate(server, &third.access_token).await),
        "TOKEN_REVOKED"
    );
    assert_eq!(
        reason(refresh(server, "csr_of-nobody-and-nowhere").await),
        "REFRESH_TOKEN_INVALID"
    );

    let again = login(server, email, PASSWORD).await.unwrap();
    secrets.extend(parts_of(&again));
    let wrong = change_password(server, &again, WRONG_PASSWORD, NEW_PASSWORD).await;
    assert_eq!(reason(wrong), "INVALID_CREDENTIALS");
    let weak = change_password(server, &again, PASSWORD, "password1234567").await;
    assert_eq!(reason(weak), "WEAK_PASSWORD");
    let changed = change_password(server, &again, PASSWORD, NEW_PASSWORD);
    let changed = changed.await.unwrap();
    secrets.extend(parts_of(&changed));
    let again = change_password(server, &changed, NEW_PASSWORD, PASSWORD).await;
    let again = again.unwrap();
    secrets.extend(parts_of(&again));
    list_sessions(server, &again).await.unwrap();
    logout(server, &again.refresh_token).await.unwrap();
    assert_eq!(
        reason(logout(server, "csr_of-nobody-and-nowhere").await),
        "REFRESH_TOKEN_INVALID"
    );
    secrets
}

/// The database without its tables makes every query fail, and failures are logged with their cause.
async fn break_everything(server: &TestProcess, database: &TestDatabase, email: &str) -> Secrets {
    let tokens = login(server, email, PASSWORD).await.unwrap();
    for table in ["users", "sessions"] {
        database
            .execute(&format!("ALTER TABLE {table} RENAME TO {table}_away"))
            .await;
    }
    assert_eq!(
        reason(register(server, "b@broken.example", PASSWORD).await),
        "DATABASE_UNAVAILABLE"
    );
    assert_eq!(
        reason(login(server, email, PASSWORD).await),
        "DATABASE_UNAVAILABLE"
    );
    assert_eq!(
        reason(refresh(server, &tokens.refresh_token).await),
        "DATABASE_UNAVAILABLE"
    );
    assert_eq!(
        reason(logout(server, &tokens.refresh_token).await),
        "DATABASE_UNAVAILABLE"
    );
    for table in ["users", "sessions"] {
        database
            .execute(&format!("ALTER TABLE {table}_away RENAME TO {table}"))
            .await;
    }
    let mut secrets = parts_of(&tokens);
    secrets.push(("an address in a failed query", "broken.example".to_owned()));
    secrets
}

/// The master key, and what is sealed, derived and hashed with it, in every usual notation.
async fn secrets_of_the_database(database: &TestDatabase) -> Secrets {
    let config = Config::from_vars(test_variables(database, &[])).unwrap();
    let masters = config.master_keys.load().unwrap();
    let keys = DerivedKeys::derive(masters.as_slice());
    let store = Store::open(&config.database).unwrap();
    let mut secrets = vec![
        ("the list of master keys", MASTER_KEYS.to_owned()),
        ("a password hash", "$argon2id$".to_owned()),
    ];
    let mut hide = |what, bytes: &[u8]| {
        let list = format!("{bytes:?}");
        secrets.extend([
            (what, STANDARD.encode(bytes)),
            (what, URL_SAFE_NO_PAD.encode(bytes)),
            (what, hex(bytes)),
            (what, list.trim_matches(['[', ']']).to_owned()),
        ]);
    };
    for master in masters.as_slice() {
        hide("a master key", master.key.expose());
    }
    for stored in store.signing_keys().await.unwrap() {
        hide("a sealed signing key", &stored.sealed_private_key);
        let set = keys.of_version(stored.sealed_by).unwrap();
        let pkcs8 = set.open(&stored.kid, &stored.sealed_private_key).unwrap();
        hide("a signing key", &pkcs8);
        assert!(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).is_ok(),
            "the secret is a signing key"
        );
    }
    for set in keys.all() {
        hide("the pepper", set.pepper.expose());
    }
    secrets
}

async fn change_password(
    server: &TestProcess,
    tokens: &TokenPair,
    current: &str,
    new: &str,
) -> Result<TokenPair, Status> {
    let request = ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    };
    let mut account = AccountServiceClient::new(server.channel.clone());
    let request = bearing(&tokens.access_token, request);
    let response = account.change_password(request).await?;
    Ok(response.into_inner().tokens.unwrap())
}

async fn list_sessions(server: &TestProcess, tokens: &TokenPair) -> Result<(), Status> {
    let mut account = AccountServiceClient::new(server.channel.clone());
    let request = bearing(&tokens.access_token, ListSessionsRequest::default());
    account.list_sessions(request).await.map(drop)
}

async fn register(server: &TestProcess, email: &str, password: &str) -> Result<(), Status> {
    let request = RegisterRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        display_name: NAME.to_owned(),
    };
    server.auth().register(request).await.map(drop)
}

async fn login(server: &TestProcess, email: &str, password: &str) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        device_label: LABEL.to_owned(),
        ..LoginRequest::default()
    };
    let answer = server.auth().login(request).await?;
    Ok(answer.into_inner().tokens.unwrap())
}

/// Logs in on a new device, and again with its token, which is returned.
async fn use_device_token(server: &TestProcess, email: &str) -> String {
    let mut request = LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..LoginRequest::default()
    };
    for _ in 0..2 {
        let answer = server.auth().login(request.clone()).await.unwrap();
        request.device_token = answer.into_inner().device_token;
    }
    assert!(request.device_token.starts_with("csd_"));
    request.device_token
}

async fn validate(server: &TestProcess, access_token: &str) -> Result<(), Status> {
    let request = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        ..ValidateTokenRequest::default()
    };
    server.auth().validate_token(request).await.map(drop)
}

async fn refresh(server: &TestProcess, refresh_token: &str) -> Result<TokenPair, Status> {
    let request = RefreshRequest {
        refresh_token: refresh_token.to_owned(),
        ..Default::default()
    };
    let answer = server.auth().refresh(request).await?;
    Ok(answer.into_inner().tokens.unwrap())
}

async fn logout(server: &TestProcess, refresh_token: &str) -> Result<(), Status> {
    let request = LogoutRequest {
        refresh_token: refresh_token.to_owned(),
    };
    server.auth().logout(request).await.map(drop)
}
