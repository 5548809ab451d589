//! Authenticator apps and recovery codes: enrollment, the second half of a login, removal.

use std::{collections::HashSet, time::Duration};

use countersign::{
    clock::Clock,
    grpc::pb::{
        CompleteLoginRequest, DisableUserRequest, FactorKind, LoginRequest, ReauthenticateRequest,
        RemoveUserFactorsRequest, complete_login_request::Proof,
        reauthenticate_request::Proof as Again,
    },
};
use futures_util::future::join_all;

use crate::{
    account::Account,
    passkeys::{add_passkey, proof},
    support::{
        PASSWORD, TestDatabase, TestServer,
        factors::{STEP, code_of, recovery, totp},
        failure,
        mailbox::mail,
        on_both_databases,
        operator::bearing,
        passkey::TestAuthenticator,
        process::run,
        reason,
    },
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const TWO_FACTORS: &str = "urn:countersign:acr:2";
const ADDED: &str = "A second factor was added to your account";
const REMOVED: &str = "A second factor was removed from your account";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const ONE_STEP: Duration = Duration::from_secs(STEP);

on_both_databases! {
    async fn once_a_factor_is_enrolled_versions_without_factors_do_not_start(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let ada = server.signed_in(ADA).await;
        let demanded = "schema_compatibility WHERE least_migration = '20261128000012'";
        assert_eq!(database.count(demanded).await, 0);
        server.enroll(&ada.access_token).await;
        assert_eq!(database.count(demanded).await, 1);
        server.stop().await;
        // With a later migration in place this version looks at the demand, which it meets.
        database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')").await;
        let server = TestServer::start(&database).await;
        database.execute("UPDATE schema_compatibility SET least_migration = '29990101000000'").await;
        let bob = server.signed_in(BOB).await;
        server.enroll(&bob.access_token).await;
        assert_eq!(database.count(demanded).await, 0, "the demand of a later version stays");
    }

    async fn an_app_is_enrolled_by_its_code_and_then_asked_for_at_login(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_TOTP_ISSUER", "Example Accounts")]).await;
        let tokens = server.signed_in(ADA).await;
        let begun = server.begin_totp(&tokens.access_token).await.unwrap();
        assert_eq!(begun.secret.len(), 32);
        let expected = format!(
            "otpauth://totp/Example%20Accounts:ada%40example.org?secret={}&issuer=Example%20Accounts&algorithm=SHA1&digits=6&period=30",
            begun.secret,
        );
        assert_eq!(begun.otpauth_uri, expected);
        // Nothing is stored, so a login is still one of a password.
        assert_eq!(database.count("totp_factors").await, 0);
        server.login(ADA).await.unwrap();

        let code = code_of(&begun.secret, server.clock.now());
        let confirm = async |token: &str, code: &str| server.confirm_totp(&tokens.access_token, token, code).await;
        let wrong = if code == "000000" { "000001" } else { "000000" };
        assert_eq!(reason(confirm(&begun.enrollment_token, wrong).await), "SECOND_FACTOR_INVALID");
        assert_eq!(reason(confirm(&begun.enrollment_token, "12345").await), "INVALID_FIELD");
        assert_eq!(reason(confirm("cse_nonsense", &code).await), "ONE_TIME_TOKEN_INVALID");
        let added = confirm(&begun.enrollment_token, &code).await.unwrap();
        let factor = added.factor.unwrap();
        assert_eq!(factor.kind(), FactorKind::Totp);
        assert_eq!(added.recovery_codes.len(), 10);
        assert_eq!(added.recovery_codes.iter().collect::<HashSet<_>>().len(), 10);
        assert_eq!(server.factors(&tokens.access_token).await.unwrap(), [factor]);
        mail(&database, ADA, ADDED, 1).await;
        assert_eq!(database.count("audit_events WHERE kind = 'factor_added'").await, 1);

        // The session in which it was proved counts as one of two factors.
        let refreshed = server.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(server.validate(&refreshed.access_token).await.unwrap().acr, TWO_FACTORS);
        assert_eq!(reason(server.begin_totp(&refreshed.access_token).await), "FACTOR_EXISTS");

        server.clock.advance(ONE_STEP);
        let sessions = database.count("sessions").await;
        let challenge = server.challenged(ADA).await;
        assert_eq!(challenge.factor_kinds, [i32::from(FactorKind::Totp)]);
        assert_eq!(challenge.request_options_json, "");
        assert_eq!(database.count("sessions").await, sessions, "no session before the second factor");
        let code = code_of(&begun.secret, server.clock.now());
        let completed = server.complete(&challenge, totp(code)).await.unwrap();
        assert!(completed.device_token.starts_with("csd_"));
        assert_eq!(completed.user.unwrap().email, ADA);
        let valid = server.validate(&completed.tokens.unwrap().access_token).await.unwrap();
        assert_eq!((valid.amr, valid.acr.as_str()), (vec!["pwd".to_owned(), "otp".to_owned(), "mfa".to_owned()], TWO_FACTORS));
        assert_eq!(database.count("sessions WHERE device_label = 'Ada''s phone'").await, sessions + 1);
        let used = server.factors(&refreshed.access_token).await.unwrap();
        assert!(used[0].last_use_time.is_some());
    }

    async fn an_enrollment_token_is_bound_to_its_user_and_expires_after_ten_minutes(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (ada, bob) = (server.signed_in(ADA).await, server.signed_in(BOB).await);
        let begun = server.begin_totp(&ada.access_token).await.unwrap();
        let code = code_of(&begun.secret, server.clock.now());
        let stolen = server.confirm_totp(&bob.access_token, &begun.enrollment_token, &code).await;
        assert_eq!(reason(stolen), "ONE_TIME_TOKEN_INVALID");
        server.clock.advance(Duration::from_secs(600));
        let code = code_of(&begun.secret, server.clock.now());
        let late = server.confirm_totp(&ada.access_token, &begun.enrollment_token, &code).await;
        assert_eq!(reason(late), "ONE_TIME_TOKEN_INVALID");
        assert_eq!(database.count("users WHERE factor_kinds IS NOT NULL").await, 0);
    }

    async fn a_used_totp_code_and_all_earlier_ones_are_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let app = server.enroll(&tokens.access_token).await;
        // The code of the enrollment.
        assert_eq!(reason(server.login_by_app(ADA, &app).await), "SECOND_FACTOR_INVALID");
        // A clock that is a step behind shows it again; one that is a step ahead shows the next.
        server.clock.advance(ONE_STEP);
        let early = code_of(&app.secret, server.clock.now() + ONE_STEP);
        let challenge = server.challenged(ADA).await;
        server.complete(&challenge, totp(&early)).await.unwrap();
        for behind in [0, 1, 2] {
            let challenge = server.challenged(ADA).await;
            let code = code_of(&app.secret, server.clock.now() - ONE_STEP * behind);
            assert_eq!(reason(server.complete(&challenge, totp(code)).await), "SECOND_FACTOR_INVALID", "{behind}");
        }
        let challenge = server.challenged(ADA).await;
        assert_eq!(reason(server.complete(&challenge, totp(&early)).await), "SECOND_FACTOR_INVALID");
        server.clock.advance(ONE_STEP * 2);
        let late = app.code(&server);
        server.clock.advance(ONE_STEP);
        let challenge = server.challenged(ADA).await;
        server.complete(&challenge, totp(late)).await.unwrap();
    }

    async fn a_recovery_code_completes_one_login_and_no_second(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let login = async |code: &str| {
            let challenge = server.challenged(ADA).await;
            server.complete(&challenge, recovery(code)).await
        };
        let first = app.recovery_codes[0].to_uppercase().replace('-', " ");
        let tokens = login(&first).await.unwrap().tokens.unwrap();
        assert_eq!(server.validate(&tokens.access_token).await.unwrap().acr, TWO_FACTORS);
        assert_eq!(reason(login(&app.recovery_codes[0]).await), "SECOND_FACTOR_INVALID");
        assert_eq!(reason(login("00000-00000").await), "SECOND_FACTOR_INVALID");
        assert_eq!(reason(login("u0000-00000").await), "INVALID_FIELD");
        login(&app.recovery_codes[1]).await.unwrap();
        assert_eq!(database.count("audit_events WHERE kind = 'recovery_code_used' AND user_id IS NOT NULL").await, 2);
        // No code is in the database.
        for code in &app.recovery_codes {
            let plain = code.replace('-', "");
            assert_eq!(database.count(&format!("recovery_codes WHERE mac LIKE '%{plain}%' OR mac LIKE '%{code}%'")).await, 0);
        }

        let codes = server.new_recovery_codes(&tokens.access_token).await.unwrap();
        assert_eq!(codes.len(), 10);
        assert_eq!(reason(login(&app.recovery_codes[2]).await), "SECOND_FACTOR_INVALID");
        login(&codes[0]).await.unwrap();
        assert_eq!(database.count("recovery_codes").await, 10);
        assert_eq!(database.count("audit_events WHERE kind = 'recovery_codes_replaced'").await, 1);
    }

    async fn new_recovery_codes_are_refused_to_a_user_without_a_factor(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        assert_eq!(reason(server.new_recovery_codes(&tokens.access_token).await), "FACTOR_NOT_FOUND");
    }

    async fn a_challenge_is_invalid_after_its_expiry_a_new_password_or_a_disabled_user(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let refused = async |challenge: &_| {
            let answer = server.complete(challenge, totp(app.code(&server))).await;
            assert_eq!(reason(answer), "SECOND_FACTOR_INVALID");
        };
        let late = server.challenged(ADA).await;
        let expiry = late.expire_time.unwrap().seconds;
        assert_eq!(expiry, server.clock.now().seconds() + 300);
        server.clock.advance(Duration::from_secs(300));
        refused(&late).await;

        for forged in ["", "csc_", "csc_AAAA", &late.challenge_token[..40], "cso_x"] {
            let mut challenge = late.clone();
            challenge.challenge_token = forged.to_owned();
            refused(&challenge).await;
        }

        let user_id = server.validate(&tokens.access_token).await.unwrap().user_id;
        let before = server.challenged(ADA).await;
        let account = Account(&server, &tokens.access_token);
        account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        refused(&before).await;

        let login = LoginRequest {
            email: ADA.to_owned(),
            password: NEW_PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        let response = server.auth().login(login).await.unwrap().into_inner();
        let admin = server.signed_in_as(BOB, "admin").await;
        let request = bearing(&admin.access_token, DisableUserRequest { user_id });
        server.admin().disable_user(request).await.unwrap();
        refused(&response.challenge.unwrap()).await;
    }

    async fn a_factor_is_removed_with_its_codes_and_the_other_sessions(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let other = server.login_by_app(ADA, &app).await.unwrap();
        let own = server.refresh(&tokens.refresh_token).await.unwrap();
        let bob = server.signed_in(BOB).await;
        assert_eq!(reason(server.remove_factor(&bob.access_token, &app.factor.factor_id).await), "FACTOR_NOT_FOUND");
        assert_eq!(reason(server.remove_factor(&own.access_token, "nonsense").await), "INVALID_FIELD");

        let cursor = server.remove_factor(&own.access_token, &app.factor.factor_id).await.unwrap();
        assert!(!cursor.is_empty());
        assert_eq!(reason(server.validate(&other.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&other.refresh_token).await), "SESSION_REVOKED");
        server.validate(&own.access_token).await.unwrap();
        assert!(server.factors(&own.access_token).await.unwrap().is_empty());
        assert_eq!(database.count("recovery_codes").await, 0);
        assert_eq!(database.count("audit_events WHERE kind = 'factor_removed'").await, 1);
        mail(&database, ADA, REMOVED, 1).await;
        assert_eq!(reason(server.remove_factor(&own.access_token, &app.factor.factor_id).await), "FACTOR_NOT_FOUND");
        // A password is enough again.
        server.login(ADA).await.unwrap();
    }

    async fn either_of_an_app_and_a_passkey_logs_in_and_the_codes_go_with_the_last_factor(database: TestDatabase) {
        for app_first in [true, false] {
            let email = if app_first { ADA } else { BOB };
            let server = TestServer::start(&database).await;
            let tokens = server.signed_in(email).await;
            let app = server.enroll(&tokens.access_token).await;
            let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
            let mut authenticator = TestAuthenticator::new();
            let tokens = add_passkey(&server, &tokens, &mut authenticator, "").await;
            server.clock.advance(ONE_STEP);
            let asked = async |kinds: &[FactorKind]| {
                let challenge = server.challenged(email).await;
                let kinds: Vec<_> = kinds.iter().map(|kind| *kind as i32).collect();
                assert_eq!(challenge.factor_kinds, kinds);
                challenge
            };
            let both = [FactorKind::Totp, FactorKind::Passkey];
            let challenge = asked(&both).await;
            server.complete(&challenge, totp(app.code(&server))).await.unwrap();
            let challenge = asked(&both).await;
            let response = authenticator.get(&challenge.request_options_json);
            server.complete(&challenge, proof(&response)).await.unwrap();

            let listed = server.factors(&tokens.access_token).await.unwrap();
            let [first, second] = if app_first { both } else { [both[1], both[0]] };
            let id = |kind: FactorKind| {
                let factor = listed.iter().find(|factor| factor.kind() == kind);
                factor.unwrap().factor_id.clone()
            };
            assert_eq!(database.count("recovery_codes").await, 10);
            server.remove_factor(&tokens.access_token, &id(first)).await.unwrap();
            assert_eq!(database.count("recovery_codes").await, 10, "another factor is left");
            let challenge = asked(&[second]).await;
            server.complete(&challenge, recovery(&app.recovery_codes[0])).await.unwrap();
            let challenge = asked(&[second]).await;
            server.clock.advance(ONE_STEP);
            let right = match second {
                FactorKind::Totp => totp(app.code(&server)),
                _ => proof(&authenticator.get(&challenge.request_options_json)),
            };
            server.complete(&challenge, right).await.unwrap();

            server.remove_factor(&tokens.access_token, &id(second)).await.unwrap();
            assert_eq!(database.count("recovery_codes").await, 0);
            server.login(email).await.expect("the password is enough again");
            server.stop().await;
        }
    }

    async fn an_administrator_removes_the_factors_of_a_user(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let admin = server.signed_in_as(BOB, "admin").await.access_token;
        let user_id = server.validate(&tokens.access_token).await.unwrap().user_id;
        let remove = async |user_id: &str| {
            let request = RemoveUserFactorsRequest { user_id: user_id.to_owned() };
            let answer = server.admin().remove_user_factors(bearing(&admin, request)).await;
            answer.map(tonic::Response::into_inner)
        };
        let removed = remove(&user_id).await.unwrap();
        assert_eq!(removed.removed_count, 1);
        assert!(!removed.revocation_cursor.is_empty());
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(database.count("recovery_codes").await, 0);
        assert_eq!(database.count("audit_events WHERE kind = 'factors_removed' AND actor_id IS NOT NULL").await, 1);
        mail(&database, ADA, REMOVED, 1).await;
        let again = server.login(ADA).await.unwrap();
        assert_eq!(remove(&user_id).await.unwrap().removed_count, 0);
        server.validate(&again.access_token).await.unwrap();
        let nobody = "01900000-0000-7000-8000-000000000000";
        assert_eq!(reason(remove(nobody).await), "USER_NOT_FOUND");

        // The same on the command line.
        let app = { drop(app); server.enroll(&again.access_token).await };
        let output = run(&database, &[], &["users", "remove-factors", ADA]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(server.login_whole(ADA, "").await.unwrap().tokens.is_some(), "{}", app.factor.factor_id);
    }

    async fn a_change_of_password_keeps_auth_time_amr_and_acr(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let tokens = server.login_by_app(ADA, &app).await.unwrap();
        let before = server.validate(&tokens.access_token).await.unwrap();
        server.clock.advance(Duration::from_secs(60));
        let changed = Account(&server, &tokens.access_token).change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        let after = server.validate(&changed.access_token).await.unwrap();
        assert_eq!((after.auth_time, after.amr, after.acr), (before.auth_time, before.amr, before.acr));
    }

    async fn an_outdated_hash_is_renewed_though_the_login_is_challenged(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let clock = server.clock.clone();
        server.stop().await;
        let costlier = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "128")];
        let server = TestServer::try_start(&database, &costlier, clock).await.unwrap();
        server.login_by_app(ADA, &app).await.unwrap();
        assert_eq!(database.count("users WHERE password_hash LIKE '%m=128%'").await, 1);
    }

    async fn each_of_the_logins_that_renew_an_outdated_hash_at_once_can_be_completed(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &[], clock.clone()).await;
        let (_, app) = server.with_app(ADA).await;
        server.stop().await;
        let costlier = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "128")];
        let server = TestServer::start_at(&database, &costlier, clock).await;
        let challenges = join_all((0..8).map(|_| server.challenged(ADA))).await;
        for (challenge, code) in challenges.iter().zip(&app.recovery_codes) {
            server.complete(challenge, recovery(code)).await.unwrap();
        }
    }

    async fn an_answer_without_a_proof_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, _) = server.with_app(ADA).await;
        let challenge = server.challenged(ADA).await;
        let request = CompleteLoginRequest {
            challenge_token: challenge.challenge_token.clone(),
            proof: None,
        };
        let refused = failure(&server.auth().complete_login(request).await.unwrap_err());
        assert_eq!(refused.reason, "INVALID_FIELD");
        assert_eq!(refused.details.bad_request().unwrap().field_violations[0].field, "proof");
        let none = ReauthenticateRequest::default();
        let refused = server.account().reauthenticate(bearing(&tokens.access_token, none)).await;
        assert_eq!(reason(refused), "INVALID_FIELD");
        // A passkey that nobody has.
        let json = Proof::PasskeyResponseJson("{}".to_owned());
        assert_eq!(reason(server.complete(&challenge, json).await), "SECOND_FACTOR_INVALID");
        let huge = Again::PasskeyResponseJson("x".repeat(20_000));
        assert_eq!(reason(server.reauthenticate(&tokens.access_token, "", huge).await), "INVALID_FIELD");
    }
}
