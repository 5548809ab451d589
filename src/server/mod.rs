//! The wiring: builds every part from the configuration, stacks the layers, serves, drains.

mod background;
mod error;
mod front;
mod incoming;
mod maintenance;
mod upgrade;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server as TonicServer;

pub use error::StartError;
pub use upgrade::upgrade_users;

use front::Front;

use crate::{
    auth::{Auth, AuthParts, AuthSettings, CLOCK_SKEW},
    clock::Clock,
    config::{Config, KeyFileError, MasterKeySource, MasterKeys, Rate, StalePolicy},
    grpc::{
        self, FastPath, ServiceSettings, UserRateLimit,
        health::HealthState,
        layers::{self, Quota, RateLimits},
    },
    http::{HttpPort, Site},
    passwords::{Argon2Cost, PasswordSettings, Passwords, Pepper},
    revocation::{Feed, FeedHub, RevocationIndex, RevocationSync, SyncParts},
    store::{ServerLock, Store},
    tokens::{AccessProfile, DerivedKeys, Keyring, SigningPolicy, VerifiedTokens},
};

/// How often the other side of each connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// A server that has everything it needs and holds its ports, but does not answer yet.
pub struct Server {
    config: Config,
    clock: Clock,
    listener: TcpListener,
    address: SocketAddr,
    http: Option<HttpPort>,
    store: Store,
    lock: Option<ServerLock>,
    passwords: Passwords,
    auth: Auth,
    revocations: RevocationSync,
    feed_hub: FeedHub,
}

impl Server {
    /// Binds the ports, opens and migrates the database, loads keys and revocations.
    ///
    /// # Errors
    /// The first thing that fails, in one line for the operator.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, StartError> {
        // The ports come first: a start that fails for want of one leaves neither tables nor keys behind.
        let bind_error = |variable, address| {
            move |source| StartError::Bind {
                variable,
                address,
                source,
            }
        };
        let listener = TcpListener::bind(config.grpc_addr)
            .await
            .map_err(bind_error("COUNTERSIGN_GRPC_ADDR", config.grpc_addr))?;
        let address = listener
            .local_addr()
            .map_err(bind_error("COUNTERSIGN_GRPC_ADDR", config.grpc_addr))?;
        let http = match config.http_addr {
            Some(address) => Some(
                HttpPort::bind(address)
                    .await
                    .map_err(bind_error("COUNTERSIGN_HTTP_ADDR", address))?,
            ),
            None => None,
        };

        let store = Store::open_or_create(&config.database)?.on_clock(clock.clone());
        let lock = store.lock_for_serving()?;
        store.migrate().await?;
        upgrade::log_upgrade(&upgrade_users(&store, clock.now()).await?);
        let master_keys = load_master_keys(&config.master_keys, &store).await?;
        let derived_keys = Arc::new(DerivedKeys::derive(master_keys.as_slice()));
        let policy = signing_policy(&config);
        let keyring = Keyring::load(&store, &derived_keys, policy, clock.now()).await?;
        let keyring = Arc::new(keyring);
        let index = Arc::new(RevocationIndex::default());
        let revocations = RevocationSync::new(SyncParts {
            store: store.clone(),
            index: Arc::clone(&index),
            keyring: Arc::clone(&keyring),
            derived_keys: Arc::clone(&derived_keys),
            clock: clock.clone(),
            poll_interval: config.revocation.poll_interval,
        });
        revocations.catch_up().await?;
        let (feed, feed_hub) = Feed::new(Arc::clone(&index), Arc::clone(&keyring), clock.clone());

        let passwords = Passwords::start(password_settings(&config), peppers(&derived_keys))?;
        upgrade::sync_password_parameters(&store, &passwords, clock.now()).await?;
        let auth = Auth::new(AuthParts {
            store: store.clone(),
            passwords: passwords.clone(),
            derived_keys,
            keyring,
            profile: access_profile(&config),
            verified: VerifiedTokens::new(),
            revocations: index,
            feed,
            clock: clock.clone(),
            settings: auth_settings(&config),
        });
        store.begin_serving();
        Ok(Self {
            config,
            clock,
            listener,
            address,
            http,
            store,
            lock,
            passwords,
            auth,
            revocations,
            feed_hub,
        })
    }

    /// The address on which gRPC was really bound.
    pub const fn grpc_addr(&self) -> SocketAddr {
        self.address
    }

    /// The same for HTTP; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpPort::address)
    }

    /// The use cases behind the port.
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Serves until `stop` completes; then says NOT_SERVING, lets running calls finish within the
    /// drain time-out, and returns.
    ///
    /// # Errors
    /// The transport fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self {
            config,
            clock,
            listener,
            address,
            http,
            store,
            lock: _lock,
            passwords,
            auth,
            revocations,
            feed_hub,
        } = self;
        let rate_limits =
            RateLimits::new(quota(config.limits.credential), quota(config.limits.token));
        let user_rate = UserRateLimit::new(config.limits.account);
        let (draining, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(port) = http {
            let site = Site {
                auth: auth.clone(),
                calls: layers::call_metrics(),
                grpc_port: address,
                http_port: port.address(),
            };
            // Both ports close at once, when the drain begins.
            tasks.spawn(port.serve(site, draining.clone(), config.serving.drain_timeout));
        }
        let (health, health_service) = HealthState::new();
        health.publish(true, store.is_available());
        let routes = grpc::services(ServiceSettings {
            auth: auth.clone(),
            health: health_service,
            reflection: config.reflection,
            rate_limits: rate_limits.clone(),
            user_rate: user_rate.clone(),
            max_message_size: config.serving.max_message_size,
            max_concurrent_calls: config.serving.max_concurrent_calls,
            runtime: Handle::current(),
        })?;
        let router = TonicServer::builder()
            // Streams are open for days: a peer whose network is gone must not hold one for ever.
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            // Beyond this h2 answers by itself, uncounted. `ProtocolLayer` keeps the limit.
            .http2_max_header_list_size(config.serving.max_header_size.saturating_mul(4))
            .layer(layers::stack(layers::Settings {
                clock: clock.clone(),
                trusted_proxies: config.limits.trusted_proxies.clone(),
                max_header_size: config.serving.max_header_size,
                request_timeout: config.serving.request_timeout,
            }))
            .layer(FastPath::new(auth.clone(), &rate_limits, config.serving.max_message_size))
            .add_routes(routes);
        let sweeper = auth;
        let front = Front::start().map_err(StartError::Front)?;
        let listener = front.adopt(listener).map_err(StartError::Front)?;
        let serving = front.serve(listener, draining.clone(), |incoming| {
            let draining = draining.clone().cancelled_owned();
            router
                .clone()
                .serve_with_incoming_shutdown(incoming, draining)
        });
        let mut serving = std::pin::pin!(serving);

        let stopping = CancellationToken::new();
        let watchdog = background::watch_database(store.clone(), health, stopping.clone());
        let watchdog = tasks.spawn(watchdog);
        tasks.spawn(background::heartbeat(store.clone(), stopping.clone()));
        tasks.spawn(upgrade::follow_password_parameters(
            store.clone(),
            passwords,
            clock.clone(),
            stopping.clone(),
        ));
        tasks.spawn(maintenance::purge(store, clock, stopping.clone()));
        tasks.spawn(maintenance::sweep_sessions(sweeper, stopping.clone()));
        tasks.spawn(user_rate.sweep_until(stopping.clone().cancelled_owned()));
        tasks.spawn(revocations.run(stopping.clone()));
        tasks.spawn(feed_hub.run(stopping.clone()));
        let sweeper_stop = stopping.clone().cancelled_owned();
        tasks.spawn(async move { rate_limits.sweep_until(sweeper_stop).await });

        let failed = tokio::select! {
            ended = &mut serving => Some(ended),
            () = stop => None,
        };
        // NOT_SERVING comes first, so that balancers turn away before connections close; the watchdog
        // says it as it ends, and with it every health watch, which would otherwise hold the drain up.
        stopping.cancel();
        let _ = watchdog.await;
        draining.cancel();
        if let Some(ended) = failed {
            ended?;
        } else if let Ok(ended) = tokio::time::timeout(config.serving.drain_timeout, serving).await
        {
            ended?;
        } else {
            tracing::warn!("the drain time-out passed: calls still running are cut off");
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// The master keys. A missing key file is created only for a database that was never used with another one.
async fn load_master_keys(
    source: &MasterKeySource,
    store: &Store,
) -> Result<MasterKeys, StartError> {
    match source.load() {
        Err(KeyFileError::Missing { path }) if !store.has_used_a_master_key().await? => {
            let keys = source.load_or_create()?;
            tracing::info!(path = %path.display(), "created a key file: keep a copy of it apart from the database");
            Ok(keys)
        }
        loaded => Ok(loaded?),
    }
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

fn peppers(keys: &DerivedKeys) -> Vec<Pepper> {
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

fn auth_settings(config: &Config) -> AuthSettings {
    AuthSettings {
        refresh_token_ttl: config.tokens.refresh_ttl,
        session_max_lifetime: config.tokens.session_max_lifetime,
        refresh_grace: config.tokens.refresh_grace,
        max_sessions_per_user: config.limits.max_sessions_per_user,
        max_watchers: config.limits.max_watchers,
        account_failure_limit: config.limits.account_failure_limit,
        max_staleness: config.revocation.max_staleness,
        reject_when_stale: config.revocation.stale_policy == StalePolicy::Reject,
    }
}
