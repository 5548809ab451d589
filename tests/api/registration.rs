//! Who may register: everybody, nobody, or everybody whose address is verified before the first login.

use countersign::grpc::pb::{
    RegisterRequest, RegisterResponse, ResetPasswordRequest, VerifyEmailRequest,
};
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure,
    mailbox::{all_sent, mail, mails},
    on_both_databases, reason,
};

const ADA: &str = "ada@example.org";
const OTHER_PASSWORD: &str = "an engine that dreams of looms";
const VERIFIED: (&str, &str) = ("COUNTERSIGN_REGISTRATION", "verified");
const VERIFY: &str = "Confirm your e-mail address";
const ATTEMPT: &str = "You have an account already";

async fn register(
    server: &TestServer,
    email: &str,
    password: &str,
) -> Result<RegisterResponse, Status> {
    let request = RegisterRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        display_name: String::new(),
    };
    Ok(server.auth().register(request).await?.into_inner())
}

on_both_databases! {
    async fn closed_registration_refuses_every_caller(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REGISTRATION", "closed")]).await;
        for password in [PASSWORD, "short"] {
            let failure = failure(&register(&server, ADA, password).await.unwrap_err());
            assert_eq!((failure.code, failure.reason.as_str()), (Code::PermissionDenied, "REGISTRATION_CLOSED"));
        }
        assert_eq!(database.count("users").await, 0);
    }

    async fn registration_answers_the_same_for_free_and_taken_addresses_and_mails_the_owner(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[VERIFIED]).await;
        let free = register(&server, ADA, PASSWORD).await.unwrap();
        let verification = mail(&database, ADA, VERIFY, 1).await;
        let taken = register(&server, "ADA@example.org", OTHER_PASSWORD).await.unwrap();
        assert_eq!(free, taken);
        assert_eq!(free.user, None);
        assert_eq!(reason(register(&server, ADA, "short").await), "WEAK_PASSWORD");
        // Neither password logs in: the address is not verified, or the second was never taken.
        for password in [PASSWORD, OTHER_PASSWORD] {
            assert_eq!(reason(server.login_as(ADA, password).await), "INVALID_CREDENTIALS");
        }
        let told = mail(&database, ADA, ATTEMPT, 1).await;
        assert!(told.body.contains("nothing was changed"), "{told:?}");
        assert_eq!(database.count("users").await, 1);
        for (kind, count) in [("user_registered", 1), ("registration_refused", 1)] {
            assert_eq!(database.count(&format!("audit_events WHERE kind = '{kind}'")).await, count, "{kind}");
        }
        let request = VerifyEmailRequest { verification_token: verification.token() };
        server.account().verify_email(request).await.unwrap();
        server.login(ADA).await.unwrap();
        assert_eq!(reason(server.login_as(ADA, OTHER_PASSWORD).await), "INVALID_CREDENTIALS");
        // The owner may take the account over from whoever registered it.
        let request = ResetPasswordRequest { reset_token: told.token(), new_password: OTHER_PASSWORD.to_owned() };
        server.account().reset_password(request).await.unwrap();
        server.login_as(ADA, OTHER_PASSWORD).await.unwrap();
        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
    }

    async fn an_owner_is_not_flooded_by_registrations(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[VERIFIED]).await;
        for _ in 0..6 {
            register(&server, ADA, PASSWORD).await.unwrap();
        }
        register(&server, "eve@example.org", PASSWORD).await.unwrap();
        mail(&database, "eve@example.org", VERIFY, 1).await;
        all_sent(&database).await;
        let adas = mails(&database).into_iter().filter(|mail| mail.to.contains(ADA)).count();
        assert_eq!(adas, 2, "one of each kind");
    }

    async fn a_reset_verifies_the_address_and_allows_logins(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[VERIFIED]).await;
        register(&server, ADA, PASSWORD).await.unwrap();
        register(&server, ADA, PASSWORD).await.unwrap();
        let token = mail(&database, ADA, ATTEMPT, 1).await.token();
        let request = ResetPasswordRequest { reset_token: token, new_password: OTHER_PASSWORD.to_owned() };
        server.account().reset_password(request).await.unwrap();
        server.login_as(ADA, OTHER_PASSWORD).await.unwrap();
    }
}
