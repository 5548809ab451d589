//! The crate `countersign-verifier` against the real server: what a service that uses it sees.

use axum::{Router, body::Body, routing::get};
use countersign::grpc::pb::{DisableUserRequest, LogoutRequest, RotateSigningKeyRequest};
use countersign_verifier::{
    ConnectError, Credential, Demand, FeedStatus, RequireToken, Verifier, VerifierConfig,
    VerifyError,
};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use crate::{
    revocation::Lateness,
    support::{
        PASSWORD, PATIENCE, TestDatabase, TestServer, eventually, on_both_databases,
        operator::bearing,
    },
    verifier_restarts::ended_session,
};

const GATEWAY: &str = "gateway@example.org";

fn config(credential: Credential) -> VerifierConfig {
    VerifierConfig::new("http://localhost:50051", "countersign", credential)
        .connect_timeout(PATIENCE)
}

/// A verifier of that server, with a user of its own.
pub async fn connected(server: &TestServer) -> Verifier {
    server.signed_in_as(GATEWAY, "verifier").await;
    connected_again(server).await
}

pub async fn connected_again(server: &TestServer) -> Verifier {
    let endpoint = format!("http://{}", server.address);
    let credential = Credential::login(&endpoint, GATEWAY, PASSWORD).unwrap();
    Verifier::connect(&endpoint, config(credential))
        .await
        .unwrap()
}

pub fn verdict(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify(token, &Demand::new()).map(|_| ())
}

/// Waits until the verifier says so about a token.
pub async fn becomes(verifier: &Verifier, token: &str, expected: Result<(), VerifyError>) {
    eventually("the verifier's verdict", async || {
        verdict(verifier, token) == expected
    })
    .await;
}

/// The verifier goes by the machine's clock, so the server does, too.
pub async fn start(database: &TestDatabase) -> TestServer {
    TestServer::start_on_system_clock(database, &[]).await
}

on_both_databases! {
    async fn a_token_is_valid_from_login_to_logout(database: TestDatabase) {
        let server = start(&database).await;
        let verifier = connected(&server).await;
        let tokens = server.signed_in("ada@example.org").await;
        let claims = verifier.verify(&tokens.access_token, &Demand::new()).unwrap();
        let validated = server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(claims.subject.to_string(), validated.user_id);
        assert_eq!(claims.session_id.to_string(), validated.session_id);
        assert_eq!(claims.token_id.to_string(), validated.token_id);
        assert_eq!(claims.audiences, validated.audiences);
        assert_eq!((&claims.amr, claims.acr.as_ref()), (&validated.amr, Some(&validated.acr)));
        let auth_time = claims.auth_time().map(prost_types::Timestamp::from);
        assert_eq!(auth_time, validated.auth_time);
        server.logout(&tokens.refresh_token).await.unwrap();
        becomes(&verifier, &tokens.access_token, Err(VerifyError::TokenRevoked)).await;
    }

    async fn verify_at_least_with_the_cursor_of_a_logout_refuses_its_tokens(database: TestDatabase) {
        let (here, there) = (start(&database).await, start(&database).await);
        let verifier = connected(&here).await;
        let tokens = there.signed_in("ada@example.org").await;
        let request = LogoutRequest { refresh_token: tokens.refresh_token };
        let answer = there.auth().logout(request).await.unwrap().into_inner();
        let cursor = answer.revocation_cursor.parse().unwrap();
        let demand = Demand::new();
        let verdict = verifier
            .verify_at_least(&tokens.access_token, &demand, &cursor, PATIENCE)
            .await;
        assert_eq!(verdict.map(drop), Err(VerifyError::TokenRevoked));
    }

    async fn a_revocation_on_another_replica_reaches_the_verifier(database: TestDatabase) {
        let (here, there) = (start(&database).await, start(&database).await);
        let verifier = connected(&here).await;
        let admin = there.signed_in_as("root@example.org", "admin").await;
        let tokens = there.signed_in("ada@example.org").await;
        let user_id = there.validate(&tokens.access_token).await.unwrap().user_id;
        becomes(&verifier, &tokens.access_token, Ok(())).await;
        let request = bearing(&admin.access_token, DisableUserRequest { user_id });
        there.admin().disable_user(request).await.unwrap();
        becomes(&verifier, &tokens.access_token, Err(VerifyError::TokenRevoked)).await;
        assert_eq!(verdict(&verifier, &admin.access_token), Ok(()));
    }

    /// The longest time that a verifier took is printed (`--no-capture`).
    async fn every_revocation_reaches_three_verifiers_of_two_replicas_within_a_second(database: TestDatabase) {
        let (here, there) = (start(&database).await, start(&database).await);
        let first = connected(&here).await;
        let verifiers = [first, connected_again(&here).await, connected_again(&there).await];
        here.register("ada@example.org").await.unwrap();
        let lateness = Lateness::measure();
        let mut latencies = Vec::new();
        for round in 0..20 {
            let server = if round % 2 == 0 { &here } else { &there };
            latencies.push(ended_session(server, &verifiers).await.1);
        }
        lateness.demand_in_time("three verifiers of two replicas", &latencies, 20);
    }

    async fn an_emergency_rotation_ends_the_tokens_of_the_old_key(database: TestDatabase) {
        let server = start(&database).await;
        let verifier = connected(&server).await;
        let admin = server.signed_in_as("root@example.org", "admin").await;
        assert_eq!(verdict(&verifier, &admin.access_token), Ok(()));
        let request = RotateSigningKeyRequest { emergency: true };
        server.admin().rotate_signing_key(bearing(&admin.access_token, request)).await.unwrap();
        becomes(&verifier, &admin.access_token, Err(VerifyError::TokenInvalid)).await;
        let tokens = server.signed_in("ada@example.org").await;
        becomes(&verifier, &tokens.access_token, Ok(())).await;
    }

    async fn a_credential_without_the_role_is_refused_and_not_reported_as_an_outage(database: TestDatabase) {
        let server = start(&database).await;
        let endpoint = format!("http://{}", server.address);
        let tokens = server.signed_in("ada@example.org").await;
        let no_role = Credential::access_token(tokens.access_token);
        let wrong = Credential::login(&endpoint, "ada@example.org", "another password").unwrap();
        for credential in [no_role, wrong] {
            let error = Verifier::connect(&endpoint, config(credential)).await.unwrap_err();
            assert!(matches!(error, ConnectError::CredentialRefused(_)), "{error:?}");
        }
    }

    async fn verification_continues_when_the_server_stops(database: TestDatabase) {
        let server = start(&database).await;
        let verifier = connected(&server).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.stop().await;
        let mut states = verifier.states();
        states
            .wait_for(|state| matches!(state.status, FeedStatus::Interrupted { .. }))
            .await
            .unwrap();
        assert_eq!(verdict(&verifier, &tokens.access_token), Ok(()));
    }

    async fn the_layer_accepts_only_valid_tokens(database: TestDatabase) {
        let server = start(&database).await;
        let layer = RequireToken::http(connected(&server).await);
        let app = Router::new().route("/", get(|| async { "in" })).layer(layer);
        let tokens = server.signed_in("ada@example.org").await;
        for (token, expected) in [
            (tokens.access_token.as_str(), StatusCode::OK),
            (tokens.refresh_token.as_str(), StatusCode::UNAUTHORIZED),
        ] {
            let request = Request::get("/").header("authorization", format!("Bearer {token}"));
            let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), expected);
        }
    }
}
