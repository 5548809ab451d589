//! Any text as an access token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::world::{NOW, WORLD};

/// What is accepted is the one canonical encoding of something that our key signed.
pub fn access_token(text: &str) {
    if WORLD.profile.verify(&WORLD.keyring, text, NOW).is_err() {
        return;
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("accepted with {} parts", parts.len());
    };
    for part in [header, payload, signature] {
        let bytes = URL_SAFE_NO_PAD
            .decode(part)
            .expect("each part is base64url");
        assert_eq!(
            URL_SAFE_NO_PAD.encode(bytes),
            part,
            "another encoding was accepted"
        );
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("just decoded");
    assert!(WORLD.is_signature(&format!("{header}.{payload}"), &signature));
}
