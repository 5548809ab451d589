//! Taking connections in, whatever the system says meanwhile.

use std::{io, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// How long to wait when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection of a port. What fails is logged and tried again; the future may be dropped and asked anew.
pub async fn next_connection(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small; Nagle's algorithm would hold them back.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                sleep(PAUSE).await;
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
