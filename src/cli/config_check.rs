//! `countersign config check`: reading the configuration has reported its problems; this looks at the files as well.

use super::{Outcome, say};
use crate::{
    clock::Clock,
    config::{Config, MailRoute, MasterKeySource, Tls, duration_text},
    mail,
    passwords::BreachedPasswords,
    store::Store,
    tls::TlsReloader,
    workloads::issuers::IssuersReloader,
};

pub(super) fn run(config: &Config) -> Outcome {
    if let Err(error) = config.check_files() {
        eprintln!("{error}");
        return Outcome::BadConfiguration;
    }
    if let Err(error) = Store::check(&config.database) {
        eprintln!("COUNTERSIGN_DATABASE_URL: {error}");
        return Outcome::BadConfiguration;
    }
    let certificate = config.tls_files.as_ref();
    let certificate = certificate.map(|files| TlsReloader::check(files, Clock::System.now()));
    let certificate = match certificate.transpose() {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!("{error}");
            return Outcome::BadConfiguration;
        }
    };
    let issuers = config.trusted_issuers_file.as_deref();
    let issuers = match issuers.map(IssuersReloader::check).transpose() {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!("{error}");
            return Outcome::BadConfiguration;
        }
    };
    let breached = config.passwords.breached_file.as_deref();
    let breached = match breached.map(BreachedPasswords::check).transpose() {
        Ok(breached) => breached,
        Err(error) => {
            eprintln!("{error}");
            return Outcome::BadConfiguration;
        }
    };
    if let Err(error) = mail::check(&config.mail) {
        eprintln!("{error}");
        return Outcome::BadConfiguration;
    }
    say(format_args!("countersign: the configuration is good"));
    for (name, value) in summary(config) {
        say(format_args!("  {name:<12} {value}"));
    }
    if let Some((not_after, warnings)) = certificate {
        let days = not_after.since(Clock::System.now()).as_secs() / (24 * 3600);
        say(format_args!(
            "  {:<12} valid for {days} days",
            "certificate"
        ));
        for warning in warnings {
            say(format_args!("  {:<12} {warning}", "warning"));
        }
    }
    if let Some((issuers, bindings)) = issuers {
        say(format_args!(
            "  {:<12} {issuers} with {bindings} bindings",
            "issuers"
        ));
    }
    if let Some(breached) = breached {
        say(format_args!(
            "  {:<12} {breached} breached ones are refused",
            "passwords"
        ));
    }
    Outcome::Done
}

/// What an operator looks for first; docs/configuration.md lists the rest.
fn summary(config: &Config) -> Vec<(&'static str, String)> {
    let master_keys = match &config.master_keys {
        MasterKeySource::Given(keys) => {
            let versions: Vec<_> = keys
                .as_slice()
                .iter()
                .map(|key| format!("v{}", key.version))
                .collect();
            format!("{} (the first is active)", versions.join(", "))
        }
        MasterKeySource::KeyFile(path) => format!("the key file {}", path.display()),
    };
    let proxies: Vec<_> = config
        .limits
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    let tls = match config.tls {
        Tls::Off => "off",
        Tls::On => "on",
        Tls::Terminated => "terminated by a proxy",
    };
    let mail = match &config.mail.route {
        MailRoute::Smtp(server) => format!("{}:{}", server.host, server.port),
        MailRoute::Folder(folder) => format!("files in {}", folder.display()),
        MailRoute::Off => "not sent".to_owned(),
    };
    vec![
        ("profile", config.profile.to_string()),
        ("gRPC", config.grpc_addr.to_string()),
        ("HTTP", or_word(config.http_addr, "off")),
        ("database", config.database.url.describe()),
        ("master keys", master_keys),
        ("issuer", config.tokens.issuer.clone()),
        ("audiences", config.tokens.audiences.join(", ")),
        ("access token", duration_text(config.tokens.access_ttl)),
        ("session", duration_text(config.tokens.session_max_lifetime)),
        ("TLS", tls.to_owned()),
        ("mail", mail),
        ("passkeys", config.webauthn.rp_id.clone()),
        (
            "proxies",
            or_word((!proxies.is_empty()).then(|| proxies.join(", ")), "none"),
        ),
        ("log", config.telemetry.log.clone()),
        (
            "traces",
            or_word(config.telemetry.otlp_traces_endpoint.as_ref(), "off"),
        ),
        (
            "metrics",
            or_word(config.telemetry.otlp_metrics_endpoint.as_ref(), "off"),
        ),
    ]
}

fn or_word(value: Option<impl ToString>, word: &str) -> String {
    value.map_or_else(|| word.to_owned(), |value| value.to_string())
}
