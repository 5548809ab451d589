//! A signing key, tokens, and a feed server that does what a test tells it to.

mod issuer;
mod lateness;
mod server;

use std::{future::Future, time::Duration};

use countersign_verifier::{
    Credential, Demand, Verifier, VerifierConfig, VerifierState, VerifyError,
};

pub use self::{
    issuer::{Issuer, id, id_at, now_millis},
    lateness::Lateness,
    server::{FakeServer, Watch, cursor, of_session, of_session_until, of_user},
};

/// How long a condition may take to hold on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const ISSUER: &str = "https://auth.example";
pub const AUDIENCE: &str = "shop";

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(PATIENCE, future).await;
    in_time.unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

pub fn config() -> VerifierConfig {
    config_with(Credential::access_token("the verifier's own token"))
}

pub fn config_with(credential: Credential) -> VerifierConfig {
    VerifierConfig::new(ISSUER, AUDIENCE, credential)
        .connect_timeout(PATIENCE)
        .ask_timeout(PATIENCE)
}

/// Waits until the state is as demanded.
pub async fn until(verifier: &Verifier, what: &str, holds: impl FnMut(&VerifierState) -> bool) {
    let mut states = verifier.states();
    soon(what, states.wait_for(holds)).await.unwrap();
}

pub fn verdict(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify(token, &Demand::new()).map(|_| ())
}

/// A verifier that is connected to a fake server, and the stream that it reads.
pub async fn connected(server: &mut FakeServer, config: VerifierConfig) -> (Verifier, Watch) {
    connected_at(server, config, now_millis()).await
}

/// The same to a server at which it is that time.
pub async fn connected_at(
    server: &mut FakeServer,
    config: VerifierConfig,
    millis: i64,
) -> (Verifier, Watch) {
    let issuer = Issuer::shared();
    let address = server.address();
    let connecting = tokio::spawn(async move { Verifier::connect(&address, config).await });
    let watch = server.next_watch().await;
    watch.snapshot(&issuer.jwks(), &[]).await;
    watch.heartbeat_as_of(&cursor(1, 1), millis).await;
    let verifier = soon("the connection", connecting).await.unwrap().unwrap();
    until(&verifier, "the first heartbeat", |state| {
        state.cursor.is_some()
    })
    .await;
    (verifier, watch)
}
