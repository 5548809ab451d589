//! A browser with an authenticator, in place of both: it answers the options of WebAuthn with ES256 keys of its own.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use serde_json::{Value, json};

/// The page that asks; `COUNTERSIGN_WEBAUTHN_ORIGINS` by default.
pub const ORIGIN: &str = "http://localhost:5173";

/// User present and verified.
const UP_UV: u8 = 0x05;
/// Backup eligible and backed up.
const BE_BS: u8 = 0x18;
/// Attested credential data follow.
const AT: u8 = 0x40;

/// A browser with an authenticator that holds one passkey.
pub struct TestAuthenticator {
    key: EcdsaKeyPair,
    credential_id: Vec<u8>,
    user_handle: Vec<u8>,
    /// The number of signatures, where they are counted.
    count: Option<u32>,
}

impl TestAuthenticator {
    /// One whose passkeys are synced: their counter is always 0.
    pub fn new() -> Self {
        let mut credential_id = vec![0; 16];
        aws_lc_rs::rand::fill(&mut credential_id).unwrap();
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            credential_id,
            user_handle: Vec::new(),
            count: None,
        }
    }

    /// One that is bound to its device and counts its signatures.
    pub fn counting() -> Self {
        Self {
            count: Some(0),
            ..Self::new()
        }
    }

    /// Answers the options of a registration, as `navigator.credentials.create` does.
    pub fn create(&mut self, options: &str) -> Value {
        let options: Value = serde_json::from_str(options).unwrap();
        assert_eq!(options["pubKeyCredParams"][0]["alg"], -7);
        self.user_handle = decode(&options["user"]["id"]);
        let mut data = self.authenticator_data(options["rp"]["id"].as_str().unwrap(), AT);
        data.extend([0; 16]);
        data.extend(
            u16::try_from(self.credential_id.len())
                .unwrap()
                .to_be_bytes(),
        );
        data.extend(&self.credential_id);
        data.extend(to_bytes(&self.cose_key()));
        let object = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]);
        let client_data = client_data("webauthn.create", &options["challenge"], ORIGIN);
        self.credential(&json!({
            "clientDataJSON": encode(client_data.as_bytes()),
            "attestationObject": encode(&to_bytes(&object)),
            "transports": ["internal", "hybrid"],
        }))
    }

    /// Answers the options of an authentication, as `navigator.credentials.get` does.
    pub fn get(&mut self, options: &str) -> Value {
        self.get_on(ORIGIN, options)
    }

    /// The same on a page of another origin.
    pub fn get_on(&mut self, origin: &str, options: &str) -> Value {
        let options: Value = serde_json::from_str(options).unwrap();
        let allowed = options["allowCredentials"].as_array().unwrap();
        let is_own = |allowed: &Value| decode(&allowed["id"]) == self.credential_id;
        assert!(allowed.is_empty() || allowed.iter().any(is_own));
        let data = self.authenticator_data(options["rpId"].as_str().unwrap(), 0);
        let client_data = client_data("webauthn.get", &options["challenge"], origin);
        let hash = digest(&SHA256, client_data.as_bytes());
        let signed = [data.as_slice(), hash.as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        self.credential(&json!({
            "clientDataJSON": encode(client_data.as_bytes()),
            "authenticatorData": encode(&data),
            "signature": encode(signature.as_ref()),
            "userHandle": encode(&self.user_handle),
        }))
    }

    fn authenticator_data(&mut self, rp_id: &str, more_flags: u8) -> Vec<u8> {
        let (kind, count) = match &mut self.count {
            None => (BE_BS, 0),
            Some(count) => {
                *count += 1;
                (0, *count)
            }
        };
        let mut data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        data.push(UP_UV | kind | more_flags);
        data.extend(count.to_be_bytes());
        data
    }

    fn cose_key(&self) -> Cbor {
        let point = self.key.public_key().as_ref();
        Cbor::Map(vec![
            (1.into(), 2.into()),
            (3.into(), (-7).into()),
            ((-1).into(), 1.into()),
            ((-2).into(), Cbor::Bytes(point[1..33].to_vec())),
            ((-3).into(), Cbor::Bytes(point[33..].to_vec())),
        ])
    }

    fn credential(&self, response: &Value) -> Value {
        json!({
            "id": encode(&self.credential_id),
            "rawId": encode(&self.credential_id),
            "type": "public-key",
            "clientExtensionResults": {},
            "response": response,
        })
    }
}

fn client_data(ceremony: &str, challenge: &Value, origin: &str) -> String {
    json!({"type": ceremony, "challenge": challenge, "origin": origin, "crossOrigin": false})
        .to_string()
}

fn to_bytes(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn decode(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// Bytes as the JSON of WebAuthn holds them.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The response with another member in its client data, which are not signed in a registration.
pub fn with_client_data(mut response: Value, member: &str, value: impl Into<Value>) -> Value {
    let place = &mut response["response"]["clientDataJSON"];
    let mut data: Value = serde_json::from_slice(&decode(place)).unwrap();
    data[member] = value.into();
    *place = encode(data.to_string().as_bytes()).into();
    response
}
