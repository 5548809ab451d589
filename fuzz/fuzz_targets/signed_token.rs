//! Any header and payload under our own signature: what lies behind the signature check. The input is
//! the header, a line feed, and the payload.
#![no_main]

use countersign_fuzz::{KID, NOW, WORLD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Some((header, payload)) = text.split_once('\n') else {
        return;
    };
    let token = WORLD.sign(header.as_bytes(), payload.as_bytes());
    let Ok(claims) = WORLD.profile.verify(&WORLD.keyring, &token, NOW) else {
        return;
    };
    // A reader that shares no code with the one under test says the same.
    let header: Value = serde_json::from_str(header).expect("an accepted header is JSON");
    let header = header.as_object().expect("an accepted header is an object");
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["kid"], KID);
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519");
    assert!(!header.contains_key("crit"));
    let payload: Value = serde_json::from_str(payload).expect("an accepted payload is JSON");
    let payload = payload
        .as_object()
        .expect("an accepted payload is an object");
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
    assert_id(&payload["sub"], claims.user_id.to_string());
    assert_id(&payload["sid"], claims.session_id.to_string());
    assert_id(&payload["jti"], claims.token_id.to_string());
    let _ = WORLD.profile.check_expiry(&claims, NOW);
});

/// An id has one form, in upper or lower case (RFC 9562 section 4).
fn assert_id(claim: &Value, id: String) {
    let claim = claim.as_str().expect("an id is text");
    assert!(claim.eq_ignore_ascii_case(&id), "{claim} was read as {id}");
}
