//! The outbox: mails survive whatever the SMTP server does, and cost no caller anything.

use std::{net::SocketAddr, time::Duration};

use countersign::grpc::pb::RequestPasswordResetRequest;
use tokio::net::TcpListener;

use crate::support::{
    Kind, TestDatabase, TestServer, eventually,
    mailbox::all_sent,
    on_both_databases,
    process::run,
    smtp::{SmtpServer, Treatment},
};

const ADA: &str = "ada@example.org";
const SENDER: (&str, &str) = ("COUNTERSIGN_MAIL_FROM", "Accounts <accounts@example.org>");

async fn server_for(database: &TestDatabase, url: &str) -> TestServer {
    TestServer::start_with(database, &[("COUNTERSIGN_SMTP_URL", url), SENDER]).await
}

async fn request_reset(server: &TestServer, email: &str) {
    let email = email.to_owned();
    let request = RequestPasswordResetRequest { email };
    server
        .account()
        .request_password_reset(request)
        .await
        .unwrap();
}

async fn arrives(smtp: &SmtpServer, count: usize) {
    eventually("the mails arrive", async || smtp.received().len() >= count).await;
}

/// An address on which nothing listens.
async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

on_both_databases! {
    async fn a_deferred_mail_is_sent_again_later(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::Defer, Treatment::Defer]).await;
        let server = server_for(&database, &smtp.url()).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        for attempts in 1..=2 {
            eventually("the mail is deferred", async || {
                database.count(&format!("mails WHERE attempts = {attempts} AND failure LIKE '%code 451%'")).await == 1
            })
            .await;
            server.clock.advance(Duration::from_secs(3600));
        }
        arrives(&smtp, 1).await;
        let mail = smtp.received().remove(0);
        assert!(mail.to.contains(ADA) && mail.token().starts_with("cso_"), "{mail:?}");
    }

    async fn a_mail_without_an_answer_of_the_server_is_sent_again(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::HangUp]).await;
        let server = server_for(&database, &smtp.url()).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        eventually("the server hangs up", async || smtp.untreated() == 0).await;
        // Each further attempt may make a copy, so they do not come as fast as after an outage.
        eventually("the mail waits", async || database.count("mails WHERE due_at >= created_at + 24000000").await == 1).await;
        server.clock.advance(Duration::from_secs(60));
        arrives(&smtp, 1).await;
    }

    async fn a_mail_counts_as_sent_once_the_server_has_accepted_it(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::SilentQuit]).await;
        let server = server_for(&database, &smtp.url()).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        arrives(&smtp, 1).await;
        eventually("the mail is done", async || database.count("mails WHERE done_at IS NULL").await == 0).await;
    }

    async fn an_smtp_error_that_concerns_every_mail_makes_all_mails_wait(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::RefuseLogin, Treatment::RefuseSender]).await;
        let url = format!("smtp://mailer:secret@{}?tls=none", smtp.address);
        let server = server_for(&database, &url).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        for code in [535, 550] {
            let waits = format!("mails WHERE failed_at IS NULL AND failure LIKE '%from this service: code {code}%'");
            eventually("the mail waits", async || database.count(&waits).await == 1).await;
            server.clock.advance(Duration::from_secs(60));
        }
        arrives(&smtp, 1).await;
    }

    async fn an_address_that_the_server_refuses_does_not_delay_other_mails(database: TestDatabase) {
        let smtp = SmtpServer::start(&[]).await;
        let server = server_for(&database, &smtp.url()).await;
        let domain = "ada@b\u{fc}cher.example";
        for email in ["zo\u{eb}@example.org", ADA, domain] {
            server.register(email).await.unwrap();
            request_reset(&server, email).await;
        }
        arrives(&smtp, 2).await;
        let mut recipients: Vec<_> = smtp.received().into_iter().map(|mail| mail.to).collect();
        recipients.sort();
        assert!(recipients[0].contains(ADA) && recipients[1].contains("ada@xn--bcher-kva.example"), "{recipients:?}");
        assert_eq!(database.count("mails WHERE failed_at IS NOT NULL AND failure LIKE '%SMTPUTF8%'").await, 1);
    }

    async fn an_outage_of_the_smtp_server_loses_no_mail(database: TestDatabase) {
        let address = free_address().await;
        let server = server_for(&database, &format!("smtp://{address}?tls=none")).await;
        for number in 0..5 {
            let email = format!("user{number}@example.org");
            server.register(&email).await.unwrap();
            request_reset(&server, &email).await;
        }
        eventually("an attempt fails", async || database.count("mails WHERE failure <> ''").await > 0).await;
        server.clock.advance(Duration::from_secs(3600));
        let smtp = SmtpServer::start_at(address, &[]).await;
        arrives(&smtp, 5).await;
        all_sent(&database).await;
        assert_eq!(smtp.received().len(), 5);
        // The pauses of a mail that is deferred afterwards are the short ones.
        assert_eq!(database.count("mails WHERE attempts <> 1").await, 0);
    }

    async fn a_mail_that_is_refused_is_kept_for_an_administrator(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::Refuse]).await;
        let server = server_for(&database, &smtp.url()).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        eventually("the mail is given up", async || database.count("mails WHERE failed_at IS NOT NULL").await == 1).await;
        let listed = run(&database, &[], &["mails", "list"]).await;
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("password_reset") && listed.contains("code 550"), "{listed}");
        assert!(!listed.contains(ADA), "{listed}");
        let id = listed.split(' ').next().unwrap();
        let unknown = run(&database, &[], &["mails", "requeue", "no-such-id"]).await;
        assert_eq!(unknown.status.code(), Some(1));
        let requeued = run(&database, &[], &["mails", "requeue", id]).await;
        assert_eq!(requeued.status.code(), Some(0), "{requeued:?}");
        assert_eq!(database.count("mails WHERE attempts = 0").await, 1);
        // The command dates by the system's clock.
        server.clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
        arrives(&smtp, 1).await;
    }

    async fn the_mails_to_an_address_go_with_its_user(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::Refuse; 2]).await;
        let server = server_for(&database, &smtp.url()).await;
        let root = server.signed_in_as("root@example.org", "admin").await.access_token;
        let ada = server.register(ADA).await.unwrap();
        server.register("bob@example.org").await.unwrap();
        request_reset(&server, "Ada@EXAMPLE.org").await;
        request_reset(&server, "bob@example.org").await;
        eventually("both mails are given up", async || database.count("mails WHERE failed_at IS NOT NULL").await == 2).await;
        server.delete_user(&root, &ada.user_id).await.unwrap();
        assert_eq!(database.count("mails").await, 1);
        assert_eq!(database.count("mails WHERE email = 'bob@example.org'").await, 1);
    }

    async fn a_mail_is_given_up_after_a_day(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::Defer, Treatment::Defer]).await;
        let server = server_for(&database, &smtp.url()).await;
        server.register(ADA).await.unwrap();
        request_reset(&server, ADA).await;
        eventually("the mail is deferred", async || database.count("mails WHERE failure <> ''").await == 1).await;
        server.clock.advance(Duration::from_secs(24 * 3600));
        eventually("the mail is given up", async || database.count("mails WHERE failed_at IS NOT NULL").await == 1).await;
    }

    async fn a_server_that_does_not_answer_delays_no_call_and_no_shutdown(database: TestDatabase) {
        let smtp = SmtpServer::start(&[Treatment::Stall; 4]).await;
        let server = server_for(&database, &smtp.url()).await;
        let tokens = server.signed_in(ADA).await;
        request_reset(&server, ADA).await;
        eventually("the server stalls", async || smtp.untreated() < 4).await;
        request_reset(&server, "bob@example.org").await;
        server.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(smtp.received().len(), 0);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_each_mail_once() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let smtp = SmtpServer::start(&[]).await;
    let servers = [
        server_for(&database, &smtp.url()).await,
        server_for(&database, &smtp.url()).await,
    ];
    for number in 0..30 {
        let email = format!("user{number}@example.org");
        servers[0].register(&email).await.unwrap();
        request_reset(&servers[number % 2], &email).await;
    }
    arrives(&smtp, 30).await;
    all_sent(&database).await;
    let mut recipients: Vec<_> = smtp.received().into_iter().map(|mail| mail.to).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!((recipients.len(), smtp.received().len()), (30, 30));
}
