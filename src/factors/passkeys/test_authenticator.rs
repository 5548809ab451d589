//! An authenticator for tests, every part of whose answers can be changed.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use serde_json::{Value, json};

use super::{RegisteredPasskey, relying_party::sha256};

pub(super) const RP_ID: &str = "auth.example.org";
pub(super) const ORIGIN: &str = "https://auth.example.org";
pub(super) const CHALLENGE: [u8; 32] = [7; 32];
pub(super) const USER_HANDLE: [u8; 16] = [9; 16];

/// User present and verified.
pub(super) const UP_UV: u8 = 0x05;
/// Attested credential data follow.
pub(super) const AT: u8 = 0x40;
/// Extension outputs follow.
pub(super) const ED: u8 = 0x80;

/// An authenticator with one ES256 key.
pub(super) struct Authenticator {
    key: EcdsaKeyPair,
    pub(super) credential_id: Vec<u8>,
}

/// What an authenticator and a browser answer; the tests change one part each.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) client_data: Value,
    pub(super) rp_id: &'static str,
    pub(super) flags: u8,
    pub(super) sign_count: u32,
    /// The COSE key, in a registration.
    pub(super) cose: Vec<(Cbor, Cbor)>,
    /// What follows the credential in the authenticator data.
    pub(super) tail: Vec<u8>,
    pub(super) format: &'static str,
    pub(super) statement: Vec<(Cbor, Cbor)>,
    pub(super) credential_id: Vec<u8>,
    pub(super) raw_id: Vec<u8>,
    pub(super) user_handle: Option<Vec<u8>>,
}

impl Authenticator {
    pub(super) fn new() -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            credential_id: b"credential".to_vec(),
        }
    }

    pub(super) fn cose(&self) -> Vec<(Cbor, Cbor)> {
        let point = self.key.public_key().as_ref();
        vec![
            (1.into(), 2.into()),
            (3.into(), (-7).into()),
            ((-1).into(), 1.into()),
            ((-2).into(), Cbor::Bytes(point[1..33].to_vec())),
            ((-3).into(), Cbor::Bytes(point[33..].to_vec())),
        ]
    }

    fn answer(&self, ceremony: &str, flags: u8) -> Answer {
        Answer {
            client_data: json!({
                "type": ceremony,
                "challenge": URL_SAFE_NO_PAD.encode(CHALLENGE),
                "origin": ORIGIN,
                "crossOrigin": false,
            }),
            rp_id: RP_ID,
            flags,
            sign_count: 1,
            cose: self.cose(),
            tail: Vec::new(),
            format: "none",
            statement: Vec::new(),
            credential_id: self.credential_id.clone(),
            raw_id: self.credential_id.clone(),
            user_handle: Some(USER_HANDLE.to_vec()),
        }
    }

    /// A good answer to a registration.
    pub(super) fn registration(&self) -> Answer {
        self.answer("webauthn.create", UP_UV | AT)
    }

    /// A good answer to an authentication.
    pub(super) fn authentication(&self) -> Answer {
        let mut answer = self.answer("webauthn.get", UP_UV);
        answer.sign_count = 2;
        answer
    }

    /// The passkey as it is stored after a registration.
    pub(super) fn registered(&self) -> RegisteredPasskey {
        RegisteredPasskey {
            credential_id: self.credential_id.clone(),
            user_handle: USER_HANDLE.to_vec(),
            public_key: encode(&Cbor::Map(self.cose())),
            sign_count: 1,
            is_backup_eligible: false,
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }

    /// The JSON of an answer to an authentication, with a genuine signature.
    pub(super) fn assertion_json(&self, answer: &Answer) -> Value {
        let signature = self.sign(&answer.signed());
        json!({
            "id": URL_SAFE_NO_PAD.encode(&answer.raw_id),
            "rawId": URL_SAFE_NO_PAD.encode(&answer.raw_id),
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(answer.client_data.to_string()),
                "authenticatorData": URL_SAFE_NO_PAD.encode(answer.authenticator_data()),
                "signature": URL_SAFE_NO_PAD.encode(signature),
                "userHandle": answer.user_handle.as_ref().map(|handle| URL_SAFE_NO_PAD.encode(handle)),
            },
        })
    }
}

impl Answer {
    pub(super) fn authenticator_data(&self) -> Vec<u8> {
        let mut data = sha256(self.rp_id.as_bytes()).to_vec();
        data.push(self.flags);
        data.extend(self.sign_count.to_be_bytes());
        if self.flags & AT != 0 {
            data.extend([3; 16]);
            data.extend(
                u16::try_from(self.credential_id.len())
                    .unwrap()
                    .to_be_bytes(),
            );
            data.extend(&self.credential_id);
            data.extend(encode(&Cbor::Map(self.cose.clone())));
        }
        data.extend(&self.tail);
        data
    }

    /// What the authenticator signs.
    pub(super) fn signed(&self) -> Vec<u8> {
        let client_data = sha256(self.client_data.to_string().as_bytes());
        [self.authenticator_data().as_slice(), &client_data].concat()
    }

    pub(super) fn attestation_object(&self) -> Vec<u8> {
        encode(&Cbor::Map(vec![
            ("fmt".into(), self.format.into()),
            ("attStmt".into(), Cbor::Map(self.statement.clone())),
            ("authData".into(), Cbor::Bytes(self.authenticator_data())),
        ]))
    }

    /// The JSON of an answer to a registration.
    pub(super) fn registration_json(&self) -> Value {
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.raw_id),
            "rawId": URL_SAFE_NO_PAD.encode(&self.raw_id),
            "type": "public-key",
            "clientExtensionResults": {"credProps": {"rk": true}},
            "authenticatorAttachment": "platform",
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(self.client_data.to_string()),
                "attestationObject": URL_SAFE_NO_PAD.encode(self.attestation_object()),
                "transports": ["internal", "hybrid", "telepathy"],
            },
        })
    }
}

pub(super) fn encode(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}
