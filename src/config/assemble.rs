//! From the values of the variables to a checked [`Config`].

use std::{io::IsTerminal as _, num::NonZeroU32, time::Duration};

use super::{
    addresses::Collector,
    checks, factors,
    fill::{self, Given},
    key_source::MasterKeySource,
    mail,
    names::is_declared,
    problems::{ConfigError, Problems},
    profile::Profile,
    serving::ServingSettings,
    source::{self, Texts},
    tls,
    types::{
        Argon2Settings, Config, DatabaseSettings, LimitSettings, PasswordSettings, Rate,
        RevocationSettings, SigningAlgorithm, SigningSettings, TelemetrySettings, TokenSettings,
    },
    values::{Algorithm, DatabaseTls, List, LogFormat, RsaKeyBits, Switch},
    variables::{VARIABLES, Values, Variable},
    webauthn,
};
use crate::cores;

/// The longest that `COUNTERSIGN_REFRESH_GRACE` can be.
pub const LONGEST_REFRESH_GRACE: Duration = Duration::from_secs(60);

impl Config {
    /// Every variable that is read, in the order in which the documentation lists them.
    pub const VARIABLES: &[Variable] = VARIABLES;

    /// Reads the process environment and, in development, the file `.env` in the working
    /// directory, over which the process wins. Of the file only the declared variables count; what
    /// else the OpenTelemetry SDK knows (`OTEL_TRACES_SAMPLER`, say) it takes from the process.
    ///
    /// # Errors
    /// Every problem there is, not only the first.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let texts = source::from_env(&mut problems);
        config(texts, problems)
    }

    /// The same for what touches only the database: a problem with any other variable is no problem then, and where one is not
    /// set or not usable, what the configuration has for it must not be used.
    ///
    /// # Errors
    /// Every problem with the variables of the database, the log and the profile, and with names that do not exist.
    pub fn of_database_from_env() -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let texts = source::from_env(&mut problems);
        of_database(texts, problems)
    }

    /// The configuration that these names and values make; nothing else is read but
    /// `COUNTERSIGN_MASTER_KEYS_FILE`, where given. A name that occurs twice has its last value.
    ///
    /// # Errors
    /// Every problem there is, not only the first.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        config(vars.into_iter().collect(), Problems::default())
    }
}

/// Builds the configuration from `texts`; `problems` holds what was wrong with getting them.
fn config(texts: Texts, mut problems: Problems) -> Result<Config, ConfigError> {
    let config = assembled(texts, &mut problems);
    problems.into_result(config)
}

/// The same, where only the database is touched.
pub(super) fn of_database(texts: Texts, mut problems: Problems) -> Result<Config, ConfigError> {
    let config = assembled(texts, &mut problems);
    problems.retain(|source| !is_declared(source) || concerns_database(source));
    problems.into_result(config)
}

fn concerns_database(name: &str) -> bool {
    ["COUNTERSIGN_DATABASE_", "COUNTERSIGN_LOG", "OTEL_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || ["COUNTERSIGN_PROFILE", "COUNTERSIGN_AUDIT_RETENTION"].contains(&name)
}

fn assembled(texts: Texts, problems: &mut Problems) -> Config {
    let given = fill::read(texts, problems);
    let config = group(&given, problems);
    checks::check(&config, problems);
    if config.profile == Profile::Production {
        checks::check_production(&config, &given, problems);
    }
    config
}

fn group(given: &Given, problems: &mut Problems) -> Config {
    let values = &given.values;
    let profile = values.profile;
    let database = database(given, problems);
    Config {
        profile,
        grpc_addr: values.grpc_addr.0,
        http_addr: values.http_addr.0,
        tls: values.tls,
        tls_files: tls::files(values, problems),
        cors_origins: values
            .cors_origins
            .clone()
            .map_or_else(Vec::new, |List(origins)| {
                origins.into_iter().map(|origin| origin.0).collect()
            }),
        mail: mail::settings(values, problems),
        webauthn: webauthn::settings(values, problems),
        reflection: match values.reflection {
            Some(switch) => switch == Switch::On,
            None => profile != Profile::Production,
        },
        serving: ServingSettings::of(values),
        master_keys: MasterKeySource::read(profile, &database.url, given, problems),
        database,
        tokens: tokens(values),
        signing: signing(values),
        trusted_issuers_file: values.trusted_issuers_file.clone().map(|file| file.0),
        passwords: passwords(values),
        factors: factors::settings(values),
        limits: limits(values, problems),
        revocation: RevocationSettings {
            poll_interval: values.revocation_poll_interval.0,
            max_staleness: values.revocation_max_staleness.0,
            stale_policy: values.stale_policy,
        },
        telemetry: telemetry(values),
    }
}

fn database(given: &Given, problems: &mut Problems) -> DatabaseSettings {
    let values = &given.values;
    problems.demand(
        &["COUNTERSIGN_DATABASE_URL"],
        values.profile != Profile::Test || given.has("COUNTERSIGN_DATABASE_URL"),
        "it is not set, and profile test has no default for it",
        "use sqlite://PATH or postgres://…",
    );
    DatabaseSettings {
        url: values.database_url.clone(),
        pool_size: values.database_pool_size.0,
        allows_unverified: values.database_tls == DatabaseTls::Unverified,
        start_timeout: values.database_start_timeout.0,
        audit_retention: values.audit_retention.0,
    }
}

fn tokens(values: &Values) -> TokenSettings {
    let List(audiences) = &values.audiences;
    TokenSettings {
        issuer: values.issuer.0.clone(),
        audiences: audiences.iter().map(|name| name.0.clone()).collect(),
        client_id: values.client_id.0.clone(),
        access_ttl: values.access_token_ttl.0,
        service_ttl: values.service_token_ttl.0,
        refresh_ttl: values.refresh_token_ttl.0,
        session_max_lifetime: values.session_max_lifetime.0,
        refresh_grace: values.refresh_grace.0,
        leeway: values.token_leeway.0,
    }
}

fn signing(values: &Values) -> SigningSettings {
    SigningSettings {
        algorithm: match (values.signing_algorithm, values.rsa_key_bits) {
            (Algorithm::EdDsa, _) => SigningAlgorithm::EdDsa,
            (Algorithm::Es256, _) => SigningAlgorithm::Es256,
            (Algorithm::Rs256, RsaKeyBits::Bits2048) => SigningAlgorithm::Rs256With2048Bits,
            (Algorithm::Rs256, RsaKeyBits::Bits3072) => SigningAlgorithm::Rs256With3072Bits,
        },
        rotation: values.signing_key_rotation.0,
        lead: values.signing_key_lead.0,
        jwks_max_age: values.jwks_max_age.0,
    }
}

fn passwords(values: &Values) -> PasswordSettings {
    PasswordSettings {
        argon2: Argon2Settings {
            memory_kib: values.argon2_memory_kib.0,
            iterations: values.argon2_iterations.0,
            parallelism: values.argon2_parallelism.0,
        },
        workers: values.hashing_workers.map_or_else(cores::count, |n| n.0),
        queue: values.hashing_queue.0,
        min_length: values.password_min_length.0,
        breached_file: values.breached_passwords_file.clone().map(|file| file.0),
    }
}

fn limits(values: &Values, problems: &mut Problems) -> LimitSettings {
    let token_rate = values.token_rate_per_second.0;
    let mut rate = |kind, per_second, burst| rate(kind, per_second, burst, problems);
    LimitSettings {
        credential: rate(
            "CREDENTIAL",
            values.credential_rate_per_second.0,
            values.credential_rate_burst.0,
        ),
        token: rate(
            "TOKEN",
            token_rate,
            values.token_rate_burst.map_or(token_rate, |burst| burst.0),
        ),
        account: rate(
            "ACCOUNT",
            values.account_rate_per_second.0,
            values.account_rate_burst.0,
        ),
        max_sessions_per_user: values.max_sessions_per_user.0,
        max_watchers: values.max_watchers.0,
        account_failure_limit: values.account_failure_limit.0,
        registration: values.registration,
        trusted_proxies: values
            .trusted_proxies
            .clone()
            .map_or_else(Vec::new, |list| list.0),
    }
}

/// The rate of `COUNTERSIGN_<kind>_RATE_PER_SECOND` and `_BURST`; 0 is off.
fn rate(kind: &str, per_second: u32, burst: u32, problems: &mut Problems) -> Option<Rate> {
    let names = ["BURST", "PER_SECOND"].map(|part| format!("COUNTERSIGN_{kind}_RATE_{part}"));
    let both = NonZeroU32::new(per_second).zip(NonZeroU32::new(burst));
    problems.demand(
        &names.each_ref().map(String::as_str),
        per_second == 0 || both.is_some(),
        "with a burst of 0 no call could ever pass",
        "use at least 1, unless the rate is 0",
    );
    both.map(|(per_second, burst)| Rate { per_second, burst })
}

fn telemetry(values: &Values) -> TelemetrySettings {
    let by_terminal = || match std::io::stderr().is_terminal() {
        true => LogFormat::Pretty,
        false => LogFormat::Json,
    };
    let endpoint = |own: &Option<Collector>| {
        let general = values.otel_exporter_otlp_endpoint.as_ref();
        own.as_ref().or(general).map(|url| url.0.clone())
    };
    TelemetrySettings {
        log: values.log.0.clone(),
        format: values.log_format.unwrap_or_else(by_terminal),
        otlp_traces_endpoint: endpoint(&values.otel_exporter_otlp_traces_endpoint),
        otlp_metrics_endpoint: endpoint(&values.otel_exporter_otlp_metrics_endpoint),
        service_name: values.otel_service_name.0.clone(),
    }
}
