//! Tests of how a JWKS is read.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ES256: KeyRules<'static> = KeyRules {
    algorithms: &[AssertionAlgorithm::Es256],
    is_spiffe: false,
};

fn p256(kid: &str) -> Value {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(&point[1..33]), "y": encode(&point[33..])})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn read(keys: &[Value], rules: KeyRules<'_>) -> Result<usize, JwksError> {
    let document = json!({ "keys": keys }).to_string();
    KeySet::read(document.as_bytes(), rules).map(|set| set.len())
}

#[test]
fn unusable_keys_are_ignored() {
    let good = p256("1");
    for other in [
        json!(null),
        json!("key"),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        with(p256("2"), "use", json!("enc")),
        with(p256("2"), "use", json!("x509-svid")),
        with(p256("2"), "use", json!("jwt-svid")),
        with(p256("2"), "alg", json!("ES384")),
        with(p256("2"), "key_ops", json!(["sign"])),
        with(p256("2"), "kid", json!(2)),
        with(p256("2"), "y", good["y"].clone()),
    ] {
        assert_eq!(
            read(&[good.clone(), other.clone()], ES256),
            Ok(1),
            "{other}"
        );
        assert_eq!(
            read(std::slice::from_ref(&other), ES256),
            Err(JwksError::NoKey),
            "{other}"
        );
    }
}

#[test]
fn a_spiffe_bundle_is_read_without_the_keys_of_certificates() {
    let rules = KeyRules {
        is_spiffe: true,
        ..ES256
    };
    let keys = [
        with(p256("1"), "use", json!("jwt-svid")),
        with(p256("2"), "use", json!("x509-svid")),
    ];
    assert_eq!(read(&keys, rules), Ok(1));
}

#[test]
fn only_pinned_algorithms_have_keys() {
    let rules = KeyRules {
        algorithms: &[AssertionAlgorithm::EdDsa, AssertionAlgorithm::Rs256],
        ..ES256
    };
    assert_eq!(read(&[p256("1")], rules), Err(JwksError::NoKey));
}

#[test]
fn a_kid_selects_and_without_one_no_more_than_eight_keys_are_tried() {
    let keys: Vec<_> = (0..20).map(|at| p256(&at.to_string())).collect();
    let document = json!({ "keys": keys }).to_string();
    let set = KeySet::read(document.as_bytes(), ES256).unwrap();
    assert_eq!(
        set.candidates(AssertionAlgorithm::Es256, Some("3")).count(),
        1
    );
    assert_eq!(
        set.candidates(AssertionAlgorithm::Es256, Some("33"))
            .count(),
        0
    );
    assert_eq!(set.candidates(AssertionAlgorithm::Rs256, None).count(), 0);
    assert_eq!(set.candidates(AssertionAlgorithm::Es256, None).count(), 8);
}

#[test]
fn a_document_that_is_too_long_or_no_jwk_set_is_refused() {
    let padding = " ".repeat(MAX_JWKS_LENGTH);
    let document = format!("{{\"keys\":[{}]}}{padding}", p256("1"));
    assert_eq!(
        KeySet::read(document.as_bytes(), ES256).err(),
        Some(JwksError::TooLong)
    );
    let many: Vec<_> = (0..101).map(|_| json!({})).collect();
    assert_eq!(read(&many, ES256), Err(JwksError::TooManyKeys));
    for text in ["", "[]", "{}", "[[]]", r#"{"keys":{}}"#, "<html>"] {
        assert_eq!(
            KeySet::read(text.as_bytes(), ES256).err(),
            Some(JwksError::Malformed),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<Vec<u8>>()) {
        let _ = KeySet::read(&text, ES256);
    }

    #[test]
    fn near_misses_make_no_reader_panic(
        kty in "(RSA|EC|OKP|oct)",
        crv in "(P-256|Ed25519|X)",
        n in "[A-Za-z0-9_=-]{0,60}",
        x in "[A-Za-z0-9_=-]{40,46}",
    ) {
        let rules = KeyRules {
            algorithms: &[
                AssertionAlgorithm::Rs256,
                AssertionAlgorithm::Ps256,
                AssertionAlgorithm::Es256,
                AssertionAlgorithm::EdDsa,
            ],
            is_spiffe: true,
        };
        let key = json!({"kty": kty, "crv": crv, "n": n, "e": n, "x": x, "y": x});
        let _ = read(&[key], rules);
    }
}
