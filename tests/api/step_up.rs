//! When and how a user was authenticated: the claims that say it, and calls that demand a recent or strong authentication
//! (RFC 9470).

use std::{collections::HashMap, time::Duration};

use countersign::grpc::pb::{
    ChangePasswordRequest, PrincipalType, ValidateTokenRequest, ValidateTokenResponse,
};
use prost_types::Duration as PbDuration;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, forge::Forge, on_both_databases, operator::bearing,
};

const ONE_FACTOR: &str = "urn:countersign:acr:1";
const TWO_FACTORS: &str = "urn:countersign:acr:2";

async fn demand(
    server: &TestServer,
    access_token: &str,
    max_auth_age: Option<i64>,
    acceptable_acrs: &[&str],
) -> Result<ValidateTokenResponse, Status> {
    let request = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        max_auth_age: max_auth_age.map(|seconds| PbDuration { seconds, nanos: 0 }),
        acceptable_acrs: acceptable_acrs
            .iter()
            .map(|acr| (*acr).to_owned())
            .collect(),
        ..Default::default()
    };
    Ok(server.auth().validate_token(request).await?.into_inner())
}

/// The metadata of a refusal that asks for another authentication.
fn step_up(answer: Result<ValidateTokenResponse, Status>) -> HashMap<String, String> {
    let failure = failure(&answer.expect_err("the call succeeded"));
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::Unauthenticated, "STEP_UP_REQUIRED")
    );
    failure.details.error_info().unwrap().metadata.clone()
}

fn asked(names: &[(&str, &str)]) -> HashMap<String, String> {
    names
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

on_both_databases! {
    async fn a_token_says_when_and_how_its_user_was_authenticated(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let login = server.clock.now().seconds();
        let tokens = server.signed_in("ada@example.org").await;
        let check = async |access_token: &str, authenticated_at: i64| {
            let valid = server.validate(access_token).await.unwrap();
            assert_eq!(valid.auth_time.unwrap().seconds, authenticated_at);
            assert_eq!(valid.amr, ["pwd"]);
            assert_eq!(valid.acr, ONE_FACTOR);
            assert_eq!(valid.client_id, "countersign");
            assert_eq!(valid.principal_type(), PrincipalType::User);
            assert_eq!(valid.actor, None);
        };
        check(&tokens.access_token, login).await;
        // A refresh is no authentication, nor is its repetition.
        server.clock.advance(Duration::from_secs(100));
        for _ in 0..2 {
            let next = server.refresh(&tokens.refresh_token).await.unwrap();
            check(&next.access_token, login).await;
        }
        // A new password is.
        let request = ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: "another mill that weaves".to_owned(),
        };
        let changed = server.account().change_password(bearing(&tokens.access_token, request)).await;
        let changed = changed.unwrap().into_inner().tokens.unwrap();
        check(&changed.access_token, login + 100).await;
    }

    async fn an_authentication_that_is_too_old_has_to_be_renewed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        for age in [0, 60, 600] {
            demand(&server, &tokens.access_token, Some(age), &[]).await.unwrap();
        }
        server.clock.advance(Duration::from_secs(61));
        demand(&server, &tokens.access_token, Some(61), &[]).await.unwrap();
        let refused = demand(&server, &tokens.access_token, Some(60), &[]).await;
        assert_eq!(step_up(refused), asked(&[("max_age", "60")]));
        // A refresh does not help, a login does.
        let refreshed = server.refresh(&tokens.refresh_token).await.unwrap();
        step_up(demand(&server, &refreshed.access_token, Some(60), &[]).await);
        let again = server.login("ada@example.org").await.unwrap();
        demand(&server, &again.access_token, Some(60), &[ONE_FACTOR]).await.unwrap();
    }

    async fn an_authentication_that_is_too_weak_has_to_be_made_stronger(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in("ada@example.org").await.access_token;
        demand(&server, &token, None, &[TWO_FACTORS, ONE_FACTOR]).await.unwrap();
        let refused = demand(&server, &token, None, &[TWO_FACTORS, "urn:countersign:acr:phr"]).await;
        let both = format!("{TWO_FACTORS} urn:countersign:acr:phr");
        assert_eq!(step_up(refused), asked(&[("acr_values", &both)]));
        let refused = demand(&server, &token, Some(60), &[TWO_FACTORS]).await;
        assert_eq!(step_up(refused), asked(&[("acr_values", TWO_FACTORS), ("max_age", "60")]));
    }

    async fn a_token_of_the_previous_version_is_valid_without_authentication_claims(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let forge = Forge::of(&server).await;
        assert!(forge.claims["auth_time"].is_i64() && forge.claims["amr"] == json!(["pwd"]));
        let claims = forge.claims_with(&json!({"auth_time": null, "amr": null, "acr": null}));
        let old = forge.sign(&forge.header, claims);
        let valid = server.validate(&old).await.unwrap();
        assert_eq!((valid.auth_time, valid.amr.len(), valid.acr.as_str()), (None, 0, ""));
        assert_eq!(valid.client_id, "countersign");
        step_up(demand(&server, &old, Some(i64::from(i32::MAX)), &[]).await);
        step_up(demand(&server, &old, None, &[ONE_FACTOR]).await);
    }

    async fn requirements_with_invalid_values_are_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in("ada@example.org").await.access_token;
        let long = "x".repeat(129);
        for (age, acrs, field) in [
            (Some(-1), [].as_slice(), "max_auth_age"),
            (None, &[""], "acceptable_acrs"),
            (None, &["two words"], "acceptable_acrs"),
            (None, &[&long], "acceptable_acrs"),
            (None, &["a"; 9], "acceptable_acrs"),
        ] {
            let status = demand(&server, &token, age, acrs).await.unwrap_err();
            let failure = failure(&status);
            assert_eq!(failure.reason, "INVALID_FIELD");
            assert_eq!(failure.details.bad_request().unwrap().field_violations[0].field, field);
        }
    }
}
