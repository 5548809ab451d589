//! The threads that serve gRPC connections, apart from the threads that do all other work.
//!
//! Calls that compute for long or wait for a database do not run here (see `grpc::Bulkhead`), so a token validation
//! never waits behind a login. Each thread has its own single-threaded runtime, and a connection stays on the thread
//! that it was given to.

use std::{future::Future, io, num::NonZeroUsize, sync::Arc, thread};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::cores;

/// One worker thread for each core. Dropping this ends the threads, and with them the connections that are left.
pub(super) struct ConnectionWorkers {
    workers: Vec<Worker>,
    connections: TaskTracker,
    _running: DropGuard,
}

struct Worker {
    runtime: Handle,
    /// Each connection of the worker holds a clone, so the reference count is the number of connections.
    load: Arc<()>,
}

impl ConnectionWorkers {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        Self::with_threads(cores::count())
    }

    fn with_threads(count: NonZeroUsize) -> io::Result<Self> {
        let ended = CancellationToken::new();
        // Created before the first thread: if a later thread cannot be started, dropping it ends the earlier ones.
        let running = ended.clone().drop_guard();
        let workers = (0..count.get()).map(|number| start_worker(number, ended.clone()));
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
            connections: TaskTracker::new(),
            _running: running,
        })
    }

    /// The open connections. They can be counted, and waited for.
    pub(super) const fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Serves a connection on the worker that has the fewest. Connections are few and long-lived, so a random choice
    /// would not spread them evenly.
    pub(super) fn spawn<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = self.workers.iter().min_by_key(|worker| worker.load());
        // A socket belongs to one runtime; it has to be taken off this one first.
        let (Some(worker), Ok(stream)) = (worker, stream.into_std()) else {
            return;
        };
        let load = Arc::clone(&worker.load);
        let connection = async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve(stream).await;
            }
            drop(load);
        };
        self.connections.spawn_on(connection, &worker.runtime);
    }
}

impl Worker {
    fn load(&self) -> usize {
        Arc::strong_count(&self.load)
    }
}

fn start_worker(number: usize, ended: CancellationToken) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("connections-{number}"))
        .spawn(move || runtime.block_on(ended.cancelled()))?;
    Ok(Worker {
        runtime: handle,
        load: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt as _,
        net::TcpListener,
        sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    };

    use super::*;

    /// Workers whose connections report the name of their thread when they begin and when their peer has closed them.
    struct Fixture {
        workers: ConnectionWorkers,
        listener: TcpListener,
        report: UnboundedSender<String>,
        reports: UnboundedReceiver<String>,
    }

    async fn fixture(threads: usize) -> Fixture {
        let (report, reports) = unbounded_channel();
        Fixture {
            workers: ConnectionWorkers::with_threads(NonZeroUsize::new(threads).unwrap()).unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            report,
            reports,
        }
    }

    impl Fixture {
        async fn connect(&mut self) -> (TcpStream, String) {
            let address = self.listener.local_addr().unwrap();
            let (peer, accepted) =
                tokio::join!(TcpStream::connect(address), self.listener.accept());
            let report = self.report.clone();
            self.workers
                .spawn(accepted.unwrap().0, |mut stream| async move {
                    let name = thread::current().name().unwrap_or_default().to_owned();
                    report.send(name.clone()).unwrap();
                    let _ = stream.read_u8().await;
                    report.send(name).unwrap();
                });
            (peer.unwrap(), self.reports.recv().await.unwrap())
        }
    }

    #[tokio::test]
    async fn connections_are_spread_evenly_and_a_closed_one_makes_room_on_its_thread() {
        let mut fixture = fixture(3).await;
        let mut open = Vec::new();
        for _ in 0..6 {
            open.push(fixture.connect().await);
        }
        for number in 0..3 {
            let name = format!("connections-{number}");
            assert_eq!(open.iter().filter(|(_, thread)| *thread == name).count(), 2);
        }
        let (peer, closed_on) = open.remove(4);
        drop(peer);
        assert_eq!(fixture.reports.recv().await.unwrap(), closed_on);
        while fixture.workers.connections().len() == 6 {
            tokio::task::yield_now().await;
        }
        let (_next, thread) = fixture.connect().await;
        assert_eq!(thread, closed_on);
    }

    #[tokio::test]
    async fn dropping_the_workers_ends_their_connections() {
        let mut fixture = fixture(1).await;
        let (mut peer, _) = fixture.connect().await;
        drop(fixture.workers);
        assert_eq!(peer.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
