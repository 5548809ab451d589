//! `GET /metrics` for Prometheus. Only calls are counted as they happen; everything else is read from the parts for each
//! scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

use super::issuer_metrics::IssuerCollector;
use crate::{
    auth::{Auth, ServiceMetrics},
    clock::Timestamp,
    mail::MailLoad,
    passwords::HashingLoad,
    store::PoolLoad,
    telemetry::{self, CallFamilies, Durations, LimitRefusal},
    tls::{Refusals, TlsState},
    workloads::issuers::TrustedIssuers,
};

/// OpenMetrics 1.0, the text format that Prometheus asks for first.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(super) fn registry(
    auth: Auth,
    calls: &CallFamilies,
    tls: Option<TlsState>,
    refusals: Refusals,
    issuers: TrustedIssuers,
) -> Registry {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("countersign_build", "The program that runs", version);
    calls.register(&mut registry);
    registry.register_collector(Box::new(ServiceCollector(auth)));
    registry.register_collector(Box::new(TlsCollector { tls, refusals }));
    registry.register_collector(Box::new(IssuerCollector(issuers)));
    registry
}

struct ServiceCollector(Auth);

impl fmt::Debug for ServiceCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCollector")
    }
}

impl Collector for ServiceCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        write_metrics(&self.0.service_metrics(), &mut MetricWriter(encoder))
    }
}

#[derive(Debug)]
struct TlsCollector {
    tls: Option<TlsState>,
    refusals: Refusals,
}

impl Collector for TlsCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = MetricWriter(encoder);
        if let Some(tls) = &self.tls {
            write_certificates(tls, &mut writer)?;
        }
        self.write_refusals(&mut writer)
    }
}

impl TlsCollector {
    fn write_refusals(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let (name, help) = (
            "countersign_tls_handshakes_refused",
            "TLS handshakes refused, by reason.",
        );
        let kind = MetricType::Counter;
        let mut family = writer.0.encode_descriptor(name, help, None, kind)?;
        for (reason, count) in self.refusals.read() {
            // Each reason belongs either to ports with TLS or to ports without.
            if Refusals::is_of_plain_text(reason) == self.tls.is_none() {
                ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
            }
        }
        Ok(())
    }
}

fn write_certificates(tls: &TlsState, writer: &mut MetricWriter<'_>) -> fmt::Result {
    let mut time = |name, help, time: Timestamp| writer.gauge(name, help, time.seconds());
    time(
        "countersign_tls_certificate_not_after",
        "When the server's certificate expires, in Unix seconds.",
        tls.not_after(),
    )?;
    if let Some(not_after) = tls.authorities_not_after() {
        time(
            "countersign_tls_client_ca_not_after",
            "When the first authority for client certificates expires, in Unix seconds.",
            not_after,
        )?;
    }
    time(
        "countersign_tls_last_good_reload",
        "When certificates were taken last, in Unix seconds.",
        tls.last_good_reload(),
    )?;
    time(
        "countersign_tls_last_failed_reload",
        "When changed files could not be used last, in Unix seconds; 0 for never.",
        tls.last_failed_reload().unwrap_or_default(),
    )
}

fn write_metrics(metrics: &ServiceMetrics, writer: &mut MetricWriter<'_>) -> fmt::Result {
    writer.counter(
        "countersign_log_lines_dropped",
        "Log lines dropped because the buffer was full.",
        telemetry::dropped_lines(),
    )?;
    writer.gauge(
        "countersign_database_available",
        "Whether the database answers: 1, or 0 while the circuit is open.",
        u32::from(metrics.database_available),
    )?;
    writer.pools(&metrics.pools)?;
    writer.histogram(
        "countersign_database_wait",
        "How long operations waited for a connection, also those that got none.",
        &metrics.pool_waits,
    )?;
    writer.limit_refusals()?;
    writer.counter(
        "countersign_token_cache_misses",
        "Access tokens that were not among those verified lately: others, and what is no token.",
        metrics.token_cache_misses,
    )?;
    writer.gauge(
        "countersign_live_revocations",
        "Revocations in memory: those whose last token has not expired by itself.",
        count(metrics.live_revocations),
    )?;
    writer.seconds(
        "countersign_revocation_staleness",
        "How old the knowledge of revocations is.",
        metrics.revocation_staleness.as_secs_f64(),
    )?;
    writer.seconds(
        "countersign_signing_key_age",
        "For how long the key that signs now has been signing.",
        metrics.signing_key_age.as_secs_f64(),
    )?;
    writer.histogram(
        "countersign_hashing_wait",
        "How long password hashes waited for a worker; those that were not made are not among them.",
        &metrics.hashing_waits,
    )?;
    write_hashing_metrics(&metrics.hashing, writer)?;
    writer.counter(
        "countersign_audit_refusals_dropped",
        "Refused logins that were not audited one by one because too many different ones waited.",
        metrics.dropped_refusals,
    )?;
    write_mail_metrics(&metrics.mails, writer)
}

fn write_hashing_metrics(hashing: &HashingLoad, writer: &mut MetricWriter<'_>) -> fmt::Result {
    writer.gauge(
        "countersign_hashing_waiting",
        "Password hashes that wait for a worker.",
        count(hashing.waiting),
    )?;
    writer.gauge(
        "countersign_hashing_running",
        "Password hashes being worked on.",
        count(hashing.running),
    )?;
    writer.gauge(
        "countersign_hashing_at_once",
        "Password hashes that may be worked on at once; fewer while tokens are validated.",
        count(hashing.at_once),
    )?;
    writer.seconds(
        "countersign_hashing_average",
        "What a password hash takes a worker, lately.",
        hashing.average.as_secs_f64(),
    )?;
    writer.counter(
        "countersign_hashing_finished",
        "Password hashes done.",
        hashing.finished,
    )?;
    writer.counter(
        "countersign_hashing_refused",
        "Password hashes refused because the queue was full or too slow.",
        hashing.refused,
    )?;
    writer.counter(
        "countersign_hashing_work_kib",
        "Work of all password hashes: KiB of memory written, in all passes together.",
        hashing.work_kib,
    )?;
    writer.gauge(
        "countersign_hashing_failed_login_work_kib",
        "What a failed login costs, in the same unit: the most expensive parameters that stored hashes have.",
        hashing.failed_login_work_kib,
    )?;
    writer.counter(
        "countersign_breached_passwords_used",
        "Right passwords that are known from a breach: the list of COUNTERSIGN_BREACHED_PASSWORDS_FILE has them.",
        hashing.breached_uses,
    )?;
    writer.info(
        "countersign_hashing_backend",
        "The implementation of Argon2 that runs on this processor.",
        ("backend", hashing.backend.name()),
    )
}

fn write_mail_metrics(mails: &MailLoad, writer: &mut MetricWriter<'_>) -> fmt::Result {
    writer.gauge(
        "countersign_mails_waiting",
        "Mails in the outbox that are still to be sent, by all replicas.",
        mails.waiting(),
    )?;
    writer.gauge(
        "countersign_mails_failed",
        "Mails in the outbox that were given up; countersign mails lists them.",
        mails.failed(),
    )?;
    writer.counter(
        "countersign_mails_sent",
        "Mails sent by this replica.",
        mails.sent(),
    )?;
    writer.counter(
        "countersign_mail_errors",
        "Attempts of this replica to send a mail that failed.",
        mails.errors(),
    )
}

/// Writes single metrics.
struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Gauge);
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let kind = MetricType::Counter;
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    /// In seconds.
    fn histogram(&mut self, name: &str, help: &str, waits: &Durations) -> fmt::Result {
        let (unit, waits) = (Some(&Unit::Seconds), waits.histogram());
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, waits.metric_type())?;
        waits.encode(encoder)
    }

    fn limit_refusals(&mut self) -> fmt::Result {
        let (name, help) = (
            "countersign_calls_refused",
            "Calls refused because of a limit, by the reason of the answer.",
        );
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (reason, count) in LimitRefusal::counts() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    /// A gauge that is always 1 and whose label is the information.
    fn info(&mut self, name: &str, help: &str, label: (&str, &str)) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        ConstGauge::new(1_u64).encode(family.encode_family(&[label])?)
    }

    fn pools(&mut self, pools: &[PoolLoad]) -> fmt::Result {
        let (name, help) = (
            "countersign_database_connections",
            "Open connections to the database.",
        );
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for pool in pools {
            for (state, number) in [("in_use", pool.in_use), ("idle", pool.idle)] {
                let labels = [("pool", pool.name), ("state", state)];
                ConstGauge::new(count(number)).encode(family.encode_family(&labels)?)?;
            }
        }
        self.by_pool(
            "countersign_database_connections_max",
            "Connections held at most.",
            pools.iter().map(|pool| (pool.name, pool.max)),
        )?;
        self.by_pool(
            "countersign_database_waiting",
            "Operations that wait for a connection.",
            pools.iter().map(|pool| (pool.name, pool.waiting)),
        )
    }

    fn by_pool(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'static str, usize)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (pool, number) in values {
            ConstGauge::new(count(number)).encode(family.encode_family(&[("pool", pool)])?)?;
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
