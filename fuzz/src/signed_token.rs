//! Any header and payload under a valid signature: the checks that come after the signature.

use serde_json::{Map, Value};

use super::world::{KID, NOW, WORLD};

/// The input is the header, a line feed, and the payload. What is accepted has the members of an access token also when it is read
/// as plain JSON values.
pub fn signed_token(text: &str) {
    let Some((header, payload)) = text.split_once('\n') else {
        return;
    };
    let token = WORLD.sign(header.as_bytes(), payload.as_bytes());
    let Ok(claims) = WORLD.profile.verify(&WORLD.keyring, &token, NOW) else {
        return;
    };
    // The service reads into types of its own; this reading knows none of them. Both are serde_json's.
    let (Some(header), Some(payload)) = (object(header), object(payload)) else {
        return;
    };
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["kid"], KID);
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519");
    assert!(!header.contains_key("crit"));
    assert_eq!(payload["iss"], "https://auth.example");
    let audiences = match &payload["aud"] {
        Value::String(one) => vec![one.as_str()],
        many => many
            .as_array()
            .expect("a list")
            .iter()
            .map(|aud| aud.as_str().expect("text"))
            .collect(),
    };
    assert_eq!(claims.audiences, audiences);
    assert!(audiences.contains(&"api") || audiences.contains(&"billing"));
    assert!(payload["exp"].is_i64() && payload["iat"].is_i64());
    assert_id(&payload["sub"], &claims.user_id.to_string());
    assert_id(&payload["sid"], &claims.session_id.to_string());
    assert_id(&payload["jti"], &claims.token_id.to_string());
    let _ = WORLD.profile.check_expiry(&claims, NOW);
}

/// Parses what was accepted; `None` where that proves nothing: half a surrogate pair is good grammar and no text (RFC
/// 8259 section 8.2), so it may stand in a member that the reader under test passes over, and this one reads all.
fn object(accepted: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(accepted) {
        Ok(Value::Object(members)) => Some(members),
        Ok(other) => panic!("accepted, and no object: {other}"),
        Err(error) => {
            assert!(
                accepted.to_ascii_lowercase().contains("\\ud"),
                "accepted, and no JSON: {error}"
            );
            None
        }
    }
}

/// An id has one form, in upper or lower case (RFC 9562 section 4).
fn assert_id(claim: &Value, id: &str) {
    let claim = claim.as_str().expect("an id is text");
    assert!(claim.eq_ignore_ascii_case(id), "{claim} was read as {id}");
}
