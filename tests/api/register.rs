//! Register: valid and invalid requests.

use countersign::grpc::pb::RegisterRequest;
use tonic::Code;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases, reason, server::START,
};

fn request(email: &str, password: &str) -> RegisterRequest {
    RegisterRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        display_name: "Ada Lovelace".to_owned(),
    }
}

on_both_databases! {
    async fn register_returns_the_new_user(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let response = server.auth().register(request("Ada@Example.org", PASSWORD)).await.unwrap();
        let user = response.into_inner().user.unwrap();
        assert_eq!(user.email, "Ada@Example.org");
        assert_eq!(user.display_name, "Ada Lovelace");
        assert!(!user.email_verified && !user.disabled && user.roles.is_empty());
        assert_eq!(user.create_time.unwrap().seconds, START.seconds());
        assert_eq!(user.update_time, user.create_time);
        assert_eq!(user.user_id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    }

    async fn an_address_in_another_case_is_taken(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("ada@example.org").await.unwrap();
        let status = server.register("ADA@Example.ORG").await.unwrap_err();
        let failure = failure(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::AlreadyExists, "EMAIL_TAKEN"));
    }

    async fn a_weak_password_is_refused_with_the_rule_that_it_breaks(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for (password, rule, words) in [
            ("short", "TOO_SHORT", "at least 15 code points"),
            ("aaaaaaaaaaaaaaaaaaaa", "TOO_GUESSABLE", "(Repeats like"),
            ("passwordpassword", "TOO_GUESSABLE", "is too easy to guess ("),
            ("ada@example.org", "TOO_GUESSABLE", "is too easy to guess"),
        ] {
            let status = server.auth().register(request("ada@example.org", password)).await.unwrap_err();
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "WEAK_PASSWORD"));
            let violation = &failure.details.bad_request().unwrap().field_violations[0];
            assert_eq!((violation.field.as_str(), violation.reason.as_str()), ("password", rule));
            assert!(violation.description.contains(words), "{password}: {}", violation.description);
            assert!(!violation.description.contains(password));
        }
    }

    async fn all_invalid_fields_are_reported_together(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let status = server.auth().register(RegisterRequest {
            email: "no address".to_owned(),
            password: String::new(),
            display_name: "x".repeat(201),
        }).await.unwrap_err();
        let failure = failure(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        let fields: Vec<_> = failure.details.bad_request().unwrap().field_violations.iter()
            .map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["email", "password", "display_name"]);
    }

    async fn the_minimum_password_length_is_configurable(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_PASSWORD_MIN_LENGTH", "8")]).await;
        server.auth().register(request("ada@example.org", "zq4!Vx9#k")).await.unwrap();
        let short = server.auth().register(request("bob@example.org", "zq4!Vx9")).await;
        assert_eq!(reason(short), "WEAK_PASSWORD");
    }
}
