//! What an operator decides about second factors.

use http::Uri;

use super::{factor_values::SecondFactorPolicy, variables::Values};

/// What an operator decides about second factors.
#[derive(Clone, Debug)]
pub struct FactorSettings {
    /// Which users must have one.
    pub required: SecondFactorPolicy,
    /// The name of the service in authenticator apps.
    pub totp_issuer: String,
}

pub(super) fn settings(values: &Values) -> FactorSettings {
    let host = || {
        let issuer: Option<Uri> = values.issuer.0.parse().ok();
        let host = issuer.as_ref().and_then(Uri::host).unwrap_or_default();
        // An address of IPv6 has colons.
        host.replace(':', ".")
    };
    FactorSettings {
        required: values.require_second_factor,
        totp_issuer: values
            .totp_issuer
            .as_ref()
            .map_or_else(host, |issuer| issuer.0.clone()),
    }
}
