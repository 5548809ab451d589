//! Signs access tokens as the server does.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER};

const SECOND: i64 = 1_000;

/// A key and its name.
pub struct Issuer {
    key: Ed25519KeyPair,
    kid: String,
}

impl Issuer {
    pub fn new(kid: &str) -> Self {
        Self {
            key: Ed25519KeyPair::generate().unwrap(),
            kid: kid.to_owned(),
        }
    }

    /// The one that most tests use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Issuer> = OnceLock::new();
        SHARED.get_or_init(|| Self::new("first"))
    }

    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x})
    }

    pub fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// A good token of a session and a user, issued now.
    pub fn token(&self, session: &str, user: &str) -> String {
        self.token_with(session, user, &json!({}))
    }

    /// The same, with other claims beside or instead.
    pub fn token_with(&self, session: &str, user: &str, claims: &Value) -> String {
        let now = now_millis();
        let mut all = json!({
            "iss": ISSUER, "sub": user, "sid": session, "jti": id_at(now, 7), "aud": [AUDIENCE],
            "exp": now / SECOND + 900, "iat": now / SECOND - 5, "roles": ["reader"], "client_id": "countersign",
        });
        let added = claims.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(added);
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid});
        self.sign(&header.to_string(), &all.to_string())
    }

    /// A token with any header and payload.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{payload}");
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub fn now_millis() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "tokens of the tests are issued now"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// A UUIDv7 of that millisecond.
pub fn id_at(millis: i64, number: u8) -> String {
    let hex = format!("{millis:012x}");
    format!(
        "{}-{}-7000-8000-0000000000{number:02x}",
        &hex[..8],
        &hex[8..]
    )
}

/// An id that only its number tells from others.
pub fn id(number: u8) -> String {
    format!("0193735b-2a00-7000-8000-0000000000{number:02x}")
}
