//! The cost of a verification: warm, cold, beside a bare signature and beside `jsonwebtoken`; and of readers while revocations arrive.
//!
//! ```sh
//! cargo bench -p countersign-verifier --bench verify
//! ```

#![allow(missing_docs, reason = "criterion's macro makes functions")]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_verifier::{Demand, Id, LocalVerifier};
use criterion::{Criterion, criterion_group};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

const ISSUER: &str = "https://auth.example";
const AUDIENCE: &str = "shop";
const NOW: u64 = 1_800_000_000;

/// A token, its parts, and what verifies it.
struct Subject {
    name: &'static str,
    token: String,
    /// Tokens of other sessions, with the same key.
    others: Vec<String>,
    jwks: Value,
    message: String,
    signature: Vec<u8>,
    bare: ParsedPublicKey,
    algorithm: Algorithm,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn message(alg: &str, number: usize) -> String {
    let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"}).to_string();
    let claims = json!({
        "iss": ISSUER, "sub": "019b76da-a800-7a11-8c22-5f3e1d9b0a01", "aud": [AUDIENCE], "exp": NOW + 900, "iat": NOW - 5,
        "jti": format!("01a3185c-5000-7d14-8f55-{number:012x}"), "sid": format!("019b76da-a900-7b12-9d33-{number:012x}"),
        "roles": ["reader", "writer"], "client_id": "countersign",
    });
    let [header, claims] = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}")
}

fn es256() -> Subject {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made");
    let sign = |message: &str| {
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes());
        signature.expect("it signs").as_ref().to_vec()
    };
    let others = (1..TOKENS).map(|number| {
        let message = message("ES256", number);
        let signature = sign(&message);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    });
    let others = others.collect();
    let message = message("ES256", 0);
    let signature = sign(&message);
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y});
    let bare = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    Subject {
        name: "ES256",
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
        others,
        jwks: json!({"keys": [jwk]}),
        message,
        signature,
        bare: bare.expect("a good key"),
        algorithm: Algorithm::ES256,
    }
}

fn eddsa() -> Subject {
    let pair = Ed25519KeyPair::generate().expect("a key is made");
    let message = message("EdDSA", 0);
    let signature = pair.sign(message.as_bytes()).as_ref().to_vec();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k", "x": x});
    let bare = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    Subject {
        name: "EdDSA",
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
        others: Vec::new(),
        jwks: json!({"keys": [jwk]}),
        message,
        signature,
        bare: bare.expect("a good key"),
        algorithm: Algorithm::EdDSA,
    }
}

impl Subject {
    fn verifier(&self) -> LocalVerifier {
        let verifier = LocalVerifier::new(ISSUER, AUDIENCE);
        verifier
            .set_jwks(&self.jwks.to_string())
            .expect("a good set");
        verifier
    }
}

fn verification(criterion: &mut Criterion) {
    let demand = Demand::new().role("reader");
    for subject in [es256(), eddsa()] {
        let mut group = criterion.benchmark_group(subject.name);
        let warm = subject.verifier();
        let cold = subject.verifier().cached_tokens(0);
        for verifier in [&warm, &cold] {
            let verdict = verifier.verify_at(&subject.token, &demand, now());
            verdict.expect("a good token");
        }
        group.bench_function("warm verify, with the time of day", |bencher| {
            bencher.iter(|| {
                black_box(SystemTime::now());
                warm.verify_at(black_box(&subject.token), &demand, now())
            });
        });
        group.bench_function("cold verify", |bencher| {
            bencher.iter(|| cold.verify_at(black_box(&subject.token), &demand, now()));
        });
        group.bench_function("bare signature", |bencher| {
            let message = subject.message.as_bytes();
            bencher.iter(|| {
                subject
                    .bare
                    .verify_sig(black_box(message), &subject.signature)
            });
        });
        let jwk = serde_json::from_value(subject.jwks["keys"][0].clone()).expect("a JWK");
        let key = DecodingKey::from_jwk(&jwk).expect("a key");
        let mut rules = Validation::new(subject.algorithm);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        // Its clock cannot be set.
        rules.validate_exp = false;
        decode::<Value>(&subject.token, &key, &rules).expect("a good token");
        group.bench_function("decode of jsonwebtoken", |bencher| {
            bencher.iter(|| decode::<Value>(black_box(&subject.token), &key, &rules));
        });
        group.finish();
    }
}

/// How many threads read, and for how long.
const THREADS: usize = 8;
const LASTS: Duration = Duration::from_secs(3);
/// Rounds of the comparison of one thread with [`THREADS`].
const ROUNDS: usize = 5;
/// How many tokens each thread verifies in turn. A power of two, so that every odd step reaches all of them.
const TOKENS: usize = 256;

/// What a thread does with its tokens until it is told to end.
type Work<T> = fn(&LocalVerifier, &[String], &AtomicBool) -> T;

/// Threads that verify while 1,000 revocations a second arrive, beside 100,000 that are there.
fn readers() {
    let subject = es256();
    let one = vec![subject.token.clone()];
    let many: Vec<_> = one.iter().chain(&subject.others).cloned().collect();
    for (title, threads, is_revoking) in [
        ("1 thread, nothing arrives", 1, false),
        ("8 threads, nothing arrives", THREADS, false),
        ("8 threads, 1,000 revocations a second", THREADS, true),
    ] {
        let all = beside_revocations(&subject, &many, threads, is_revoking, latencies);
        report(title, &Latencies::sum(all));
    }
    scaling(&subject, &one, &many);
}

/// How many times as much as one thread [`THREADS`] verify, of many tokens and of one, and how many times as much they do in a
/// loop without shared data, in turn.
fn scaling(subject: &Subject, one: &[String], many: &[String]) {
    let times = |tokens: &[String], work: Work<u64>| {
        let [all, alone] = [THREADS, 1].map(|threads| {
            let counts = beside_revocations(subject, tokens, threads, false, work);
            let per_second = counts.into_iter().sum::<u64>() / LASTS.as_secs();
            f64::from(u32::try_from(per_second).unwrap_or(u32::MAX))
        });
        all / alone
    };
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            [
                times(many, verifications),
                times(one, verifications),
                times(one, hashes),
            ]
        })
        .collect();
    let [of_many, of_one, reference] =
        [0, 1, 2].map(|at| middle(rounds.iter().map(|round| round[at]).collect()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "8 threads verify {of_many:.2} times as much as one, {of_one:.2} times where all have the same token, and hash \
         {reference:.2} times as much ({cores} cores, {ROUNDS} rounds)"
    );
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What each thread returns that works for [`LASTS`].
fn beside_revocations<T: Send + 'static>(
    subject: &Subject,
    tokens: &[String],
    threads: usize,
    is_revoking: bool,
    work: Work<T>,
) -> Vec<T> {
    let verifier = Arc::new(subject.verifier());
    let end = now() + Duration::from_secs(1_800);
    for number in 0..100_000_u64 {
        verifier.revoke_session(id(number), end);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..threads)
        .map(|number| {
            // Each thread takes them in another order: threads with the same order would meet at a token and go on side by side.
            let step = 2 * number + 1;
            let tokens: Vec<_> = (0..tokens.len())
                .map(|at| tokens[at * step % tokens.len()].clone())
                .collect();
            let (verifier, is_over) = (Arc::clone(&verifier), Arc::clone(&is_over));
            thread::spawn(move || work(&verifier, &tokens, &is_over))
        })
        .collect();
    let began = Instant::now();
    let mut number = 100_000;
    while let Some(rest) = LASTS.checked_sub(began.elapsed()) {
        if is_revoking {
            verifier.revoke_session(id(number), end);
            number += 1;
            thread::park_timeout(Duration::from_millis(1));
        } else {
            thread::sleep(rest);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    readers
        .into_iter()
        .map(|reader| reader.join().expect("a reader ends"))
        .collect()
}

/// How many calls took how many nanoseconds.
struct Latencies(Vec<u64>);

impl Latencies {
    /// Longer ones count as this.
    const LONGEST: usize = 100_000;

    fn new() -> Self {
        Self(vec![0; Self::LONGEST + 1])
    }

    fn sum(all: Vec<Self>) -> Self {
        let mut sum = Self::new();
        for latencies in all {
            for (sum, count) in sum.0.iter_mut().zip(latencies.0) {
                *sum += count;
            }
        }
        sum
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    fn quantile(&self, permille: u64) -> usize {
        let below = self.count() * permille / 1_000;
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen > below
        });
        at.unwrap_or(Self::LONGEST)
    }
}

/// The nanoseconds of each verification.
fn latencies(verifier: &LocalVerifier, tokens: &[String], is_over: &AtomicBool) -> Latencies {
    let demand = Demand::new().role("reader");
    let mut all = Latencies::new();
    for token in tokens.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let verdict = verifier.verify_at(token, &demand, now());
        let nanos = usize::try_from(began.elapsed().as_nanos()).unwrap_or(usize::MAX);
        all.0[nanos.min(Latencies::LONGEST)] += 1;
        assert!(verdict.is_ok(), "a good token");
    }
    all
}

/// How many verifications there were.
fn verifications(verifier: &LocalVerifier, tokens: &[String], is_over: &AtomicBool) -> u64 {
    let demand = Demand::new().role("reader");
    count(tokens, is_over, |token| {
        verifier.verify_at(token, &demand, now()).is_ok()
    })
}

/// How many hashes of a token there were.
fn hashes(_: &LocalVerifier, tokens: &[String], is_over: &AtomicBool) -> u64 {
    count(tokens, is_over, |token| {
        let digest = black_box(digest(&SHA256, black_box(token.as_bytes())));
        digest.as_ref().len() == 32
    })
}

fn count(tokens: &[String], is_over: &AtomicBool, work: impl Fn(&str) -> bool) -> u64 {
    let mut count = 0;
    for token in tokens.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        assert!(work(token), "a good token");
        count += 1;
    }
    count
}

/// Any id whose last byte is spread, as in a UUIDv7.
fn id(number: u64) -> Id {
    let mut bytes = [0x70; 16];
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bytes[8..].copy_from_slice(&spread.to_le_bytes());
    bytes[8] = 0x80;
    bytes[15] = spread.to_be_bytes()[0];
    bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    Id::from_bytes(bytes)
}

fn report(title: &str, latencies: &Latencies) {
    println!(
        "{title}: {} verifications a second, p50 {} ns, p99 {} ns, p99.9 {} ns",
        latencies.count() / LASTS.as_secs(),
        latencies.quantile(500),
        latencies.quantile(990),
        latencies.quantile(999)
    );
}

criterion_group!(benches, verification);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    readers();
}
