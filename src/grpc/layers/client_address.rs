//! Determines the client's address: that of the peer, or the one that trusted proxies forward.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Request};
use ipnet::IpNet;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

pub use crate::http::ClientAddress;

impl ClientAddress {
    /// The address of the client of the request with these extensions, if it came over TCP.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied().or_else(|| peer(extensions))
    }
}

/// Makes [`ClientAddress::of`] return the client behind trusted proxies.
#[derive(Clone, Debug)]
pub struct ClientAddressLayer {
    /// `None` when no proxy is trusted: the address of the peer needs no lookup.
    trusted: Option<Arc<[IpNet]>>,
}

impl ClientAddressLayer {
    /// The layer; `x-forwarded-for` is used only from peers inside `trusted`.
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
