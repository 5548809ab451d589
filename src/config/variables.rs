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
        "Which rules hold: development, test or production (which refuses unsafe settings).";
    grpc_addr: Address, "COUNTERSIGN_GRPC_ADDR", Text("127.0.0.1:50051"),
        "Address and port on which gRPC is served; port 0 takes a free one.";
    http_addr: OptionalAddress, "COUNTERSIGN_HTTP_ADDR", Text("127.0.0.1:8080"),
        "Address and port of the HTTP server (JWKS, metadata, metrics); set to nothing, it is off.";
    database_url: DatabaseUrl, "COUNTERSIGN_DATABASE_URL", Text("sqlite://data/countersign.db"),
        "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME; profile test has no default.";
    database_pool_size: Whole<NonZeroUsize, 1, 1000>, "COUNTERSIGN_DATABASE_POOL_SIZE", Text("16"),
        "Database connections held at most, by each replica.";
    database_tls: DatabaseTls, "COUNTERSIGN_DATABASE_TLS", Text("verified"),
        "What production demands of a database on another machine: verified (sslmode=verify-full, or verify-ca) or unverified.";
    database_start_timeout: Span<0, HOUR>, "COUNTERSIGN_DATABASE_START_TIMEOUT", Text("60s"),
        "How long a start waits for PostgreSQL before it fails; a server that takes connections and is silent gets at most 12s.";
    audit_retention: Span<DAY, TEN_YEARS>, "COUNTERSIGN_AUDIT_RETENTION", Text("400d"),
        "How long audit events are kept.";
    master_keys: Option<MasterKeys>, "COUNTERSIGN_MASTER_KEYS", Rule("a key file beside the database; required in production"),
        "Master keys as v1:BASE64, comma-separated, 32 bytes each; the first is active, the others still verify.";
    master_keys_file: Option<PathBuf>, "COUNTERSIGN_MASTER_KEYS_FILE", Rule("none"),
        "A file that holds the master keys instead, separated by commas or line ends.";
    issuer: Issuer, "COUNTERSIGN_ISSUER", Text("http://localhost:50051"),
        "The iss claim of every access token; https in production.";
    audiences: List<ClaimName>, "COUNTERSIGN_AUDIENCES", Text("countersign"),
        "The aud claim of every access token, comma-separated.";
    client_id: ClaimName, "COUNTERSIGN_CLIENT_ID", Text("countersign"),
        "The client_id claim of every access token (RFC 9068).";
    signing_algorithm: Algorithm, "COUNTERSIGN_SIGNING_ALGORITHM", Text("ES256"),
        "What new signing keys sign with: ES256, RS256, or EdDSA, which some verifiers cannot check.";
    rsa_key_bits: RsaKeyBits, "COUNTERSIGN_RSA_KEY_BITS", Text("2048"),
        "Size of new RS256 keys: 2048 or 3072.";
    signing_key_rotation: Span<MINUTE, TEN_YEARS>, "COUNTERSIGN_SIGNING_KEY_ROTATION", Text("30d"),
        "How long a signing key signs before its successor does.";
    signing_key_lead: Span<SECOND, { 30 * DAY }>, "COUNTERSIGN_SIGNING_KEY_LEAD", Text("15m"),
        "How long a new signing key is published before it signs, for verifiers that keep the JWKS.";
    jwks_max_age: Span<SECOND, DAY>, "COUNTERSIGN_JWKS_MAX_AGE", Text("5m"),
        "How long verifiers may keep the JWKS, as Cache-Control says; at most the lead of a new key.";
    access_token_ttl: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_ACCESS_TOKEN_TTL", Text("15m"),
        "How long an access token is valid; at most 30m in production.";
    service_token_ttl: Span<{ 3 * MINUTE }, { 30 * MINUTE }>, "COUNTERSIGN_SERVICE_TOKEN_TTL", Text("5m"),
        "How long an access token of a service account is valid.";
    refresh_token_ttl: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_REFRESH_TOKEN_TTL", Text("7d"),
        "How long a session lives without a refresh.";
    session_max_lifetime: Span<SECOND, TEN_YEARS>, "COUNTERSIGN_SESSION_MAX_LIFETIME", Text("30d"),
        "How long a session lives at most, however often it is refreshed.";
    refresh_grace: Span<0, MINUTE>, "COUNTERSIGN_REFRESH_GRACE", Text("10s"),
        "How long after a rotation the old refresh token is a retry and not reuse.";
    token_leeway: Span<0, { 5 * MINUTE }>, "COUNTERSIGN_TOKEN_LEEWAY", Text("0s"),
        "How long past its expiry an access token is still accepted, for clocks that disagree.";
    trusted_issuers_file: Option<FilePath>, "COUNTERSIGN_TRUSTED_ISSUERS_FILE", Rule("none: no assertion is accepted"),
        "Whose assertions prove a service, in TOML: issuers and bindings to service accounts; read again within 5 s after a change.";
    argon2_memory_kib: Whole<u32, 8, 4_194_304>, "COUNTERSIGN_ARGON2_MEMORY_KIB", Text("19456"),
        "Memory of one password hash, in KiB; production refuses less than an OWASP equivalent.";
    argon2_iterations: Whole<u32, 1, 100>, "COUNTERSIGN_ARGON2_ITERATIONS", Text("2"),
        "Passes over that memory.";
    argon2_parallelism: Whole<u32, 1, 64>, "COUNTERSIGN_ARGON2_PARALLELISM", Text("1"),
        "Lanes of one password hash.";
    hashing_workers: Option<Whole<NonZeroUsize, 1, 1024>>, "COUNTERSIGN_HASHING_WORKERS", Rule("number of cores"),
        "Threads that hash passwords; while tokens are validated, no more at once than there are other cores.";
    hashing_queue: Whole<NonZeroUsize, 1, 65_536>, "COUNTERSIGN_HASHING_QUEUE", Text("64"),
        "Hashing jobs that may wait; further ones are answered OVERLOADED.";
    password_min_length: Whole<usize, 8, 256>, "COUNTERSIGN_PASSWORD_MIN_LENGTH", Text("15"),
        "Shortest new password, in code points; at least 8.";
    breached_passwords_file: Option<FilePath>, "COUNTERSIGN_BREACHED_PASSWORDS_FILE", Rule("none: new passwords are not compared with a list"),
        "Filter of passwords that are known from breaches, made by countersign passwords build-filter; new ones among them are refused.";
    require_second_factor: SecondFactorPolicy, "COUNTERSIGN_REQUIRE_SECOND_FACTOR", Text("off"),
        "Who must have a second factor, and without one may only enroll it: off, admins (who hold the role admin) or all.";
    totp_issuer: Option<TotpIssuer>, "COUNTERSIGN_TOTP_ISSUER", Rule("the host of the issuer"),
        "Name of the service in authenticator apps, such as Example Accounts.";
    credential_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", Text("5"),
        "Credential calls per second and client address (Register, Login, ...); 0 is off.";
    credential_rate_burst: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_CREDENTIAL_RATE_BURST", Text("20"),
        "Credential calls that may come at once.";
    token_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_TOKEN_RATE_PER_SECOND", Text("0"),
        "Refresh, Logout and ValidateToken calls per second and client address; 0 is off.";
    token_rate_burst: Option<Whole<u32, 0, 1_000_000>>, "COUNTERSIGN_TOKEN_RATE_BURST", Rule("same as the rate"),
        "Such calls that may come at once.";
    account_rate_per_second: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", Text("20"),
        "AccountService calls per second and user; 0 is off.";
    account_rate_burst: Whole<u32, 0, 1_000_000>, "COUNTERSIGN_ACCOUNT_RATE_BURST", Text("100"),
        "AccountService calls of one user that may come at once.";
    max_sessions_per_user: Whole<NonZeroU32, 1, 100_000>, "COUNTERSIGN_MAX_SESSIONS_PER_USER", Text("100"),
        "Live sessions of one user; a login beyond that ends the oldest.";
    max_watchers: Whole<NonZeroU32, 1, 1_000_000>, "COUNTERSIGN_MAX_WATCHERS", Text("1000"),
        "WatchRevocations streams at once on each replica; one user may hold half of them.";
    account_failure_limit: Whole<NonZeroU32, 1, 1_000_000>, "COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", Text("10"),
        "Failed logins on one account before growing delays set in.";
    registration: Registration, "COUNTERSIGN_REGISTRATION", Text("open"),
        "Who may register: open (everybody), closed (only administrators create users) or verified (no login before the address is verified).";
    trusted_proxies: Option<TrustedProxies>, "COUNTERSIGN_TRUSTED_PROXIES", Rule("none"),
        "Networks whose x-forwarded-for is believed, as CIDR, comma-separated; production behind a gateway demands it (or the word none).";
    revocation_poll_interval: Span<{ 100 * MILLISECOND }, HOUR>, "COUNTERSIGN_REVOCATION_POLL_INTERVAL", Text("5s"),
        "How often revocations are read again, in case a notification was lost.";
    revocation_max_staleness: Span<SECOND, DAY>, "COUNTERSIGN_REVOCATION_MAX_STALENESS", Text("60s"),
        "How old the knowledge of revocations may grow before the stale policy applies.";
    stale_policy: StalePolicy, "COUNTERSIGN_STALE_POLICY", Text("serve"),
        "What ValidateToken does then: serve (answer from what is known) or reject.";
    tls: Tls, "COUNTERSIGN_TLS", Text("off"),
        "off, on (this process encrypts both ports), or terminated (a mesh or gateway does); production demands one of the last two.";
    tls_cert_file: Option<FilePath>, "COUNTERSIGN_TLS_CERT_FILE", Rule("none"),
        "Certificate of the server and the intermediate ones, in PEM; taken anew within 5 s after a change.";
    tls_key_file: Option<FilePath>, "COUNTERSIGN_TLS_KEY_FILE", Rule("none"),
        "Its private key, in PEM.";
    tls_client_ca_file: Option<FilePath>, "COUNTERSIGN_TLS_CLIENT_CA_FILE", Rule("none: no client certificates"),
        "Certificates of the authorities whose client certificates the gRPC port accepts, in PEM.";
    tls_client_auth: Option<ClientAuth>, "COUNTERSIGN_TLS_CLIENT_AUTH", Rule("optional with an authority"),
        "Whether clients of the gRPC port must show a certificate: optional or required.";
    tls_verifiers: Option<List<VerifierName>>, "COUNTERSIGN_TLS_VERIFIERS", Rule("none"),
        "Subject alternative names of the client certificates that may watch revocations without an access token, comma-separated: DNS names or spiffe:// URIs.";
    cors_origins: Option<List<Origin>>, "COUNTERSIGN_CORS_ORIGINS", Rule("none: no gRPC-Web"),
        "Origins of the pages that may call by gRPC-Web, comma-separated, such as https://app.example.com; only https in production.";
    smtp_url: Option<SmtpUrl>, "COUNTERSIGN_SMTP_URL", Rule("none: mails become files"),
        "SMTP server: smtps://USER:PASSWORD@HOST, smtp:// for STARTTLS (?tls=none for none), or none (no mail is sent); production demands one of them.";
    smtp_ca_file: Option<FilePath>, "COUNTERSIGN_SMTP_CA_FILE", Rule("those of the system"),
        "Certificate of the authority that the SMTP server's certificate is checked against, in PEM.";
    mail_from: Option<Sender>, "COUNTERSIGN_MAIL_FROM", Rule("countersign@localhost for files"),
        "Sender of the mails, such as Accounts <accounts@example.org>.";
    mail_folder: FilePath, "COUNTERSIGN_MAIL_FOLDER", Text("data/mail"),
        "Folder for the mails, one .eml file each, where there is no SMTP server.";
    mail_templates: Option<FilePath>, "COUNTERSIGN_MAIL_TEMPLATES", Rule("the built-in ones"),
        "Folder of templates that replace the built-in ones.";
    app_url: Option<AppUrl>, "COUNTERSIGN_APP_URL", Rule("none: mails hold the token alone"),
        "Address of the application; mails link to its pages /reset-password and /verify-email.";
    password_reset_ttl: Span<MINUTE, DAY>, "COUNTERSIGN_PASSWORD_RESET_TTL", Text("30m"),
        "How long the token in a mail may reset a password.";
    email_verification_ttl: Span<MINUTE, { 30 * DAY }>, "COUNTERSIGN_EMAIL_VERIFICATION_TTL", Text("3d"),
        "How long the token in a mail may verify an address.";
    invitation_ttl: Span<HOUR, { 30 * DAY }>, "COUNTERSIGN_INVITATION_TTL", Text("7d"),
        "How long the token in the mail to an invited user may set the first password.";
    webauthn_rp_id: RpId, "COUNTERSIGN_WEBAUTHN_RP_ID", Text("localhost"),
        "The domain that passkeys are made for; a change makes all of them useless.";
    webauthn_origins: List<Origin>, "COUNTERSIGN_WEBAUTHN_ORIGINS", Text("http://localhost:5173"),
        "Origins of the pages that may use passkeys, comma-separated: of that domain or a subdomain, https or http://localhost.";
    reflection: Option<Switch>, "COUNTERSIGN_REFLECTION", Rule("on; off in production"),
        "Whether gRPC reflection is served: on or off.";
    max_connections: Whole<NonZeroUsize, 1, 1_000_000>, "COUNTERSIGN_MAX_CONNECTIONS", Text("10000"),
        "Open connections to the gRPC port; one more is closed at once. Fewer where the process may open fewer files or has little memory.";
    max_connections_per_peer: Option<Whole<NonZeroUsize, 1, 1_000_000>>, "COUNTERSIGN_MAX_CONNECTIONS_PER_PEER", Rule("a quarter of all, at least 16"),
        "Open connections from one address (an IPv6 /64), on the gRPC port; trusted proxies have no limit of their own. If it is not below COUNTERSIGN_MAX_CONNECTIONS, one address may use all that is shared.";
    connection_idle_timeout: Span<SECOND, DAY>, "COUNTERSIGN_CONNECTION_IDLE_TIMEOUT", Text("5m"),
        "After this time without a call the server closes a connection.";
    max_concurrent_streams: Whole<u32, 1, 65_536>, "COUNTERSIGN_MAX_CONCURRENT_STREAMS", Text("256"),
        "Open streams on one HTTP/2 connection.";
    max_concurrent_calls: Whole<NonZeroUsize, 1, 1_000_000>, "COUNTERSIGN_MAX_CONCURRENT_CALLS", Text("4096"),
        "Calls that hash or use the database at the same time; one more is answered OVERLOADED.";
    max_message_size: Whole<usize, 4_096, 16_777_216>, "COUNTERSIGN_MAX_MESSAGE_SIZE", Text("65536"),
        "Bytes of one gRPC request message.";
    max_request_memory: Whole<usize, 1_048_576, 1_099_511_627_776>, "COUNTERSIGN_MAX_REQUEST_MEMORY", Text("67108864"),
        "Bytes of all gRPC requests that are still arriving, headers included; one address gets a quarter. What exceeds it is answered OVERLOADED.";
    max_header_size: Whole<u32, 8_192, 1_048_576>, "COUNTERSIGN_MAX_HEADER_SIZE", Text("16384"),
        "Bytes of the headers of one request, on both ports.";
    handshake_timeout: Span<{ 100 * MILLISECOND }, MINUTE>, "COUNTERSIGN_HANDSHAKE_TIMEOUT", Text("5s"),
        "How long a new connection may take to open HTTP/2 or to send its HTTP/1.1 request, on both ports.";
    request_timeout: Span<{ 100 * MILLISECOND }, HOUR>, "COUNTERSIGN_REQUEST_TIMEOUT", Text("10s"),
        "How long one unary call may take, its request message included.";
    max_connection_age: Span<SECOND, DAY>, "COUNTERSIGN_MAX_CONNECTION_AGE", Text("30m"),
        "After this time, varied by 10 % up or down, the server asks a client to open another connection.";
    max_connection_age_grace: Span<0, HOUR>, "COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", Text("10s"),
        "How long the calls on such a connection may go on before the server ends them and closes it.";
    shutdown_delay: Option<Span<0, HOUR>>, "COUNTERSIGN_SHUTDOWN_DELAY", Rule("0s; 5s in production"),
        "How long the ports stay open after SIGTERM, while health says NOT_SERVING.";
    drain_timeout: Span<0, HOUR>, "COUNTERSIGN_DRAIN_TIMEOUT", Text("20s"),
        "How long running calls may finish after the ports have been closed.";
    log: LogFilter, "COUNTERSIGN_LOG", Text("info"),
        "What is logged: a level, or directives such as info,countersign=debug.";
    log_format: Option<LogFormat>, "COUNTERSIGN_LOG_FORMAT", Rule("pretty on a terminal, else json"),
        "How it is logged: pretty or json.";
    otel_exporter_otlp_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_ENDPOINT", Rule("none: no export"),
        "OTLP/gRPC collector that receives traces and the durations of calls, such as http://localhost:4317.";
    otel_exporter_otlp_traces_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Rule("none"),
        "The same, for traces alone; wins over the general one.";
    otel_exporter_otlp_metrics_endpoint: Option<Collector>, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Rule("none"),
        "The same, for the durations of calls alone; wins over the general one.";
    otel_service_name: ClaimName, "OTEL_SERVICE_NAME", Text("countersign"),
        "Name under which traces and durations appear.";
}
