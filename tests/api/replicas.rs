//! Replicas that share a database.

use futures_util::future::join_all;

use crate::support::{TestDatabase, TestServer, on_both_databases};

on_both_databases! {
    async fn replicas_that_start_together_agree_on_one_signing_key(database: TestDatabase) {
        // The tables come first: that replicas migrate in turns is shown by PostgreSQL's advisory lock,
        // and SQLite has one process.
        TestServer::start(&database).await.stop().await;
        database.execute("DELETE FROM signing_keys").await;
        let servers = join_all((0..4).map(|_| TestServer::start(&database))).await;
        servers[0].register("ada@example.org").await.unwrap();
        for issuer in &servers {
            let tokens = issuer.login("ada@example.org").await.unwrap();
            for verifier in &servers {
                verifier.validate(&tokens.access_token).await.unwrap();
            }
        }
    }

    async fn a_session_moves_between_replicas(database: TestDatabase) {
        let one = TestServer::start(&database).await;
        let other = one.replica(&[]).await;
        let tokens = one.signed_in("ada@example.org").await;
        let next = other.refresh(&tokens.refresh_token).await.unwrap();
        let again = one.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, next.refresh_token);
        one.validate(&next.access_token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_migrate_an_empty_postgres_in_turns() {
    let database = TestDatabase::create(crate::support::Kind::Postgres).await;
    let servers = join_all((0..4).map(|_| TestServer::start(&database))).await;
    let tokens = servers[0].signed_in("ada@example.org").await;
    for server in &servers {
        server.validate(&tokens.access_token).await.unwrap();
    }
}
