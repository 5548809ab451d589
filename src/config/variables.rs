//! Every environment variable, declared once: its type, its name, its default, and what it means.
//!
//! To add one, add a row here and a field to [`Config`](super::Config). `.env.example` and the table in
//! `docs/configuration.md` are checked against this list by `tests/tidy.rs`.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use serde::Deserialize;

use DefaultValue::{Rule, Text};

use super::{
    addresses::{Address, Collector, Issuer, OptionalAddress, Origin, RpId, TrustedProxies},
    database_url::DatabaseUrl,
    factor_values::{SecondFactorPolicy, TotpIssuer},
    mail_values::{AppUrl, Sender, SmtpUrl},
    master_keys::MasterKeys,
    profile::Profile,
    values::{
        Algorithm, ClaimName, ClientAuth, DAY, DatabaseTls, FilePath, HOUR, List, LogFilter,
        LogFormat, MILLISECOND, MINUTE, Registration, RsaKeyBits, SECOND, Span, StalePolicy,
        Switch, TEN_YEARS, Tls, Whole,
    },
    verifier_names::VerifierName,
};

/// What the names of our own variables begin with.
pub(super) const PREFIX: &str = "COUNTERSIGN_";

/// One environment variable that [`Config`](super::Config) reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// What holds when the variable is unset or empty.
    pub default: DefaultValue,
    /// What it decides, in one line.
    pub meaning: &'static str,
}

/// What holds when a variable is unset or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// As if this text had been given.
    Text(&'static str),
    /// No fixed text: the rule in words. The type of such a variable is an `Option`.
    Rule(&'static str),
}

/// Makes two things of one list: `VARIABLES`, and `Values`, which envy fills.
macro_rules! variables {
    ($($field:ident: $type:ty, $name:literal, $default:expr, $meaning:literal;)*) => {
        /// Every variable that is read, in the order in which the documentation lists them.
        pub const VARIABLES: &[Variable] = &[$(
            Variable { name: $name, default: $default, meaning: $meaning },
        )*];

        /// The value of every variable, each valid by itself.
        #[derive(Deserialize)]
        pub(super) struct Values { $(pub $field: $type,)* }
    };
}

variables! {
    profile: Profile, "COUNTERSIGN_PROFILE", Text("development"),
        "The profile: development, test or production (which refuses unsafe settings).";
    grpc_addr: Address, "COUNTERSIGN_GRPC_ADDR", Text("127.0.0.1:50051"),
        "Address and port on which gRPC is served; port 0 uses a free port.";
    http_addr: OptionalAddress, "COUNTERSIGN_HTTP_ADDR", Text("127.0.0.1:8080"),
        "Address and port of the HTTP server (JWKS, metadata, metrics); empty turns it off.";
    database_url: DatabaseUrl, "COUNTERSIGN_DATABASE_URL", Text("sqlite://data/countersign.db"),
        "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME; profile test has no default.";
    database_pool_size: Whole<NonZeroUsize, 1, 1000>, "COUNTERSIGN_DATABASE_POOL_SIZE", Text("16"),
        "Maximum number of database connections of each replica.";
    database_tls: DatabaseTls, "COUNTERSIGN_DATABASE_TLS", Text("verified"),
        "TLS that production requires for a database on another machine: verified (sslmode=verify-full, or verify-ca) or unverified.";
    database_start_timeout: Span<0, HOUR>, "COUNTERSIGN_DATABASE_START_TIMEOUT", Text("60s"),
        "How long the server waits for PostgreSQL at startup before it fails; at most 12s for a database that accepts connections and does not answer.";
    audit_retention: Span<DAY, TEN_YEARS>, "COUNTERSIGN_AUDIT_RETENTION", Text("400d"),
        "How long audit events are kept.";
    master_keys: Option<MasterKeys>, "COUNTERSIGN_MASTER_KEYS", Rule("a key file beside the database; required in production"),
        "Master keys as v1:BASE64, comma-separated, 32 bytes each; the first is active, the others are still accepted.";
    master_keys_file: Option<PathBuf>, "COUNTERSIGN_MASTER_KEYS_FILE", Rule("none"),
        "A file with the master keys instead, separated by commas or line ends.";
    issuer: Issuer, "COUNTERSIGN_ISSUER", Text("http://localhost:50051"),
        "The iss claim of every access token; https in production.";
    audiences: List<ClaimName>, "COUNTERSIGN_AUDIENCES", Text("countersign"),
        "The aud claim of every access token, comma-separated.";
    client_id: ClaimName, "COUNTERSIGN_CLIENT_ID", Text("countersign"),
        "The client_id claim of every access token (RFC 9068).";
    signing_algorithm: Algorithm, "COUNTERSIGN_SIGNING_ALGORITHM", Text("ES256"),
        "Algorithm of new signing keys: ES256, RS256, or EdDSA, which some JWT libraries do not support.";
    rsa_key_bits: RsaKeyBits, "COUNTERSIGN_RSA_KEY_BITS", Text("2048"),
        "Size of new RS256 keys: 2048 or 3072.";
    signing_key_rotation: Span<MINUTE, TEN_YEARS>, "COUNTERSIGN_SIGNING_KEY_ROTATION", Text("30d"),
        "How long a signing key signs before the next one replaces it.";
    signing_key_lead: Span<SECOND, { 30 * DAY }>, "COUNTERSIGN_SIGNING_KEY_LEAD", Text("15m"),
        "How long a new signing key is published before it signs, for verifiers that cache the JWKS.";
    jwks_max_age: Span<SECOND, DAY>, "COUNTERSIGN_JWKS_MAX_AGE", Text("5m"),
        "How long verifiers may cache the JWKS (Cache-Control max-age); at most COUNTERSIGN_SIGNING_KEY_LEAD.";
    access_token_ttl: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_ACCESS_TOKEN_TTL", Text("15m"),
        "How long an access token is valid; at most 30m in production.";
    service_token_ttl: Span<{ 3 * MINUTE }, { 30 * MINUTE }>, "COUNTERSIGN_SERVICE_TOKEN_TTL", Text("5m"),
        "How long an access token of a service account is valid.";
    refresh_token_ttl: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_REFRESH_TOKEN_TTL", Text("7d"),
        "How long a session is valid without a refresh (idle time-out).";
    session_max_lifetime: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_SESSION_MAX_LIFETIME", Text("30d"),
        "Maximum lifetime of a session, even if it is refreshed.";
    refresh_grace: Span<0, MINUTE>, "COUNTERSIGN_REFRESH_GRACE", Text("10s"),
        "How long after a rotation the old refresh token counts as a retry and not as reuse.";
    token_leeway: Span<0, { 5 * MINUTE }>, "COUNTERSIGN_TOKEN_LEEWAY", Text("0s"),
        "How long after its expiry an access token is still accepted, to tolerate clock skew.";
    trusted_issuers_file: Option<FilePath>, "COUNTERSIGN_TRUSTED_ISSUERS_FILE", Rule("none: no assertion is accepted"),
        "TOML file of trusted issuers and of the service accounts that their assertions authenticate; reloaded within 5 s after a change.";
    argon2_memory_kib: Whole<u32, 8, 4_194_304>, "COUNTERSIGN_ARGON2_MEMORY_KIB", Text("19456"),
        "Memory of one password hash, in KiB; production refuses less than an OWASP equivalent.";
    argon2_iterations: Whole<u32, 1, 100>, "COUNTERSIGN_ARGON2_ITERATIONS", Text("2"),
        "Number of Argon2 passes (iterations).";
    argon2_parallelism: Whole<u32, 1, 64>, "COUNTERSIGN_ARGON2_PARALLELISM", Text("1"),
        "Number of Argon2 lanes (parallelism).";
    hashing_workers: Option<Whole<NonZeroUsize, 1, 1024>>, "COUNTERSIGN_HASHING_WORKERS", Rule("number of cores"),
        "Threads that hash passwords; while tokens are validated, one core is left free.";
    hashing_queue: Whole<NonZeroUsize, 1, 65_536>, "COUNTERSIGN_HASHING_QUEUE", Text("64"),
        "Hashing jobs that may wait; further ones are answered OVERLOADED.";
    password_min_length: Whole<usize, 8, 256>, "COUNTERSIGN_PASSWORD_MIN_LENGTH", Text("15"),
        "Shortest new password, in code points; at least 8.";
    breached_passwords_file: Option<FilePath>, "COUNTERSIGN_BREACHED_PASSWORDS_FILE", Rule("none: new passwords are not compared with a list"),
        "Filter of breached passwords, built by countersign passwords build-filter; new passwords in it are refused.";
    require_second_factor: SecondFactorPolicy, "COUNTERSIGN_REQUIRE_SECOND_FACTOR", Text("off"),
        "Who must have a second factor: off (nobody), admins (users with the role admin) or all. Users without one may only enroll it.";
    totp_issuer: Option<TotpIssuer>, "COUNTERSIGN_TOTP_ISSUER", Rule("the host of the issuer"),
        "Name of the service in authenticator apps, such as Example Accounts.";
    credential_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", Text("5"),
        "Credential calls per second and client address (Register, Login, ...); 0 is off.";
    credential_rate_burst: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_CREDENTIAL_RATE_BURST", Text("20"),
        "Burst of credential calls: how many may come at once.";
    token_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_TOKEN_RATE_PER_SECOND", Text("0"),
        "Refresh, Logout and ValidateToken calls per second and client address; 0 is off.";
    token_rate_burst: Option<Whole<u32, 0, 1_000_000>>, "COUNTERSIGN_TOKEN_RATE_BURST", Rule("same as the rate"),
        "Burst of such calls: how many may come at once.";
    account_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", Text("20"),
        "AccountService calls per second and user; 0 is off.";
    account_rate_burst: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_ACCOUNT_RATE_BURST", Text("100"),
        "AccountService calls of one user that may come at once (burst).";
    max_sessions_per_user: Whole<NonZeroU32, 1, 100_000>, "COUNTERSIGN_MAX_SESSIONS_PER_USER", Text("100"),
        "Maximum number of active sessions of one user; a further login ends the oldest.";
    max_watchers: Whole<NonZeroU32, 1, 1_000_000>, "COUNTERSIGN_MAX_WATCHERS", Text("1000"),
        "WatchRevocations streams that each replica serves at once; one user may have half of them.";
    account_failure_limit: Whole<NonZeroU32, 1, 1_000_000>, "COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", Text("10"),
        "Failed logins on one account before growing delays begin.";
    registration: Registration, "COUNTERSIGN_REGISTRATION", Text("open"),
        "Who may register: open (everybody), closed (only administrators create users) or verified (no login before the address is verified).";
    trusted_proxies: Option<TrustedProxies>, "COUNTERSIGN_TRUSTED_PROXIES", Rule("none"),
        "Networks whose x-forwarded-for is trusted, as CIDR, comma-separated; required in production behind a gateway (or the word none).";
    revocation_poll_interval: Span<{ 100 * MILLISECOND }, HOUR>, "COUNTERSIGN_REVOCATION_POLL_INTERVAL", Text("5s"),
        "How often revocations are read again, in case a notification was lost.";
    revocation_max_staleness: Span<SECOND, DAY>, "COUNTERSIGN_REVOCATION_MAX_STALENESS", Text("60s"),
        "Maximum age of a replica's revocation data before the stale policy applies.";
    stale_policy: StalePolicy, "COUNTERSIGN_STALE_POLICY", Text("serve"),
        "What ValidateToken does with older revocation data: serve (answer with it) or reject.";
    tls: Tls, "COUNTERSIGN_TLS", Text("off"),
        "off, on (this process encrypts both ports), or terminated (a mesh or gateway does); production requires on or terminated.";
    tls_cert_file: Option<FilePath>, "COUNTERSIGN_TLS_CERT_FILE", Rule("none"),
        "Certificate of the server and the intermediate ones, in PEM; reloaded within 5 s after a change.";
    tls_key_file: Option<FilePath>, "COUNTERSIGN_TLS_KEY_FILE", Rule("none"),
        "Private key of the certificate, in PEM.";
    tls_client_ca_file: Option<FilePath>, "COUNTERSIGN_TLS_CLIENT_CA_FILE", Rule("none: no client certificates"),
        "CA certificates for client certificates on the gRPC port, in PEM.";
    tls_client_auth: Option<ClientAuth>, "COUNTERSIGN_TLS_CLIENT_AUTH", Rule("optional with a CA file"),
        "Whether clients of the gRPC port must present a certificate: optional or required.";
    tls_verifiers: Option<List<VerifierName>>, "COUNTERSIGN_TLS_VERIFIERS", Rule("none"),
        "Subject alternative names of the client certificates that may watch revocations without an access token, comma-separated: DNS names or spiffe:// URIs.";
    cors_origins: Option<List<Origin>>, "COUNTERSIGN_CORS_ORIGINS", Rule("none: no gRPC-Web"),
        "Origins of the web pages that may call with gRPC-Web, comma-separated, such as https://app.example.com; only https in production.";
    smtp_url: Option<SmtpUrl>, "COUNTERSIGN_SMTP_URL", Rule("none: mails become files"),
        "SMTP server: smtps://USER:PASSWORD@HOST, smtp:// for STARTTLS (?tls=none for none), or none (no mail is sent); required in production.";
    smtp_ca_file: Option<FilePath>, "COUNTERSIGN_SMTP_CA_FILE", Rule("those of the system"),
        "CA certificate for the SMTP server, in PEM.";
    mail_from: Option<Sender>, "COUNTERSIGN_MAIL_FROM", Rule("countersign@localhost for files"),
        "Sender of the mails, such as Accounts <accounts@example.org>.";
    mail_folder: FilePath, "COUNTERSIGN_MAIL_FOLDER", Text("data/mail"),
        "Folder for the mails, as .eml files, if there is no SMTP server.";
    mail_templates: Option<FilePath>, "COUNTERSIGN_MAIL_TEMPLATES", Rule("the built-in ones"),
        "Folder of templates that replace the built-in ones.";
    app_url: Option<AppUrl>, "COUNTERSIGN_APP_URL", Rule("none: mails contain only the token"),
        "Address of the application; mails link to its pages /reset-password and /verify-email.";
    password_reset_ttl: Span<MINUTE, DAY>, "COUNTERSIGN_PASSWORD_RESET_TTL", Text("30m"),
        "How long the token in a password reset mail is valid.";
    email_verification_ttl: Span<MINUTE, { 30 * DAY }>, "COUNTERSIGN_EMAIL_VERIFICATION_TTL", Text("3d"),
        "How long the token in a verification mail is valid.";
    invitation_ttl: Span<HOUR, { 30 * DAY }>, "COUNTERSIGN_INVITATION_TTL", Text("7d"),
        "How long the token in an invitation mail is valid.";
    webauthn_rp_id: RpId, "COUNTERSIGN_WEBAUTHN_RP_ID", Text("localhost"),
        "The RP ID (domain) of passkeys; after a change no existing passkey works.";
    webauthn_origins: List<Origin>, "COUNTERSIGN_WEBAUTHN_ORIGINS", Text("http://localhost:5173"),
        "Origins of the pages that may use passkeys, comma-separated: of that domain or a subdomain, https or http://localhost.";
    reflection: Option<Switch>, "COUNTERSIGN_REFLECTION", Rule("on; off in production"),
        "Whether gRPC reflection is served: on or off.";
    max_connections: Whole<NonZeroUsize, 1, 1_000_000>, "COUNTERSIGN_MAX_CONNECTIONS", Text("10000"),
        "Maximum number of open connections to the gRPC port; a further one is closed at once. Lower if the process may open fewer files or has little memory.";
    max_connections_per_peer: Option<Whole<NonZeroUsize, 1, 1_000_000>>, "COUNTERSIGN_MAX_CONNECTIONS_PER_PEER", Rule("a quarter of all, at least 16"),
        "Maximum number of open connections from one address (an IPv6 /64) to the gRPC port; trusted proxies are exempt. If it is not below COUNTERSIGN_MAX_CONNECTIONS, one address may use all connections and all request memory; rate limits stay.";
    connection_idle_timeout: Span<SECOND, DAY>, "COUNTERSIGN_CONNECTION_IDLE_TIMEOUT", Text("5m"),
        "After this time without a call the server closes a connection.";
    max_concurrent_streams: Whole<u32, 1, 65_536>, "COUNTERSIGN_MAX_CONCURRENT_STREAMS", Text("256"),
        "Maximum number of open streams on one HTTP/2 connection.";
    max_concurrent_calls: Whole<NonZeroUsize, 1, 1_000_000>, "COUNTERSIGN_MAX_CONCURRENT_CALLS", Text("4096"),
        "Calls that may hash or use the database at the same time; further ones are answered OVERLOADED.";
    max_message_size: Whole<usize, 4_096, 16_777_216>, "COUNTERSIGN_MAX_MESSAGE_SIZE", Text("65536"),
        "Maximum size of one gRPC request message, in bytes.";
    max_request_memory: Whole<usize, 1_048_576, 1_099_511_627_776>, "COUNTERSIGN_MAX_REQUEST_MEMORY", Text("67108864"),
        "Memory for all gRPC requests that are still arriving, headers included, in bytes; one address gets a quarter. Requests beyond it are answered OVERLOADED.";
    max_header_size: Whole<u32, 8_192, 1_048_576>, "COUNTERSIGN_MAX_HEADER_SIZE", Text("16384"),
        "Maximum size of the headers of one request, in bytes, on both ports.";
    handshake_timeout: Span<{ 100 * MILLISECOND }, MINUTE>, "COUNTERSIGN_HANDSHAKE_TIMEOUT", Text("5s"),
        "How long a new connection may take to open HTTP/2 or to send its HTTP/1.1 request, on both ports.";
    request_timeout: Span<{ 100 * MILLISECOND }, HOUR>, "COUNTERSIGN_REQUEST_TIMEOUT", Text("10s"),
        "How long one unary call may take, its request message included.";
    max_connection_age: Span<SECOND, DAY>, "COUNTERSIGN_MAX_CONNECTION_AGE", Text("30m"),
        "After this time, varied by 10 % up or down, the server asks a client to open another connection.";
    max_connection_age_grace: Span<0, HOUR>, "COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", Text("10s"),
        "How long the calls on such a connection may continue before the server ends them and closes it.";
    shutdown_delay: Option<Span<0, HOUR>>, "COUNTERSIGN_SHUTDOWN_DELAY", Rule("0s; 5s in production"),
        "How long the ports stay open after SIGTERM, while health is NOT_SERVING.";
    drain_timeout: Span<0, HOUR>, "COUNTERSIGN_DRAIN_TIMEOUT", Text("20s"),
        "How long running calls may finish after the ports have been closed.";
    log: LogFilter, "COUNTERSIGN_LOG", Text("info"),
        "What is logged: a level, or directives such as info,countersign=debug.";
    log_format: Option<LogFormat>, "COUNTERSIGN_LOG_FORMAT", Rule("pretty on a terminal, else json"),
        "How it is logged: pretty or json.";
    otel_exporter_otlp_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_ENDPOINT", Rule("none: no export"),
        "OTLP/gRPC collector that receives traces and the durations of calls, such as http://localhost:4317.";
    otel_exporter_otlp_traces_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Rule("none"),
        "The same, only for traces; overrides the general one.";
    otel_exporter_otlp_metrics_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Rule("none"),
        "The same, only for the durations of calls; overrides the general one.";
    otel_service_name: ClaimName, "OTEL_SERVICE_NAME", Text("countersign"),
        "Name under which traces and durations appear.";
}
