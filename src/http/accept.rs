//! Accepts connections. An error of one connection, or a lack of file descriptors, never ends the port.

use std::{io, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::telemetry::LogLimit;

/// How long to wait when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections from one port.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    failures: LogLimit,
}

impl Acceptor {
    /// Accepts from `listener`.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            failures: LogLimit::default(),
        }
    }

    /// The next connection. Errors are logged, and accepting is tried again. The future may be dropped and called again.
    pub async fn next(&mut self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Responses are small; Nagle's algorithm would hold them back.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => {
                    if self.failures.permits() {
                        tracing::warn!(%error, "no connection can be accepted");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
