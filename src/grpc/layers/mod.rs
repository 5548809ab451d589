//! What every request passes before it reaches a service, outermost first:
//!
//! 1. `request_id` (tower-http's layers): gives the request an id, which every response carries.
//! 2. [`client_address`](ClientAddressLayer): finds the address of the caller behind trusted proxies.
//! 3. [`trace`](TraceLayer): server span, access line and metrics. It also sees the responses of the
//!    layers below, so refused and late calls are counted, too.
//! 4. [`connection_calls`](ConnectionCallsLayer): counts the calls of each connection, and ends response
//!    streams when their connection has to close.
//! 5. [`protocol`](ProtocolLayer): refuses what is not a gRPC call of a known method.
//! 6. [`deadline`](DeadlineLayer): ends the call at its deadline.
//!
//! Then `routes` puts around groups of methods: rate limits, access control, and a limit on concurrent
//! calls. The group of a method is its line in `methods.rs`.
//!
//! No layer of the stack boxes a future, and to clone one needs no allocation: hyper clones the stack for
//! every request.

mod access;
mod authorization;
mod client_address;
mod client_certificate;
mod connection_calls;
mod deadline;
pub(in crate::grpc) mod methods;
mod overload;
mod protocol;
mod rate_limit;
mod request_id;
mod trace;

#[cfg(test)]
mod methods_tests;
#[cfg(test)]
mod tests;

pub use authorization::CheckCaller;
pub(in crate::grpc) use authorization::{AuthorizationLayer, AuthorizationService, Caller};
pub(in crate::grpc) use client_address::FromTrustedProxy;
pub use client_address::{ClientAddress, ClientAddressLayer, ClientAddressService};
pub use client_certificate::ConnectionCertificate;
pub use connection_calls::{ConnectionCalls, ConnectionCallsLayer};
pub use deadline::{Deadline, DeadlineFuture, DeadlineLayer, DeadlineService};
pub use methods::call_metrics;
pub(in crate::grpc) use overload::ConcurrencyLimit;
pub(in crate::grpc) use protocol::header_size;
pub use protocol::{ProtocolLayer, ProtocolService};
pub use rate_limit::{Quota, RateLimits};
pub use request_id::{NewRequestId, RequestIdLayer};
pub use trace::{TraceBody, TraceFuture, TraceLayer, TraceService};

use std::time::Duration;

use ipnet::IpNet;
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};

use crate::clock::Clock;

/// The settings of the layers.
#[derive(Clone)]
pub struct Settings {
    /// The clock of generated request ids.
    pub clock: Clock,
    /// The networks whose `x-forwarded-for` is used.
    pub trusted_proxies: Vec<IpNet>,
    /// The most bytes that the headers of a request may have.
    pub max_header_size: u32,
    /// How long a unary call may take.
    pub request_timeout: Duration,
}

/// The layers as one, for requests with the body `B`.
pub type LayerStack<B> = Stack<
    DeadlineLayer,
    Stack<
        ProtocolLayer,
        Stack<
            ConnectionCallsLayer,
            Stack<TraceLayer, Stack<ClientAddressLayer, Stack<RequestIdLayer<B>, Identity>>>,
        >,
    >,
>;

/// Stacks the layers in the order above.
pub fn stack<B>(settings: Settings) -> LayerStack<B> {
    ServiceBuilder::new()
        .layer(request_id::layer(settings.clock))
        .layer(ClientAddressLayer::new(settings.trusted_proxies))
        .layer(TraceLayer)
        .layer(ConnectionCallsLayer)
        .layer(ProtocolLayer::new(settings.max_header_size))
        .layer(DeadlineLayer::new(settings.request_timeout))
        .into_inner()
}
