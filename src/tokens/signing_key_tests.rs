//! Tests of keys of every algorithm, against the standards' own examples.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::*;

const ALGORITHMS: [SigningAlgorithm; 4] = [
    SigningAlgorithm::EdDsa,
    SigningAlgorithm::Es256,
    SigningAlgorithm::Rs256With2048Bits,
    SigningAlgorithm::Rs256With3072Bits,
];

/// RFC 8037 appendix A.1 and A.3; RFC 7638 section 3.1.
#[test]
fn thumbprints_are_those_of_the_standards() {
    for (jwk, expected) in [
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
        (
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
    ] {
        let jwk: Jwk = serde_json::from_str(jwk).unwrap();
        assert_eq!(thumbprint(&jwk).unwrap(), expected);
    }
}

#[test]
fn every_algorithm_signs_what_it_verifies_and_nothing_else() {
    for algorithm in ALGORITHMS {
        let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
        let signature = key.sign(b"message");
        assert!(key.verifies(b"message", &signature), "{algorithm:?}");
        assert!(!key.verifies(b"another", &signature), "{algorithm:?}");
        for wrong in ["", "not base64!", &"A".repeat(86), &"A".repeat(5000)] {
            assert!(!key.verifies(b"message", wrong), "{algorithm:?}");
        }
        let read_again = SigningKey::from_pkcs8(key.algorithm_name(), &pkcs8).unwrap();
        assert_eq!(read_again.kid(), key.kid());
        assert!(read_again.verifies(b"message", &signature));
        for other in ALGORITHMS {
            assert_eq!(key.is_of(other), algorithm == other);
        }
        for name in ["EdDSA", "ES256", "RS256", "HS256", "none", ""] {
            let read = SigningKey::from_pkcs8(name, &pkcs8);
            assert_eq!(read.is_ok(), name == key.algorithm_name(), "{name}");
        }
    }
}

/// The published key verifies what the private one signs.
#[test]
fn the_published_key_verifies() {
    for algorithm in ALGORITHMS {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        let published: Jwk =
            serde_json::from_str(&serde_json::to_string(key.jwk()).unwrap()).unwrap();
        let decoding_key = DecodingKey::from_jwk(&published).unwrap();
        let signature = key.sign(b"message");
        let jwa = key.pair.algorithm;
        let verify = |message: &[u8]| {
            jsonwebtoken::crypto::verify(&signature, message, &decoding_key, jwa).unwrap()
        };
        assert!(verify(b"message") && !verify(b"another"), "{algorithm:?}");
    }
}

/// RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2: these members and no others.
#[test]
fn the_jwk_has_the_members_of_the_standards() {
    for (algorithm, alg, kty, own, lengths) in [
        (
            SigningAlgorithm::EdDsa,
            "EdDSA",
            "OKP",
            vec!["crv", "x"],
            vec![32],
        ),
        (
            SigningAlgorithm::Es256,
            "ES256",
            "EC",
            vec!["crv", "x", "y"],
            vec![32, 32],
        ),
        (
            SigningAlgorithm::Rs256With2048Bits,
            "RS256",
            "RSA",
            vec!["e", "n"],
            vec![3, 256],
        ),
        (
            SigningAlgorithm::Rs256With3072Bits,
            "RS256",
            "RSA",
            vec!["e", "n"],
            vec![3, 384],
        ),
    ] {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        let jwk = serde_json::to_value(key.jwk()).unwrap();
        for (member, value) in [
            ("alg", alg),
            ("kty", kty),
            ("use", "sig"),
            ("kid", key.kid()),
        ] {
            assert_eq!(jwk[member], json!(value));
        }
        let mut members: Vec<&str> = vec!["alg", "kid", "kty", "use"];
        members.extend(&own);
        members.sort_unstable();
        let found: Vec<&String> = jwk.as_object().unwrap().keys().collect();
        assert_eq!(found, members);
        let length = |member: &str| {
            let text = jwk[member].as_str().unwrap();
            URL_SAFE_NO_PAD.decode(text).unwrap().len()
        };
        let coordinates = own.iter().filter(|member| **member != "crv");
        let found: Vec<usize> = coordinates.map(|member| length(member)).collect();
        assert_eq!(found, lengths);
        assert!(!matches!(jwk["d"], Value::String(_)), "the private half");
    }
}

/// RFC 7518 section 3.4: 64 bytes, not DER.
#[test]
fn an_es256_signature_has_64_bytes() {
    let (key, _) = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    for _ in 0..64 {
        let signature = URL_SAFE_NO_PAD.decode(key.sign(b"message"));
        assert_eq!(signature.unwrap().len(), 64);
    }
}
