//! The threads that serve connections and validate tokens, apart from those that do all the rest.
//!
//! No call that computes for long or waits for a database runs here (`grpc::Bulkhead` sends it away), so that a
//! validation never stands behind a login.
//!
//! Each thread has a runtime of its own, and a connection stays on the thread that it was given to. A validation is over
//! sooner than another thread has been woken to help; and beside a storm of logins the system puts a woken helper
//! behind its waker, on the same core.

use std::{future::Future, io, num::NonZeroUsize, panic, thread};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::incoming::{Desk, Incoming, desk};
use crate::{cores, http::next_connection};

/// As many threads as the machine has cores. Dropping it cuts off what still runs on them.
pub(super) struct Front {
    threads: Vec<Handle>,
    _running: DropGuard,
}

impl Front {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        Self::of(cores::count())
    }

    fn of(count: NonZeroUsize) -> io::Result<Self> {
        let ended = CancellationToken::new();
        // Before the first thread: if another cannot be started, this ends those that were.
        let running = ended.clone().drop_guard();
        let threads = (0..count.get()).map(|number| start_thread(number, ended.clone()));
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
            _running: running,
        })
    }

    /// Takes a listener over, with all the connections that will come from it.
    pub(super) fn adopt(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let _here = self.threads[0].enter();
        TcpListener::from_std(listener.into_std()?)
    }

    /// Shares the listener's connections out until `draining` begins. `serve` makes what serves one thread's share;
    /// this ends when all of them have, or the first has failed. Dropping the future ends the sharing out; connections
    /// last until the front is dropped.
    pub(super) async fn serve<F, E>(
        &self,
        listener: TcpListener,
        draining: CancellationToken,
        serve: impl Fn(Incoming) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut desks = Vec::new();
        for thread in &self.threads {
            let (desk, incoming) = desk();
            desks.push(desk);
            tasks.spawn_on(serve(incoming), thread);
        }
        let share_out = async move {
            tokio::select! {
                () = share_out(listener, &desks) => {}
                () = draining.cancelled() => {}
            }
            Ok(())
        };
        tasks.spawn_on(share_out, &self.threads[0]);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
        }
        Ok(())
    }
}

fn start_thread(number: usize, ended: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("front-{number}"))
        .spawn(move || runtime.block_on(ended.cancelled()))?;
    Ok(handle)
}

/// Gives every connection to the thread that has the fewest: they are long-lived and few, so chance would not
/// spread them evenly.
async fn share_out(listener: TcpListener, desks: &[Desk]) {
    loop {
        let connection = next_connection(&listener).await;
        if let Some(desk) = desks.iter().min_by_key(|desk| desk.load()) {
            desk.put_down(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::StreamExt as _;
    use tokio::{
        io::AsyncReadExt as _,
        net::TcpStream,
        sync::mpsc::{UnboundedReceiver, unbounded_channel},
    };

    use super::*;

    /// A front whose every connection is told, by the number of its share, and held until its peer closes it.
    struct World {
        address: SocketAddr,
        arrived: UnboundedReceiver<usize>,
        closed: UnboundedReceiver<usize>,
        draining: CancellationToken,
        ended: tokio::task::JoinHandle<Result<(), io::Error>>,
    }

    async fn world(threads: usize) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let draining = CancellationToken::new();
        let (arriving, arrived) = unbounded_channel();
        let (closing, closed) = unbounded_channel();
        let token = draining.clone();
        let front = Front::of(NonZeroUsize::new(threads).unwrap()).unwrap();
        let shares = AtomicUsize::new(0);
        let ended = tokio::spawn(async move {
            let listener = front.adopt(listener)?;
            let serve = |mut incoming: Incoming| {
                let share = shares.fetch_add(1, Ordering::Relaxed);
                let (arriving, closing) = (arriving.clone(), closing.clone());
                async move {
                    while let Some(connection) = incoming.next().await {
                        let mut connection = connection?;
                        arriving.send(share).unwrap();
                        let closing = closing.clone();
                        tokio::spawn(async move {
                            let _ = connection.read_u8().await;
                            drop(connection);
                            closing.send(share).unwrap();
                        });
                    }
                    Ok(())
                }
            };
            front.serve(listener, token, serve).await
        });
        World {
            address,
            arrived,
            closed,
            draining,
            ended,
        }
    }

    #[tokio::test]
    async fn each_thread_gets_its_share_and_a_place_is_free_again_when_its_connection_closed() {
        let mut world = world(3).await;
        let mut open = Vec::new();
        let mut counts = [0; 3];
        for _ in 0..6 {
            open.push(TcpStream::connect(world.address).await.unwrap());
            counts[world.arrived.recv().await.unwrap()] += 1;
        }
        assert_eq!(counts, [2, 2, 2]);
        drop(open.remove(4));
        let freed = world.closed.recv().await.unwrap();
        let _next = TcpStream::connect(world.address).await.unwrap();
        assert_eq!(world.arrived.recv().await.unwrap(), freed);
    }

    #[tokio::test]
    async fn when_the_drain_begins_the_port_closes_and_what_serves_comes_to_its_end() {
        let world = world(2).await;
        world.draining.cancel();
        world.ended.await.unwrap().unwrap();
        assert!(TcpStream::connect(world.address).await.is_err());
    }

    #[tokio::test]
    async fn connections_are_served_on_threads_of_the_front() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, mut names) = unbounded_channel();
        let front = Front::start().unwrap();
        let listener = front.adopt(listener).unwrap();
        let serve = |mut incoming: Incoming| {
            let told = told.clone();
            async move {
                let _first = incoming.next().await;
                let name = thread::current().name().unwrap_or_default().to_owned();
                told.send(name).unwrap();
                std::future::pending::<Result<(), ()>>().await
            }
        };
        let serving = front.serve(listener, CancellationToken::new(), serve);
        tokio::select! {
            _ = serving => panic!("it ended"),
            name = async {
                let _connection = TcpStream::connect(address).await.unwrap();
                names.recv().await
            } => assert_eq!(name.unwrap(), "front-0"),
        }
    }
}
