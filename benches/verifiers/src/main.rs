//! One access token, verified by `countersign-verifier` and by two crates of others for resource servers, in alternating rounds.
//!
//! ```sh
//! cargo run --release --manifest-path benches/verifiers/Cargo.toml --target-dir target/verifiers
//! ```
//!
//! The others know no revocations and remember no token: they verify the signature each time. Ours is measured warm, with 100,000
//! revocations, and without its memory of tokens.

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use axum_jwt_auth::{JwtDecoder, LocalDecoder};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_verifier::{Demand, Id, LocalVerifier};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use jwt_authorizer::{Authorizer, JwtAuthorizer};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ISSUER: &str = "https://auth.example";
const AUDIENCE: &str = "shop";
const REVOCATIONS: u64 = 100_000;
const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_millis(300);

/// A token and the JWK of its key.
struct Subject {
    algorithm: Algorithm,
    token: String,
    jwk: Value,
}

fn message(alg: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"});
    let claims = json!({
        "iss": ISSUER, "sub": "019b76da-a800-7a11-8c22-5f3e1d9b0a01", "aud": [AUDIENCE], "exp": now + 900, "iat": now - 5,
        "jti": "01a3185c-5000-7d14-8f55-8c6b4a6e3d04", "sid": "019b76da-a900-7b12-9d33-6a4f2e8c1b02",
        "roles": ["reader", "writer"], "client_id": "countersign",
    });
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    Ok(format!("{header}.{claims}"))
}

fn es256() -> Result<Subject> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let message = message("ES256")?;
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes())?;
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    Ok(Subject {
        algorithm: Algorithm::ES256,
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)),
        jwk: json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": x, "y": y}),
    })
}

fn eddsa() -> Result<Subject> {
    let pair = Ed25519KeyPair::generate()?;
    let message = message("EdDSA")?;
    let signature = pair.sign(message.as_bytes());
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    Ok(Subject {
        algorithm: Algorithm::EdDSA,
        token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k", "x": x}),
    })
}

impl Subject {
    fn jwks(&self) -> String {
        json!({"keys": [self.jwk]}).to_string()
    }

    fn ours(&self) -> Result<LocalVerifier> {
        let verifier = LocalVerifier::new(ISSUER, AUDIENCE);
        verifier.set_jwks(&self.jwks())?;
        let end = SystemTime::now() + Duration::from_secs(3_600);
        for number in 0..REVOCATIONS {
            let mut bytes = [0x70; 16];
            bytes[8..].copy_from_slice(&number.to_be_bytes());
            verifier.revoke_session(Id::from_bytes(bytes), end);
        }
        Ok(verifier)
    }

    fn jwt_authorizer(&self, runtime: &Runtime) -> Result<Authorizer<Value>> {
        let rules = jwt_authorizer::Validation::new()
            .iss(&[ISSUER])
            .aud(&[AUDIENCE]);
        let builder = JwtAuthorizer::from_jwks_text(&self.jwks()).validation(rules);
        Ok(runtime.block_on(builder.build())?)
    }

    fn axum_jwt_auth(&self) -> Result<LocalDecoder> {
        let jwk = serde_json::from_value(self.jwk.clone())?;
        let mut rules = Validation::new(self.algorithm);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        Ok(LocalDecoder::new(
            vec![DecodingKey::from_jwk(&jwk)?],
            rules,
        )?)
    }
}

/// Microseconds of one call, over a round.
fn micros(mut verify: impl FnMut() -> bool) -> f64 {
    let began = Instant::now();
    let mut calls = 0_u32;
    while began.elapsed() < ROUND {
        for _ in 0..16 {
            assert!(black_box(verify()), "a good token");
        }
        calls += 16;
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

fn measure(subject: &Subject) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (warm, cold) = (subject.ours()?, subject.ours()?.cached_tokens(0));
    let authorizer = subject.jwt_authorizer(&runtime)?;
    let decoder = subject.axum_jwt_auth()?;
    let demand = Demand::new();
    let token = subject.token.as_str();
    let ours = |verifier: &LocalVerifier| {
        let verdict = verifier.verify_at(black_box(token), &demand, SystemTime::now());
        verdict.is_ok()
    };
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(micros(|| ours(&warm)));
        rounds[1].push(micros(|| ours(&cold)));
        let check = || runtime.block_on(authorizer.check_auth(black_box(token)));
        rounds[2].push(micros(|| check().is_ok()));
        let decode = || runtime.block_on(JwtDecoder::<Value>::decode(&decoder, black_box(token)));
        rounds[3].push(micros(|| decode().is_ok()));
    }
    let [warm, cold, authorizer, decoder] = rounds.map(|mut round| {
        round.sort_by(f64::total_cmp);
        round[round.len() / 2]
    });
    println!(
        "{:?}, microseconds a token, medians of {ROUNDS} rounds",
        subject.algorithm
    );
    for (name, figure) in [
        ("countersign-verifier, warm", warm),
        ("countersign-verifier, cold", cold),
        ("jwt-authorizer 0.15.0", authorizer),
        ("axum-jwt-auth 0.7.0", decoder),
    ] {
        println!(
            "  {name}: {figure:.2}, {:.0} times the warm one",
            figure / warm
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    for subject in [es256()?, eddsa()?] {
        measure(&subject)?;
    }
    Ok(())
}
