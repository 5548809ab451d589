//! What production needs, and what it refuses.

use super::{
    tests::{KEY, config, sources},
    *,
};

/// What production needs at least.
const PRODUCTION: &[(&str, &str)] = &[
    ("COUNTERSIGN_PROFILE", "production"),
    ("COUNTERSIGN_TLS", "terminated"),
    ("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.0/8"),
    ("COUNTERSIGN_ISSUER", "https://auth.example.org"),
    ("COUNTERSIGN_MASTER_KEYS", KEY),
    ("COUNTERSIGN_SMTP_URL", "none"),
];

/// Production with `changed` on top.
fn production(changed: &[(&str, &str)]) -> Result<Config, ConfigError> {
    config(&[PRODUCTION, changed].concat())
}

#[test]
fn production_starts_with_what_it_needs() {
    let config = production(&[]).unwrap();
    assert!(!config.reflection, "reflection is off by default");
    assert!(matches!(config.master_keys, MasterKeySource::Given(_)));
    assert!(
        production(&[("COUNTERSIGN_REFLECTION", "on")])
            .unwrap()
            .reflection
    );
    assert!(production(&[("COUNTERSIGN_ACCESS_TOKEN_TTL", "30m")]).is_ok());
}

#[test]
fn commands_that_only_use_the_database_need_no_keys_issuer_or_tls() {
    let of_database = |vars: &[(&str, &str)]| {
        let texts = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assemble::of_database(texts.collect(), problems::Problems::default())
    };
    let production = ("COUNTERSIGN_PROFILE", "production");
    let config = of_database(&[production, ("COUNTERSIGN_ISSUER", "no URL")]).unwrap();
    assert_eq!(config.profile, Profile::Production);
    for (name, value) in [
        ("COUNTERSIGN_DATABASE_URL", "postgres://a@db.example/c"),
        ("COUNTERSIGN_DATABSE_URL", "sqlite://x.db"),
        ("COUNTERSIGN_LOG_FORMAT", "xml"),
    ] {
        let error = of_database(&[production, (name, value)]).unwrap_err();
        assert_eq!(error.problems()[0].source(), name, "{error}");
        assert_eq!(error.problems().len(), 1, "{error}");
    }
}

#[test]
fn production_refuses_what_is_unsafe() {
    for (name, value) in [
        ("COUNTERSIGN_MASTER_KEYS", ""),
        ("COUNTERSIGN_TLS", "off"),
        ("COUNTERSIGN_TLS", ""),
        ("COUNTERSIGN_TRUSTED_PROXIES", ""),
        ("COUNTERSIGN_ISSUER", "http://auth.example.org"),
        ("COUNTERSIGN_ISSUER", ""),
        ("COUNTERSIGN_ACCESS_TOKEN_TTL", "31m"),
        ("COUNTERSIGN_CORS_ORIGINS", "http://app.example.com"),
        ("COUNTERSIGN_DATABASE_URL", "postgres://a@db.example/c"),
        (
            "COUNTERSIGN_DATABASE_URL",
            "postgres://a@db.example/c?sslmode=require",
        ),
        ("COUNTERSIGN_ARGON2_MEMORY_KIB", "19455"),
        ("COUNTERSIGN_SMTP_URL", ""),
        ("COUNTERSIGN_APP_URL", "http://app.example.org"),
    ] {
        let error = production(&[(name, value)]).unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        assert_eq!(error.problems()[0].source(), name, "{error}");
    }
    let nothing_but_the_profile = [("COUNTERSIGN_PROFILE", "production")];
    let expected = [
        "COUNTERSIGN_SMTP_URL",
        "COUNTERSIGN_MASTER_KEYS",
        "COUNTERSIGN_TLS",
        "COUNTERSIGN_ISSUER",
    ];
    assert_eq!(sources(&nothing_but_the_profile), expected);
}

#[test]
fn production_behind_a_gateway_starts_with_a_list_of_proxies_or_the_word_none() {
    let proxies = |text| {
        let config = production(&[("COUNTERSIGN_TRUSTED_PROXIES", text)]).unwrap();
        config.limits.trusted_proxies.len()
    };
    assert_eq!(proxies("10.0.0.0/8,fd00::/8"), 2);
    assert_eq!(proxies("none"), 0);
    let error = production(&[("COUNTERSIGN_TRUSTED_PROXIES", "")]).unwrap_err();
    assert!(error.to_string().contains("the word none"), "{error}");
}

#[test]
fn production_takes_a_remote_database_that_is_verified_or_allowed_by_name() {
    for url in [
        "postgres://a@db.example/c?sslmode=verify-full",
        "postgres://a@127.0.0.1/c",
        "postgres://a@[::1],localhost/c",
        "postgres:///c?host=/run/postgresql",
    ] {
        assert!(
            production(&[("COUNTERSIGN_DATABASE_URL", url)]).is_ok(),
            "{url}"
        );
    }
    let mixed = (
        "COUNTERSIGN_DATABASE_URL",
        "postgres://a@localhost,db.example/c",
    );
    assert!(production(&[mixed]).is_err());
    assert!(production(&[mixed, ("COUNTERSIGN_DATABASE_TLS", "unverified")]).is_ok());
}
