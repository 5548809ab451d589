//! Signs whatever a test likes: with the server's own key, which no attacker has and a bug may use, and
//! with keys of an attacker's own.

use std::fmt::Write as _;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign::{config::Config, store::Store, tokens::DerivedKeys};
use serde_json::{Value, json};

use super::{TestServer, server::test_variables};

/// A private key and what its algorithm is called.
pub enum Key {
    Ed25519(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl Key {
    /// A key that the server has never seen, of the algorithm with this name.
    pub fn of_an_attacker(algorithm: &str) -> Self {
        match algorithm {
            "ES256" => {
                Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "RS256" | "PS256" => Self::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            _ => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
        }
    }

    fn from_pkcs8(algorithm: &str, pkcs8: &[u8]) -> Self {
        match algorithm {
            "EdDSA" => Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).unwrap()),
            "ES256" => {
                let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
                Self::Es256(EcdsaKeyPair::from_pkcs8(curve, pkcs8).unwrap())
            }
            "RS256" => Self::Rs256(RsaKeyPair::from_pkcs8(pkcs8).unwrap()),
            other => panic!("the tests know no algorithm {other}"),
        }
    }

    /// The names by which a token of this key may call its algorithm.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Ed25519(_) => &["EdDSA", "Ed25519"],
            Self::Es256(_) => &["ES256"],
            Self::Rs256(_) => &["RS256"],
        }
    }

    /// The signature of `message`; `PS256` asks an RSA key for the other padding.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rs256(pair) => {
                let padding: &'static dyn RsaEncoding = if algorithm == "PS256" {
                    &RSA_PSS_SHA256
                } else {
                    &RSA_PKCS1_SHA256
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    /// The public key as RFC 7517 writes it.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Self::Es256(pair) => {
                // 4, x, y: the uncompressed point.
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Self::Rs256(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({"kty": "RSA", "n": encode(n.big_endian_without_leading_zero()),
                    "e": encode(e.big_endian_without_leading_zero())})
            }
        }
    }

    /// Every form in which the public key might be mistaken for the secret of a MAC.
    pub fn public_as_secrets(&self) -> Vec<Vec<u8>> {
        let (raw, spki) = match self {
            Self::Ed25519(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
            Self::Es256(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
            Self::Rs256(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
        };
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
            STANDARD.encode(&spki)
        );
        vec![
            hex(&raw).into_bytes(),
            URL_SAFE_NO_PAD.encode(&raw).into_bytes(),
            STANDARD.encode(&raw).into_bytes(),
            STANDARD.encode(&spki).into_bytes(),
            format!("{pem}\n").into_bytes(),
            pem.into_bytes(),
            self.jwk().to_string().into_bytes(),
            json!({"keys": [self.jwk()]}).to_string().into_bytes(),
            raw,
            spki,
            Vec::new(),
        ]
    }
}

fn der<'a, K>(public: &K) -> Vec<u8>
where
    K: AsDer<PublicKeyX509Der<'a>>,
{
    public.as_der().unwrap().as_ref().to_vec()
}

/// A good token of the server, taken apart, and the key that signed it.
pub struct Forge {
    pub good: String,
    pub header: Value,
    pub claims: Value,
    pub kid: String,
    pub key: Key,
}

impl Forge {
    /// Registers a user, logs in, and unseals the key that signed the access token.
    pub async fn of(server: &TestServer) -> Self {
        let good = server.signed_in("ada@example.org").await.access_token;
        let parts: Vec<&str> = good.split('.').collect();
        let (header, claims) = (decode(parts[0]), decode(parts[1]));
        let kid = header["kid"].as_str().unwrap().to_owned();

        let config = Config::from_vars(test_variables(&server.database, &[])).unwrap();
        let store = Store::open(&config.database).unwrap();
        let stored = store.signing_keys().await.unwrap();
        let stored = stored.iter().find(|key| key.kid == kid).unwrap();
        let masters = DerivedKeys::derive(config.master_keys.load().unwrap().as_slice());
        let master = masters.of_version(stored.sealed_by).unwrap();
        let pkcs8 = master.open(&kid, &stored.sealed_private_key).unwrap();
        Self {
            key: Key::from_pkcs8(&stored.algorithm, &pkcs8),
            good,
            header,
            claims,
            kid,
        }
    }

    /// The name of the algorithm in the good token.
    pub fn algorithm(&self) -> &str {
        self.header["alg"].as_str().unwrap()
    }

    /// The good header with some members set otherwise; `null` takes one away.
    pub fn header_with(&self, changes: &Value) -> Value {
        changed(&self.header, changes)
    }

    /// The good claims with some members set otherwise; `null` takes one away.
    pub fn claims_with(&self, changes: &Value) -> Value {
        changed(&self.claims, changes)
    }

    /// A token of this text, signed by the server's key.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand over what they have just made"
    )]
    pub fn sign(&self, header: impl ToString, payload: impl ToString) -> String {
        let message = message(
            header.to_string().as_bytes(),
            payload.to_string().as_bytes(),
        );
        let signature = self.key.sign(self.algorithm(), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with good claims and this header, signed by somebody else.
    pub fn sign_with(&self, key: &Key, algorithm: &str, header: &Value) -> String {
        let message = self.message(header);
        let signature = key.sign(algorithm, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with good claims and this header, under a MAC.
    pub fn mac(&self, algorithm: hmac::Algorithm, secret: &[u8], header: &Value) -> String {
        let message = self.message(header);
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// What is signed, for this header and good claims.
    pub fn message(&self, header: &Value) -> String {
        message(
            header.to_string().as_bytes(),
            self.claims.to_string().as_bytes(),
        )
    }

    /// Header, payload and signature of the good token.
    pub fn parts(&self) -> [&str; 3] {
        let parts: Vec<&str> = self.good.split('.').collect();
        parts.try_into().unwrap()
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Bytes in base64url.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `header.payload`.
pub fn message(header: &[u8], payload: &[u8]) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    )
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn changed(original: &Value, changes: &Value) -> Value {
    let mut members = original.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    Value::Object(members)
}
