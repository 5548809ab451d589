//! What every request passes before it reaches a service, outermost first:
//!
//! 1. [`request_id`](RequestIdLayer): names the request; the name is on every response.
//! 2. [`client_address`](ClientAddressLayer): says who is calling, proxies considered.
//! 3. [`trace`](TraceLayer): the server span and the access line, which need the two above. It sees
//!    what the layers below answer, so a refused or late call has its line too.
//! 4. [`deadline`](DeadlineLayer): ends the call when its caller stops waiting.
//! 5. [`rate_limit`](RateLimitLayer): refuses what comes too often, by method and client address.
//!
//! No layer boxes a future, and each is one pointer or less to clone: hyper clones the stack for
//! every request. What a method is and how it is treated stands in `methods.rs`.

mod access;
mod client_address;
mod deadline;
pub(in crate::grpc) mod methods;
mod rate_limit;
mod request_id;
mod trace;

#[cfg(test)]
mod tests;

pub use client_address::{ClientAddress, ClientAddressLayer, ClientAddressService};
pub use deadline::{Deadline, DeadlineFuture, DeadlineLayer, DeadlineService};
pub use rate_limit::{Quota, RateLimitFuture, RateLimitLayer, RateLimitService};
pub use request_id::{RequestId, RequestIdFuture, RequestIdLayer, RequestIdService};
pub use trace::{TraceBody, TraceFuture, TraceLayer, TraceService};

use ipnet::IpNet;
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};

use crate::{clock::Clock, telemetry::CallCollector};

/// What the layers need to know.
#[derive(Clone)]
pub struct Settings {
    /// The clock of generated request ids.
    pub clock: Clock,
    /// The networks whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The rate limiters; keep a clone to run [`RateLimitLayer::sweep_until`].
    pub rate_limits: RateLimitLayer,
}

/// The layers as one, for `tonic::transport::Server::builder().layer(…)`.
pub type Edge = Stack<
    RateLimitLayer,
    Stack<
        DeadlineLayer,
        Stack<TraceLayer, Stack<ClientAddressLayer, Stack<RequestIdLayer, Identity>>>,
    >,
>;

/// What the layers count of every call, for `/metrics`.
pub fn call_metrics() -> CallCollector {
    CallCollector(methods::call_series().collect())
}

/// Stacks the layers in the order above.
pub fn stack(settings: Settings) -> Edge {
    ServiceBuilder::new()
        .layer(RequestIdLayer::new(settings.clock))
        .layer(ClientAddressLayer::new(settings.trusted_proxies))
        .layer(TraceLayer)
        .layer(DeadlineLayer)
        .layer(settings.rate_limits)
        .into_inner()
}
