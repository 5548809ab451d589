//! The metrics of trusted issuers, read for each scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{clock::Timestamp, workloads::issuers::TrustedIssuers};

/// Collects them.
#[derive(Debug)]
pub(super) struct IssuerCollector(pub(super) TrustedIssuers);

impl Collector for IssuerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let issuers = &self.0;
        // Without a file there are no issuers.
        let Some(last_good) = issuers.last_good_reload() else {
            return Ok(());
        };
        let times = [
            (
                "countersign_trusted_issuers_last_good_reload",
                "When the file of trusted issuers was taken last, in Unix seconds.",
                last_good,
            ),
            (
                "countersign_trusted_issuers_last_failed_reload",
                "When a changed file of trusted issuers could not be used last, in Unix seconds; 0 for never.",
                issuers.last_failed_reload().unwrap_or_default(),
            ),
        ];
        for (name, help, time) in times {
            let gauge = ConstGauge::new(time.seconds());
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        encode_refusals(issuers, &mut encoder)?;
        encode_keys(issuers, &mut encoder)
    }
}

fn encode_refusals(issuers: &TrustedIssuers, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let (name, help) = (
        "countersign_assertions_refused",
        "Assertions of services that were refused, by cause.",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (cause, count) in issuers.refusals() {
        ConstCounter::new(count).encode(family.encode_family(&[("cause", cause)])?)?;
    }
    Ok(())
}

fn encode_keys(issuers: &TrustedIssuers, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let fetched = issuers.fetched();
    if fetched.is_empty() {
        return Ok(());
    }
    let (name, help) = (
        "countersign_trusted_issuer_keys_fetched",
        "When the keys of an issuer were fetched last, in Unix seconds; 0 for never.",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for issuer in &fetched {
        let at: Timestamp = issuer.fetched_at.unwrap_or_default();
        let labels = [("issuer", issuer.name.as_str())];
        ConstGauge::new(at.seconds()).encode(family.encode_family(&labels)?)?;
    }
    let (name, help) = (
        "countersign_trusted_issuer_fetches_failed",
        "Fetches of the keys of an issuer that failed.",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for issuer in &fetched {
        let labels = [("issuer", issuer.name.as_str())];
        ConstCounter::new(issuer.failed_fetches).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
