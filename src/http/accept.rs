//! Accepts connections. An error of one connection, or a lack of file descriptors, never ends the port.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::clock::monotonic_now;

/// How long to wait when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A condition that callers can cause at will is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

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

    /// The next connection. Errors are logged, and accepting is tried again. The future may be dropped and called anew.
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

/// Permits a log line every ten seconds; the first one is permitted.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
}

impl LogLimit {
    /// Whether a line may be written now; if so, it counts as written.
    pub fn permits(&mut self) -> bool {
        let now = monotonic_now();
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_lasts_is_logged_once() {
        let mut limit = LogLimit::default();
        assert!(limit.permits());
        assert!((0..1_000).all(|_| !limit.permits()));
    }
}
