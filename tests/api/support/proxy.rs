//! A TCP proxy before the database that can be cut and mended, or made to swallow what is sent: "the
//! database is down", on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

/// The name under which a server listens for changes.
pub const LISTENER: &[u8] = b"countersign-listener";

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
    /// Which connections are silenced.
    silence: Mutex<Option<Silence>>,
    swallowed: AtomicUsize,
    carried: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Those that listen for changes.
    Listeners,
    /// All.
    All,
    /// All, but only what the database sends.
    Answers,
}

/// Who sent the bytes of one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    ByServer,
    ByDatabase,
}

/// What is known of one connection, for both directions.
#[derive(Default)]
struct Traits {
    listens: AtomicBool,
    /// Bytes were swallowed: it can never be right again.
    is_lost: AtomicBool,
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

    /// Swallows what the connections that listen for changes send and get, and keeps them open.
    pub fn silence_listeners(&self) {
        *self.state.silence.lock().unwrap() = Some(Silence::Listeners);
    }

    /// Swallows everything, and keeps the connections open: a cable was pulled.
    pub fn silence_all(&self) {
        *self.state.silence.lock().unwrap() = Some(Silence::All);
    }

    /// Swallows what the database answers, and keeps the connections open: it does what it is told, and nobody hears of it.
    pub fn silence_answers(&self) {
        *self.state.silence.lock().unwrap() = Some(Silence::Answers);
    }

    /// How many bytes were swallowed so far.
    pub fn swallowed(&self) -> usize {
        self.state.swallowed.load(Ordering::SeqCst)
    }

    /// How many bytes were forwarded so far, both ways.
    pub fn carried(&self) -> usize {
        self.state.carried.load(Ordering::SeqCst)
    }

    /// Forwards again. What was swallowed stays lost, and so do the connections it was lost on.
    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
        *self.state.silence.lock().unwrap() = None;
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
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let traits = Traits::default();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = forward(from_client, to_server, &state, &traits, Sent::ByServer) => {}
                () = forward(from_server, to_client, &state, &traits, Sent::ByDatabase) => {}
                () = cut => {}
            }
        });
    }
}

/// Returns when one side has closed the connection.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    traits: &Traits,
    sent: Sent,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..length];
        if chunk.windows(LISTENER.len()).any(|part| part == LISTENER) {
            traits.listens.store(true, Ordering::SeqCst);
        }
        let is_silenced = match *state.silence.lock().unwrap() {
            None => false,
            Some(Silence::All) => true,
            Some(Silence::Answers) => sent == Sent::ByDatabase,
            Some(Silence::Listeners) => traits.listens.load(Ordering::SeqCst),
        };
        if is_silenced {
            traits.is_lost.store(true, Ordering::SeqCst);
            state.swallowed.fetch_add(length, Ordering::SeqCst);
        }
        let is_lost = traits.is_lost.load(Ordering::SeqCst);
        state.carried.fetch_add(length, Ordering::SeqCst);
        if !is_lost && to.write_all(chunk).await.is_err() {
            return;
        }
    }
}
