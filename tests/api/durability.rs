//! Acknowledged changes survive a crash of the process (SIGKILL).

use countersign::grpc::pb::{
    LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, ValidateTokenRequest,
};

use crate::support::{PASSWORD, TestDatabase, on_both_databases, process::TestProcess, reason};

on_both_databases! {
    async fn a_crashed_server_has_lost_no_acknowledged_change(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        let request = RegisterRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
        };
        server.auth().register(request).await.unwrap();
        server.kill().await;

        let server = TestProcess::start(&database).await;
        let request = LoginRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            device_label: String::new(),
            ..LoginRequest::default()
        };
        let login = server.auth().login(request).await.unwrap().into_inner();
        let first = login.tokens.unwrap().refresh_token;
        let refresh = |refresh_token: &str| RefreshRequest { refresh_token: refresh_token.to_owned(), ..Default::default() };
        let second = server.auth().refresh(refresh(&first)).await.unwrap().into_inner();
        server.kill().await;

        let server = TestProcess::start(&database).await;
        let second = second.tokens.unwrap().refresh_token;
        let third = server.auth().refresh(refresh(&second)).await.unwrap().into_inner().tokens.unwrap();
        let request = LogoutRequest { refresh_token: third.refresh_token.clone() };
        server.auth().logout(request).await.unwrap();
        server.kill().await;

        let server = TestProcess::start(&database).await;
        assert_eq!(reason(server.auth().refresh(refresh(&third.refresh_token)).await), "SESSION_REVOKED");
        let request = ValidateTokenRequest { access_token: third.access_token, ..Default::default() };
        assert_eq!(reason(server.auth().validate_token(request).await), "TOKEN_REVOKED");
    }
}
