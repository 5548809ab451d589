//! A TCP proxy before the database that can be cut and mended: "the database is down", on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
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
}

fn through(url: &str, target: &str, address: SocketAddr) -> String {
    assert!(url.contains(target), "{url} names {target}");
    url.replace(target, &address.to_string())
}

async fn accept(listener: TcpListener, target: String, state: Arc<State>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (target, state) = (target.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let cut = state.cut.notified();
            if state.is_cut.load(Ordering::SeqCst) {
                return;
            }
            let Ok(mut server) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                () = cut => {}
            }
        });
    }
}
