//! No response makes the ceremonies panic, and no changed assertion is accepted.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::{
    test_authenticator::{Authenticator, CHALLENGE},
    tests::{authenticate, register, relying_party},
    *,
};

proptest! {
    #[test]
    fn no_text_makes_a_ceremony_panic(text in any::<String>()) {
        prop_assert!(Assertion::parse(&text).is_err());
        prop_assert!(relying_party().verify_registration(&text, &CHALLENGE).is_err());
    }

    #[test]
    fn no_bytes_in_place_of_a_part_make_a_ceremony_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let authenticator = Authenticator::new();
        let part = json!(URL_SAFE_NO_PAD.encode(&bytes));
        for member in ["clientDataJSON", "attestationObject"] {
            let mut json = authenticator.registration().registration_json();
            json["response"][member] = part.clone();
            prop_assert!(register(&json).is_err());
        }
        for member in ["clientDataJSON", "authenticatorData", "signature"] {
            let mut json = authenticator.assertion_json(&authenticator.authentication());
            json["response"][member] = part.clone();
            let stored = authenticator.registered();
            prop_assert!(authenticate(&json, UserIdentity::FromResponse, &stored).is_err());
        }
    }

    #[test]
    fn a_changed_bit_in_an_assertion_is_refused_and_none_in_an_attestation_object_panics(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let authenticator = Authenticator::new();
        let flip = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            json!(URL_SAFE_NO_PAD.encode(bytes))
        };
        let good = authenticator.assertion_json(&authenticator.authentication());
        for member in ["clientDataJSON", "authenticatorData", "signature"] {
            let bytes = URL_SAFE_NO_PAD.decode(good["response"][member].as_str().unwrap()).unwrap();
            let mut json = good.clone();
            json["response"][member] = flip(&bytes);
            let stored = authenticator.registered();
            prop_assert!(authenticate(&json, UserIdentity::FromResponse, &stored).is_err());
        }
        let answer = authenticator.registration();
        let mut json = answer.registration_json();
        json["response"]["attestationObject"] = flip(&answer.attestation_object());
        // A self-made registration may say anything about the authenticator; it must only not panic.
        let _ = register(&json);
    }
}
