//! A TCP proxy before the database that can be cut and mended: "the database is down", on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Notify,
};

/// Forwards connections to a database while it is whole.
pub struct Proxy {
    /// The database's URL by way of the proxy.
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    cut: Notify,
    bytes_to_database: AtomicUsize,
}

impl Proxy {
    /// A proxy before the database with that URL.
    pub async fn before(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else {
            panic!("the test database is reached by TCP");
        };
        let target = format!("{host}:{}", config.get_ports()[0]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        tokio::spawn(accept(listener, target.clone(), Arc::clone(&state)));
        Self {
            url: through(url, &target, address),
            state,
        }
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
        self.state.cut.notify_waiters();
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
    }

    /// How much has gone from clients to the database so far.
    pub fn bytes_to_database(&self) -> usize {
        self.state.bytes_to_database.load(Ordering::SeqCst)
    }
}

fn through(url: &str, target: &str, address: SocketAddr) -> String {
    assert!(url.contains(target), "{url} names {target}");
    url.replace(target, &address.to_string())
}

async fn accept(listener: TcpListener, target: String, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let (target, state) = (target.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let cut = state.cut.notified();
            if state.is_cut.load(Ordering::SeqCst) {
                return;
            }
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, to_server) = server.into_split();
            let both = async {
                let answers = async {
                    let _ = copy(&mut from_server, &mut to_client).await;
                    let _ = to_client.shutdown().await;
                };
                tokio::join!(count(from_client, to_server, &state), answers)
            };
            tokio::select! {
                _ = both => {}
                () = cut => {}
            }
        });
    }
}

/// Copies what a client says until it has no more to say.
async fn count(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        state.bytes_to_database.fetch_add(length, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
