//! A forgotten password, and whether an address is verified: tokens by mail.

use std::{collections::BTreeSet, time::Duration};

use countersign::{
    clock::Clock,
    grpc::pb::{
        DisableUserRequest, RequestEmailVerificationRequest, RequestPasswordResetRequest,
        ResetPasswordRequest, User, VerifyEmailRequest,
    },
};
use futures_util::future::join_all;
use tonic::Status;

use crate::{
    account::Account,
    support::{
        PASSWORD, TestDatabase, TestServer,
        factors::totp,
        mailbox::{Mail, all_sent, mail, mails},
        on_both_databases,
        operator::bearing,
        reason,
        server::servers_at,
    },
};

const ADA: &str = "ada@example.org";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const RESET: &str = "Reset your password";
const VERIFY: &str = "Confirm your e-mail address";
const CHANGED: &str = "Your password was changed";

async fn request_reset(server: &TestServer, email: &str) -> Result<(), Status> {
    let email = email.to_owned();
    let request = RequestPasswordResetRequest { email };
    server
        .account()
        .request_password_reset(request)
        .await
        .map(drop)
}

async fn reset(server: &TestServer, token: &str, new_password: &str) -> Result<(), Status> {
    let request = ResetPasswordRequest {
        reset_token: token.to_owned(),
        new_password: new_password.to_owned(),
    };
    server.account().reset_password(request).await.map(drop)
}

async fn request_verification(server: &TestServer, access_token: &str) -> Result<(), Status> {
    let request = bearing(access_token, RequestEmailVerificationRequest {});
    let answer = server.account().request_email_verification(request).await;
    answer.map(drop)
}

async fn verify(server: &TestServer, token: &str) -> Result<User, Status> {
    let verification_token = token.to_owned();
    let request = VerifyEmailRequest { verification_token };
    let answer = server.account().verify_email(request).await?;
    Ok(answer.into_inner().user.unwrap())
}

/// The mail with the next token for Ada, who has got `before` of them.
async fn reset_mail(server: &TestServer, before: usize) -> Mail {
    request_reset(server, ADA).await.unwrap();
    mail(&server.database, ADA, RESET, before + 1).await
}

on_both_databases! {
    async fn a_password_is_reset_with_the_token_of_a_mail(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let before = server.signed_in(ADA).await;
        let token = reset_mail(&server, 0).await.token();
        reset(&server, &token, NEW_PASSWORD).await.unwrap();

        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
        let after = server.login_as(ADA, NEW_PASSWORD).await.unwrap();
        assert_eq!(reason(server.validate(&before.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&before.refresh_token).await), "SESSION_REVOKED");
        server.validate(&after.access_token).await.unwrap();
        // The token came from the mailbox.
        assert!(Account(&server, &after.access_token).user().await.unwrap().email_verified);
        assert_eq!(reason(reset(&server, &token, PASSWORD).await), "ONE_TIME_TOKEN_INVALID");
        let told = mail(&database, ADA, CHANGED, 1).await;
        assert!(!told.body.contains("cso_"), "{told:?}");
        assert_eq!(database.count("audit_events WHERE kind = 'password_reset_mailed'").await, 1);
        assert_eq!(database.count("audit_events WHERE kind = 'password_reset'").await, 1);
    }

    async fn of_parallel_resets_with_one_token_one_succeeds(database: TestDatabase, clock: Clock) {
        let servers = servers_at(&database, &[], clock).await;
        servers[0].register(ADA).await.unwrap();
        let token = reset_mail(&servers[0], 0).await.token();
        let passwords: Vec<_> = (0..8).map(|number| format!("{NEW_PASSWORD} number {number}")).collect();
        let calls = passwords.iter().enumerate();
        let calls = calls.map(|(number, new)| reset(&servers[number % servers.len()], &token, new));
        let results = join_all(calls).await;
        let winners: Vec<_> = results.iter().zip(&passwords).filter(|(result, _)| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        servers[0].login_as(ADA, winners[0].1).await.unwrap();
        let reasons: BTreeSet<_> = results.iter().filter_map(|result| result.clone().err()).map(|status| reason(Err::<(), _>(status))).collect();
        assert_eq!(reasons, BTreeSet::from(["ONE_TIME_TOKEN_INVALID".to_owned()]));
    }

    async fn an_unknown_address_gets_the_same_answer_and_no_mail(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, "nobody@example.org").await.unwrap();
        reset_mail(&server, 0).await;
        all_sent(&database).await;
        assert_eq!(mails(&database).len(), 1);
        // Neither address is kept.
        assert_eq!(database.count("mails WHERE email IS NOT NULL").await, 0);
    }

    async fn the_mail_goes_to_the_address_that_is_stored(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("Ada@Example.org").await.unwrap();
        request_reset(&server, "ADA@example.ORG").await.unwrap();
        mail(&database, "Ada@Example.org", RESET, 1).await;
    }

    async fn a_reset_token_is_valid_for_one_purpose_half_an_hour_and_the_current_password(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        request_verification(&server, &tokens.access_token).await.unwrap();
        let verification = mail(&database, ADA, VERIFY, 1).await.token();
        let first = reset_mail(&server, 0).await.token();
        for (what, result) in [
            ("another purpose", reset(&server, &verification, NEW_PASSWORD).await),
            ("another purpose", verify(&server, &first).await.map(drop)),
            ("empty", reset(&server, "", NEW_PASSWORD).await),
            ("a refresh token", reset(&server, &tokens.refresh_token, NEW_PASSWORD).await),
        ] {
            assert_eq!(reason(result), "ONE_TIME_TOKEN_INVALID", "{what}");
        }
        server.clock.advance(Duration::from_secs(30 * 60));
        assert_eq!(reason(reset(&server, &first, NEW_PASSWORD).await), "ONE_TIME_TOKEN_INVALID");
        let second = reset_mail(&server, 1).await.token();
        let tokens = server.login(ADA).await.unwrap();
        Account(&server, &tokens.access_token).change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        assert_eq!(reason(reset(&server, &second, PASSWORD).await), "ONE_TIME_TOKEN_INVALID");
    }

    async fn after_a_weak_password_the_reset_token_is_still_valid(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let token = reset_mail(&server, 0).await.token();
        assert_eq!(reason(reset(&server, &token, "short").await), "WEAK_PASSWORD");
        assert_eq!(reason(reset(&server, &token, "ada@example.org ada").await), "WEAK_PASSWORD");
        reset(&server, &token, NEW_PASSWORD).await.unwrap();
    }

    async fn a_disabled_user_gets_no_mail_and_cannot_use_a_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let user_id = server.register(ADA).await.unwrap().user_id;
        let token = reset_mail(&server, 0).await.token();
        let admin = server.signed_in_as("root@example.org", "admin").await.access_token;
        server.admin().disable_user(bearing(&admin, DisableUserRequest { user_id })).await.unwrap();
        assert_eq!(reason(reset(&server, &token, NEW_PASSWORD).await), "ONE_TIME_TOKEN_INVALID");
        server.clock.advance(Duration::from_secs(300));
        request_reset(&server, ADA).await.unwrap();
        all_sent(&database).await;
        assert_eq!(mails(&database).len(), 1);
    }

    async fn one_address_gets_one_mail_in_five_minutes(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        // The beginning of a span of five minutes.
        server.clock.advance(Duration::from_secs(300 - server.clock.now().seconds().rem_euclid(300).unsigned_abs()));
        for email in [ADA, "ADA@example.org", ADA] {
            request_reset(&server, email).await.unwrap();
        }
        mail(&database, ADA, RESET, 1).await;
        server.clock.advance(Duration::from_secs(299));
        request_reset(&server, ADA).await.unwrap();
        assert_eq!(database.count("mails").await, 1);
        server.clock.advance(Duration::from_secs(1));
        reset_mail(&server, 1).await;
        assert_eq!(database.count("mails").await, 2);
    }

    async fn a_reset_ends_the_throttling_of_the_account(database: TestDatabase) {
        let settings = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "2")];
        let server = TestServer::start_with(&database, &settings).await;
        server.register(ADA).await.unwrap();
        for _ in 0..2 {
            assert_eq!(reason(server.login_as(ADA, "not the password of anyone").await), "INVALID_CREDENTIALS");
        }
        assert_eq!(reason(server.login(ADA).await), "ACCOUNT_THROTTLED");
        let token = reset_mail(&server, 0).await.token();
        reset(&server, &token, NEW_PASSWORD).await.unwrap();
        server.login_as(ADA, NEW_PASSWORD).await.unwrap();
    }

    async fn a_password_reset_does_not_reset_the_failures_of_a_second_factor(database: TestDatabase) {
        let settings = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "2")];
        let server = TestServer::start_with(&database, &settings).await;
        let (_, app) = server.with_app(ADA).await;
        for _ in 0..2 {
            let challenge = server.challenged(ADA).await;
            let wrong = totp(app.wrong_code(&server));
            assert_eq!(reason(server.complete(&challenge, wrong).await), "SECOND_FACTOR_INVALID");
        }
        let token = reset_mail(&server, 0).await.token();
        reset(&server, &token, NEW_PASSWORD).await.unwrap();
        assert_eq!(reason(server.login_as(ADA, NEW_PASSWORD).await), "ACCOUNT_THROTTLED");
        assert_eq!(database.count("login_failures WHERE failures = 2").await, 1);
    }

    async fn an_address_is_verified_by_the_token_of_a_mail_once(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let account = Account(&server, &tokens.access_token);
        assert!(!account.user().await.unwrap().email_verified);
        request_verification(&server, &tokens.access_token).await.unwrap();
        let token = mail(&database, ADA, VERIFY, 1).await.token();
        assert!(verify(&server, &token).await.unwrap().email_verified);
        assert!(account.user().await.unwrap().email_verified);
        assert_eq!(reason(verify(&server, &token).await), "ONE_TIME_TOKEN_INVALID");
        // Nothing is sent for an address that is verified.
        server.clock.advance(Duration::from_secs(600));
        let tokens = server.login(ADA).await.unwrap();
        request_verification(&server, &tokens.access_token).await.unwrap();
        assert_eq!(database.count("mails WHERE kind = 'email_verification'").await, 1);
        let nobody = server.account().request_email_verification(RequestEmailVerificationRequest {}).await;
        assert_eq!(reason(nobody), "TOKEN_MISSING");
    }

    async fn a_malformed_address_is_refused_before_anything_is_stored(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        assert_eq!(reason(request_reset(&server, "no address").await), "INVALID_FIELD");
        assert_eq!(reason(reset(&server, "cso_x", "").await), "INVALID_FIELD");
        assert_eq!(database.count("mails").await, 0);
    }

    async fn recovery_counts_against_the_credential_limit_of_the_client(database: TestDatabase) {
        let settings = [("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "1"), ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "3")];
        let server = TestServer::start_with(&database, &settings).await;
        request_reset(&server, ADA).await.unwrap();
        let _ = reset(&server, "cso_x", NEW_PASSWORD).await;
        let _ = verify(&server, "cso_x").await;
        let mut refused = 0;
        for _ in 0..20 {
            refused += usize::from(request_reset(&server, ADA).await.is_err());
        }
        assert!(refused > 0);
    }
}
