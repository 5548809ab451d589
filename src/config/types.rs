//! The configuration as the rest of the program sees it: checked values, grouped by the part that uses them.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    database_url::DatabaseUrl,
    factors::FactorSettings,
    key_source::MasterKeySource,
    mail::MailSettings,
    profile::Profile,
    serving::ServingSettings,
    tls::TlsFiles,
    values::{LogFormat, Registration, StalePolicy, Tls},
    webauthn::WebauthnSettings,
};

/// Everything an operator can decide, checked. The variables behind it: [`Config::VARIABLES`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the service runs.
    pub profile: Profile,
    /// Where gRPC is served; port 0 takes a free one.
    pub grpc_addr: SocketAddr,
    /// Where JWKS, metadata and metrics are served over HTTP; `None`: nowhere.
    pub http_addr: Option<SocketAddr>,
    /// Who encrypts the connection.
    pub tls: Tls,
    /// With which files, where this process does.
    pub tls_files: Option<TlsFiles>,
    /// The origins of the pages that may call by gRPC-Web.
    pub cors_origins: Vec<String>,
    /// How mails are sent.
    pub mail: MailSettings,
    /// For which name passkeys are made, and which pages may use them.
    pub webauthn: WebauthnSettings,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// The bounds on connections and calls, and the times of a shutdown.
    pub serving: ServingSettings,
    /// Where the data is.
    pub database: DatabaseSettings,
    /// Where the keys come from that protect it.
    pub master_keys: MasterKeySource,
    /// What is in the tokens, and how long they and their sessions live.
    pub tokens: TokenSettings,
    /// What signs them, and for how long.
    pub signing: SigningSettings,
    /// Whose assertions prove a service, as a TOML file; `None`: nobody's.
    pub trusted_issuers_file: Option<PathBuf>,
    /// What a password must be, and what hashing one costs.
    pub passwords: PasswordSettings,
    /// What holds for second factors.
    pub factors: FactorSettings,
    /// How many calls a client may make.
    pub limits: LimitSettings,
    /// How replicas learn of revocations.
    pub revocation: RevocationSettings,
    /// What is logged and traced.
    pub telemetry: TelemetrySettings,
}

/// Where the data is.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// The database.
    pub url: DatabaseUrl,
    /// Connections held at most.
    pub pool_size: NonZeroUsize,
    /// Whether production may use a database on another machine that does not prove who it is.
    pub allows_unverified: bool,
    /// How long a start waits for it.
    pub start_timeout: Duration,
    /// How long audit events are kept.
    pub audit_retention: Duration,
}

/// What is in the tokens, and how long they and their sessions live.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The `iss` claim, to the letter.
    pub issuer: String,
    /// The `aud` claim; at least one, each once.
    pub audiences: Vec<String>,
    /// The `client_id` claim (RFC 9068 section 2.2).
    pub client_id: String,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Life of an access token of a service account.
    pub service_ttl: Duration,
    /// Life of a session since its last refresh; at least `access_ttl`.
    pub refresh_ttl: Duration,
    /// Life of a session since its login; at least `refresh_ttl`.
    pub session_max_lifetime: Duration,
    /// How long after a rotation the old refresh token is a retry; shorter than `access_ttl`.
    pub refresh_grace: Duration,
    /// How long past its expiry an access token is accepted.
    pub leeway: Duration,
}

/// What signs access tokens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct SigningSettings {
    /// What new keys sign with; older keys keep their own algorithm.
    pub algorithm: SigningAlgorithm,
    /// How long a key signs before its successor does.
    pub rotation: Duration,
    /// How long a key is published before it signs.
    pub lead: Duration,
    /// How long verifiers may keep the JWKS; at most the lead.
    pub jwks_max_age: Duration,
}

/// The algorithm and size of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3), modulus of 2048 bits.
    Rs256With2048Bits,
    /// The same with 3072 bits.
    Rs256With3072Bits,
}

/// What a password must be, and what hashing one costs.
#[derive(Clone, Debug)]
pub struct PasswordSettings {
    /// Cost of a hash.
    pub argon2: Argon2Settings,
    /// Threads that hash.
    pub workers: NonZeroUsize,
    /// Jobs that may wait for them.
    pub queue: NonZeroUsize,
    /// Shortest new password, in code points; 8 to 256.
    pub min_length: usize,
    /// A filter of passwords that are known from breaches; `None`: new ones are not compared with a list.
    pub breached_file: Option<PathBuf>,
}

/// Cost parameters of Argon2id (RFC 9106 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Settings {
    /// Memory in KiB; at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

/// How many calls a client may make.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// For the calls that take a password or a one-time token, by client address; `None` is off.
    pub credential: Option<Rate>,
    /// For Refresh, Logout and ValidateToken, by client address; `None` is off.
    pub token: Option<Rate>,
    /// For AccountService, by user; `None` is off.
    pub account: Option<Rate>,
    /// Live sessions of one user.
    pub max_sessions_per_user: NonZeroU32,
    /// WatchRevocations streams at once on this replica.
    pub max_watchers: NonZeroU32,
    /// Failed logins on one account before growing delays set in.
    pub account_failure_limit: NonZeroU32,
    /// Who may register.
    pub registration: Registration,
    /// Networks whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// A steady rate, and how far a client may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls per second in the long run.
    pub per_second: NonZeroU32,
    /// Calls that may come at once.
    pub burst: NonZeroU32,
}

/// How replicas learn of revocations.
#[derive(Clone, Debug)]
pub struct RevocationSettings {
    /// How often they are read again.
    pub poll_interval: Duration,
    /// How old the knowledge may grow; longer than `poll_interval`.
    pub max_staleness: Duration,
    /// What happens when it is older.
    pub stale_policy: StalePolicy,
}

/// What is logged and traced.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Directives of a `tracing_subscriber::EnvFilter`, checked.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
    /// OTLP/gRPC collector for the traces; `None`: there are none.
    pub otlp_traces_endpoint: Option<String>,
    /// OTLP/gRPC collector for the durations of calls; `None`: they are not sent.
    pub otlp_metrics_endpoint: Option<String>,
    /// Name under which they appear.
    pub service_name: String,
}
