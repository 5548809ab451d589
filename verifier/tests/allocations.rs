//! A warm verification allocates nothing, and revocations are small. In a program of its own, because it counts what the allocator does.

#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_verifier::{Demand, Id, LocalVerifier};
use serde_json::json;

#[test]
fn a_warm_verification_allocates_nothing() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k"}).to_string();
    let id = "0193735b-2a00-7000-8000-000000000001";
    let claims = json!({
        "iss": "i", "sub": id, "sid": id, "jti": id, "aud": "a", "exp": 2_000, "iat": 1_000, "roles": ["reader"], "client_id": "c",
    });
    let [header, claims] = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let token = format!(
        "{message}.{}",
        URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()))
    );
    let verifier = LocalVerifier::new("i", "a");
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
    verifier.set_jwks(&jwks.to_string()).unwrap();
    let (demand, now) = (
        Demand::new().role("reader"),
        UNIX_EPOCH + Duration::from_secs(1_500),
    );
    let cold = allocation_counter::measure(|| {
        verifier.verify_at(&token, &demand, now).unwrap();
    });
    assert!(cold.count_total > 0, "the counter counts");
    let warm = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            verifier.verify_at(&token, &demand, now).unwrap();
        }
    });
    assert_eq!(warm.count_total, 0);
}

#[test]
fn a_hundred_thousand_revocations_need_at_most_100_bytes_each() {
    const COUNT: u64 = 100_000;
    let verifier = LocalVerifier::new("i", "a");
    let end = UNIX_EPOCH + Duration::from_secs(2_000);
    let memory = allocation_counter::measure(|| {
        for number in 0..COUNT {
            // A UUIDv7: a time, and random bits.
            let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
            let mut bytes = [0x70; 16];
            bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
            bytes[8..].copy_from_slice(&random);
            bytes[15] = random[0];
            verifier.revoke_session(Id::from_bytes(bytes), end);
        }
    });
    assert_eq!(verifier.revocation_count(), 100_000);
    let each = memory.bytes_current / i64::try_from(COUNT).unwrap();
    assert!(each <= 100, "{each} bytes");
}
