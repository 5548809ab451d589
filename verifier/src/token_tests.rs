//! Tests of tokens that the published cases do not hold.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::keys;

const PAYLOAD: &str = r#"{"iss":"i","sub":"0193735b-2a00-7000-8000-000000000001","aud":"a","exp":4000000000,"iat":1,
    "jti":"0193735b-2a00-7000-8000-000000000002","sid":"0193735b-2a00-7000-8000-000000000003","roles":[],"client_id":"c"}"#;

fn signer() -> (Ed25519KeyPair, KeySet) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
    let by_kid = keys::parse(&jwks.to_string()).unwrap();
    let keys = KeySet {
        generation: 1,
        by_kid,
    };
    (pair, keys)
}

fn judge(
    (pair, keys): &(Ed25519KeyPair, KeySet),
    header: &str,
    payload: &str,
) -> Result<Claims, Refusal> {
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{payload}");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    verify(
        &format!("{message}.{signature}"),
        keys,
        "i",
        &["a".to_owned()],
    )
}

#[test]
fn a_token_with_crit_is_refused_whatever_it_names() {
    let signer = signer();
    let good = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#;
    assert!(judge(&signer, good, PAYLOAD).is_ok());
    for crit in [
        r#"["exp"]"#,
        r#"["unknown"]"#,
        "[]",
        "null",
        "false",
        r#""exp""#,
    ] {
        let header = good.replacen('{', &format!(r#"{{"crit":{crit},"#), 1);
        assert_eq!(
            judge(&signer, &header, PAYLOAD),
            Err(Refusal::Invalid),
            "{crit}"
        );
    }
}

#[test]
fn a_token_that_the_server_has_verified_is_read_as_it_stands() {
    let signer = signer();
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#;
    let claims = judge(&signer, header, PAYLOAD).unwrap();
    let token = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(PAYLOAD)
    );
    assert_eq!(read_without_verifying(&token), Some(claims));
    for other in ["", ".", "a.b.c"] {
        assert_eq!(read_without_verifying(other), None);
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(verify(&text, &signer().1, "i", &["a".to_owned()]).is_err());
        let _ = read_without_verifying(&text);
    }

    #[test]
    fn any_json_with_a_valid_signature_is_checked_without_a_panic(
        header in "\\{[\"a-z:,\\[\\]0-9+@]{0,60}\\}", payload in "\\{[\"a-z:,\\[\\]0-9.eE-]{0,120}\\}",
    ) {
        prop_assert!(judge(&signer(), &header, &payload).is_err());
    }
}
