//! A stand-in for PgBouncer before the database, with two of its refusals. As PgBouncer does, it names a process of its own
//! to each client, and gives all refusals the code 08P01.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What a client sends that asks for TLS (PostgreSQL manual, "Message Formats", SSLRequest).
const SSL_REQUEST: [u8; 4] = [4, 210, 22, 47];
/// The head of BackendKeyData, which names the process.
const KEY_DATA: &[u8] = b"K\0\0\0\x0c";

pub struct Pooler {
    /// The database's URL by way of the pooler.
    pub url: String,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    clients: AtomicUsize,
    most_clients: AtomicUsize,
    pools_statements: bool,
}

impl Pooler {
    /// One that keeps sessions.
    pub async fn before(url: &str) -> Self {
        Self::start(url, false).await
    }

    /// One with `pool_mode = statement`.
    pub async fn of_statements(url: &str) -> Self {
        Self::start(url, true).await
    }

    async fn start(url: &str, pools_statements: bool) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else {
            panic!("the test database is reached by TCP");
        };
        let target = format!("{host}:{}", config.get_ports()[0]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let resolved = tokio::net::lookup_host(&target).await.unwrap().next();
        let state = Arc::new(State {
            target: resolved.unwrap(),
            clients: AtomicUsize::new(0),
            most_clients: AtomicUsize::new(usize::MAX),
            pools_statements,
        });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                tokio::spawn(async move {
                    let before = state.clients.fetch_add(1, Ordering::SeqCst);
                    let is_full = before >= state.most_clients.load(Ordering::SeqCst);
                    // Whatever ends the connection ends it for both.
                    let _ = match is_full {
                        true => refuse(client).await,
                        false => forward(client, &state).await,
                    };
                    state.clients.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let url = url.replace(&target, &address.to_string());
        Self { url, state }
    }

    /// Takes no more clients than it has now, as with `max_client_conn`. Returns how many those are.
    pub fn take_no_more_clients(&self) -> usize {
        let now = self.state.clients.load(Ordering::SeqCst);
        self.state.most_clients.store(now, Ordering::SeqCst);
        now
    }
}

async fn refuse(mut client: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    let length = client.read(&mut bytes).await?;
    if length == 8 && bytes[4..8] == SSL_REQUEST {
        client.write_all(b"N").await?;
        let _start_up = client.read(&mut bytes).await?;
    }
    client
        .write_all(&error("no more connections allowed (max_client_conn)"))
        .await
}

async fn forward(mut client: TcpStream, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect(state.target).await?;
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let bytes = &from_client[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                if state.pools_statements && bytes.windows(5).any(|part| part == b"BEGIN") {
                    let refusal = error("transaction blocks not allowed in statement pooling mode");
                    return client.write_all(&refusal).await;
                }
                server.write_all(bytes).await?;
            }
            read = server.read(&mut from_server) => {
                let bytes = &mut from_server[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                let key = bytes.windows(KEY_DATA.len()).position(|part| part == KEY_DATA);
                if let Some(process) = key.and_then(|at| bytes.get_mut(at + KEY_DATA.len()..at + 9)) {
                    process.copy_from_slice(&[0x7f, 0, 0, 1]);
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// ErrorResponse.
fn error(message: &str) -> BytesMut {
    let mut fields = BytesMut::new();
    for field in ["SFATAL", "VFATAL", "C08P01", &format!("M{message}")] {
        fields.put_slice(field.as_bytes());
        fields.put_u8(0);
    }
    fields.put_u8(0);
    let mut bytes = BytesMut::new();
    bytes.put_u8(b'E');
    bytes.put_u32(u32::try_from(fields.len() + 4).unwrap());
    bytes.put_slice(&fields);
    bytes
}
