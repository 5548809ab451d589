//! The settings of each part, taken from the configuration.

use std::sync::Arc;

use crate::{
    auth::{AuthSettings, CLOCK_SKEW},
    clock::Clock,
    config::{Config, Rate, StalePolicy},
    factors::passkeys::RelyingParty,
    grpc::layers::{self, Quota, RateLimits},
    passwords::{
        Argon2Cost, BreachedPasswords, FilterError, PasswordError, PasswordSettings, Passwords,
        Pepper,
    },
    tokens::{AccessProfile, DerivedKeys, SigningPolicy},
};

pub(super) fn layer_settings(config: &Config, clock: &Clock) -> layers::Settings {
    layers::Settings {
        clock: clock.clone(),
        trusted_proxies: config.limits.trusted_proxies.clone(),
        max_header_size: config.serving.max_header_size,
        request_timeout: config.serving.request_timeout,
    }
}

/// The names of client certificates that may watch revocations.
pub(super) fn verifiers(config: &Config) -> Arc<[String]> {
    let clients = config
        .tls_files
        .as_ref()
        .and_then(|files| files.clients.as_ref());
    clients.map_or_else(Arc::default, |clients| clients.verifiers.clone().into())
}

pub(super) fn rate_limits(config: &Config) -> RateLimits {
    let [credential, token] = [config.limits.credential, config.limits.token].map(quota);
    RateLimits::new(credential, token)
}

fn quota(rate: Option<Rate>) -> Quota {
    rate.map_or(Quota::OFF, |rate| Quota {
        per_second: rate.per_second.get(),
        burst: rate.burst.get(),
    })
}

fn password_settings(config: &Config) -> PasswordSettings {
    let argon2 = config.passwords.argon2;
    PasswordSettings {
        cost: Argon2Cost {
            memory_kib: argon2.memory_kib,
            iterations: argon2.iterations,
            parallelism: argon2.parallelism,
        },
        workers: config.passwords.workers.get(),
        queue: config.passwords.queue.get(),
        min_length: config.passwords.min_length,
    }
}

/// Reads the list of passwords that are known from breaches, where there is one.
///
/// # Errors
/// The file cannot be used.
pub fn read_breached_passwords(config: &Config) -> Result<Option<BreachedPasswords>, FilterError> {
    let file = config.passwords.breached_file.as_deref();
    let breached = file.map(BreachedPasswords::read).transpose()?;
    if let Some(breached) = &breached {
        let passwords = breached.passwords();
        tracing::info!(
            passwords,
            "new passwords are compared with a list of breached ones"
        );
    }
    Ok(breached)
}

/// Starts the hashing of a server with this configuration. New passwords are compared with the list of `breached` ones.
///
/// # Errors
/// A thread cannot be started.
pub fn start_passwords(
    config: &Config,
    keys: &DerivedKeys,
    breached: Option<BreachedPasswords>,
) -> Result<Passwords, PasswordError> {
    Passwords::start_with_list(password_settings(config), peppers(keys), breached)
}

/// The keys that go into password hashes; the first is active.
pub fn peppers(keys: &DerivedKeys) -> Vec<Pepper> {
    keys.all()
        .map(|set| Pepper {
            version: set.version,
            key: set.pepper.clone(),
        })
        .collect()
}

/// What all access tokens of a server with this configuration have in common.
pub fn access_profile(config: &Config) -> AccessProfile {
    let tokens = &config.tokens;
    AccessProfile {
        issuer: tokens.issuer.clone(),
        audiences: tokens.audiences.clone(),
        client_id: tokens.client_id.clone(),
        ttl: tokens.access_ttl,
        leeway: tokens.leeway,
    }
}

/// The rules by which signing keys live.
pub fn signing_policy(config: &Config) -> SigningPolicy {
    SigningPolicy {
        algorithm: config.signing.algorithm,
        rotation: config.signing.rotation,
        lead: config.signing.lead,
        jwks_max_age: config.signing.jwks_max_age,
        poll_interval: config.revocation.poll_interval,
        token_life: access_profile(config).longest_life() + CLOCK_SKEW,
    }
}

/// For which name passkeys are made, and which pages may use them.
pub(super) fn relying_party(config: &Config) -> RelyingParty {
    let webauthn = &config.webauthn;
    RelyingParty::new(webauthn.rp_id.clone(), webauthn.origins.clone())
}

pub(super) fn auth_settings(config: &Config) -> AuthSettings {
    AuthSettings {
        refresh_token_ttl: config.tokens.refresh_ttl,
        session_max_lifetime: config.tokens.session_max_lifetime,
        refresh_grace: config.tokens.refresh_grace,
        max_sessions_per_user: config.limits.max_sessions_per_user,
        max_watchers: config.limits.max_watchers,
        account_failure_limit: config.limits.account_failure_limit,
        max_staleness: config.revocation.max_staleness,
        reject_when_stale: config.revocation.stale_policy == StalePolicy::Reject,
        service_token_ttl: config.tokens.service_ttl,
        request_timeout: config.serving.request_timeout,
        factors: config.factors.clone(),
        registration: config.limits.registration,
    }
}
