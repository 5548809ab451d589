//! What must hold between variables, and what production refuses.

use std::{net::SocketAddr, time::Duration};

use super::{
    database_url::DatabaseUrl,
    factor_values::ENROLLMENT_AUDIENCE,
    fill::Given,
    problems::Problems,
    types::{Argon2Settings, Config},
    values::Tls,
};

/// The largest message is at most this part of the memory for requests: of that one address gets a quarter, and of the
/// quarter large requests leave some to ordinary ones.
const REQUEST_MEMORY_PARTS: usize = 8;

/// What must hold between variables, in every profile.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let (tokens, argon2) = (&config.tokens, config.passwords.argon2);
    problems.demand(
        &["COUNTERSIGN_HTTP_ADDR", "COUNTERSIGN_GRPC_ADDR"],
        !config
            .http_addr
            .is_some_and(|http| overlap(http, config.grpc_addr)),
        "gRPC and HTTP cannot share one address and port",
        "use a port that differs from that of COUNTERSIGN_GRPC_ADDR",
    );
    problems.demand(
        &["COUNTERSIGN_AUDIENCES"],
        tokens
            .audiences
            .iter()
            .all(|name| name != ENROLLMENT_AUDIENCE),
        "one of them is the audience of tokens that are good for enrolling a second factor alone",
        "use another name",
    );
    problems.demand(
        &["COUNTERSIGN_REFRESH_GRACE", "COUNTERSIGN_ACCESS_TOKEN_TTL"],
        tokens.refresh_grace < tokens.access_ttl,
        "it is not shorter than the life of an access token",
        "use less than COUNTERSIGN_ACCESS_TOKEN_TTL",
    );
    problems.demand(
        &[
            "COUNTERSIGN_SIGNING_KEY_LEAD",
            "COUNTERSIGN_SIGNING_KEY_ROTATION",
        ],
        config.signing.lead < config.signing.rotation / 2,
        "a new key could not be published long enough before it signs",
        "use less than half of COUNTERSIGN_SIGNING_KEY_ROTATION",
    );
    problems.demand(
        &["COUNTERSIGN_JWKS_MAX_AGE", "COUNTERSIGN_SIGNING_KEY_LEAD"],
        config.signing.jwks_max_age <= config.signing.lead,
        "a new key would sign while verifiers still keep a JWKS without it",
        "use at most COUNTERSIGN_SIGNING_KEY_LEAD",
    );
    problems.demand(
        &[
            "COUNTERSIGN_ACCESS_TOKEN_TTL",
            "COUNTERSIGN_REFRESH_TOKEN_TTL",
        ],
        tokens.access_ttl <= tokens.refresh_ttl,
        "an access token would outlive its refresh token",
        "use at most COUNTERSIGN_REFRESH_TOKEN_TTL",
    );
    problems.demand(
        &[
            "COUNTERSIGN_REFRESH_TOKEN_TTL",
            "COUNTERSIGN_SESSION_MAX_LIFETIME",
        ],
        tokens.refresh_ttl <= tokens.session_max_lifetime,
        "a refresh token would outlive its session",
        "use at most COUNTERSIGN_SESSION_MAX_LIFETIME",
    );
    problems.demand(
        &[
            "COUNTERSIGN_REVOCATION_POLL_INTERVAL",
            "COUNTERSIGN_REVOCATION_MAX_STALENESS",
        ],
        config.revocation.poll_interval < config.revocation.max_staleness,
        "revocations would be stale between two polls",
        "use less than COUNTERSIGN_REVOCATION_MAX_STALENESS",
    );
    problems.demand(
        &[
            "COUNTERSIGN_MAX_REQUEST_MEMORY",
            "COUNTERSIGN_MAX_MESSAGE_SIZE",
        ],
        config.serving.max_request_memory / REQUEST_MEMORY_PARTS >= config.serving.max_message_size,
        "one address could not send a whole message",
        "use at least eight times COUNTERSIGN_MAX_MESSAGE_SIZE",
    );
    problems.demand(
        &[
            "COUNTERSIGN_ARGON2_MEMORY_KIB",
            "COUNTERSIGN_ARGON2_PARALLELISM",
        ],
        argon2.memory_kib >= 8 * argon2.parallelism,
        "it is too little for so many lanes",
        "use at least 8 KiB for each of COUNTERSIGN_ARGON2_PARALLELISM",
    );
}

/// Whether one of these addresses includes the other; `0.0.0.0` and `[::]` are all addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let [a, b] = [one, other].map(|address| address.ip());
    let same_ip = a == b || a.is_unspecified() || b.is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_ip
}

/// The longest access token that production issues.
const LONGEST_ACCESS_TOKEN: Duration = Duration::from_secs(30 * 60);

/// Parameters of equal strength: memory in KiB, iterations, lanes. Source: OWASP Password Storage
/// Cheat Sheet, "Argon2id".
const OWASP_EQUIVALENTS: [(u32, u32, u32); 5] = [
    (47_104, 1, 1),
    (19_456, 2, 1),
    (12_288, 3, 1),
    (9_216, 4, 1),
    (7_168, 5, 1),
];

impl Argon2Settings {
    /// Whether these parameters cost an attacker at least as much as one of OWASP's equivalents.
    pub(super) fn is_strong(self) -> bool {
        OWASP_EQUIVALENTS
            .iter()
            .any(|&(memory_kib, iterations, parallelism)| {
                self.memory_kib >= memory_kib
                    && self.iterations >= iterations
                    && self.parallelism >= parallelism
            })
    }
}

/// What production demands besides what every profile does. (That master keys are given is
/// checked where they are read.)
pub(super) fn check_production(config: &Config, given: &Given, problems: &mut Problems) {
    problems.demand(
        &["COUNTERSIGN_TLS"],
        config.tls != Tls::Off,
        "production requires TLS",
        "use on with a certificate, or terminated when a mesh or gateway encrypts in front of the service",
    );
    problems.demand(
        &["COUNTERSIGN_TRUSTED_PROXIES", "COUNTERSIGN_TLS"],
        config.tls != Tls::Terminated || given.has("COUNTERSIGN_TRUSTED_PROXIES"),
        "it is not set, and without it all clients behind a gateway share one rate limit",
        "use the networks of the proxies, such as 10.0.0.0/8, or the word none when clients connect \
         directly, through a sidecar for example",
    );
    problems.demand(
        &["COUNTERSIGN_DATABASE_URL", "COUNTERSIGN_DATABASE_TLS"],
        config.database.allows_unverified || is_verified_or_local(&config.database.url),
        "production requires a verified certificate of a database on another machine",
        "use a URL with sslmode=verify-full, or COUNTERSIGN_DATABASE_TLS=unverified where the network itself is trusted",
    );
    problems.demand(
        &["COUNTERSIGN_CORS_ORIGINS"],
        config
            .cors_origins
            .iter()
            .all(|origin| origin.starts_with("https://")),
        "production allows only https origins",
        "use https origins",
    );
    problems.demand(
        &["COUNTERSIGN_ISSUER"],
        config.tokens.issuer.starts_with("https://"),
        "production needs an issuer that can be verified",
        "use an https URL",
    );
    problems.demand(
        &["COUNTERSIGN_ACCESS_TOKEN_TTL"],
        config.tokens.access_ttl <= LONGEST_ACCESS_TOKEN,
        "the lifetime of access tokens is too long for production",
        "use at most 30m",
    );
    problems.demand(
        &["COUNTERSIGN_ARGON2_MEMORY_KIB", "COUNTERSIGN_ARGON2_ITERATIONS", "COUNTERSIGN_ARGON2_PARALLELISM"],
        config.passwords.argon2.is_strong(),
        "with these iterations and lanes it is weaker than OWASP's minimum for Argon2id",
        "use at least one of 47104 KiB with 1 iteration, 19456 with 2, 12288 with 3, 9216 with 4, 7168 with 5",
    );
}

/// Whether the database is a file, on this machine, or proves who it is.
fn is_verified_or_local(url: &DatabaseUrl) -> bool {
    match url {
        DatabaseUrl::Sqlite(_) => true,
        DatabaseUrl::Postgres(url) => url.is_local() || url.is_verified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_weaker_than_owasp_equivalents_are_refused() {
        let strong = |memory_kib, iterations, parallelism| {
            Argon2Settings {
                memory_kib,
                iterations,
                parallelism,
            }
            .is_strong()
        };
        assert!(strong(19_456, 2, 1));
        assert!(strong(47_104, 1, 1));
        assert!(strong(7_168, 6, 4));
        assert!(strong(65_536, 3, 4));
        assert!(!strong(19_455, 2, 1));
        assert!(!strong(46_000, 1, 8));
        assert!(!strong(7_167, 100, 1));
    }
}
