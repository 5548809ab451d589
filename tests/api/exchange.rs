//! ExchangeToken: a service acts for a user with less than the user's rights, and never longer than the user's session.

use std::time::Duration;

use countersign::grpc::pb::{
    GetCurrentUserRequest, PrincipalType, RevokeAllSessionsRequest, TokenPair,
};

use crate::support::{
    TestDatabase, TestServer,
    client::payload,
    failure, on_both_databases,
    operator::bearing,
    reason,
    services::{Rights, Service},
};

const AUDIENCES: (&str, &str) = ("COUNTERSIGN_AUDIENCES", "a,b,c,d,e");

/// A server with an administrator, a user with two roles, and a service that may act at every audience.
struct Shop {
    server: TestServer,
    admin: String,
    user: TokenPair,
    service: Service,
    actor: String,
}

impl Shop {
    async fn open(database: &TestDatabase) -> Self {
        let server = TestServer::start_with(database, &[AUDIENCES]).await;
        let admin = server.administrator().await;
        let user = server
            .signed_in_as("ada@example.org", "editor reader")
            .await;
        let rights = Rights {
            act_for_users_at: "a b c d e",
            ..Rights::default()
        };
        let service = server.service(&admin, "orders", rights).await;
        let actor = server.issue(&service.secret).await.unwrap();
        Self {
            server,
            admin,
            user,
            service,
            actor,
        }
    }

    async fn actor(&self, name: &str, act_for_users_at: &str) -> String {
        let rights = Rights {
            act_for_users_at,
            ..Rights::default()
        };
        let service = self.server.service(&self.admin, name, rights).await;
        self.server.issue(&service.secret).await.unwrap()
    }
}

on_both_databases! {
    async fn the_result_names_the_service_and_holds_no_more_than_was_asked_for(database: TestDatabase) {
        let shop = Shop::open(&database).await;
        let (server, user) = (&shop.server, &shop.user);
        let subject = server.validate(&user.access_token).await.unwrap();
        let token = server.exchange(&user.access_token, &shop.actor, "c b", "reader").await.unwrap();
        let claims = server.validate(&token).await.unwrap();
        assert_eq!((&claims.user_id, &claims.session_id), (&subject.user_id, &subject.session_id));
        assert_ne!(claims.token_id, subject.token_id);
        assert_eq!(claims.audiences, ["b", "c"]);
        assert_eq!(claims.roles, ["reader"]);
        assert_eq!(claims.principal_type(), PrincipalType::User);
        assert_eq!(claims.client_id, "orders");
        assert_eq!((claims.auth_time, &claims.amr, &claims.acr), (subject.auth_time, &subject.amr, &subject.acr));
        let actor = claims.actor.unwrap();
        assert_eq!((actor.subject.as_str(), actor.actor), (shop.service.account.service_account_id.as_str(), None));
        let life = claims.expire_time.unwrap().seconds - server.clock.now().seconds();
        assert_eq!(life, 300);
        let act = &payload(&token)["act"];
        assert_eq!(act["sid"], shop.service.key.key_id);
        assert_eq!(act["jti"], payload(&shop.actor)["jti"]);
        // Whatever is asked for that the subject does not have is left out.
        let wide = server.exchange(&user.access_token, &shop.actor, "a nonsense", "reader admin").await.unwrap();
        let claims = server.validate(&wide).await.unwrap();
        assert_eq!((claims.audiences, claims.roles), (vec!["a".to_owned()], vec!["reader".to_owned()]));
        let all = server.exchange(&user.access_token, &shop.actor, "", "").await.unwrap();
        let claims = server.validate(&all).await.unwrap();
        assert_eq!((claims.audiences.len(), claims.roles.len()), (5, 2));
        // It lives no longer than the subject token.
        server.clock.advance(Duration::from_secs(700));
        let actor = server.issue(&shop.service.secret).await.unwrap();
        let late = server.exchange(&user.access_token, &actor, "", "").await.unwrap();
        let late = server.validate(&late).await.unwrap();
        assert_eq!(late.expire_time, subject.expire_time);
    }

    async fn an_exchange_of_an_exchanged_token_narrows_it_further_up_to_four_actors(database: TestDatabase) {
        let shop = Shop::open(&database).await;
        let server = &shop.server;
        let mut token = server.exchange(&shop.user.access_token, &shop.actor, "b c", "").await.unwrap();
        let back = server.exchange(&token, &shop.actor, "a", "").await;
        assert_eq!(reason(back), "EXCHANGE_NOT_ALLOWED", "what was given up does not come back");
        for (depth, name) in [(2, "second"), (3, "third"), (4, "fourth")] {
            let actor = shop.actor(name, "c").await;
            token = server.exchange(&token, &actor, "", "").await.unwrap();
            let claims = server.validate(&token).await.unwrap();
            assert_eq!((claims.audiences, claims.client_id.as_str()), (vec!["c".to_owned()], name));
            let mut actors = 0;
            let mut next = claims.actor.map(Box::new);
            while let Some(actor) = next {
                actors += 1;
                next = actor.actor;
            }
            assert_eq!(actors, depth);
        }
        let fifth = shop.actor("fifth", "c").await;
        assert_eq!(reason(server.exchange(&token, &fifth, "", "").await), "EXCHANGE_NOT_ALLOWED");
    }

    async fn an_exchange_without_an_allowed_audience_or_role_is_refused(database: TestDatabase) {
        let shop = Shop::open(&database).await;
        let server = &shop.server;
        let user = shop.user.access_token.as_str();
        let powerless = shop.actor("powerless", "").await;
        let elsewhere = shop.actor("elsewhere", "e").await;
        let exchanged = server.exchange(user, shop.actor.as_str(), "a", "reader").await.unwrap();
        for (subject, actor, audiences, roles) in [
            (user, powerless.as_str(), "", ""),
            (user, elsewhere.as_str(), "a", ""),
            (user, shop.actor.as_str(), "nonsense", ""),
            (user, shop.actor.as_str(), "", "admin"),
            (exchanged.as_str(), shop.actor.as_str(), "b", ""),
            (exchanged.as_str(), shop.actor.as_str(), "", "editor"),
            // A service does not act for a service.
            (powerless.as_str(), shop.actor.as_str(), "", ""),
        ] {
            let answer = reason(server.exchange(subject, actor, audiences, roles).await);
            assert_eq!(answer, "EXCHANGE_NOT_ALLOWED", "{audiences} {roles}");
        }
        for (subject, actor) in [
            ("", shop.actor.as_str()),
            (user, ""),
            ("garbage", shop.actor.as_str()),
            (user, "garbage"),
            (user, shop.service.secret.as_str()),
            (shop.user.refresh_token.as_str(), shop.actor.as_str()),
            // Only a service's own token proves that it is there.
            (user, user),
            (user, exchanged.as_str()),
        ] {
            let status = server.exchange(subject, actor, "", "").await.unwrap_err();
            let failure = failure(&status);
            assert_eq!(failure.reason, "CLIENT_CREDENTIAL_INVALID");
            assert_eq!(failure.message, "The credential of the service is not valid.");
        }
    }

    async fn an_exchanged_token_is_refused_by_countersigns_own_services(database: TestDatabase) {
        let shop = Shop::open(&database).await;
        let server = &shop.server;
        let admin = server.exchange(&shop.admin, &shop.actor, "", "").await.unwrap();
        assert_eq!(server.validate(&admin).await.unwrap().roles, ["admin"]);
        let answer = server.create_account(&admin, "other", Rights::default()).await;
        assert_eq!(reason(answer), "INSUFFICIENT_ROLE");
        assert_eq!(reason(server.watch(&admin, "").await.map(|_| ())), "INSUFFICIENT_ROLE");
        let user = server.exchange(&shop.user.access_token, &shop.actor, "", "").await.unwrap();
        let current = bearing(&user, GetCurrentUserRequest {});
        assert_eq!(reason(server.account().get_current_user(current).await), "INSUFFICIENT_ROLE");
        let all = bearing(&user, RevokeAllSessionsRequest { keep_current: false });
        assert_eq!(reason(server.account().revoke_all_sessions(all).await), "INSUFFICIENT_ROLE");
    }

    async fn an_exchanged_token_is_revoked_with_the_session_the_user_and_each_actor(database: TestDatabase) {
        let shop = Shop::open(&database).await;
        let server = &shop.server;
        let user = async |name: &str| {
            let tokens = server.signed_in(&format!("{name}@example.org")).await;
            let token = server.exchange(&tokens.access_token, &shop.actor, "a b", "").await.unwrap();
            (tokens, token)
        };
        let (tokens, of_session) = user("session").await;
        server.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(reason(server.validate(&of_session).await), "TOKEN_REVOKED");

        let (tokens, of_user) = user("user").await;
        let all = bearing(&tokens.access_token, RevokeAllSessionsRequest { keep_current: false });
        server.account().revoke_all_sessions(all).await.unwrap();
        assert_eq!(reason(server.validate(&of_user).await), "TOKEN_REVOKED");

        let (_, of_key) = user("key").await;
        let other = server.service(&shop.admin, "other", Rights { act_for_users_at: "b", ..Rights::default() }).await;
        let other_actor = server.issue(&other.secret).await.unwrap();
        let of_both = server.exchange(&of_key, &other_actor, "", "").await.unwrap();
        server.validate(&of_both).await.unwrap();
        server.revoke_key(&shop.admin, &shop.service.key).await.unwrap();
        assert_eq!(reason(server.validate(&of_key).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.validate(&of_both).await), "TOKEN_REVOKED", "an earlier actor's key is revoked");
        let refused = server.exchange(&shop.user.access_token, &shop.actor, "", "").await;
        assert_eq!(reason(refused), "CLIENT_CREDENTIAL_INVALID");

        let of_account = server.exchange(&shop.user.access_token, &other_actor, "", "").await.unwrap();
        server.disable_account(&shop.admin, &other.account).await.unwrap();
        assert_eq!(reason(server.validate(&of_account).await), "TOKEN_REVOKED");
        server.validate(&shop.user.access_token).await.expect("the user's own token is good");
    }
}
