//! The cursors of the calls that revoke more than a session: whoever is as fresh as one of them refuses the tokens.

use countersign::{
    grpc::pb::{DisableServiceAccountRequest, RemoveUserFactorsRequest},
    revocation::Cursor,
};

use crate::{
    freshness::{NO_POLL, PATIENT, logout, validate_at_least},
    service_accounts,
    support::{
        Kind, TestDatabase, TestServer, on_both_databases,
        operator::bearing,
        proxy::Proxy,
        reason,
        services::{Rights, Service},
    },
};

/// Two replicas. One of them gets no notification, so that for a while it knows of a revocation only if it is asked to.
struct Replicas {
    writer: TestServer,
    reader: TestServer,
    admin: String,
    _proxy: Option<Proxy>,
}

impl Replicas {
    async fn start(database: &TestDatabase) -> Self {
        let writer = TestServer::start_with(database, PATIENT).await;
        let proxy = match database.kind {
            Kind::Postgres => Some(Proxy::before(&database.url).await),
            Kind::Sqlite => None,
        };
        let mut variables = [NO_POLL.as_slice(), PATIENT].concat();
        if let Some(proxy) = &proxy {
            proxy.silence_listeners();
            variables.push(("COUNTERSIGN_DATABASE_URL", &proxy.url));
        }
        let reader = writer.replica(&variables).await;
        let admin = writer.administrator().await;
        writer.register("mark@example.org").await.unwrap();
        Self {
            writer,
            reader,
            admin,
            _proxy: proxy,
        }
    }

    /// Runs a call that ends a token and returns a cursor: it is past every cursor before, and both replicas refuse the token
    /// by it.
    async fn end(&self, call: &str, token: &str, ending: impl Future<Output = String>) {
        self.reader.validate(token).await.unwrap();
        let session = self.writer.login("mark@example.org").await.unwrap();
        let mark = logout(&self.writer, &session).await;
        let cursor = ending.await;
        let [before, after] =
            [&mark, &cursor].map(|text| Cursor::parse("cursor", text).unwrap().position());
        assert!(after > before, "{call}: {after}, where {before} was known");
        for server in [&self.reader, &self.writer] {
            let answer = validate_at_least(server, token, &cursor, None).await;
            assert_eq!(reason(answer), "TOKEN_REVOKED", "{call}");
        }
    }

    async fn service(&self, name: &str) -> (Service, String) {
        let service = self
            .writer
            .service(&self.admin, name, Rights::default())
            .await;
        let token = self.writer.issue(&service.secret).await.unwrap();
        (service, token)
    }
}

on_both_databases! {
    async fn a_replica_at_the_cursor_of_a_deletion_or_a_removed_factor_refuses_the_users_tokens(database: TestDatabase) {
        let replicas = Replicas::start(&database).await;
        let Replicas { writer, admin, .. } = &replicas;
        let token = writer.signed_in("deleted@example.org").await.access_token;
        let user_id = writer.validate(&token).await.unwrap().user_id;
        replicas.end("DeleteUser", &token, async {
            writer.delete_user(admin, &user_id).await.unwrap()
        }).await;

        let email = "removes@example.org";
        let (tokens, app) = writer.with_app(email).await;
        let other = writer.login_by_app(email, &app).await.unwrap();
        let own = writer.refresh(&tokens.refresh_token).await.unwrap().access_token;
        replicas.end("RemoveFactor", &other.access_token, async {
            writer.remove_factor(&own, &app.factor.factor_id).await.unwrap()
        }).await;
        replicas.reader.validate(&own).await.expect("the session that removed it goes on");

        let (tokens, _) = writer.with_app("removed@example.org").await;
        let user_id = writer.validate(&tokens.access_token).await.unwrap().user_id;
        replicas.end("RemoveUserFactors", &tokens.access_token, async {
            let request = bearing(admin, RemoveUserFactorsRequest { user_id });
            let removed = writer.admin().remove_user_factors(request).await.unwrap();
            removed.into_inner().revocation_cursor
        }).await;
    }

    async fn a_replica_at_the_cursor_of_a_disabled_account_or_revoked_key_refuses_its_tokens(database: TestDatabase) {
        let replicas = Replicas::start(&database).await;
        let Replicas { writer, admin, .. } = &replicas;
        let (disabled, token) = replicas.service("disabled").await;
        replicas.end("DisableServiceAccount", &token, async {
            let service_account_id = disabled.account.service_account_id;
            let request = bearing(admin, DisableServiceAccountRequest { service_account_id });
            let answer = writer.service_accounts().disable_service_account(request).await.unwrap();
            answer.into_inner().revocation_cursor
        }).await;

        let (deleted, token) = replicas.service("deleted").await;
        replicas.end("DeleteServiceAccount", &token, async {
            service_accounts::delete(writer, admin, &deleted.account.service_account_id).await.unwrap()
        }).await;

        let (revoked, token) = replicas.service("revoked").await;
        replicas.end("RevokeServiceKey", &token, async {
            writer.revoke_key(admin, &revoked.key).await.unwrap()
        }).await;
    }
}
