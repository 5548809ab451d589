//! What a service decides about its verifier.

use std::time::Duration;

use crate::{
    clock::{Clock, ManualClock},
    credential::Credential,
    local::{CACHED_TOKENS, Rules},
};

/// What happens to tokens while revocations are older than [`VerifierConfig::max_staleness`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StalePolicy {
    /// They are verified by what is known. A token that was revoked meanwhile is accepted until it expires.
    #[default]
    Serve,
    /// They are answered with [`VerifyError::Stale`](crate::VerifyError::Stale): UNAVAILABLE, never UNAUTHENTICATED.
    Reject,
    /// The server is asked, by [`Verifier::verify_or_ask`](crate::Verifier::verify_or_ask) and the layers; calls for one token that coincide
    /// are joined. [`Verifier::verify`](crate::Verifier::verify), which cannot wait, does as with `Reject`.
    AskServer,
}

/// The configuration of a [`Verifier`](crate::Verifier).
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) credential: Credential,
    pub(crate) leeway: Duration,
    pub(crate) policy: StalePolicy,
    pub(crate) max_staleness: Duration,
    pub(crate) silence: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) ask_timeout: Duration,
    pub(crate) refused_retry: Duration,
    pub(crate) cached_tokens: usize,
    pub(crate) clock: Clock,
}

impl VerifierConfig {
    /// For tokens of `issuer` (claim `iss`: `COUNTERSIGN_ISSUER` of the server) that are meant for `audience`, this service's name in claim `aud`.
    pub fn new(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        credential: Credential,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            credential,
            leeway: Duration::ZERO,
            policy: StalePolicy::Serve,
            max_staleness: Duration::from_secs(60),
            silence: Duration::from_secs(4),
            connect_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_secs(1),
            refused_retry: Duration::from_secs(30),
            cached_tokens: CACHED_TOKENS,
            clock: Clock::System,
        }
    }

    /// Accepts tokens for another audience, too.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// For how long past `exp` a token is accepted, where clocks differ. Default: 0 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// What happens while revocations are too old. Default: [`StalePolicy::Serve`].
    #[must_use]
    pub fn stale_policy(mut self, policy: StalePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// From which age on revocations are too old. Default: 60 s.
    #[must_use]
    pub fn max_staleness(mut self, age: Duration) -> Self {
        self.max_staleness = age;
        self
    }

    /// After how long without a message the connection counts as lost. The server sends a heartbeat every second. Default: 4 s.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// For how long [`Verifier::connect`](crate::Verifier::connect) waits for the first snapshot. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// For how long the server is waited for when it is asked about one token or its keys. Default: 1 s.
    #[must_use]
    pub fn ask_timeout(mut self, timeout: Duration) -> Self {
        self.ask_timeout = timeout;
        self
    }

    /// After how long a credential that the server does not accept is tried again. Default: 30 s.
    #[must_use]
    pub fn refused_retry(mut self, delay: Duration) -> Self {
        self.refused_retry = delay;
        self
    }

    /// How many verified tokens are remembered, with some 1,500 bytes each. Default: 16,384.
    #[must_use]
    pub fn cached_tokens(mut self, count: usize) -> Self {
        self.cached_tokens = count;
        self
    }

    /// For the tests of this crate.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Clock::Manual(clock);
        self
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            leeway: self.leeway,
            cached_tokens: self.cached_tokens,
        }
    }
}
