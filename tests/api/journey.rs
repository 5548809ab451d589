//! The whole journey of an account: register, verify, log in on a new device, forget the password, and be deleted; the owner
//! hears of it by mail, and the audit trail shows all of it.

use countersign::grpc::pb::{
    RegisterRequest, RequestPasswordResetRequest, ResetPasswordRequest, VerifyEmailRequest,
};

use crate::{
    account::Account,
    audit::assert_valid,
    support::{
        PASSWORD, TestDatabase, TestServer,
        audit_events::{exported, kinds},
        eventually,
        mailbox::mail,
        on_both_databases,
        process::run_with_input,
        reason,
    },
};

const ROOT: &str = "root@example.org";
const ADA: &str = "ada@example.org";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const THIRD_PASSWORD: &str = "notes upon an analytical memoir";

on_both_databases! {
    async fn the_life_of_an_account_is_mailed_to_its_owner_and_audited(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REGISTRATION", "verified")]).await;
        let create = ["users", "create", ROOT, "--role", "admin"];
        assert_eq!(run_with_input(&database, &create, PASSWORD).await.status.code(), Some(0));
        let root = server.login(ROOT).await.unwrap().access_token;

        let register = RegisterRequest { email: ADA.to_owned(), password: PASSWORD.to_owned(), display_name: "Ada".to_owned() };
        server.auth().register(register).await.unwrap();
        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
        let verification_token = mail(&database, ADA, "Confirm your e-mail address", 1).await.token();
        let verified = server.account().verify_email(VerifyEmailRequest { verification_token }).await;
        let user = verified.unwrap().into_inner().user.unwrap();
        assert!(user.email_verified);

        let phone = server.login(ADA).await.unwrap();
        let laptop = server.login(ADA).await.unwrap();
        mail(&database, ADA, "Login on a new device", 1).await;

        let email = ADA.to_owned();
        server.account().request_password_reset(RequestPasswordResetRequest { email }).await.unwrap();
        let reset_token = mail(&database, ADA, "Reset your password", 1).await.token();
        let reset = ResetPasswordRequest { reset_token, new_password: NEW_PASSWORD.to_owned() };
        server.account().reset_password(reset).await.unwrap();
        mail(&database, ADA, "Your password was changed", 1).await;
        for session in [&phone, &laptop] {
            assert_eq!(reason(server.validate(&session.access_token).await), "TOKEN_REVOKED");
        }
        let tokens = server.login_as(ADA, NEW_PASSWORD).await.unwrap();
        let changed = Account(&server, &tokens.access_token).change_password(NEW_PASSWORD, THIRD_PASSWORD).await.unwrap();
        mail(&database, ADA, "Your password was changed", 2).await;
        server.logout(&changed.refresh_token).await.unwrap();
        server.delete_user(&root, &user.user_id).await.unwrap();

        let filter = format!("subject_id = {}", user.user_id);
        eventually("the refused login is written", async || {
            server.audit_events(&root, &filter).await.iter().any(|event| event.kind == "login_failed")
        }).await;
        let mut listed: Vec<_> = server.audit_events(&root, &filter).await.into_iter().map(|event| event.kind).collect();
        listed.sort();
        let mut expected = [
            "user_registered", "login_failed", "email_verified", "logged_in", "logged_in", "password_reset_mailed",
            "password_reset", "logged_in", "password_changed", "logged_out", "user_deleted",
        ];
        expected.sort_unstable();
        assert_eq!(listed, expected);

        let events = exported(&database, None).await;
        events.iter().for_each(assert_valid);
        assert_eq!(kinds(&events).len(), expected.len() + 2, "and the administrator's two");
        assert!(!format!("{events:?}").contains('@'), "no address is in the audit trail");
    }
}
