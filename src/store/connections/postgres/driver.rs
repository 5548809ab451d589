//! The task that reads and writes the bytes of a connection (tokio-postgres's `Connection`).

use std::{future::poll_fn, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use tokio_postgres::{AsyncMessage, Connection};

use super::stream::PostgresStream;

/// How long a connection may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Notifications that wait to be read; more are dropped, for each says the same.
const NOTIFICATIONS: usize = 16;

/// A running driver; the connection is closed soon after it is dropped.
pub(in crate::store) struct RunningDriver {
    /// The payloads of notifications; ends with the connection.
    pub notifications: mpsc::Receiver<String>,
    _close: oneshot::Sender<()>,
}

impl RunningDriver {
    pub(super) fn start(connection: Connection<PostgresStream, PostgresStream>) -> Self {
        let (sender, notifications) = mpsc::channel(NOTIFICATIONS);
        let (close, closed) = oneshot::channel();
        tokio::spawn(drive(connection, sender, closed));
        Self {
            notifications,
            _close: close,
        }
    }
}

/// Ends with the connection. What went wrong is told to the client that asks, and its code was observed.
async fn drive(
    mut connection: Connection<PostgresStream, PostgresStream>,
    sender: mpsc::Sender<String>,
    closed: oneshot::Receiver<()>,
) {
    tokio::select! {
        () = move_all(&mut connection, &sender) => return,
        _ = closed => {}
    }
    let _ = time::timeout(CLOSE_TIMEOUT, move_all(&mut connection, &sender)).await;
}

async fn move_all(
    connection: &mut Connection<PostgresStream, PostgresStream>,
    sender: &mpsc::Sender<String>,
) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            let _ = sender.try_send(notification.payload().to_owned());
        }
    }
}
