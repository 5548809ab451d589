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
    jwks: Value,
    message: String,
    signature: Vec<u8>,
    bare: ParsedPublicKey,
    algorithm: Algorithm,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn message(alg: &str) -> String {
    let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"}).to_string();
    let claims = json!({
        "iss": ISSUER, "sub": "019b76da-a800-7a11-8c22-5f3e1d9b0a01", "aud": [AUDIENCE], "exp": NOW + 900, "iat": NOW - 5,
        "jti": "01a3185c-5000-7d14-8f55-8c6b4a6e3d04", "sid": "019b76da-a900-7b12-9d33-6a4f2e8c1b02",
        "roles": ["reader", "writer"], "client_id": "countersign",
    });
    let [header, claims] = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}")
}

fn es256() -> Subject {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made");
    let message = message("ES256");
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes());
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y});
    let bare = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let signature = signature.expect("it signs").as_ref().to_vec();
    Subject {
        name: "ES256",
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
        jwks: json!({"keys": [jwk]}),
        message,
        signature,
        bare: bare.expect("a good key"),
        algorithm: Algorithm::ES256,
    }
}

fn eddsa() -> Subject {
    let pair = Ed25519KeyPair::generate().expect("a key is made");
    let message = message("EdDSA");
    let signature = pair.sign(message.as_bytes()).as_ref().to_vec();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k", "x": x});
    let bare = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    Subject {
        name: "EdDSA",
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
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
const THREADS: u64 = 8;
const LASTS: Duration = Duration::from_secs(3);

/// Threads that verify while 1,000 revocations a second arrive, beside 100,000 that are there.
fn readers() {
    let subject = es256();
    for (title, count) in [
        ("1 thread, nothing arrives", 1),
        ("8 threads, nothing arrives", THREADS),
    ] {
        report(title, &read(&subject, count, false));
    }
    report(
        "8 threads, 1,000 revocations a second",
        &read(&subject, THREADS, true),
    );
}

fn read(subject: &Subject, threads: u64, is_revoking: bool) -> Vec<u64> {
    let verifier = Arc::new(subject.verifier());
    let end = now() + Duration::from_secs(1_800);
    for number in 0..100_000_u64 {
        verifier.revoke_session(id(number), end);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..threads)
        .map(|_| {
            let (verifier, token) = (Arc::clone(&verifier), subject.token.clone());
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || measure(&verifier, &token, &is_over))
        })
        .collect();
    let began = Instant::now();
    let mut number = 100_000;
    while began.elapsed() < LASTS {
        if is_revoking {
            verifier.revoke_session(id(number), end);
            number += 1;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    is_over.store(true, Ordering::Relaxed);
    let mut all: Vec<u64> = readers
        .into_iter()
        .flat_map(|reader| reader.join().expect("a reader ends"))
        .collect();
    all.sort_unstable();
    all
}

/// The nanoseconds of each verification.
fn measure(verifier: &LocalVerifier, token: &str, is_over: &AtomicBool) -> Vec<u64> {
    let demand = Demand::new().role("reader");
    let mut all = Vec::with_capacity(1 << 24);
    while !is_over.load(Ordering::Relaxed) && all.len() < all.capacity() {
        let began = Instant::now();
        let verdict = verifier.verify_at(token, &demand, now());
        all.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        assert!(verdict.is_ok(), "a good token");
    }
    all
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

fn report(title: &str, sorted: &[u64]) {
    let at = |permille: usize| sorted[sorted.len() * permille / 1_000];
    let seconds = LASTS.as_secs();
    println!(
        "{title}: {} verifications a second, p50 {} ns, p99 {} ns, p99.9 {} ns",
        sorted.len() as u64 / seconds,
        at(500),
        at(990),
        at(999)
    );
}

criterion_group!(benches, verification);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    readers();
}
