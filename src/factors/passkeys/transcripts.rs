//! Ceremonies that browsers and authenticators of others made (`tests/vectors/webauthn`) have the results that their
//! files state.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    attestation::AttestationObject, authenticator_data::AuthenticatorData, public_key::PublicKey,
    relying_party::sha256, *,
};

struct Transcript {
    name: &'static str,
    file: Value,
}

impl Transcript {
    fn read(name: &'static str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/webauthn");
        let text = fs::read_to_string(folder.join(name)).unwrap();
        Self {
            name,
            file: serde_json::from_str(&text).unwrap(),
        }
    }

    fn relying_party(&self) -> RelyingParty {
        let text = |member: &str| self.file[member].as_str().unwrap().to_owned();
        RelyingParty::new(text("rp_id"), vec![text("origin")])
    }

    fn register(&self) -> Result<NewPasskey, PasskeyRefusal> {
        let step = &self.file["registration"];
        self.relying_party()
            .verify_registration(&step["response"].to_string(), &challenge(step))
    }

    /// The passkey as it was stored after the registration.
    fn registered(&self) -> RegisteredPasskey {
        let new = self
            .register()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        RegisteredPasskey {
            credential_id: new.credential.id,
            user_handle: bytes(&self.file["registration"]["options"]["user"]["id"]),
            public_key: new.public_key,
            sign_count: new.sign_count,
            is_backup_eligible: new.is_backup_eligible,
        }
    }

    /// Verifies all assertions in turn, by a user who is known only from the response.
    fn authenticate(&self, mut stored: RegisteredPasskey) {
        let relying_party = self.relying_party();
        let steps = self.file["assertions"].as_array().unwrap();
        assert!(!steps.is_empty());
        for step in steps {
            let verify = |response: &Value| {
                let assertion = Assertion::parse(&response.to_string()).unwrap();
                let identity = UserIdentity::FromResponse;
                relying_party.verify_assertion(&assertion, &challenge(step), identity, &stored)
            };
            let mut forged = step["response"].clone();
            forged["response"]["signature"] = flipped(&forged["response"]["signature"]);
            assert_eq!(
                verify(&forged),
                Err(PasskeyRefusal::Signature),
                "{}",
                self.name
            );
            let used = verify(&step["response"]);
            let used = used.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            let expect = &step["expect"];
            assert_eq!(expect["counter"], used.sign_count, "{}", self.name);
            assert_eq!(expect["bs"], u8::from(used.is_backed_up), "{}", self.name);
            stored.sign_count = used.sign_count;
        }
    }
}

fn bytes(base64: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(base64.as_str().unwrap()).unwrap()
}

fn challenge(step: &Value) -> Vec<u8> {
    bytes(&step["options"]["challenge"])
}

/// The same bytes but for one bit near their end.
fn flipped(base64: &Value) -> Value {
    let mut bytes = bytes(base64);
    *bytes.last_mut().unwrap() ^= 1;
    URL_SAFE_NO_PAD.encode(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_passkey_of_a_browser_or_a_password_manager_is_accepted() {
    for name in [
        "chromium-es256.json",
        "chromium-synced-es256.json",
        "chromium-eddsa.json",
        "passkey-rs-es256-counter-0.json",
    ] {
        let transcript = Transcript::read(name);
        let new = transcript
            .register()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let expect = &transcript.file["registration"]["expect"];
        assert_eq!(expect["alg"], new.algorithm.number(), "{name}");
        assert_eq!(expect["aaguid"], hex(&new.aaguid), "{name}");
        assert_eq!(expect["counter"], new.sign_count, "{name}");
        assert_eq!(expect["be"], u8::from(new.is_backup_eligible), "{name}");
        assert_eq!(expect["bs"], u8::from(new.is_backed_up), "{name}");
        assert!(
            new.credential.transports.contains(&Transport::Internal),
            "{name}"
        );
        transcript.authenticate(transcript.registered());
    }
}

#[test]
fn an_rsa_key_is_accepted() {
    let transcript = Transcript::read("chromium-rs256-assertion.json");
    let response = &transcript.file["assertions"][0]["response"];
    transcript.authenticate(RegisteredPasskey {
        credential_id: bytes(&response["rawId"]),
        user_handle: bytes(&response["response"]["userHandle"]),
        public_key: bytes(&transcript.file["public_key"]["cose"]),
        sign_count: 0,
        is_backup_eligible: false,
    });
}

#[test]
fn an_authenticator_without_user_verification_is_refused_for_that_reason() {
    let transcript = Transcript::read("soft-webauthn-es256-no-uv.json");
    assert_eq!(transcript.register(), Err(PasskeyRefusal::UserVerification));
    // The key, read by hand: all else about these responses is good.
    let step = &transcript.file["registration"];
    let object = bytes(&step["response"]["response"]["attestationObject"]);
    let object = AttestationObject::parse(&object).unwrap();
    let data = AuthenticatorData::parse(&object.authenticator_data).unwrap();
    let credential = data.credential.unwrap();
    let key = PublicKey::parse(credential.public_key).unwrap();
    let stored = RegisteredPasskey {
        credential_id: credential.id.to_vec(),
        user_handle: bytes(&step["options"]["user"]["id"]),
        public_key: credential.public_key.to_vec(),
        sign_count: data.sign_count,
        is_backup_eligible: false,
    };
    for step in transcript.file["assertions"].as_array().unwrap() {
        let assertion = Assertion::parse(&step["response"].to_string()).unwrap();
        let result = transcript.relying_party().verify_assertion(
            &assertion,
            &challenge(step),
            UserIdentity::FromResponse,
            &stored,
        );
        assert_eq!(result, Err(PasskeyRefusal::UserVerification));
        let response = &step["response"]["response"];
        let client_data = sha256(&bytes(&response["clientDataJSON"]));
        let message = [&bytes(&response["authenticatorData"])[..], &client_data].concat();
        assert!(key.verifies(&message, &bytes(&response["signature"])));
    }
}
