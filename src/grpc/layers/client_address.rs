//! Determines the client's address and user agent: those of the peer, or those that trusted proxies forward.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap, Request, header::USER_AGENT};
use ipnet::IpNet;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

pub use crate::http::ClientAddress;

/// Where gateways that call in their own name leave the user agent of their client, the first one winning.
const FORWARDED_USER_AGENT: [&str; 2] = ["x-forwarded-user-agent", "grpcgateway-user-agent"];

/// In the extensions of every request whose peer is a trusted proxy.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct FromTrustedProxy;

impl ClientAddress {
    /// The address of the client of the request with these extensions, if it came over TCP.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied().or_else(|| peer(extensions))
    }
}

/// Makes [`ClientAddress::of`] return the client behind trusted proxies, and `user-agent` its user agent.
#[derive(Clone, Debug)]
pub struct ClientAddressLayer {
    /// `None` when no proxy is trusted: the address of the peer needs no lookup.
    trusted: Option<Arc<[IpNet]>>,
}

impl ClientAddressLayer {
    /// The layer; forwarded headers are used only from peers inside `trusted`.
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self {
            trusted: (!trusted.is_empty()).then(|| trusted.into()),
        }
    }
}

impl<S> Layer<S> for ClientAddressLayer {
    type Service = ClientAddressService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientAddressService {
            inner,
            trusted: self.trusted.clone(),
        }
    }
}

/// The service of [`ClientAddressLayer`].
#[derive(Clone, Debug)]
pub struct ClientAddressService<S> {
    inner: S,
    trusted: Option<Arc<[IpNet]>>,
}

impl<S, ReqBody> Service<Request<ReqBody>> for ClientAddressService<S>
where
    S: Service<Request<ReqBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // Without trusted proxies the peer is the client, and `ClientAddress::of` finds it by itself.
        if let Some(trusted) = self.trusted.as_deref()
            && let Some(peer) = peer(request.extensions())
        {
            if trusted.iter().any(|network| network.contains(&peer.ip())) {
                take_forwarded_user_agent(request.headers_mut());
                request.extensions_mut().insert(FromTrustedProxy);
            }
            let client = ClientAddress::behind(peer, trusted, request.headers());
            request.extensions_mut().insert(client);
        }
        self.inner.call(request)
    }
}

/// The remote address of the TCP connection.
fn peer(extensions: &Extensions) -> Option<ClientAddress> {
    let connection = extensions.get::<TcpConnectInfo>()?;
    Some(connection.remote_addr()?.ip().into())
}

/// Replaces the user agent of a gateway with that of its client, if the gateway forwards it.
fn take_forwarded_user_agent(headers: &mut HeaderMap) {
    let told = FORWARDED_USER_AGENT
        .iter()
        .find_map(|name| headers.get(*name));
    if let Some(told) = told.cloned() {
        headers.insert(USER_AGENT, told);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_user_agent_that_a_gateway_forwards_replaces_its_own() {
        let seen = |told: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static("the gateway"));
            for (name, value) in told {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            take_forwarded_user_agent(&mut headers);
            headers[USER_AGENT].to_str().unwrap().to_owned()
        };
        let [first, second] = FORWARDED_USER_AGENT;
        assert_eq!(seen(&[]), "the gateway");
        assert_eq!(seen(&[(second, "a browser")]), "a browser");
        assert_eq!(
            seen(&[(second, "another"), (first, "a browser")]),
            "a browser"
        );
    }
}
