//! `countersign service-accounts` and `service-keys` against a running server, and that nothing of a key or token of a
//! service is ever logged.

use countersign::grpc::pb::{
    ExchangeTokenRequest, IssueTokenRequest, issue_token_request::Credential,
    token_service_client::TokenServiceClient,
};
use rustix::process::Signal;
use tonic::Status;

use crate::support::{
    TestDatabase, eventually, on_both_databases,
    process::{TestProcess, run},
    reason,
};

/// Exit code, standard output and standard error of a command.
async fn countersign(database: &TestDatabase, line: &str) -> (i32, String, String) {
    let arguments: Vec<&str> = line.split_ascii_whitespace().collect();
    let output = run(database, &[], &arguments).await;
    let [said, complained] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), said, complained)
}

async fn issue(server: &TestProcess, key: &str) -> Result<String, Status> {
    let request = IssueTokenRequest {
        credential: Some(Credential::ServiceKey(key.to_owned())),
        audiences: Vec::new(),
    };
    let mut tokens = TokenServiceClient::new(server.channel.clone());
    Ok(tokens.issue_token(request).await?.into_inner().access_token)
}

async fn exchange(server: &TestProcess, subject: &str, actor: &str) -> Result<String, Status> {
    let request = ExchangeTokenRequest {
        subject_token: subject.to_owned(),
        actor_token: actor.to_owned(),
        ..Default::default()
    };
    let mut tokens = TokenServiceClient::new(server.channel.clone());
    Ok(tokens
        .exchange_token(request)
        .await?
        .into_inner()
        .access_token)
}

on_both_databases! {
    async fn service_accounts_and_keys_are_managed_on_the_command_line(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        let command = async |line: &str| countersign(&database, line).await;
        let (code, said, _) = command("service-accounts create orders --role verifier --role reader --act-for-users-at countersign").await;
        assert_eq!(code, 0);
        assert!(said.contains("roles=\"reader verifier\" audiences=\"countersign\" act_for_users_at=\"countersign\""), "{said}");
        let (code, said, complained) = command("service-keys create orders --expires-in 30d").await;
        assert_eq!(code, 0);
        let key = said.strip_suffix('\n').expect("one line");
        assert!(key.starts_with("csk_") && !key.contains(char::is_whitespace), "the key stands alone: {said}");
        assert!(complained.contains("key_id=") && !complained.contains("csk_"), "{complained}");
        let token = issue(&server, key).await.unwrap();
        assert_eq!(server.validate(&token).await.unwrap().roles, ["reader", "verifier"]);
        let (_, listed, _) = command("service-keys list orders").await;
        assert_eq!(listed.lines().count(), 1);
        let key_id = listed.strip_prefix("key_id=").and_then(|line| line.split(' ').next()).unwrap();
        let (_, accounts, _) = command("service-accounts list").await;
        assert!(accounts.contains("name=orders ") && accounts.ends_with("disabled=false\n"), "{accounts}");

        assert_eq!(command("service-accounts disable orders").await.0, 0);
        eventually("the account is disabled", async || {
            issue(&server, key).await.is_err() && server.validate(&token).await.is_err()
        }).await;
        assert_eq!(command("service-accounts enable orders").await.0, 0);
        eventually("the account is enabled", async || {
            let Ok(token) = issue(&server, key).await else { return false };
            server.validate(&token).await.is_ok()
        }).await;
        let token = issue(&server, key).await.unwrap();
        assert_eq!(command(&format!("service-keys revoke {key_id}")).await.0, 0);
        eventually("the key is revoked", async || {
            issue(&server, key).await.is_err() && server.validate(&token).await.is_err()
        }).await;
        assert_eq!(command("service-keys list orders").await.1, "");
        assert_eq!(command("service-accounts delete orders").await.0, 0);
        assert_eq!(command("service-accounts list").await.1, "");
        for (line, expected) in [
            ("service-accounts create Orders", 64),
            ("service-accounts create orders --role Reader", 64),
            ("service-accounts create orders --audience nonsense", 1),
            ("service-keys create orders --expires-in 30d", 1),
            ("service-keys create orders --expires-in soon", 64),
            ("service-keys create orders", 64),
            ("service-keys revoke nonsense", 64),
            ("service-keys revoke 01900000-0000-7000-8000-000000000000", 1),
            ("service-accounts delete orders", 1),
        ] {
            let (code, _, complained) = command(line).await;
            assert_eq!(code, expected, "{line}: {complained}");
        }
        assert_eq!(server.end(Signal::TERM).await, Some(0));
    }

    async fn nothing_of_a_service_s_key_or_token_is_written_at_any_level(database: TestDatabase) {
        let (server, recording) = TestProcess::start_recorded(&database, &[("COUNTERSIGN_LOG", "trace")]).await;
        assert_eq!(countersign(&database, "service-accounts create orders --act-for-users-at countersign").await.0, 0);
        let (_, key, _) = countersign(&database, "service-keys create orders --expires-in 1d").await;
        let key = key.trim();
        let user = server.signed_in("ada@example.org").await;
        let actor = issue(&server, key).await.unwrap();
        let token = exchange(&server, &user.access_token, &actor).await.unwrap();
        let tampered = format!("{}A", &key[..key.len() - 1]);
        let wrong = if tampered == key { format!("{}B", &key[..key.len() - 1]) } else { tampered };
        assert_eq!(reason(issue(&server, &wrong).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(exchange(&server, &token, &token).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(exchange(&server, &actor, &actor).await), "EXCHANGE_NOT_ALLOWED");
        assert_eq!(server.end(Signal::TERM).await, Some(0));
        let (output, errors) = recording.finish().await;
        assert!(errors.contains("IssueToken") && errors.contains("client credential refused"), "{errors}");
        let said = format!("{output}{errors}").to_lowercase();
        let mut secrets = vec![key["csk_".len()..][..30].to_owned(), key[key.len() - 40..].to_owned()];
        for token in [&actor, &token] {
            secrets.extend(token.split('.').skip(1).map(|part| part[..40].to_owned()));
        }
        for secret in secrets {
            assert!(!said.contains(&secret.to_lowercase()), "{secret} was written");
        }
    }
}
