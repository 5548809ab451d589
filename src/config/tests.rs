//! The configuration as an operator meets it: defaults, bounds, all problems at once.

use std::{fs, time::Duration};

use super::*;

pub(super) const KEY: &str = "v1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(super) fn config(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars(
        vars.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

/// The variables that have problems.
pub(super) fn sources(vars: &[(&str, &str)]) -> Vec<String> {
    match config(vars) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .problems()
            .iter()
            .map(|problem| problem.source().to_owned())
            .collect(),
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&[]).unwrap();
    assert_eq!(config.profile, Profile::Development);
    assert_eq!(config.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(
        config.database.url.describe(),
        "sqlite://data/countersign.db"
    );
    assert_eq!(config.database.pool_size.get(), 16);
    assert!(
        matches!(config.master_keys, MasterKeySource::KeyFile(p) if p.ends_with("data/master.key"))
    );
    assert_eq!(config.tokens.issuer, "http://localhost:50051");
    assert_eq!(config.tokens.audiences, ["countersign"]);
    assert_eq!(config.tokens.access_ttl, Duration::from_secs(15 * 60));
    assert_eq!(
        config.tokens.refresh_ttl,
        Duration::from_secs(7 * 24 * 3600)
    );
    assert_eq!(
        config.tokens.session_max_lifetime,
        Duration::from_secs(30 * 24 * 3600)
    );
    assert_eq!(config.tokens.refresh_grace, Duration::from_secs(10));
    assert_eq!(config.tokens.leeway, Duration::ZERO);
    let argon2 = Argon2Settings {
        memory_kib: 19_456,
        iterations: 2,
        parallelism: 1,
    };
    assert_eq!(config.passwords.argon2, argon2);
    assert_eq!(config.passwords.queue.get(), 64);
    assert_eq!(config.passwords.min_length, 15);
    let rate = config.limits.credential.unwrap();
    assert_eq!((rate.per_second.get(), rate.burst.get()), (5, 20));
    assert_eq!(config.limits.token, None);
    assert_eq!(config.limits.account_failure_limit.get(), 10);
    assert_eq!(config.limits.registration, Registration::Open);
    let account = config.limits.account.unwrap();
    assert_eq!((account.per_second.get(), account.burst.get()), (20, 100));
    assert_eq!(config.limits.max_sessions_per_user.get(), 100);
    assert_eq!(config.limits.max_watchers.get(), 1_000);
    assert_eq!(
        config.database.audit_retention,
        Duration::from_secs(400 * 24 * 3600)
    );
    assert!(config.limits.trusted_proxies.is_empty());
    assert_eq!(config.revocation.stale_policy, StalePolicy::Serve);
    assert!(config.reflection);
    assert_eq!(config.telemetry.otlp_traces_endpoint, None);
    assert_eq!(config.telemetry.otlp_metrics_endpoint, None);
}

#[test]
fn an_empty_value_is_an_unset_one_except_where_it_turns_the_http_server_off() {
    let names = Config::VARIABLES.iter().map(|variable| variable.name);
    let empty: Vec<_> = names.map(|name| (name, " ")).collect();
    let mut emptied = config(&empty).unwrap();
    let default = config(&[]).unwrap();
    assert_eq!(emptied.http_addr, None);
    emptied.http_addr = default.http_addr;
    assert_eq!(format!("{emptied:?}"), format!("{default:?}"));
}

#[test]
fn a_default_text_given_changes_nothing() {
    let texts: Vec<_> = Config::VARIABLES
        .iter()
        .filter_map(|variable| match variable.default {
            DefaultValue::Text(text) => Some((variable.name, text)),
            DefaultValue::Rule(_) => None,
        })
        .collect();
    assert_eq!(
        format!("{:?}", config(&texts).unwrap()),
        format!("{:?}", config(&[]).unwrap())
    );
}

#[test]
fn a_bad_value_is_reported_under_its_variable() {
    for variable in Config::VARIABLES {
        assert_eq!(sources(&[(variable.name, "\u{7}")]), [variable.name]);
    }
}

#[test]
fn all_problems_are_reported_at_once_one_a_line() {
    let mut vars: Vec<_> = Config::VARIABLES
        .iter()
        .map(|variable| (variable.name, "\u{7}\n"))
        .collect();
    vars.push(("COUNTERSIGN_ISUER", "http://a"));
    let error = config(&vars).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), error.problems().len());
    for (name, _) in &vars {
        let named = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}: ")))
            .count();
        assert!(named > 0, "{name} is missing in:\n{text}");
    }
    assert!(
        text.lines()
            .all(|line| line.contains("; ") || line.contains(", expected ")),
        "{text}"
    );
}

#[test]
fn an_unknown_variable_is_a_problem_with_a_hint() {
    let error = config(&[("COUNTERSIGN_ISUER", "http://a")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "COUNTERSIGN_ISUER: there is no such variable; did you mean COUNTERSIGN_ISSUER?"
    );
    assert_eq!(
        sources(&[("countersign_log", "debug")]),
        ["countersign_log"]
    );
    assert!(
        sources(&[("COUNTERSIGN_LOG", "")]).is_empty(),
        "empty is unset"
    );
    assert!(sources(&[("OTEL_TRACES_SAMPLER", "always_on"), ("HOME", "/")]).is_empty());
    assert!(
        sources(&[
            ("COUNTERSIGN_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERSIGN_PORT", "tcp://x")
        ])
        .is_empty()
    );
}

#[test]
fn secrets_are_never_repeated() {
    for vars in [
        [
            ("COUNTERSIGN_MASTER_KEYS", "v1:hunter2"),
            ("COUNTERSIGN_DATABASE_URL", "postgres://a:hunter2@b c/d"),
        ],
        [
            ("COUNTERSIGN_MASTER_KEYS", "hunter2"),
            ("COUNTERSIGN_DATABASE_URL", "hunter2://a"),
        ],
    ] {
        let error = config(&vars).unwrap_err();
        assert_eq!(error.problems().len(), 2);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let config = config(&[
        ("COUNTERSIGN_MASTER_KEYS", KEY),
        ("COUNTERSIGN_DATABASE_URL", "postgres://ada:hunter2@db/auth"),
    ]);
    let shown = format!("{:?}", config.unwrap());
    assert!(
        !shown.contains("hunter2") && !shown.contains("AAEC"),
        "{shown}"
    );
}

#[test]
fn values_that_do_not_fit_together_are_refused() {
    for (vars, source) in [
        (
            [
                ("COUNTERSIGN_REFRESH_GRACE", "10s"),
                ("COUNTERSIGN_ACCESS_TOKEN_TTL", "10s"),
            ],
            "COUNTERSIGN_REFRESH_GRACE",
        ),
        (
            [
                ("COUNTERSIGN_ACCESS_TOKEN_TTL", "8d"),
                ("COUNTERSIGN_REFRESH_GRACE", "1s"),
            ],
            "COUNTERSIGN_ACCESS_TOKEN_TTL",
        ),
        (
            [
                ("COUNTERSIGN_REFRESH_TOKEN_TTL", "31d"),
                ("COUNTERSIGN_LOG", ""),
            ],
            "COUNTERSIGN_REFRESH_TOKEN_TTL",
        ),
        (
            [
                ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "9s"),
                ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "9s"),
            ],
            "COUNTERSIGN_REVOCATION_POLL_INTERVAL",
        ),
        (
            [
                ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "0"),
                ("COUNTERSIGN_LOG", ""),
            ],
            "COUNTERSIGN_CREDENTIAL_RATE_BURST",
        ),
        (
            [
                ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "9"),
                ("COUNTERSIGN_TOKEN_RATE_BURST", "0"),
            ],
            "COUNTERSIGN_TOKEN_RATE_BURST",
        ),
        (
            [
                ("COUNTERSIGN_ARGON2_MEMORY_KIB", "15"),
                ("COUNTERSIGN_ARGON2_PARALLELISM", "2"),
            ],
            "COUNTERSIGN_ARGON2_MEMORY_KIB",
        ),
    ] {
        assert_eq!(sources(&vars), [source], "{vars:?}");
    }
}

#[test]
fn grpc_and_http_on_one_port_are_refused() {
    let sources = |grpc, http| {
        sources(&[
            ("COUNTERSIGN_GRPC_ADDR", grpc),
            ("COUNTERSIGN_HTTP_ADDR", http),
        ])
    };
    for (grpc, http) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "[::]:8080"),
        ("[::1]:8080", "[::1]:8080"),
    ] {
        assert_eq!(
            sources(grpc, http),
            ["COUNTERSIGN_HTTP_ADDR"],
            "{grpc} {http}"
        );
    }
    for (grpc, http) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:8080", "127.0.0.2:8080"),
        ("[::]:50051", "[::]:8080"),
        ("[::1]:50051", ""),
    ] {
        assert!(sources(grpc, http).is_empty(), "{grpc} {http}");
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (name, value) in [
        ("COUNTERSIGN_DATABASE_POOL_SIZE", "0"),
        ("COUNTERSIGN_HASHING_WORKERS", "0"),
        ("COUNTERSIGN_HASHING_QUEUE", "0"),
        ("COUNTERSIGN_PASSWORD_MIN_LENGTH", "7"),
        ("COUNTERSIGN_PASSWORD_MIN_LENGTH", "257"),
        ("COUNTERSIGN_ACCESS_TOKEN_TTL", "0s"),
        ("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "0"),
        ("COUNTERSIGN_TLS", "maybe"),
        ("COUNTERSIGN_DATABASE_URL", "sqlite://:memory:"),
        ("COUNTERSIGN_OTEL", "x"),
    ] {
        assert_eq!(sources(&[(name, value)]), [name], "{value}");
    }
}

#[test]
fn a_rate_of_zero_is_no_limit_and_the_default_burst_is_one_second() {
    let off = config(&[
        ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "0"),
        ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "0"),
    ]);
    assert_eq!(off.unwrap().limits.credential, None);
    let on = config(&[("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "50")]).unwrap();
    assert_eq!(on.limits.token.map(|rate| rate.burst.get()), Some(50));
}

#[test]
fn the_endpoint_for_one_signal_wins() {
    let endpoints = |variable| {
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317"),
            (variable, "http://b:4317"),
        ];
        let telemetry = config(&both).unwrap().telemetry;
        [
            telemetry.otlp_traces_endpoint,
            telemetry.otlp_metrics_endpoint,
        ]
        .map(Option::unwrap)
    };
    assert_eq!(
        endpoints("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ["http://b:4317", "http://a:4317"]
    );
    assert_eq!(
        endpoints("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        ["http://a:4317", "http://b:4317"]
    );
}

#[test]
fn master_keys_come_from_the_list_or_from_the_file_but_not_both() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keys");
    fs::write(&path, format!("{}\n{KEY}\n", KEY.replace("v1", "v2"))).unwrap();
    let path = path.to_str().unwrap();

    let keys = config(&[("COUNTERSIGN_MASTER_KEYS_FILE", path)])
        .unwrap()
        .master_keys
        .load()
        .unwrap();
    assert_eq!(
        keys.as_slice()
            .iter()
            .map(|key| key.version)
            .collect::<Vec<_>>(),
        [2, 1]
    );

    let both = [
        ("COUNTERSIGN_MASTER_KEYS_FILE", path),
        ("COUNTERSIGN_MASTER_KEYS", KEY),
    ];
    assert_eq!(sources(&both), ["COUNTERSIGN_MASTER_KEYS_FILE"]);
    assert_eq!(
        sources(&[("COUNTERSIGN_MASTER_KEYS_FILE", "/nonexistent")]),
        ["COUNTERSIGN_MASTER_KEYS_FILE"]
    );
}

#[test]
fn profile_test_has_no_default_database_and_no_key_file_for_postgres() {
    let test = ("COUNTERSIGN_PROFILE", "test");
    assert_eq!(sources(&[test]), ["COUNTERSIGN_DATABASE_URL"]);
    let sqlite = config(&[test, ("COUNTERSIGN_DATABASE_URL", "sqlite:///tmp/x/y.db")]).unwrap();
    assert!(
        matches!(sqlite.master_keys, MasterKeySource::KeyFile(p) if p.ends_with("x/master.key"))
    );
    let postgres = ("COUNTERSIGN_DATABASE_URL", "postgres://a@b/c");
    assert_eq!(sources(&[test, postgres]), ["COUNTERSIGN_MASTER_KEYS"]);
    assert!(config(&[test, postgres, ("COUNTERSIGN_MASTER_KEYS", KEY)]).is_ok());
}

#[test]
fn the_size_of_rsa_keys_needs_rs256() {
    let algorithm = |name, bits| {
        let vars = [
            ("COUNTERSIGN_SIGNING_ALGORITHM", name),
            ("COUNTERSIGN_RSA_KEY_BITS", bits),
        ];
        config(&vars).unwrap().signing.algorithm
    };
    assert_eq!(
        algorithm("RS256", "2048"),
        SigningAlgorithm::Rs256With2048Bits
    );
    assert_eq!(
        algorithm("RS256", "3072"),
        SigningAlgorithm::Rs256With3072Bits
    );
    assert_eq!(algorithm("ES256", "3072"), SigningAlgorithm::Es256);
}
