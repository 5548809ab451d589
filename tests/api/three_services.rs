//! Three services and a user: the user calls A, A calls B and B calls C, each on behalf of the user with less than it got,
//! and a Logout ends all of it at every verifier.

use countersign_verifier::{
    Actor, Credential, Demand, PrincipalType, Verifier, VerifierConfig, VerifyError,
};
use tokio::time::Instant;

use crate::{
    revocation::Lateness,
    support::{
        PATIENCE, TestDatabase, TestServer, eventually, on_both_databases,
        services::{Rights, Service},
    },
};

const AUDIENCES: (&str, &str) = ("COUNTERSIGN_AUDIENCES", "a,b,c");
const ROUNDS: usize = 20;

/// A service: its account, and the verifier by which it lets calls in.
struct Party {
    service: Service,
    verifier: Verifier,
}

impl Party {
    /// Joins with a service account that watches revocations at a replica, and may act for users at these audiences.
    async fn join(server: &TestServer, admin: &str, name: &str, act_for_users_at: &str) -> Self {
        let rights = Rights {
            roles: "verifier",
            audiences: name,
            act_for_users_at,
        };
        let service = server.service(admin, name, rights).await;
        let endpoint = format!("http://{}", server.address);
        let credential = Credential::service_key(&endpoint, &service.secret).unwrap();
        let config = VerifierConfig::new("http://localhost:50051", name, credential);
        let verifier = Verifier::connect(&endpoint, config.connect_timeout(PATIENCE)).await;
        Self {
            service,
            verifier: verifier.unwrap(),
        }
    }

    /// Lets a call in, and says who acts in it, the present actor first.
    fn let_in(&self, token: &str) -> Result<Vec<String>, VerifyError> {
        let claims = self
            .verifier
            .verify(token, &Demand::new().role("customer"))?;
        assert_eq!(claims.principal_type, PrincipalType::User);
        let actors = claims.actor.iter().flat_map(Actor::chain);
        Ok(actors.map(|actor| actor.subject.clone()).collect())
    }

    fn id(&self) -> String {
        self.service.account.service_account_id.clone()
    }
}

on_both_databases! {
    /// The longest time from the answer of a Logout to the last verifier is printed (`--no-capture`).
    async fn a_logout_ends_a_chain_of_three_services_at_every_verifier_within_a_second(database: TestDatabase) {
        let here = TestServer::start_on_system_clock(&database, &[AUDIENCES]).await;
        let there = TestServer::start_on_system_clock(&database, &[AUDIENCES]).await;
        let admin = here.administrator().await;
        let a = Party::join(&here, &admin, "a", "b c").await;
        let b = Party::join(&there, &admin, "b", "c").await;
        let c = Party::join(&there, &admin, "c", "").await;
        // As services do, which renew their tokens.
        let own_of_a = async || here.issue(&a.service.secret).await.unwrap();
        let own_of_b = async || there.issue(&b.service.secret).await.unwrap();
        here.signed_in_as("ada@example.org", "customer editor").await;
        let lateness = Lateness::measure();
        let mut latencies = Vec::new();
        for round in 0..ROUNDS {
            let user = here.login("ada@example.org").await.unwrap();
            assert_eq!(a.let_in(&user.access_token), Ok(vec![]));
            let at_b = here.exchange(&user.access_token, &own_of_a().await, "b c", "customer").await.unwrap();
            assert_eq!(b.let_in(&at_b), Ok(vec![a.id()]));
            assert_eq!(a.let_in(&at_b), Err(VerifyError::TokenInvalid), "it is for others");
            let at_c = there.exchange(&at_b, &own_of_b().await, "c", "").await.unwrap();
            assert_eq!(c.let_in(&at_c), Ok(vec![b.id(), a.id()]));
            assert_eq!(b.let_in(&at_c), Err(VerifyError::TokenInvalid), "it is for others");

            let server = if round % 2 == 0 { &here } else { &there };
            server.logout(&user.refresh_token).await.unwrap();
            let answered = Instant::now();
            for (party, token) in [(&a, &user.access_token), (&b, &at_b), (&c, &at_c)] {
                eventually("the token is refused", async || {
                    party.let_in(token) == Err(VerifyError::TokenRevoked)
                }).await;
            }
            latencies.push(answered.elapsed());
        }
        lateness.demand_in_time("three services", &latencies, ROUNDS);
        // A service whose key is revoked no longer acts, nor do the tokens with which it acts.
        let user = here.login("ada@example.org").await.unwrap();
        let at_b = here.exchange(&user.access_token, &own_of_a().await, "b c", "customer").await.unwrap();
        let at_c = there.exchange(&at_b, &own_of_b().await, "c", "").await.unwrap();
        assert_eq!(c.let_in(&at_c), Ok(vec![b.id(), a.id()]));
        here.revoke_key(&admin, &a.service.key).await.unwrap();
        for (party, token) in [(&b, &at_b), (&c, &at_c)] {
            eventually("the token is refused", async || {
                party.let_in(token) == Err(VerifyError::TokenRevoked)
            }).await;
        }
        assert_eq!(a.let_in(&user.access_token), Ok(vec![]), "the user's own token is good");
    }
}
