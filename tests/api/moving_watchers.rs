//! Watchers that move from replica to replica: every revocation reaches each of them within the promised second, also
//! while a replica restarts and while connections reach their greatest age.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use countersign::grpc::pb::{TokenPair, verifier_service_client::VerifierServiceClient};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    revocation::Lateness,
    support::{Kind, TestDatabase, TestServer, eventually, operator::Watcher},
};

/// Within this time every watcher has received a revocation.
const PROMISED: Duration = Duration::from_secs(1);

/// A reconnection is twice as many steps as the way of one revocation.
const ALLOWANCES: u32 = 2;

/// Revocations in each test.
const ROUNDS: usize = 20;

/// A watcher that resumes, on the next of its replicas, whenever its stream ends.
struct MovingWatcher {
    heard: Arc<Mutex<HashMap<String, Instant>>>,
    moves: Arc<Mutex<usize>>,
    running: JoinHandle<()>,
}

impl MovingWatcher {
    /// Watches the replicas in turn, beginning with the first.
    fn start(replicas: Vec<SocketAddr>, token: String) -> Self {
        let heard = Arc::new(Mutex::new(HashMap::new()));
        let moves = Arc::new(Mutex::new(0));
        let (notes, count) = (Arc::clone(&heard), Arc::clone(&moves));
        let running = tokio::spawn(async move {
            let mut cursor = String::new();
            for replica in replicas.iter().cycle() {
                let Ok(channel) =
                    tonic::transport::Channel::from_shared(format!("http://{replica}"))
                        .unwrap()
                        .connect()
                        .await
                else {
                    // It restarts.
                    continue;
                };
                let client = VerifierServiceClient::new(channel);
                let Ok(mut watcher) = Watcher::begin(client, &token, &cursor).await else {
                    continue;
                };
                while let Ok(true) = watcher.hear().await {
                    let mut notes = notes.lock().unwrap();
                    for session in &watcher.sessions {
                        notes.entry(session.clone()).or_insert_with(Instant::now);
                    }
                    if let Some(heartbeat) = &watcher.heartbeat {
                        cursor.clone_from(&heartbeat.cursor);
                    }
                }
                *count.lock().unwrap() += 1;
            }
        });
        Self {
            heard,
            moves,
            running,
        }
    }

    fn heard(&self, session: &str) -> Option<Instant> {
        self.heard.lock().unwrap().get(session).copied()
    }

    fn moves(&self) -> usize {
        *self.moves.lock().unwrap()
    }
}

impl Drop for MovingWatcher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Ends a session, and returns the longest time until a watcher has received it.
async fn revoke(server: &TestServer, tokens: &TokenPair, watchers: &[MovingWatcher]) -> Duration {
    server.logout(&tokens.refresh_token).await.unwrap();
    let revoked = Instant::now();
    let session = &tokens.session_id;
    eventually("every watcher hears of the revocation", async || {
        watchers
            .iter()
            .all(|watcher| watcher.heard(session).is_some())
    })
    .await;
    let times = watchers.iter().filter_map(|watcher| watcher.heard(session));
    times
        .map(|heard| heard.saturating_duration_since(revoked))
        .max()
        .unwrap()
}

fn report(what: &str, latencies: &[Duration], lateness: &Lateness) {
    let bound = PROMISED + lateness.allowance() * ALLOWANCES;
    let slowest = latencies.iter().max().unwrap();
    println!(
        "{what}: {} of {ROUNDS} heard, at most {slowest:?}, bound {bound:?}",
        latencies.len()
    );
    assert_eq!(latencies.len(), ROUNDS);
    assert!(*slowest < bound, "{slowest:?}, where {bound:?} is allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_watchers_receive_every_revocation_in_time_while_a_replica_restarts() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let one = TestServer::start_on_system_clock(&database, &[]).await;
    let mut other = TestServer::start_on_system_clock(&database, &[]).await;
    let token = one
        .signed_in_as("gateway@example.org", "verifier")
        .await
        .access_token;
    one.register("ada@example.org").await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..ROUNDS {
        sessions.push(one.login("ada@example.org").await.unwrap());
    }
    let (here, there) = (one.address, other.address);
    let watchers = [vec![here, there], vec![there, here], vec![there, here]]
        .map(|replicas| MovingWatcher::start(replicas, token.clone()));
    let lateness = Lateness::measure();
    // All of them watch.
    let first = one.login("ada@example.org").await.unwrap();
    revoke(&one, &first, &watchers).await;

    let mut latencies = Vec::new();
    for (round, tokens) in sessions.iter().enumerate() {
        // At half-time the replica of two watchers stops, while revocations go on; later another comes.
        if round == ROUNDS / 2 {
            other.begin_stop();
        }
        if round == ROUNDS * 3 / 4 {
            other.stop().await;
            other = TestServer::start_on_system_clock(&database, &[]).await;
        }
        let server = if round > ROUNDS * 3 / 4 && round % 2 == 0 {
            &other
        } else {
            &one
        };
        latencies.push(revoke(server, tokens, &watchers).await);
    }
    assert!(
        watchers[1].moves() > 0 && watchers[2].moves() > 0,
        "their replica has stopped"
    );
    report("while a replica restarts", &latencies, &lateness);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_move_without_a_gap_when_their_connections_are_too_old() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let aging = [
        ("COUNTERSIGN_MAX_CONNECTION_AGE", "1s"),
        ("COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", "1s"),
    ];
    let one = TestServer::start_on_system_clock(&database, &aging).await;
    let other = TestServer::start_on_system_clock(&database, &aging).await;
    // Whose own connections do not age.
    let operator = TestServer::start_on_system_clock(&database, &[]).await;
    let token = operator
        .signed_in_as("gateway@example.org", "verifier")
        .await
        .access_token;
    operator.register("ada@example.org").await.unwrap();
    let (here, there) = (one.address, other.address);
    let watchers = [vec![here, there], vec![there, here], vec![here, there]]
        .map(|replicas| MovingWatcher::start(replicas, token.clone()));
    let lateness = Lateness::measure();
    let mut latencies = Vec::new();
    for _ in 0..ROUNDS {
        let tokens = operator.login("ada@example.org").await.unwrap();
        latencies.push(revoke(&operator, &tokens, &watchers).await);
        // So that the rounds meet connections of every age.
        sleep(Duration::from_millis(330)).await;
    }
    for watcher in &watchers {
        eventually("every watcher has moved several times", async || {
            watcher.moves() >= 2
        })
        .await;
    }
    report("while connections age", &latencies, &lateness);
}
