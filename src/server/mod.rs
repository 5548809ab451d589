//! Builds every part from the configuration, serves, and shuts down.

mod background;
mod connection;
mod descriptors;
mod error;
mod files;
mod grpc_port;
mod maintenance;
mod settings;
mod upgrade;
mod workers;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceBuilder;

pub use error::StartError;
pub use settings::{
    access_profile, peppers, read_breached_passwords, signing_policy, start_passwords,
};
pub use upgrade::upgrade_users;

use background::HealthPublisher;
use connection::ConnectionServer;
use descriptors::ConnectionLimits;
use files::FollowedFiles;
use grpc_port::GrpcPort;
use settings::{auth_settings, layer_settings, rate_limits, relying_party, verifiers};
use workers::ConnectionWorkers;

use crate::{
    auth::{Auth, AuthParts},
    clock::Clock,
    config::{Config, KeyFileError, MasterKeySource, MasterKeys},
    grpc::{
        self, FastPath, ServiceSettings, UserRateLimit, WebLayer,
        health::{HealthApi, HealthStatuses},
        health_pb::health_server::HealthServer,
        layers::{self, RateLimits},
    },
    http::{HttpLimits, HttpPort, Places, Readiness, Site},
    mail::{self, MailWorker, MailWorkerParts},
    passwords::Passwords,
    revocation::{Feed, FeedHub, RevocationIndex, RevocationSync, SyncParts},
    store::{ServerLock, Store},
    tls::TlsState,
    tokens::{DerivedKeys, Keyring, VerifiedTokens},
    workloads::Directory,
};

/// A server whose parts are built and whose ports are bound, but which does not serve yet.
pub struct Server {
    config: Config,
    clock: Clock,
    port: GrpcPort,
    http: Option<HttpPort>,
    files: FollowedFiles,
    store: Store,
    lock: Option<ServerLock>,
    passwords: Passwords,
    auth: Auth,
    revocations: RevocationSync,
    feed_hub: FeedHub,
    mail_worker: MailWorker,
}

impl Server {
    /// Binds the ports, opens and migrates the database, loads keys and revocations.
    ///
    /// # Errors
    /// The first thing that fails, in one line for the operator.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, StartError> {
        // The ports come first, so that a start that cannot bind them creates neither tables nor keys.
        let bind_error = |variable, address| {
            move |source| StartError::Bind {
                variable,
                address,
                source,
            }
        };
        let port = GrpcPort::bind(config.grpc_addr)
            .await
            .map_err(bind_error("COUNTERSIGN_GRPC_ADDR", config.grpc_addr))?;
        let http = match config.http_addr {
            Some(address) => Some(
                HttpPort::bind(address)
                    .await
                    .map_err(bind_error("COUNTERSIGN_HTTP_ADDR", address))?,
            ),
            None => None,
        };

        // So do the files that it names, and the key file, if there is one.
        let files = FollowedFiles::read(&config, &clock)?;
        config.check_master_keys()?;
        mail::check(&config.mail)?;
        let breached = read_breached_passwords(&config)?;
        let store = Store::open_or_create(&config.database)?.on_clock(clock.clone());
        let lock = store.lock_for_serving()?;
        store.migrate_or_wait().await?;
        upgrade::log_upgrade(&upgrade_users(&store, clock.now()).await?);
        let master_keys = load_master_keys(&config.master_keys, &store).await?;
        let derived_keys = Arc::new(DerivedKeys::derive(master_keys.as_slice()));
        let policy = signing_policy(&config);
        let keyring = Keyring::load(&store, &derived_keys, policy, clock.now()).await?;
        let keyring = Arc::new(keyring);
        let index = Arc::new(RevocationIndex::default());
        let directory = Arc::new(Directory::default());
        let revocations = RevocationSync::new(SyncParts {
            store: store.clone(),
            index: Arc::clone(&index),
            keyring: Arc::clone(&keyring),
            directory: Arc::clone(&directory),
            derived_keys: Arc::clone(&derived_keys),
            clock: clock.clone(),
            poll_interval: config.revocation.poll_interval,
        });
        revocations.catch_up().await?;
        directory.refresh(&store, &clock).await?;
        let (feed, feed_hub) = Feed::new(Arc::clone(&index), Arc::clone(&keyring), clock.clone());

        let passwords = start_passwords(&config, &derived_keys, breached)?;
        upgrade::sync_password_parameters(&store, &passwords, clock.now()).await?;
        let mail_worker = MailWorker::new(MailWorkerParts {
            store: store.clone(),
            keys: Arc::clone(&derived_keys),
            clock: clock.clone(),
            settings: config.mail.clone(),
            issuer: config.tokens.issuer.clone(),
        })?;
        let auth = Auth::new(AuthParts {
            store: store.clone(),
            passwords: passwords.clone(),
            derived_keys,
            keyring,
            profile: access_profile(&config),
            verified: VerifiedTokens::new(),
            issuers: files.issuers(),
            directory,
            revocations: index,
            feed,
            relying_party: relying_party(&config),
            mails: mail_worker.load(),
            clock: clock.clone(),
            settings: auth_settings(&config),
        });
        store.begin_serving();
        Ok(Self {
            config,
            clock,
            port,
            http,
            files,
            store,
            lock,
            passwords,
            auth,
            revocations,
            feed_hub,
            mail_worker,
        })
    }

    /// The address of the gRPC port; it differs from the configured one when that has port 0.
    pub const fn grpc_addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// The address of the HTTP port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpPort::address)
    }

    /// The use cases behind the ports.
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Serves until `stop` completes, then shuts down:
    ///
    /// 1. Health says NOT_SERVING, and everything is served as before for the shutdown delay, so that load balancers
    ///    see it and send no new calls.
    /// 2. The ports are closed. Clients are asked to open other connections (GOAWAY), and response streams end.
    /// 3. Running calls may finish within the drain time-out.
    ///
    /// # Errors
    /// The server cannot begin to serve.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self {
            config,
            clock,
            port,
            http,
            files,
            store,
            lock: _lock,
            passwords,
            auth,
            revocations,
            feed_hub,
            mail_worker,
        } = self;
        let serving = config.serving;
        let limits = ConnectionLimits::fit(
            serving.max_connections.get(),
            config.database.pool_size.get(),
        );
        // Whether one address may hold all of them is what the operator wrote, not what memory or files leave of it.
        let all = match serving.max_connections_per_peer {
            Some(_) => serving.max_connections.get(),
            None => limits.grpc,
        };
        let share = Places::share_of(all, serving.max_connections_per_peer);
        let [shutting_down, draining, stopping] = [(); 3].map(|()| CancellationToken::new());
        let tasks = TaskTracker::new();

        let (health, mut is_ready) =
            publish_health(&store, &shutting_down, &tasks, &stopping).await;

        let issuers = files.issuers();
        let tls = files.follow(&tasks, &stopping);
        let refusals = tls.as_ref().map(TlsState::refusals).unwrap_or_default();
        if let Some(http) = http {
            let site = Site {
                auth: auth.clone(),
                calls: layers::call_metrics(),
                readiness: is_ready.clone(),
                tls: tls.clone(),
                refusals: refusals.clone(),
                issuers,
                clock: clock.clone(),
                token_rate: config.limits.token,
                trusted_proxies: config.limits.trusted_proxies.clone(),
                grpc_port: port.address(),
                http_port: http.address(),
            };
            let limits = HttpLimits::new(limits.http, share.is_some(), &serving);
            tasks.spawn(http.serve(site, limits, draining.clone()));
        }

        let rate_limits = rate_limits(&config);
        let user_rate = UserRateLimit::new(config.limits.account);
        let routes = grpc::services(ServiceSettings {
            auth: auth.clone(),
            health,
            verifiers: verifiers(&config),
            reflection: config.reflection,
            rate_limits: rate_limits.clone(),
            user_rate: user_rate.clone(),
            max_message_size: serving.max_message_size,
            max_concurrent_calls: serving.max_concurrent_calls,
            runtime: Handle::current(),
        })?;
        let fast_path = FastPath::new(auth.clone(), &rate_limits, serving.max_message_size);
        let service = ServiceBuilder::new()
            .layer(WebLayer::new(&config.cors_origins))
            .layer(layers::stack(layer_settings(&config, &clock)))
            .layer(fast_path)
            .service(routes.prepare());
        let connections = ConnectionServer::new(serving, tls, refusals, service, draining.clone());
        let workers = ConnectionWorkers::start().map_err(StartError::ConnectionWorkers)?;

        let upkeep = Upkeep {
            store,
            passwords,
            auth,
            clock,
        };
        upkeep.start(&tasks, &stopping);
        tasks.spawn(revocations.run(stopping.clone()));
        tasks.spawn(feed_hub.run(stopping.clone()));
        tasks.spawn(mail_worker.run(stopping.clone()));
        sweep_limits(user_rate, rate_limits, &tasks, &stopping);

        let serve = move |stream, place| connections.clone().serve(stream, place);
        let places = Places::new(share, config.limits.trusted_proxies.clone());
        let accept = port.accept(&workers, limits.grpc, places, draining.clone(), serve);
        let shut_down = async {
            stop.await;
            shutting_down.cancel();
            let _ = is_ready.wait_for(|readiness| !readiness.validation).await;
            sleep(serving.shutdown_delay).await;
            draining.cancel();
        };
        tokio::join!(accept, shut_down);
        drain(workers, serving.drain_timeout).await;
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// Publishes what the server can do, and waits until that was done once.
async fn publish_health(
    store: &Store,
    shutting_down: &CancellationToken,
    tasks: &TaskTracker,
    stopping: &CancellationToken,
) -> (HealthServer<HealthApi>, watch::Receiver<Readiness>) {
    let (statuses, health) = HealthStatuses::new().await;
    let (readiness, mut is_ready) = watch::channel(Readiness::default());
    let publisher = HealthPublisher {
        store: store.clone(),
        statuses,
        readiness,
        shutting_down: shutting_down.clone(),
    };
    tasks.spawn(publisher.run(stopping.clone()));
    let _ = is_ready.wait_for(|readiness| readiness.validation).await;
    (health, is_ready)
}

/// What the upkeep of the tables and of this replica's row needs.
struct Upkeep {
    store: Store,
    passwords: Passwords,
    auth: Auth,
    clock: Clock,
}

impl Upkeep {
    fn start(self, tasks: &TaskTracker, stopping: &CancellationToken) {
        let Self {
            store,
            passwords,
            auth,
            clock,
        } = self;
        let stop = || stopping.clone();
        tasks.spawn(background::heartbeat(store.clone(), stop()));
        tasks.spawn(upgrade::follow_password_parameters(
            store.clone(),
            passwords,
            clock,
            stop(),
        ));
        tasks.spawn(maintenance::purge(store, stop()));
        tasks.spawn(maintenance::sweep_sessions(auth.clone(), stop()));
        tasks.spawn(maintenance::write_refusals(auth.clone(), stop()));
        tasks.spawn(maintenance::record_key_uses(auth, stop()));
    }
}

/// Has the rate limits forget clients and users that have not called for long.
fn sweep_limits(
    users: UserRateLimit,
    clients: RateLimits,
    tasks: &TaskTracker,
    stopping: &CancellationToken,
) {
    let [stop_users, stop_clients] = [(); 2].map(|()| stopping.clone().cancelled_owned());
    tasks.spawn(users.sweep_until(stop_users));
    tasks.spawn(async move { clients.sweep_until(stop_clients).await });
}

/// Waits until all connections are closed, for no longer than `timeout`, and ends those that are left.
async fn drain(workers: ConnectionWorkers, timeout: Duration) {
    let connections = workers.connections();
    connections.close();
    let drained = tokio::time::timeout(timeout, connections.wait()).await;
    if drained.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "the drain time-out has passed: running calls are cancelled"
        );
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
            tracing::info!(path = %path.display(), "created a key file: store a copy of it apart from the database");
            Ok(keys)
        }
        loaded => Ok(loaded?),
    }
}
