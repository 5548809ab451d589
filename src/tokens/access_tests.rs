//! Tests of access tokens under attack: whatever is not exactly a token of this service is `Invalid`, and nothing panics.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{config::SigningAlgorithm, domain::Role};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

const ALGORITHMS: [(SigningAlgorithm, &str); 4] = [
    (SigningAlgorithm::Rs256With2048Bits, "RS256"),
    (SigningAlgorithm::Rs256With3072Bits, "RS256"),
    (SigningAlgorithm::Es256, "ES256"),
    (SigningAlgorithm::EdDsa, "EdDSA"),
];

fn profile() -> AccessProfile {
    AccessProfile {
        issuer: "https://auth.example".to_owned(),
        audiences: vec!["api".to_owned(), "billing".to_owned()],
        client_id: "countersign".to_owned(),
        ttl: Duration::from_secs(900),
        leeway: Duration::ZERO,
    }
}

fn issue(keyring: &Keyring) -> String {
    let roles = Roles::new(vec![Role::parse("admin").unwrap()]);
    let subject = Subject {
        user_id: UserId::generate(NOW),
        session_id: SessionId::generate(NOW),
        roles: &roles,
        audiences: &profile().audiences,
        authenticated_at: NOW - Duration::from_secs(100),
        methods: &["pwd".to_owned()],
        acr: "urn:countersign:acr:1",
        issued_after: NOW - Duration::from_secs(100),
    };
    let issued = profile().issue(keyring, &subject, NOW).unwrap();
    issued.token.expose().clone()
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Signs any header and payload with the keyring's own key: what an attacker cannot do, and a bug could.
fn sign_raw(keyring: &Keyring, header: &str, payload: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = keyring.signer(NOW).unwrap().sign(message.as_bytes());
    format!("{message}.{signature}")
}

fn assert_invalid(keyring: &Keyring, token: &str, why: &str) {
    let verdict = profile().verify(keyring, token, NOW);
    assert_eq!(verdict, Err(AccessTokenError::Invalid), "{why}");
}

#[test]
fn the_profile_is_that_of_rfc_9068() {
    let keyring = Keyring::for_tests();
    let token = issue(&keyring);
    let parts: Vec<&str> = token.split('.').collect();
    let header = decode(parts[0]);
    let kid = keyring.signer(NOW).unwrap().kid().to_owned();
    assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}));
    let claims = decode(parts[1]);
    assert_eq!(claims["iss"], "https://auth.example");
    assert_eq!(claims["aud"], json!(["api", "billing"]));
    assert!((1_800_000_855..=1_800_000_900).contains(&claims["exp"].as_i64().unwrap()));
    assert_eq!(claims["iat"], json!(1_799_999_995));
    assert_eq!(claims.get("nbf"), None);
    assert_eq!(claims["roles"], json!(["admin"]));
    assert_eq!(claims["client_id"], "countersign");
    assert_eq!(claims["auth_time"], json!(1_799_999_900));
    assert_eq!(claims["amr"], json!(["pwd"]));
    assert_eq!(claims["acr"], "urn:countersign:acr:1");
    let verified = profile().verify(&keyring, &token, NOW).unwrap();
    assert_eq!(claims["sub"], verified.user_id.to_string());
    assert_eq!(claims["sid"], verified.session_id.to_string());
    assert_eq!(claims["jti"], verified.token_id.to_string());
}

#[test]
fn expiry_is_exact_and_leeway_extends_it() {
    let keyring = Keyring::for_tests();
    let strict = profile();
    let claims = strict.verify(&keyring, &issue(&keyring), NOW).unwrap();
    let expiry = claims.expires_at;
    let before = Timestamp::from_micros(expiry.micros() - 1);
    assert_eq!(strict.check_expiry(&claims, before), Ok(()));
    assert_eq!(
        strict.check_expiry(&claims, expiry),
        Err(AccessTokenError::Expired)
    );
    let lenient = AccessProfile {
        leeway: Duration::from_secs(5),
        ..strict
    };
    assert_eq!(lenient.check_expiry(&claims, expiry), Ok(()));
}

#[test]
fn lifetimes_are_shortened_by_up_to_a_twentieth() {
    let lifetimes = |seconds| {
        let ttl = Duration::from_secs(seconds);
        let lifetime = |_| shortened(ttl, TokenId::generate(NOW)).as_secs();
        (0..2_000).map(lifetime).collect::<BTreeSet<u64>>()
    };
    assert_eq!(lifetimes(900), (855..=900).collect());
    assert_eq!(lifetimes(20), BTreeSet::from([19, 20]));
    assert_eq!(lifetimes(1), BTreeSet::from([1]));
}

#[test]
fn headers_that_are_not_ours_are_refused() {
    let keyring = Keyring::for_tests_with(&[SigningAlgorithm::EdDsa]);
    let token = issue(&keyring);
    let payload = String::from_utf8(
        URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).unwrap())
            .unwrap(),
    )
    .unwrap();
    let kid = keyring.signer(NOW).unwrap().kid().to_owned();
    let good = |alg: &str| format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
    for alg in ["EdDSA", "Ed25519"] {
        let token = sign_raw(&keyring, &good(alg), &payload);
        assert!(profile().verify(&keyring, &token, NOW).is_ok(), "{alg}");
    }
    for alg in [
        "none", "None", "NONE", "nOnE", "HS256", "RS256", "ES256", "eddsa", "Ed448", "",
    ] {
        assert_invalid(&keyring, &sign_raw(&keyring, &good(alg), &payload), alg);
    }
    for header in [
        format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"AT+JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
        r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned(),
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"' OR 1=1 --"}"#.to_owned(),
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../../etc/passwd"}"#.to_owned(),
        format!(r#"{{"alg":"EdDSA","alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","crit":["exp"]}}"#),
        format!(r#"{{"alg":["EdDSA"],"typ":"at+jwt","kid":"{kid}"}}"#),
        "[]".to_owned(),
        "null".to_owned(),
        "[".repeat(4000),
    ] {
        assert_invalid(&keyring, &sign_raw(&keyring, &header, &payload), &header);
    }
    let pointing = format!(
        r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jku":"https://evil","x5u":"https://evil","jwk":{{}}}}"#
    );
    let token = sign_raw(&keyring, &pointing, &payload);
    assert!(
        profile().verify(&keyring, &token, NOW).is_ok(),
        "jku, x5u and jwk are ignored"
    );
    let escaped = good("EdDSA").replace("at+jwt", r"\u0061t+jwt");
    let token = sign_raw(&keyring, &escaped, &payload);
    assert!(
        profile().verify(&keyring, &token, NOW).is_ok(),
        "the same text, with a letter escaped"
    );
}

#[test]
fn claims_that_are_missing_mistyped_or_foreign_are_refused() {
    let keyring = Keyring::for_tests();
    let token = issue(&keyring);
    let parts: Vec<&str> = token.split('.').collect();
    let header = decode(parts[0]).to_string();
    let claims = decode(parts[1]);
    let names: Vec<String> = claims.as_object().unwrap().keys().cloned().collect();
    for name in names {
        let mut without = claims.clone();
        without.as_object_mut().unwrap().remove(&name);
        let without = sign_raw(&keyring, &header, &without.to_string());
        // Tokens of the previous version do not have these.
        if ["auth_time", "amr", "acr"].contains(&name.as_str()) {
            assert!(profile().verify(&keyring, &without, NOW).is_ok(), "{name}");
        } else {
            assert_invalid(&keyring, &without, &name);
        }
        for wrong in [json!(null), json!({}), json!(true), json!(1.5), json!([1])] {
            let mut mistyped = claims.clone();
            mistyped[&name] = wrong;
            assert_invalid(
                &keyring,
                &sign_raw(&keyring, &header, &mistyped.to_string()),
                &name,
            );
        }
    }
    for (name, foreign) in [
        ("iss", json!("https://evil")),
        ("aud", json!(["somebody else"])),
        ("aud", json!([])),
        ("sub", json!("not a uuid")),
        ("exp", json!("1800000900")),
    ] {
        let mut changed = claims.clone();
        changed[name] = foreign;
        assert_invalid(
            &keyring,
            &sign_raw(&keyring, &header, &changed.to_string()),
            name,
        );
    }
    let doubled = claims.to_string().replacen('{', r#"{"sub":"x","#, 1);
    assert_invalid(
        &keyring,
        &sign_raw(&keyring, &header, &doubled),
        "duplicate member",
    );
    let mut single = claims;
    single["aud"] = json!("api");
    let token = sign_raw(&keyring, &header, &single.to_string());
    assert!(
        profile().verify(&keyring, &token, NOW).is_ok(),
        "one audience may stand alone"
    );
}

#[test]
fn a_foreign_key_under_our_kid_is_refused() {
    let (ours, foreign) = (Keyring::for_tests(), Keyring::for_tests());
    let token = issue(&ours);
    let parts: Vec<&str> = token.split('.').collect();
    let message = format!("{}.{}", parts[0], parts[1]);
    let signature = foreign.signer(NOW).unwrap().sign(message.as_bytes());
    assert_invalid(
        &ours,
        &format!("{message}.{signature}"),
        "foreign signature",
    );
    assert_invalid(&ours, &issue(&foreign), "foreign kid");
}

#[test]
fn every_algorithm_issues_what_it_verifies() {
    for (algorithm, name) in ALGORITHMS {
        let keyring = Keyring::for_tests_with(&[algorithm]);
        let token = issue(&keyring);
        let header = decode(token.split('.').next().unwrap());
        assert_eq!(header["alg"], name);
        assert_eq!(header["kid"], keyring.signer(NOW).unwrap().kid());
        assert!(profile().verify(&keyring, &token, NOW).is_ok(), "{name}");
    }
}

/// Each of our keys with the name of every algorithm but its own, signed by itself, by the others, and
/// by HMAC with a public key as the secret, the oldest confusion of all.
#[test]
fn algorithms_of_our_own_keys_cannot_be_confused() {
    let keyring = Keyring::for_tests_with(&ALGORITHMS.map(|(algorithm, _)| algorithm));
    let jwks: Value = serde_json::from_str(&keyring.jwks(NOW).json).unwrap();
    let token = issue(&keyring);
    let payload = token.split('.').nth(1).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert_eq!(keys.len(), ALGORITHMS.len());
    let key_of = |jwk: &Value| keyring.find(jwk["kid"].as_str().unwrap(), NOW).unwrap();
    let names = [
        "EdDSA", "Ed25519", "ES256", "RS256", "HS256", "HS512", "PS256", "RS512", "ES384", "none",
    ];
    for named in keys {
        let own = named["alg"].as_str().unwrap();
        for alg in names {
            let header = json!({"alg": alg, "typ": "at+jwt", "kid": named["kid"]}).to_string();
            let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
            let is_own_name = alg == own || own == "EdDSA" && alg == "Ed25519";
            for signer in keys {
                let signature = key_of(signer).sign(message.as_bytes());
                let forged = format!("{message}.{signature}");
                let is_good = is_own_name && signer["kid"] == named["kid"];
                let verdict = profile().verify(&keyring, &forged, NOW);
                assert_eq!(verdict.is_ok(), is_good, "{own} as {alg} by {signer}");
            }
            for secret in [
                named.to_string(),
                named["x"].to_string(),
                named["n"].to_string(),
            ] {
                let secret =
                    jsonwebtoken::EncodingKey::from_secret(secret.trim_matches('"').as_bytes());
                let hs256 = jsonwebtoken::Algorithm::HS256;
                let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, hs256);
                let forged = format!("{message}.{}", signature.unwrap());
                assert_invalid(&keyring, &forged, "HMAC with a public key");
            }
            assert_invalid(&keyring, &format!("{message}."), "no signature");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for (algorithm, _) in ALGORITHMS {
        let keyring = Keyring::for_tests_with(&[algorithm]);
        refuses_every_flipped_bit(&keyring);
    }
}

fn refuses_every_flipped_bit(keyring: &Keyring) {
    let token = issue(keyring);
    for i in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[i] ^= 1 << bit;
            let garbled = String::from_utf8(bytes).unwrap();
            assert_invalid(keyring, &garbled, "flipped bit");
        }
    }
}

#[test]
fn tokens_that_are_not_three_base64url_parts_are_refused() {
    let keyring = Keyring::for_tests();
    let token = issue(&keyring);
    let unsigned = token.rsplit_once('.').unwrap().0;
    for shape in [
        "",
        ".",
        "..",
        "...",
        unsigned,
        &format!("{unsigned}."),
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}="),
        &format!("{token} "),
        &format!("{token}\n"),
        &format!("Bearer {token}"),
        &token.repeat(2),
        &"a".repeat(1 << 20),
        &".".repeat(9000),
    ] {
        assert_invalid(&keyring, shape, "shape");
    }
}

#[test]
fn a_token_of_an_unknown_key_is_not_called_invalid_while_keys_may_be_missing() {
    let (behind, peer) = (Keyring::never_read(), Keyring::for_tests());
    let token = issue(&peer);
    let verdict = profile().verify(&behind, &token, NOW);
    assert_eq!(verdict, Err(AccessTokenError::KeyUnknown));
    for garbage in ["", "garbage", "a.b.c", &token[10..], &"a.".repeat(9_000)] {
        assert_invalid(&behind, garbage, garbage);
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(profile().verify(&Keyring::for_tests(), &text, NOW).is_err());
    }

    #[test]
    fn any_json_under_our_signature_is_judged_without_a_panic(
        header in "\\{[\"a-z:,\\[\\]0-9+@]{0,60}\\}", payload in "\\{[\"a-z:,\\[\\]0-9.eE-]{0,120}\\}",
    ) {
        let keyring = Keyring::for_tests();
        prop_assert!(profile().verify(&keyring, &sign_raw(&keyring, &header, &payload), NOW).is_err());
    }
}
