//! Five rotations under traffic on two replicas: no call fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign::{
    clock::Timestamp,
    grpc::pb::{
        LoginRequest, RefreshRequest, TokenPair, ValidateTokenRequest,
        auth_service_client::AuthServiceClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    keys::{kid, published},
    support::{Kind, PASSWORD, TestDatabase, TestServer, eventually, server::START},
};

const ROTATIONS: u32 = 5;
const ROTATION: Duration = Duration::from_secs(20 * 60);
/// When a successor is published: two minutes for the JWKS, 15.2 s for replicas.
const AHEAD: Duration = Duration::from_millis(135_200);
const SETTINGS: [(&str, &str); 4] = [
    ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "100ms"),
    ("COUNTERSIGN_SIGNING_KEY_ROTATION", "20m"),
    ("COUNTERSIGN_SIGNING_KEY_LEAD", "2m"),
    ("COUNTERSIGN_JWKS_MAX_AGE", "2m"),
];
/// The clock moves in steps that are short beside the life of a token, so that none expires between
/// two calls of a worker.
const STEP: Duration = Duration::from_secs(4 * 60);
const WORKERS: usize = 6;

type Client = AuthServiceClient<Channel>;

/// What the workers share.
#[derive(Default)]
struct Traffic {
    over: AtomicBool,
    rounds: [AtomicU64; WORKERS],
    calls: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// Access tokens and when they were issued.
    issued: Mutex<Vec<(String, Timestamp)>>,
}

impl Traffic {
    fn count<T>(&self, call: &str, result: Result<T, Status>) -> Option<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        result
            .map_err(|status| {
                let mut failures = self.failures.lock().unwrap();
                failures.push(format!("{call}: {status:?}"));
            })
            .ok()
    }

    /// Waits until every worker has begun and finished a round.
    async fn full_round(&self) {
        let begun: Vec<u64> = self
            .rounds
            .iter()
            .map(|rounds| rounds.load(Ordering::Acquire))
            .collect();
        let done = || {
            let rounds = self.rounds.iter().zip(&begun);
            rounds
                .into_iter()
                .all(|(rounds, begun)| rounds.load(Ordering::Acquire) >= begun + 2)
        };
        eventually("every worker makes a round", async || done()).await;
    }
}

async fn validate(client: &Client, token: &str) -> Result<(), Status> {
    let request = ValidateTokenRequest {
        access_token: token.to_owned(),
        ..Default::default()
    };
    client.clone().validate_token(request).await.map(drop)
}

/// Logs in here, validates everywhere, refreshes there, validates everywhere.
async fn work(
    number: usize,
    clients: [Client; 2],
    now: impl Fn() -> Timestamp,
    traffic: Arc<Traffic>,
) {
    let mut here = number % 2;
    while !traffic.over.load(Ordering::Acquire) {
        let login = LoginRequest {
            email: format!("user{number}@example.org"),
            password: PASSWORD.to_owned(),
            device_label: String::new(),
            ..LoginRequest::default()
        };
        let issued_at = now();
        let login = clients[here].clone().login(login).await;
        let Some(login) = traffic.count("login", login) else {
            break;
        };
        let first = login.into_inner().tokens.unwrap();
        validate_everywhere(&clients, &first, &traffic).await;
        let refresh = RefreshRequest {
            refresh_token: first.refresh_token.clone(),
            ..Default::default()
        };
        let refreshed = clients[1 - here].clone().refresh(refresh).await;
        let Some(refreshed) = traffic.count("refresh", refreshed) else {
            break;
        };
        let second = refreshed.into_inner().tokens.unwrap();
        validate_everywhere(&clients, &second, &traffic).await;
        traffic
            .issued
            .lock()
            .unwrap()
            .push((first.access_token, issued_at));
        traffic.rounds[number].fetch_add(1, Ordering::Release);
        here = 1 - here;
    }
}

async fn validate_everywhere(clients: &[Client; 2], tokens: &TokenPair, traffic: &Traffic) {
    for client in clients {
        traffic.count("validate", validate(client, &tokens.access_token).await);
    }
}

/// Moves the clock to `moment`, with a round of traffic after every step, and validates what was
/// issued within the life of a token.
async fn move_to(moment: Timestamp, replicas: &[TestServer; 2], traffic: &Traffic) {
    let clock = &replicas[0].clock;
    while clock.now() < moment {
        clock.set((clock.now() + STEP).min(moment));
        traffic.full_round().await;
        let now = clock.now();
        // Lifetimes are shortened by a twentieth at most.
        let alive = |issued_at: Timestamp| now < issued_at + Duration::from_secs(855);
        let tokens: Vec<_> = {
            let mut issued = traffic.issued.lock().unwrap();
            issued.retain(|(_, issued_at)| alive(*issued_at));
            issued.iter().step_by(7).cloned().collect()
        };
        for (token, _) in tokens {
            for replica in replicas {
                traffic.count(
                    "validate an older one",
                    validate(&replica.auth(), &token).await,
                );
            }
        }
        assert_eq!(*traffic.failures.lock().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_during_five_rotations_on_two_replicas() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let one = TestServer::start_with(&database, &SETTINGS).await;
    let other = one.replica(&SETTINGS).await;
    for number in 0..WORKERS {
        one.register(&format!("user{number}@example.org"))
            .await
            .unwrap();
    }
    let traffic = Arc::new(Traffic::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let clock = one.clock.clone();
            let clients = [one.auth(), other.auth()];
            tokio::spawn(work(
                number,
                clients,
                move || clock.now(),
                Arc::clone(&traffic),
            ))
        })
        .collect();
    let replicas = [one, other];
    let mut signers = vec![published(&replicas[0])[0].clone()];
    for rotation in 1..=ROTATIONS {
        let switch = START + ROTATION * rotation;
        move_to(switch - AHEAD, &replicas, &traffic).await;
        // In production the lead gives replicas the time for this.
        let successor = async |replica: &TestServer| published(replica).get(1).cloned();
        let is_new = |kid: Option<String>| kid.is_some_and(|kid| !signers.contains(&kid));
        eventually("both replicas have the successor", async || {
            is_new(successor(&replicas[0]).await) && is_new(successor(&replicas[1]).await)
        })
        .await;
        traffic.full_round().await;
        assert_eq!(&published(&replicas[1])[0], signers.last().unwrap());
        move_to(switch, &replicas, &traffic).await;
        let signer = published(&replicas[0])[0].clone();
        for replica in &replicas {
            let tokens = replica.login("user0@example.org").await.unwrap();
            assert_eq!(kid(&tokens.access_token), signer);
        }
        signers.push(signer);
    }
    traffic.over.store(true, Ordering::Release);
    for worker in workers {
        worker.await.unwrap();
    }
    signers.sort();
    signers.dedup();
    assert_eq!(signers.len(), 6);
    assert_eq!(*traffic.failures.lock().unwrap(), Vec::<String>::new());
    let calls = traffic.calls.load(Ordering::Relaxed);
    println!("{calls} calls during {ROTATIONS} rotations, none failed");
}
