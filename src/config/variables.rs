//! Every environment variable, declared once: its name, its default, and what it means.
//!
//! `.env.example` and the table in `docs/configuration.md` are checked against this list by `tests/tidy.rs`.

use serde::Deserialize;

use DefaultValue::{Rule, Text};

/// What every variable of our own begins with.
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
    /// No fixed text says it: the rule in words.
    Rule(&'static str),
}

/// What the environment says of one variable: never empty, no blanks around it.
pub(super) struct Input {
    pub variable: &'static Variable,
    pub text: Option<String>,
    /// It is set, but to nothing. Where that has a meaning of its own, it is read; elsewhere it counts
    /// as unset.
    pub blank: bool,
}

/// Builds from one list: `VARIABLES`; `RawConfig`, which `envy` fills; and `Inputs`, which pairs the two.
macro_rules! variables {
    ($($field:ident: $name:literal, $default:expr, $meaning:literal;)*) => {
        /// Every variable that is read, in the order in which the documentation lists them.
        pub const VARIABLES: &[Variable] = &[$(
            Variable { name: $name, default: $default, meaning: $meaning },
        )*];

        /// The texts as they stand in the environment. All are optional here, so that one pass
        /// can find every problem and not only the first.
        #[derive(Deserialize)]
        pub(super) struct RawConfig { $($field: Option<String>,)* }

        /// The texts of the environment, each with its variable.
        pub(super) struct Inputs { $(pub $field: Input,)* }

        impl From<RawConfig> for Inputs {
            fn from(raw: RawConfig) -> Self {
                Self { $(
                    $field: Input::new(
                        &Variable { name: $name, default: $default, meaning: $meaning },
                        raw.$field,
                    ),
                )* }
            }
        }
    };
}

impl Input {
    fn new(variable: &'static Variable, raw: Option<String>) -> Self {
        let text = raw.map(|text| text.trim().to_owned());
        Self {
            variable,
            blank: text.as_deref() == Some(""),
            text: text.filter(|text| !text.is_empty()),
        }
    }
}

variables! {
    profile: "COUNTERSIGN_PROFILE", Text("development"),
        "Which rules hold: development, test or production (which refuses unsafe settings).";
    grpc_addr: "COUNTERSIGN_GRPC_ADDR", Text("127.0.0.1:50051"),
        "Address and port on which gRPC is served; port 0 takes a free one.";
    http_addr: "COUNTERSIGN_HTTP_ADDR", Text("127.0.0.1:8080"),
        "Address and port of the HTTP server (JWKS, metadata, metrics); set to nothing, it is off.";
    database_url: "COUNTERSIGN_DATABASE_URL", Text("sqlite://data/countersign.db"),
        "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME; profile test has no default.";
    database_pool_size: "COUNTERSIGN_DATABASE_POOL_SIZE", Text("16"),
        "Database connections held at most, by each replica.";
    audit_retention: "COUNTERSIGN_AUDIT_RETENTION", Text("400d"),
        "How long audit events are kept.";
    master_keys: "COUNTERSIGN_MASTER_KEYS", Rule("a key file beside the database; required in production"),
        "Master keys as v1:BASE64, comma-separated, 32 bytes each; the first is active, the others still verify.";
    master_keys_file: "COUNTERSIGN_MASTER_KEYS_FILE", Rule("none"),
        "A file that holds the master keys instead, separated by commas or line ends.";
    issuer: "COUNTERSIGN_ISSUER", Text("http://localhost:50051"),
        "The iss claim of every access token; https in production.";
    audiences: "COUNTERSIGN_AUDIENCES", Text("countersign"),
        "The aud claim of every access token, comma-separated.";
    client_id: "COUNTERSIGN_CLIENT_ID", Text("countersign"),
        "The client_id claim of every access token (RFC 9068).";
    signing_algorithm: "COUNTERSIGN_SIGNING_ALGORITHM", Text("EdDSA"),
        "What new signing keys sign with: EdDSA (Ed25519), ES256 or RS256.";
    rsa_key_bits: "COUNTERSIGN_RSA_KEY_BITS", Text("2048"),
        "Size of new RS256 keys: 2048 or 3072.";
    signing_key_rotation: "COUNTERSIGN_SIGNING_KEY_ROTATION", Text("30d"),
        "How long a signing key signs before its successor does.";
    jwks_max_age: "COUNTERSIGN_JWKS_MAX_AGE", Text("5m"),
        "How long verifiers may keep the JWKS; a new key is published at least so long before it signs.";
    access_token_ttl: "COUNTERSIGN_ACCESS_TOKEN_TTL", Text("15m"),
        "How long an access token is valid; at most 30m in production.";
    refresh_token_ttl: "COUNTERSIGN_REFRESH_TOKEN_TTL", Text("7d"),
        "How long a session lives without a refresh.";
    session_max_lifetime: "COUNTERSIGN_SESSION_MAX_LIFETIME", Text("30d"),
        "How long a session lives at most, however often it is refreshed.";
    refresh_grace: "COUNTERSIGN_REFRESH_GRACE", Text("10s"),
        "How long after a rotation the old refresh token is a retry and not reuse.";
    token_leeway: "COUNTERSIGN_TOKEN_LEEWAY", Text("0s"),
        "How long past its expiry an access token is still accepted, for clocks that disagree.";
    argon2_memory_kib: "COUNTERSIGN_ARGON2_MEMORY_KIB", Text("19456"),
        "Memory of one password hash, in KiB; production refuses less than an OWASP equivalent.";
    argon2_iterations: "COUNTERSIGN_ARGON2_ITERATIONS", Text("2"),
        "Passes over that memory.";
    argon2_parallelism: "COUNTERSIGN_ARGON2_PARALLELISM", Text("1"),
        "Lanes of one password hash.";
    hashing_workers: "COUNTERSIGN_HASHING_WORKERS", Rule("number of cores"),
        "Threads that hash passwords; while tokens are validated, no more at once than there are other cores.";
    hashing_queue: "COUNTERSIGN_HASHING_QUEUE", Text("64"),
        "Hashing jobs that may wait; further ones are answered OVERLOADED.";
    password_min_length: "COUNTERSIGN_PASSWORD_MIN_LENGTH", Text("15"),
        "Shortest new password, in code points; at least 8.";
    credential_rate_per_second: "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", Text("5"),
        "Credential calls per second and client address (Register, Login, ...); 0 is off.";
    credential_rate_burst: "COUNTERSIGN_CREDENTIAL_RATE_BURST", Text("20"),
        "Credential calls that may come at once.";
    token_rate_per_second: "COUNTERSIGN_TOKEN_RATE_PER_SECOND", Text("0"),
        "Refresh, Logout and ValidateToken calls per second and client address; 0 is off.";
    token_rate_burst: "COUNTERSIGN_TOKEN_RATE_BURST", Rule("same as the rate"),
        "Such calls that may come at once.";
    account_rate_per_second: "COUNTERSIGN_ACCOUNT_RATE_PER_SECOND", Text("20"),
        "AccountService calls per second and user; 0 is off.";
    account_rate_burst: "COUNTERSIGN_ACCOUNT_RATE_BURST", Text("100"),
        "AccountService calls of one user that may come at once.";
    max_sessions_per_user: "COUNTERSIGN_MAX_SESSIONS_PER_USER", Text("100"),
        "Live sessions of one user; a login beyond that ends the oldest.";
    max_watchers: "COUNTERSIGN_MAX_WATCHERS", Text("1000"),
        "WatchRevocations streams at once on each replica; one user may hold half of them.";
    account_failure_limit: "COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", Text("10"),
        "Failed logins on one account before growing delays set in.";
    trusted_proxies: "COUNTERSIGN_TRUSTED_PROXIES", Rule("none"),
        "Networks whose x-forwarded-for is believed, as CIDR, comma-separated.";
    revocation_poll_interval: "COUNTERSIGN_REVOCATION_POLL_INTERVAL", Text("5s"),
        "How often revocations are read again, in case a notification was lost.";
    revocation_max_staleness: "COUNTERSIGN_REVOCATION_MAX_STALENESS", Text("60s"),
        "How old the knowledge of revocations may grow before the stale policy applies.";
    stale_policy: "COUNTERSIGN_STALE_POLICY", Text("serve"),
        "What ValidateToken does then: serve (answer from what is known) or reject.";
    tls: "COUNTERSIGN_TLS", Text("off"),
        "off, or terminated when a mesh or gateway encrypts in front; production demands that.";
    reflection: "COUNTERSIGN_REFLECTION", Rule("on; off in production"),
        "Whether gRPC reflection is served: on or off.";
    max_connections: "COUNTERSIGN_MAX_CONNECTIONS", Text("10000"),
        "Open connections to the gRPC port; one more is closed at once. Fewer where the process may open fewer files.";
    max_concurrent_streams: "COUNTERSIGN_MAX_CONCURRENT_STREAMS", Text("256"),
        "Open streams on one HTTP/2 connection.";
    max_message_size: "COUNTERSIGN_MAX_MESSAGE_SIZE", Text("65536"),
        "Bytes of one gRPC request message.";
    max_header_size: "COUNTERSIGN_MAX_HEADER_SIZE", Text("16384"),
        "Bytes of the headers of one request, on both ports.";
    handshake_timeout: "COUNTERSIGN_HANDSHAKE_TIMEOUT", Text("5s"),
        "How long a new connection may take to open HTTP/2 or to send its HTTP/1.1 request, on both ports.";
    request_timeout: "COUNTERSIGN_REQUEST_TIMEOUT", Text("10s"),
        "How long one unary call may take, its request message included.";
    max_connection_age: "COUNTERSIGN_MAX_CONNECTION_AGE", Text("30m"),
        "After this time, varied by 10 % up or down, the server asks a client to open another connection.";
    max_connection_age_grace: "COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", Text("10s"),
        "How long the calls on such a connection may go on before the server ends them and closes it.";
    shutdown_delay: "COUNTERSIGN_SHUTDOWN_DELAY", Rule("0s; 5s in production"),
        "How long the ports stay open after SIGTERM, while health says NOT_SERVING.";
    drain_timeout: "COUNTERSIGN_DRAIN_TIMEOUT", Text("20s"),
        "How long running calls may finish after the ports have been closed.";
    log: "COUNTERSIGN_LOG", Text("info"),
        "What is logged: a level, or directives such as info,countersign=debug.";
    log_format: "COUNTERSIGN_LOG_FORMAT", Rule("pretty on a terminal, else json"),
        "How it is logged: pretty or json.";
    otel_exporter_otlp_endpoint: "OTEL_EXPORTER_OTLP_ENDPOINT", Rule("none: no export"),
        "OTLP/gRPC collector that receives traces, such as http://localhost:4317.";
    otel_exporter_otlp_traces_endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Rule("none"),
        "The same, for traces alone; wins over the general one.";
    otel_service_name: "OTEL_SERVICE_NAME", Text("countersign"),
        "Name under which the traces appear.";
}

/// The field of [`RawConfig`] that a variable fills: the name without our prefix, for `envy` to lower.
pub(super) fn field_name(variable: &str) -> &str {
    variable.strip_prefix(PREFIX).unwrap_or(variable)
}

/// The declared name that `name` was probably meant to be: the nearest, if two thirds of it are right.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let tolerance = name.len().saturating_sub(PREFIX.len()) / 3;
    VARIABLES
        .iter()
        .map(|variable| (edit_distance(&name, variable.name), variable.name))
        .min()
        .filter(|(distance, _)| *distance <= tolerance)
        .map(|(_, nearest)| nearest)
}

/// Levenshtein's distance, in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Whether Kubernetes set this variable: it adds `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_443_TCP`
/// and so on to every pod, and a Service named `countersign` would otherwise read as a typo.
pub(super) fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || rest.ends_with("_PORT")
        || rest
            .split("_PORT_")
            .skip(1)
            .any(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn typos_find_their_variable() {
        assert_eq!(nearest("COUNTERSIGN_ISUER"), Some("COUNTERSIGN_ISSUER"));
        assert_eq!(nearest("countersign_log"), Some("COUNTERSIGN_LOG"));
        assert_eq!(
            nearest("COUNTERSIGN_CREDENTIAL_BURST"),
            Some("COUNTERSIGN_CREDENTIAL_RATE_BURST")
        );
        assert_eq!(nearest("COUNTERSIGN_SOMETHING_ELSE_ENTIRELY"), None);
        assert_eq!(nearest("COUNTERSIGN_"), None);
    }

    #[test]
    fn kubernetes_service_links_are_known_and_our_own_names_are_none() {
        for name in [
            "COUNTERSIGN_SERVICE_HOST",
            "COUNTERSIGN_SERVICE_PORT",
            "COUNTERSIGN_SERVICE_PORT_GRPC",
            "COUNTERSIGN_PORT",
            "COUNTERSIGN_PORT_50051_TCP",
            "COUNTERSIGN_PORT_50051_TCP_ADDR",
            "COUNTERSIGN_GRPC_SERVICE_HOST",
            "COUNTERSIGN_GRPC_PORT_443_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for variable in VARIABLES {
            assert!(!is_service_link(variable.name), "{}", variable.name);
        }
        assert!(!is_service_link("COUNTERSIGN_ISUER"));
    }
}
