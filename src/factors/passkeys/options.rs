//! The options that a page hands to the browser, as the JSON that `parseCreationOptionsFromJSON` and
//! `parseRequestOptionsFromJSON` take (WebAuthn sections 5.1.8 and 5.1.9).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    public_key::PasskeyAlgorithm,
    registration::{CredentialDescriptor, Transport},
    relying_party::RelyingParty,
};
use crate::tokens::CHALLENGE_TTL;

/// For whom a passkey is made.
#[derive(Clone, Copy, Debug)]
pub struct PasskeyOwner<'a> {
    /// The user handle: 1 to 64 bytes that tell nothing about the user (section 14.6.1).
    pub handle: &'a [u8],
    /// Tells accounts apart where the browser lists them: the e-mail address.
    pub name: &'a str,
    /// The name to show; the e-mail address where it is empty.
    pub display_name: &'a str,
}

impl RelyingParty {
    /// The options of a registration. `existing` are the user's passkeys: none of their authenticators makes another one.
    pub fn creation_options(
        &self,
        challenge: &[u8],
        owner: PasskeyOwner<'_>,
        existing: &[CredentialDescriptor],
    ) -> String {
        let algorithms = PasskeyAlgorithm::ALL
            .map(|algorithm| json!({"type": "public-key", "alg": algorithm.number()}));
        let display_name = match owner.display_name {
            "" => owner.name,
            name => name,
        };
        json!({
            "rp": {"id": self.id(), "name": self.id()},
            "user": {
                "id": URL_SAFE_NO_PAD.encode(owner.handle),
                "name": owner.name,
                "displayName": display_name,
            },
            "challenge": URL_SAFE_NO_PAD.encode(challenge),
            "pubKeyCredParams": algorithms,
            "timeout": timeout(),
            "excludeCredentials": descriptors(existing),
            "authenticatorSelection": {
                "residentKey": "required",
                "requireResidentKey": true,
                "userVerification": "required",
            },
            "attestation": "none",
        })
        .to_string()
    }

    /// The options of an authentication. `allowed` are the passkeys of a user who is known; when it is empty, the browser
    /// offers all that it has for this relying party.
    pub fn request_options(&self, challenge: &[u8], allowed: &[CredentialDescriptor]) -> String {
        json!({
            "challenge": URL_SAFE_NO_PAD.encode(challenge),
            "timeout": timeout(),
            "rpId": self.id(),
            "allowCredentials": descriptors(allowed),
            "userVerification": "required",
        })
        .to_string()
    }
}

/// How long a browser waits for the user, as long as a challenge is good: in milliseconds, as the standard has it.
const fn timeout() -> u64 {
    CHALLENGE_TTL.as_secs() * 1_000
}

fn descriptors(credentials: &[CredentialDescriptor]) -> Vec<Value> {
    let describe = |credential: &CredentialDescriptor| {
        let names: Vec<_> = credential
            .transports
            .iter()
            .copied()
            .map(Transport::as_str)
            .collect();
        let mut descriptor = json!({
            "type": "public-key",
            "id": URL_SAFE_NO_PAD.encode(&credential.id),
        });
        if !names.is_empty() {
            descriptor["transports"] = json!(names);
        }
        descriptor
    };
    credentials.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RP_ID: &str = "auth.example.org";
    const CHALLENGE: [u8; 32] = [7; 32];

    #[test]
    fn the_options_require_what_the_verification_checks() {
        let relying_party = RelyingParty::new(RP_ID.to_owned(), Vec::new());
        let owner = PasskeyOwner {
            handle: &[9; 16],
            name: "ada@example.org",
            display_name: "",
        };
        let existing = [CredentialDescriptor {
            id: b"id".to_vec(),
            transports: vec![Transport::Usb],
        }];
        let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let options = parse(relying_party.creation_options(&CHALLENGE, owner, &existing));
        assert_eq!(options["rp"], json!({"id": RP_ID, "name": RP_ID}));
        assert_eq!(options["user"]["displayName"], "ada@example.org");
        assert_eq!(options["challenge"], URL_SAFE_NO_PAD.encode(CHALLENGE));
        assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
        assert_eq!(
            options["authenticatorSelection"]["userVerification"],
            "required"
        );
        assert_eq!(options["attestation"], "none");
        let algorithms: Vec<_> = options["pubKeyCredParams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["alg"].as_i64())
            .collect();
        assert_eq!(algorithms, [Some(-7), Some(-8), Some(-257)]);
        let described = json!([{"type": "public-key", "id": "aWQ", "transports": ["usb"]}]);
        assert_eq!(options["excludeCredentials"], described);
        let options = parse(relying_party.request_options(&CHALLENGE, &[]));
        assert_eq!(options["allowCredentials"], json!([]));
        assert_eq!(
            (&options["rpId"], &options["userVerification"]),
            (&json!(RP_ID), &json!("required"))
        );
        assert_eq!(options["timeout"], 300_000);
    }
}
