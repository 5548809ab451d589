//! The one pass from texts to a checked [`Config`].

use std::{io::IsTerminal as _, num::NonZeroU32, time::Duration};

use super::{
    Argon2Settings, Config, ConfigError, DatabaseSettings, DatabaseUrl, LimitSettings, LogFormat,
    MasterKeySource, PasswordSettings, Profile, Rate, RevocationSettings, SigningAlgorithm,
    SigningSettings, StalePolicy, TelemetrySettings, Tls, TokenSettings,
    parse::{
        Refusal, choice, claim_name, collector, count, duration, issuer, list, log_filter, network,
        number, socket_addr, switch,
    },
    problems::Problems,
    profile, serving,
    source::{self, Texts},
    variables::{Input, Inputs},
};
use crate::cores;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten years: no session should outlive that, and no sum of times overflows before.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// The longest that `COUNTERSIGN_REFRESH_GRACE` can be.
pub const LONGEST_REFRESH_GRACE: Duration = MINUTE;

/// Builds the configuration from `texts`; `problems` holds what was wrong with getting them.
pub(super) fn config(texts: Texts, mut problems: Problems) -> Result<Config, ConfigError> {
    let inputs = source::into_inputs(texts, &mut problems);
    let config = read(&inputs, &mut problems);
    check(&config, &inputs, &mut problems);
    if config.profile == Profile::Production {
        profile::check_production(&config, &inputs, &mut problems);
    }
    problems.into_result(config)
}

fn read(inputs: &Inputs, problems: &mut Problems) -> Config {
    let profile = problems.read(&inputs.profile, Profile::parse);
    let database = database(profile, inputs, problems);
    Config {
        profile,
        grpc_addr: problems.read(&inputs.grpc_addr, socket_addr),
        http_addr: match inputs.http_addr.blank {
            true => None,
            false => Some(problems.read(&inputs.http_addr, socket_addr)),
        },
        tls: problems.read(&inputs.tls, tls),
        reflection: problems
            .read_if_given(&inputs.reflection, switch)
            .unwrap_or(profile != Profile::Production),
        serving: serving::read(profile, inputs, problems),
        master_keys: MasterKeySource::read(profile, &database.url, inputs, problems),
        database,
        tokens: tokens(inputs, problems),
        signing: signing(inputs, problems),
        passwords: passwords(inputs, problems),
        limits: limits(inputs, problems),
        revocation: revocation(inputs, problems),
        telemetry: telemetry(inputs, problems),
    }
}

fn database(profile: Profile, inputs: &Inputs, problems: &mut Problems) -> DatabaseSettings {
    problems.demand(
        &[&inputs.database_url],
        profile != Profile::Test || inputs.database_url.text.is_some(),
        "it is not set, and profile test has no default for it",
        "sqlite://PATH or postgres://…",
    );
    DatabaseSettings {
        url: problems.read(&inputs.database_url, DatabaseUrl::parse),
        pool_size: problems.read(&inputs.database_pool_size, count(1000)),
        audit_retention: problems.read(&inputs.audit_retention, duration(DAY..=LONGEST)),
    }
}

fn tokens(inputs: &Inputs, problems: &mut Problems) -> TokenSettings {
    TokenSettings {
        issuer: problems.read(&inputs.issuer, issuer),
        audiences: problems.read(&inputs.audiences, list(claim_name)),
        client_id: problems.read(&inputs.client_id, claim_name),
        access_ttl: problems.read(&inputs.access_token_ttl, duration(SECOND..=LONGEST)),
        refresh_ttl: problems.read(&inputs.refresh_token_ttl, duration(SECOND..=LONGEST)),
        session_max_lifetime: problems
            .read(&inputs.session_max_lifetime, duration(SECOND..=LONGEST)),
        refresh_grace: problems.read(
            &inputs.refresh_grace,
            duration(Duration::ZERO..=LONGEST_REFRESH_GRACE),
        ),
        leeway: problems.read(&inputs.token_leeway, duration(Duration::ZERO..=5 * MINUTE)),
    }
}

fn signing(inputs: &Inputs, problems: &mut Problems) -> SigningSettings {
    let algorithms = &[
        ("EdDSA", SigningAlgorithm::EdDsa),
        ("ES256", SigningAlgorithm::Es256),
        ("RS256", SigningAlgorithm::Rs256With2048Bits),
    ];
    let sizes = &[
        ("2048", SigningAlgorithm::Rs256With2048Bits),
        ("3072", SigningAlgorithm::Rs256With3072Bits),
    ];
    let rsa = problems.read(&inputs.rsa_key_bits, choice(sizes));
    let algorithm = match problems.read(&inputs.signing_algorithm, choice(algorithms)) {
        SigningAlgorithm::Rs256With2048Bits => rsa,
        other => other,
    };
    SigningSettings {
        algorithm,
        rotation: problems.read(&inputs.signing_key_rotation, duration(MINUTE..=LONGEST)),
        jwks_max_age: problems.read(&inputs.jwks_max_age, duration(SECOND..=DAY)),
    }
}

fn passwords(inputs: &Inputs, problems: &mut Problems) -> PasswordSettings {
    PasswordSettings {
        argon2: Argon2Settings {
            memory_kib: problems.read(&inputs.argon2_memory_kib, number(8..=4 * 1024 * 1024)),
            iterations: problems.read(&inputs.argon2_iterations, number(1..=100)),
            parallelism: problems.read(&inputs.argon2_parallelism, number(1..=64)),
        },
        workers: problems
            .read_if_given(&inputs.hashing_workers, count(1024))
            .unwrap_or_else(cores::count),
        queue: problems.read(&inputs.hashing_queue, count(65_536)),
        min_length: problems.read(&inputs.password_min_length, number(8..=256)),
    }
}

fn limits(inputs: &Inputs, problems: &mut Problems) -> LimitSettings {
    LimitSettings {
        credential: rate(
            &inputs.credential_rate_per_second,
            &inputs.credential_rate_burst,
            problems,
            |burst, problems| Some(problems.read(burst, number(0..=MAX_RATE))),
        ),
        token: rate(
            &inputs.token_rate_per_second,
            &inputs.token_rate_burst,
            problems,
            |burst, problems| problems.read_if_given(burst, number(0..=MAX_RATE)),
        ),
        account: rate(
            &inputs.account_rate_per_second,
            &inputs.account_rate_burst,
            problems,
            |burst, problems| Some(problems.read(burst, number(0..=MAX_RATE))),
        ),
        max_sessions_per_user: problems.read(&inputs.max_sessions_per_user, limit(100_000)),
        max_watchers: problems.read(&inputs.max_watchers, limit(1_000_000)),
        account_failure_limit: problems.read(&inputs.account_failure_limit, limit(1_000_000)),
        trusted_proxies: problems
            .read_if_given(&inputs.trusted_proxies, list(network))
            .unwrap_or_default(),
    }
}

const MAX_RATE: u32 = 1_000_000;

/// A rate of 0 is off; where no burst is given it is one second's worth.
fn rate(
    per_second: &Input,
    burst: &Input,
    problems: &mut Problems,
    read_burst: impl Fn(&Input, &mut Problems) -> Option<u32>,
) -> Option<Rate> {
    let rate: u32 = problems.read(per_second, number(0..=MAX_RATE));
    let ahead = read_burst(burst, problems).unwrap_or(rate);
    let together = NonZeroU32::new(rate).zip(NonZeroU32::new(ahead));
    problems.demand(
        &[burst, per_second],
        rate == 0 || together.is_some(),
        "with a burst of 0 no call could ever pass",
        "at least 1, unless the rate is 0",
    );
    together.map(|(per_second, burst)| Rate { per_second, burst })
}

fn revocation(inputs: &Inputs, problems: &mut Problems) -> RevocationSettings {
    let policies = &[
        ("serve", StalePolicy::Serve),
        ("reject", StalePolicy::Reject),
    ];
    RevocationSettings {
        poll_interval: problems.read(
            &inputs.revocation_poll_interval,
            duration(Duration::from_millis(100)..=60 * MINUTE),
        ),
        max_staleness: problems.read(&inputs.revocation_max_staleness, duration(SECOND..=DAY)),
        stale_policy: problems.read(&inputs.stale_policy, choice(policies)),
    }
}

fn telemetry(inputs: &Inputs, problems: &mut Problems) -> TelemetrySettings {
    let by_terminal = || match std::io::stderr().is_terminal() {
        true => LogFormat::Pretty,
        false => LogFormat::Json,
    };
    let formats = &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    let general = problems.read_if_given(&inputs.otel_exporter_otlp_endpoint, collector);
    let traces = problems.read_if_given(&inputs.otel_exporter_otlp_traces_endpoint, collector);
    TelemetrySettings {
        log: problems.read(&inputs.log, log_filter),
        format: problems
            .read_if_given(&inputs.log_format, choice(formats))
            .unwrap_or_else(by_terminal),
        otlp_endpoint: traces.or(general),
        service_name: problems.read(&inputs.otel_service_name, claim_name),
    }
}

fn tls(text: &str) -> Result<Tls, Refusal> {
    if text == "on" {
        let wrong = "this version does not encrypt connections itself";
        return Err(Refusal::new(
            wrong,
            "off, or terminated when a mesh or gateway does it",
        ));
    }
    choice(&[("off", Tls::Off), ("terminated", Tls::Terminated)])(text)
}

/// A limit from 1 to `max`.
fn limit(max: u32) -> impl Fn(&str) -> Result<NonZeroU32, Refusal> {
    move |text| number(1..=max)(text).map(|n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN))
}

/// What must hold between variables, in every profile.
fn check(config: &Config, inputs: &Inputs, problems: &mut Problems) {
    let (tokens, argon2) = (&config.tokens, config.passwords.argon2);
    problems.demand(
        &[&inputs.refresh_grace, &inputs.access_token_ttl],
        tokens.refresh_grace < tokens.access_ttl,
        "it is not shorter than the life of an access token",
        "less than COUNTERSIGN_ACCESS_TOKEN_TTL",
    );
    problems.demand(
        &[&inputs.jwks_max_age, &inputs.signing_key_rotation],
        config.signing.jwks_max_age < config.signing.rotation / 2,
        "a new key could not be published long enough before it signs",
        "less than half of COUNTERSIGN_SIGNING_KEY_ROTATION",
    );
    problems.demand(
        &[&inputs.access_token_ttl, &inputs.refresh_token_ttl],
        tokens.access_ttl <= tokens.refresh_ttl,
        "an access token would outlive its refresh token",
        "at most COUNTERSIGN_REFRESH_TOKEN_TTL",
    );
    problems.demand(
        &[&inputs.refresh_token_ttl, &inputs.session_max_lifetime],
        tokens.refresh_ttl <= tokens.session_max_lifetime,
        "a refresh token would outlive its session",
        "at most COUNTERSIGN_SESSION_MAX_LIFETIME",
    );
    problems.demand(
        &[
            &inputs.revocation_poll_interval,
            &inputs.revocation_max_staleness,
        ],
        config.revocation.poll_interval < config.revocation.max_staleness,
        "revocations would be stale between two polls",
        "less than COUNTERSIGN_REVOCATION_MAX_STALENESS",
    );
    problems.demand(
        &[&inputs.argon2_memory_kib, &inputs.argon2_parallelism],
        argon2.memory_kib >= 8 * argon2.parallelism,
        "it is too little for so many lanes",
        "at least 8 KiB for each of COUNTERSIGN_ARGON2_PARALLELISM",
    );
}
