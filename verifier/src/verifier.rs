//! The verifier that a service holds: local verification, kept up to date by the feed.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tonic::transport::Endpoint;

use crate::{
    Claims, Cursor, Demand, VerifierConfig, VerifyError,
    ask::RemoteValidator,
    clock::UnixMillis,
    config::StalePolicy,
    endpoint::{ConnectError, IntoEndpoint, watched},
    feed::Feed,
    key_fetch,
    local::LocalVerifier,
    shared::Shared,
    state::{FeedStatus, VerifierState},
};

/// Verifies access tokens inside a service. Cheap to clone; the feed ends with the last clone.
///
/// See the [crate's documentation](crate) for a whole example.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    policy: StalePolicy,
    max_staleness: Duration,
    ask_timeout: Duration,
    asker: RemoteValidator,
    tasks: [JoinHandle<()>; 2],
}

impl Verifier {
    /// Connects to the server at `endpoint`, such as `http://countersign:50051`, and waits for the first snapshot of keys and revocations.
    ///
    /// # Errors
    /// [`ConnectError`]. A credential that is refused is reported at once; a server that cannot be reached, after
    /// [`VerifierConfig::connect_timeout`].
    pub async fn connect(
        endpoint: impl IntoEndpoint,
        config: VerifierConfig,
    ) -> Result<Self, ConnectError> {
        let patience = config.connect_timeout;
        let verifier = Self::connect_lazy(endpoint, config)?;
        let mut states = verifier.states();
        let settled = states.wait_for(|state| {
            state.is_ready || matches!(state.status, FeedStatus::CredentialRefused { .. })
        });
        let settled = timeout(patience, settled).await;
        let state = match settled {
            Ok(Ok(state)) => state.clone(),
            _ => verifier.state(),
        };
        match state.status {
            _ if state.is_ready => Ok(verifier),
            FeedStatus::CredentialRefused { cause } => Err(ConnectError::CredentialRefused(cause)),
            FeedStatus::Interrupted { cause } => Err(ConnectError::Unavailable(cause)),
            _ => Err(ConnectError::Unavailable("there is no answer".to_owned())),
        }
    }

    /// Begins to connect and returns at once. Until the first snapshot every token is answered with
    /// [`VerifyError::NotReady`]. For a service that must start while the server is away.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect_lazy(
        endpoint: impl IntoEndpoint,
        config: VerifierConfig,
    ) -> Result<Self, ConnectError> {
        Ok(Self::start(endpoint.into_endpoint()?, config))
    }

    fn start(endpoint: Endpoint, config: VerifierConfig) -> Self {
        let endpoint = watched(endpoint);
        let local = LocalVerifier::with(config.rules());
        let shared = Arc::new(Shared::new(local, config.clock.clone()));
        let channel = endpoint.connect_lazy();
        let ask_timeout = config.ask_timeout;
        let keys = key_fetch::run(Arc::clone(&shared), channel.clone(), ask_timeout);
        let inner = Inner {
            shared: Arc::clone(&shared),
            policy: config.policy,
            max_staleness: config.max_staleness,
            ask_timeout,
            asker: RemoteValidator::new(channel, ask_timeout),
            tasks: [
                tokio::spawn(keys),
                tokio::spawn(
                    Feed {
                        shared,
                        endpoint,
                        config,
                    }
                    .run(),
                ),
            ],
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Verifies a token by what is known here: no call, no lock, no `await`.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, token: &str, demand: &Demand) -> Result<Arc<Claims>, VerifyError> {
        let Shared {
            local,
            progress,
            clock,
            ..
        } = &*self.inner.shared;
        if token.is_empty() {
            return Err(VerifyError::TokenMissing);
        }
        if !progress.is_ready() {
            return Err(VerifyError::NotReady);
        }
        let now = clock.now().into();
        let claims = local
            .authenticate(token, now)
            .map_err(|error| match error {
                VerifyError::KeyUnknown => self.unknown_key(),
                error => error,
            })?;
        if self.inner.policy != StalePolicy::Serve && self.is_stale(now) {
            return Err(VerifyError::Stale);
        }
        demand.check(&claims, now)?;
        Ok(claims)
    }

    /// As [`verify`](Self::verify), and waits where waiting helps: for the keys, when the token names one that is not known; and, under
    /// [`StalePolicy::AskServer`], for the server's answer when this verifier does not know enough.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn verify_or_ask(
        &self,
        token: &str,
        demand: &Demand,
    ) -> Result<Arc<Claims>, VerifyError> {
        let shared = &self.inner.shared;
        let is_resting = shared.keys_rest.load(Ordering::Acquire);
        let before = *shared.keys_fetched.borrow();
        let mut verdict = self.verify(token, demand);
        if verdict == Err(VerifyError::KeyUnknown) && !is_resting {
            let mut fetched = shared.keys_fetched.subscribe();
            let fetched = fetched.wait_for(|count| *count != before);
            // The keys come, or they do not: either way it is tried once more.
            let _ = timeout(self.inner.ask_timeout, fetched).await;
            verdict = self.verify(token, demand);
        }
        match verdict {
            Err(error) if error.is_unavailable() && self.inner.policy == StalePolicy::AskServer => {
                let claims = self.inner.asker.ask(token).await?;
                demand.check(&claims, shared.clock.now().into())?;
                Ok(claims)
            }
            verdict => verdict,
        }
    }

    /// Verifies a token once the verifier has reached `cursor`, which a call that revokes has returned: it waits for that, at most
    /// for `patience`.
    ///
    /// # Errors
    /// [`VerifyError`]; [`VerifyError::Stale`] when the knowledge has not come by then.
    pub async fn verify_at_least(
        &self,
        token: &str,
        demand: &Demand,
        cursor: &Cursor,
        patience: Duration,
    ) -> Result<Arc<Claims>, VerifyError> {
        let verdict = self.verify(token, demand);
        // More knowledge does not make it good.
        if let Err(error) = verdict
            && !error.is_unavailable()
        {
            return Err(error);
        }
        let mut states = self.states();
        let reached = states.wait_for(|state| {
            let newest = state.cursor.as_ref();
            newest.is_some_and(|newest| newest.has_reached(cursor))
        });
        match timeout(patience, reached).await {
            Ok(Ok(_)) => self.verify_or_ask(token, demand).await,
            _ => Err(VerifyError::Stale),
        }
    }

    /// All revocations that were committed before this time are known; `None` before the first snapshot. By the server's clock.
    pub fn as_of(&self) -> Option<SystemTime> {
        let as_of = self.inner.shared.progress.as_of();
        as_of.map(UnixMillis::to_system_time)
    }

    /// How old the knowledge of revocations is: about a second while all is well.
    pub fn staleness(&self) -> Duration {
        let shared = &self.inner.shared;
        shared.progress.staleness(shared.clock.now().into())
    }

    /// The state of the feed.
    pub fn state(&self) -> VerifierState {
        self.inner.shared.state.borrow().clone()
    }

    /// The state of the feed as it changes, for health checks and metrics.
    pub fn states(&self) -> watch::Receiver<VerifierState> {
        self.inner.shared.state.subscribe()
    }

    /// How many revocations are remembered.
    pub fn revocation_count(&self) -> usize {
        self.inner.shared.local.revocation_count()
    }

    fn is_stale(&self, now: UnixMillis) -> bool {
        self.inner.shared.progress.staleness(now) > self.inner.max_staleness
    }

    /// The key may be so new that the feed has not sent it yet, so the server is asked once, before a token is called invalid.
    fn unknown_key(&self) -> VerifyError {
        let shared = &self.inner.shared;
        if !shared.keys_rest.load(Ordering::Acquire) {
            shared.keys_wanted.notify_one();
            return VerifyError::KeyUnknown;
        }
        match shared.progress.knows_all_keys() {
            true => VerifyError::TokenInvalid,
            false => VerifyError::KeyUnknown,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
