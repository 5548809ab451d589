//! The gRPC port: accepts connections up to a limit and gives them to the worker threads.

use std::{future::Future, io, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::workers::ConnectionWorkers;
use crate::{
    http::{Acceptor, Place, Places},
    telemetry::LogLimit,
};

/// A port that is bound, but not served yet.
#[derive(Debug)]
pub(super) struct GrpcPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl GrpcPort {
    /// Binds the port.
    ///
    /// # Errors
    /// The system does not let us.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was bound; it differs from the configured one when that has port 0.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `draining` is cancelled, then closes the port. Each connection is served on `workers`. While
    /// `limit` connections are open, further ones are closed at once, so that their clients can try another replica; so are
    /// those of an address that holds its share of `places`.
    pub(super) async fn accept<F>(
        self,
        workers: &ConnectionWorkers,
        limit: usize,
        places: Places,
        draining: CancellationToken,
        serve: impl Fn(TcpStream, Place) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut acceptor = Acceptor::new(self.listener);
        let mut refusals = LogLimit::default();
        loop {
            let stream = tokio::select! {
                () = draining.cancelled() => return,
                stream = acceptor.next() => stream,
            };
            if workers.connections().len() >= limit {
                if refusals.permits() {
                    tracing::warn!(limit, "too many connections: new ones are closed at once");
                }
                continue;
            }
            // A peer that is gone already has no address.
            let place = stream.peer_addr().ok().and_then(|peer| places.take(peer));
            if let Some(place) = place {
                let serve = serve.clone();
                workers.spawn(stream, move |stream| serve(stream, place));
            }
        }
    }
}
