//! Mails about logins on devices that are not known.

use std::time::Duration;

use countersign::grpc::pb::{LoginRequest, auth_service_client::AuthServiceClient};
use tonic::transport::Channel;

use crate::support::{
    PASSWORD, TestDatabase, TestServer,
    mailbox::{all_sent, mails},
    on_both_databases,
};

const ADA: &str = "ada@example.org";
pub const NEW_DEVICE: &str = "Login on a new device";

/// Logs in with a program of that name, and returns the device token.
async fn login(server: &TestServer, program: &str, device_token: &str) -> String {
    let channel = Channel::from_shared(format!("http://{}", server.address))
        .unwrap()
        .user_agent(program.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let request = LoginRequest {
        email: ADA.to_owned(),
        password: PASSWORD.to_owned(),
        device_token: device_token.to_owned(),
        ..LoginRequest::default()
    };
    let response = AuthServiceClient::new(channel).login(request).await;
    response.unwrap().into_inner().device_token
}

/// How many mails about new devices were written, once all are sent.
pub async fn told(database: &TestDatabase) -> usize {
    all_sent(database).await;
    let all = mails(database);
    all.iter()
        .filter(|mail| mail.subject == NEW_DEVICE && mail.to.contains(ADA))
        .count()
}

on_both_databases! {
    async fn the_user_gets_a_mail_about_a_new_device_and_none_about_a_known_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let phone = login(&server, "phone", "").await;
        assert_eq!(told(&database).await, 0, "the first login of all");
        login(&server, "phone", &phone).await;
        assert_eq!(told(&database).await, 0, "a known device");
        let laptop = login(&server, "laptop", "csd_forged").await;
        assert_eq!(told(&database).await, 1);
        let mail = mails(&database).pop().unwrap();
        assert!(mail.body.contains("127.0.0.1"), "{mail:?}");
        login(&server, "laptop", &laptop).await;
        assert_eq!(told(&database).await, 1, "known since");
        let new = "audit_events WHERE kind = 'logged_in' AND details LIKE '%true%'";
        assert_eq!(database.count(new).await, 2);
    }

    async fn an_owner_gets_one_mail_for_a_client_and_ten_within_a_day(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        login(&server, "first", "").await;
        for _ in 0..3 {
            login(&server, "same", "").await;
        }
        assert_eq!(told(&database).await, 1);
        for number in 0..20 {
            login(&server, &format!("other {number}"), "").await;
        }
        assert_eq!(told(&database).await, 10);
        server.clock.advance(Duration::from_secs(24 * 3600 + 1));
        login(&server, "same", "").await;
        assert_eq!(told(&database).await, 11);
    }
}
