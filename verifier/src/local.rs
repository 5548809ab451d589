//! Verification with the keys and revocations in memory, at a given time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use crate::{
    Demand, VerifyError,
    cache::VerifiedTokens,
    claims::Claims,
    clock::UnixMillis,
    crypto::PublicKey,
    id::Id,
    keys::{self, InvalidJwks, KeySet},
    revocations::{Revocation, Revocations, Subject},
    token::{self, Refusal},
};

/// How many key names are remembered as withdrawn.
const MOST_WITHDRAWN: usize = 256;

/// How many verified tokens are remembered by default. With some 1,500 bytes each this stays below 25 MB.
pub(crate) const CACHED_TOKENS: usize = 16_384;

/// What is the same for all tokens of a service.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) leeway: Duration,
    pub(crate) cached_tokens: usize,
}

/// Verifies tokens by the keys and revocations that it is given, without a server and without a clock. [`Verifier`](crate::Verifier)
/// keeps one up to date; a test of a service can use one alone.
pub struct LocalVerifier {
    rules: Rules,
    keys: ArcSwap<KeySet>,
    revocations: ArcSwap<Revocations>,
    verified: VerifiedTokens,
    /// One writer of keys at a time holds it.
    key_history: Mutex<KeyHistory>,
}

#[derive(Default)]
struct KeyHistory {
    /// The document that the keys are exactly those of.
    document: String,
    /// The names of keys that were taken away.
    withdrawn: HashSet<Box<str>>,
}

impl LocalVerifier {
    /// For tokens of `issuer` that are meant for `audience`, with no key and no revocation yet.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self::with(Rules {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            leeway: Duration::ZERO,
            cached_tokens: CACHED_TOKENS,
        })
    }

    /// Accepts tokens for another audience, too.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.rules.audiences.push(audience.into());
        self
    }

    /// For how long past `exp` a token is accepted.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway;
        self
    }

    /// How many verified tokens are remembered; 0 for none.
    #[must_use]
    pub fn cached_tokens(mut self, count: usize) -> Self {
        self.rules.cached_tokens = count;
        self.verified = VerifiedTokens::new(count);
        self
    }

    pub(crate) fn with(rules: Rules) -> Self {
        Self {
            verified: VerifiedTokens::new(rules.cached_tokens),
            rules,
            keys: ArcSwap::default(),
            revocations: ArcSwap::default(),
            key_history: Mutex::default(),
        }
    }

    /// Verifies a token as of `now`.
    ///
    /// # Errors
    /// [`VerifyError`]; never one that [`is_unavailable`](VerifyError::is_unavailable), but [`VerifyError::KeyUnknown`].
    pub fn verify_at(
        &self,
        token: &str,
        demand: &Demand,
        now: SystemTime,
    ) -> Result<Arc<Claims>, VerifyError> {
        let now = now.into();
        let claims = self.authenticate(token, now)?;
        demand.check(&claims, now)?;
        Ok(claims)
    }

    /// Everything but the demand.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> Result<Arc<Claims>, VerifyError> {
        if token.is_empty() {
            return Err(VerifyError::TokenMissing);
        }
        // First of all: the sender chooses how many megabytes are hashed.
        if token.len() > token::MAX_LENGTH {
            return Err(VerifyError::TokenInvalid);
        }
        // The keys are taken once: an entry of the cache gets the generation of the keys that verified it.
        let keys = self.keys.load();
        let claims = match self.verified.get(token, keys.generation) {
            Some(claims) => {
                self.check_expiry(&claims, now)?;
                claims
            }
            None => self.verify_signature(token, &keys, now)?,
        };
        match self.revocations.load().covers(&claims) {
            true => Err(VerifyError::TokenRevoked),
            false => Ok(claims),
        }
    }

    fn verify_signature(
        &self,
        token: &str,
        keys: &KeySet,
        now: UnixMillis,
    ) -> Result<Arc<Claims>, VerifyError> {
        let Rules {
            issuer, audiences, ..
        } = &self.rules;
        let claims =
            token::verify(token, keys, issuer, audiences).map_err(|refusal| match refusal {
                Refusal::Invalid => VerifyError::TokenInvalid,
                Refusal::KeyUnknown => VerifyError::KeyUnknown,
            })?;
        // An expired token is not cached: the cache is for tokens that are presented again.
        self.check_expiry(&claims, now)?;
        let claims = Arc::new(claims);
        self.verified
            .insert(token, Arc::clone(&claims), keys.generation);
        Ok(claims)
    }

    fn check_expiry(&self, claims: &Claims, now: UnixMillis) -> Result<(), VerifyError> {
        match now < claims.expires_at.plus(self.rules.leeway) {
            true => Ok(()),
            false => Err(VerifyError::TokenExpired),
        }
    }

    /// Replaces all keys by those of a JWK set. Tokens of a key that is no longer in it are invalid.
    ///
    /// # Errors
    /// [`InvalidJwks`]; the keys stay as they were.
    pub fn set_jwks(&self, json: &str) -> Result<(), InvalidJwks> {
        let mut history = self.key_history();
        if history.document == json {
            return Ok(());
        }
        let by_kid = keys::parse(json)?;
        let before = self.keys.load();
        let withdrawn = &mut history.withdrawn;
        withdrawn.retain(|kid| !by_kid.contains_key(kid));
        for kid in before
            .by_kid
            .keys()
            .filter(|kid| !by_kid.contains_key(*kid))
        {
            if withdrawn.len() < MOST_WITHDRAWN {
                withdrawn.insert(kid.clone());
            }
        }
        json.clone_into(&mut history.document);
        self.store_keys(by_kid, before.generation);
        Ok(())
    }

    /// Adds the keys of a JWK set that may be older than the one that is known: nothing is taken away, and a key that was
    /// taken away does not come back.
    ///
    /// # Errors
    /// [`InvalidJwks`].
    pub(crate) fn add_jwks(&self, json: &str) -> Result<(), InvalidJwks> {
        let found = keys::parse(json)?;
        let mut history = self.key_history();
        let before = self.keys.load();
        let is_new =
            |kid: &str| !before.by_kid.contains_key(kid) && !history.withdrawn.contains(kid);
        let mut by_kid: HashMap<_, _> = found.into_iter().filter(|(kid, _)| is_new(kid)).collect();
        if !by_kid.is_empty() {
            by_kid.extend(
                before
                    .by_kid
                    .iter()
                    .map(|(kid, key)| (kid.clone(), key.clone())),
            );
            history.document.clear();
            self.store_keys(by_kid, before.generation);
        }
        Ok(())
    }

    fn store_keys(&self, by_kid: HashMap<Box<str>, Arc<PublicKey>>, generation: u64) {
        self.keys.store(Arc::new(KeySet {
            generation: generation + 1,
            by_kid,
        }));
    }

    fn key_history(&self) -> MutexGuard<'_, KeyHistory> {
        self.key_history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Revokes all tokens of a session. The revocation is forgotten some time after `expire_time`.
    pub fn revoke_session(&self, session_id: Id, expire_time: SystemTime) {
        self.learn(&[Revocation {
            subject: Subject::Session(session_id),
            expires_at: expire_time.into(),
        }]);
    }

    /// Revokes all tokens of a subject that were issued in the millisecond of `not_before_time` or earlier. The revocation is forgotten
    /// some time after `expire_time`.
    pub fn revoke_user(&self, subject: Id, not_before_time: SystemTime, expire_time: SystemTime) {
        self.learn(&[Revocation {
            subject: Subject::User(subject, not_before_time.into()),
            expires_at: expire_time.into(),
        }]);
    }

    pub(crate) fn learn(&self, revocations: &[Revocation]) {
        self.revocations.load().learn(revocations);
    }

    /// Replaces all revocations, at once for every reader.
    pub(crate) fn replace_revocations(&self, revocations: Revocations) {
        self.revocations.store(Arc::new(revocations));
    }

    /// Drops revocations whose last token has expired at `now`.
    pub fn forget_expired(&self, now: SystemTime) {
        let revocations = self.revocations.load();
        revocations.forget(now.into(), self.rules.leeway);
    }

    /// How many revocations are remembered.
    pub fn revocation_count(&self) -> usize {
        self.revocations.load().len()
    }

    /// How many keys are known.
    pub fn key_count(&self) -> usize {
        self.keys.load().by_kid.len()
    }
}

impl std::fmt::Debug for LocalVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalVerifier")
            .field("rules", &self.rules)
            .field("keys", &self.key_count())
            .field("revocations", &self.revocation_count())
            .finish_non_exhaustive()
    }
}
