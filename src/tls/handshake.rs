//! The TLS handshake of a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{PeerCertificate, Refusal, TlsState};
use crate::clock::monotonic_now;

/// How long a refused client may still send before the connection is closed. Closing at once would reset the
/// connection, and the client would see that instead of the alert.
const ALERT_TIME: Duration = Duration::from_millis(500);
/// How many bytes of a refused client are read meanwhile.
const ALERT_BYTES: usize = 64 * 1024;

/// Which port accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPort {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// The client's certificate, if it showed one.
    pub peer: Option<Arc<PeerCertificate>>,
    /// Cancelled when the authorities are replaced that the client's certificate was checked against.
    pub authorities_replaced: CancellationToken,
}

impl TlsState {
    /// Does the handshake, within `time`. `None` when it fails, which is counted and logged.
    pub async fn accept(
        &self,
        port: TlsPort,
        stream: TcpStream,
        address: SocketAddr,
        time: Duration,
    ) -> Option<Accepted> {
        let loaded = Arc::clone(&self.loaded.borrow());
        let config = match port {
            TlsPort::Grpc => &loaded.grpc,
            TlsPort::Http => &loaded.http,
        };
        let accept = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        let accepted = timeout(time, accept.into_fallible()).await;
        let (refusal, cause) = match accepted {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let own = certificates.and_then(<[_]>::first);
                let peer = own.map(|own| PeerCertificate::read(own));
                match peer {
                    None | Some(Some(_)) => {
                        return Some(Accepted {
                            peer: peer.flatten().map(Arc::new),
                            stream,
                            authorities_replaced: loaded.authorities_replaced.clone(),
                        });
                    }
                    // rustls has read it, so this does not happen; but nobody may pass without a name.
                    Some(None) => (Refusal::BadCertificate, String::new()),
                }
            }
            Ok(Err((error, stream))) => {
                let refusal = Refusal::of(&error);
                close(stream).await;
                (refusal, error.to_string())
            }
            Err(_) => (Refusal::TimedOut, String::new()),
        };
        self.refusals.add(refusal, &cause, address);
        None
    }
}

/// Closes the connection once the client has had time to read the alert.
async fn close(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let end = (monotonic_now() + ALERT_TIME).into();
    let mut left = ALERT_BYTES;
    let mut buffer = [0; 4096];
    while let Ok(Ok(read @ 1..)) = timeout_at(end, stream.read(&mut buffer)).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}
