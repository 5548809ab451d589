//! Responses that break one rule are refused for that rule, and no response makes the ceremonies panic.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use serde_json::{Value, json};

use super::{
    test_authenticator::{
        AT, Answer, Authenticator, CHALLENGE, ED, ORIGIN, RP_ID, UP_UV, USER_HANDLE, encode,
    },
    *,
};

const BE: u8 = 0x08;
const BS: u8 = 0x10;

pub(super) fn relying_party() -> RelyingParty {
    RelyingParty::new(RP_ID.to_owned(), vec![ORIGIN.to_owned()])
}

pub(super) fn register(json: &Value) -> Result<NewPasskey, PasskeyRefusal> {
    relying_party().verify_registration(&json.to_string(), &CHALLENGE)
}

pub(super) fn authenticate(
    json: &Value,
    identity: UserIdentity,
    stored: &RegisteredPasskey,
) -> Result<UsedPasskey, PasskeyRefusal> {
    let assertion = Assertion::parse(&json.to_string())?;
    relying_party().verify_assertion(&assertion, &CHALLENGE, identity, stored)
}

/// Registers after one change of a good answer.
fn register_with(change: impl FnOnce(&mut Answer)) -> Result<NewPasskey, PasskeyRefusal> {
    let mut answer = Authenticator::new().registration();
    change(&mut answer);
    register(&answer.registration_json())
}

/// Authenticates after one change of a good answer, which is signed as it is then.
fn authenticate_with(change: impl FnOnce(&mut Answer)) -> Result<UsedPasskey, PasskeyRefusal> {
    let authenticator = Authenticator::new();
    let mut answer = authenticator.authentication();
    change(&mut answer);
    let json = authenticator.assertion_json(&answer);
    authenticate(
        &json,
        UserIdentity::FromResponse,
        &authenticator.registered(),
    )
}

/// One change of an answer to either ceremony, and the rule that it breaks.
type Change = (fn(&mut Answer), PasskeyRefusal);

const CHANGES_OF_BOTH: &[Change] = &[
    (
        |answer| answer.client_data = json!("text"),
        PasskeyRefusal::ClientData,
    ),
    (
        |answer| answer.client_data["challenge"] = json!(7),
        PasskeyRefusal::ClientData,
    ),
    (
        |answer| answer.client_data["type"] = json!("payment.get"),
        PasskeyRefusal::Ceremony,
    ),
    (
        |answer| answer.client_data["challenge"] = json!(URL_SAFE_NO_PAD.encode([8; 32])),
        PasskeyRefusal::Challenge,
    ),
    (
        |answer| answer.client_data["challenge"] = json!(""),
        PasskeyRefusal::Challenge,
    ),
    (
        |answer| answer.client_data["origin"] = json!("https://auth.example.org.evil.example"),
        PasskeyRefusal::Origin,
    ),
    (
        |answer| answer.client_data["origin"] = json!("https://sub.auth.example.org"),
        PasskeyRefusal::Origin,
    ),
    (
        |answer| answer.client_data["origin"] = json!("http://auth.example.org"),
        PasskeyRefusal::Origin,
    ),
    (
        |answer| answer.client_data["origin"] = json!("https://auth.example.org:8443"),
        PasskeyRefusal::Origin,
    ),
    (
        |answer| answer.client_data["crossOrigin"] = json!(true),
        PasskeyRefusal::CrossOrigin,
    ),
    (
        |answer| answer.client_data["topOrigin"] = json!("https://evil.example"),
        PasskeyRefusal::CrossOrigin,
    ),
    (
        |answer| answer.rp_id = "example.org",
        PasskeyRefusal::RelyingParty,
    ),
    (|answer| answer.flags &= !0x01, PasskeyRefusal::UserPresence),
    (
        |answer| answer.flags &= !0x04,
        PasskeyRefusal::UserVerification,
    ),
    (|answer| answer.flags |= BS, PasskeyRefusal::BackupFlags),
    (
        |answer| answer.flags |= ED,
        PasskeyRefusal::AuthenticatorData,
    ),
    (
        |answer| answer.tail = vec![0xa0],
        PasskeyRefusal::AuthenticatorData,
    ),
    (
        |answer| answer.raw_id = b"another".to_vec(),
        PasskeyRefusal::CredentialId,
    ),
];

#[test]
fn a_registration_that_breaks_one_rule_is_refused_for_that_rule() {
    for (at, (change, refusal)) in CHANGES_OF_BOTH.iter().enumerate() {
        assert_eq!(register_with(change), Err(*refusal), "change {at}");
    }
    let changes: &[Change] = &[
        (
            |answer| answer.client_data["type"] = json!("webauthn.get"),
            PasskeyRefusal::Ceremony,
        ),
        (
            |answer| answer.flags &= !AT,
            PasskeyRefusal::AuthenticatorData,
        ),
        (
            |answer| (answer.credential_id, answer.raw_id) = (vec![1; 1024], vec![1; 1024]),
            PasskeyRefusal::AuthenticatorData,
        ),
        (
            |answer| (answer.credential_id, answer.raw_id) = (vec![], vec![]),
            PasskeyRefusal::AuthenticatorData,
        ),
        (
            |answer| answer.cose[1].1 = (-257).into(),
            PasskeyRefusal::PublicKey,
        ),
        // ES384, and ES256K.
        (
            |answer| answer.cose[1].1 = (-35).into(),
            PasskeyRefusal::Algorithm,
        ),
        (
            |answer| answer.cose[1].1 = (-47).into(),
            PasskeyRefusal::Algorithm,
        ),
        // Another curve, a point that is not on the curve, a coordinate that is too short.
        (
            |answer| answer.cose[2].1 = 2.into(),
            PasskeyRefusal::PublicKey,
        ),
        (
            |answer| answer.cose[4].1 = Cbor::Bytes(vec![1; 32]),
            PasskeyRefusal::PublicKey,
        ),
        (
            |answer| answer.cose[3].1 = Cbor::Bytes(vec![1; 31]),
            PasskeyRefusal::PublicKey,
        ),
        (
            |answer| drop(answer.cose.remove(1)),
            PasskeyRefusal::PublicKey,
        ),
        (
            |answer| answer.format = "fido-u2f",
            PasskeyRefusal::AttestationFormat,
        ),
        (
            |answer| answer.statement = vec![("sig".into(), Cbor::Bytes(vec![1]))],
            PasskeyRefusal::AttestationFormat,
        ),
    ];
    for (at, (change, refusal)) in changes.iter().enumerate() {
        assert_eq!(register_with(change), Err(*refusal), "change {at}");
    }
}

#[test]
fn an_authentication_that_breaks_one_rule_is_refused_for_that_rule() {
    for (at, (change, refusal)) in CHANGES_OF_BOTH.iter().enumerate() {
        assert_eq!(authenticate_with(change), Err(*refusal), "change {at}");
    }
    let changes: &[Change] = &[
        (
            |answer| answer.client_data["type"] = json!("webauthn.create"),
            PasskeyRefusal::Ceremony,
        ),
        (
            |answer| answer.flags |= AT,
            PasskeyRefusal::AuthenticatorData,
        ),
        // A passkey that was bound to its device is not suddenly a synced one.
        (|answer| answer.flags |= BE, PasskeyRefusal::BackupFlags),
        (|answer| answer.sign_count = 1, PasskeyRefusal::SignCount),
        (|answer| answer.sign_count = 0, PasskeyRefusal::SignCount),
        (
            |answer| answer.user_handle = None,
            PasskeyRefusal::UserHandle,
        ),
        (
            |answer| answer.user_handle = Some(vec![1; 16]),
            PasskeyRefusal::UserHandle,
        ),
    ];
    for (at, (change, refusal)) in changes.iter().enumerate() {
        assert_eq!(authenticate_with(change), Err(*refusal), "change {at}");
    }
}

#[test]
fn extension_outputs_and_unknown_members_are_accepted() {
    let with_extensions = |answer: &mut Answer| {
        answer.flags |= ED;
        answer.tail = encode(&Cbor::Map(vec![("credProtect".into(), 3.into())]));
        answer.client_data["random_7f3a"] = json!({"do": ["not", "compare"]});
    };
    let new = register_with(with_extensions).unwrap();
    assert_eq!(
        new.credential.transports,
        [Transport::Hybrid, Transport::Internal]
    );
    assert_eq!(
        (new.algorithm, new.sign_count),
        (PasskeyAlgorithm::Es256, 1)
    );
    assert!(authenticate_with(with_extensions).is_ok());
}

#[test]
fn only_the_response_of_a_known_user_may_lack_the_user_handle() {
    let authenticator = Authenticator::new();
    let mut answer = authenticator.authentication();
    let mut verify = |handle: Option<Vec<u8>>| {
        answer.user_handle = handle;
        let json = authenticator.assertion_json(&answer);
        authenticate(&json, UserIdentity::Known, &authenticator.registered())
    };
    assert!(verify(None).is_ok());
    assert!(verify(Some(USER_HANDLE.to_vec())).is_ok());
    assert_eq!(verify(Some(vec![1; 16])), Err(PasskeyRefusal::UserHandle));
}

#[test]
fn a_counter_that_is_always_zero_is_accepted() {
    let authenticator = Authenticator::new();
    let mut answer = authenticator.authentication();
    answer.sign_count = 0;
    let stored = RegisteredPasskey {
        sign_count: 0,
        ..authenticator.registered()
    };
    let json = authenticator.assertion_json(&answer);
    let used = authenticate(&json, UserIdentity::FromResponse, &stored).unwrap();
    assert_eq!(used.sign_count, 0);
}

#[test]
fn a_synced_passkey_keeps_its_backup_state() {
    let synced = |answer: &mut Answer| answer.flags |= BE | BS;
    let new = register_with(synced).unwrap();
    assert!(new.is_backup_eligible && new.is_backed_up);
    let authenticator = Authenticator::new();
    let stored = RegisteredPasskey {
        is_backup_eligible: true,
        ..authenticator.registered()
    };
    for (flags, is_backed_up) in [(BE, false), (BE | BS, true)] {
        let mut answer = authenticator.authentication();
        answer.flags = UP_UV | flags;
        let json = authenticator.assertion_json(&answer);
        let used = authenticate(&json, UserIdentity::FromResponse, &stored).unwrap();
        assert_eq!(used.is_backed_up, is_backed_up);
    }
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let (ours, other) = (Authenticator::new(), Authenticator::new());
    let json = other.assertion_json(&other.authentication());
    let result = authenticate(&json, UserIdentity::FromResponse, &ours.registered());
    assert_eq!(result, Err(PasskeyRefusal::Signature));
}

#[test]
fn besides_none_only_a_genuine_self_attestation_is_accepted() {
    let (authenticator, other) = (Authenticator::new(), Authenticator::new());
    let mut answer = authenticator.registration();
    answer.format = "packed";
    let mut verify = |signer: &Authenticator, algorithm: i64, with_certificate: bool| {
        let signature = signer.sign(&answer.signed());
        answer.statement = vec![
            ("alg".into(), algorithm.into()),
            ("sig".into(), Cbor::Bytes(signature)),
        ];
        if with_certificate {
            let chain = Cbor::Array(vec![Cbor::Bytes(vec![0x30])]);
            answer.statement.push(("x5c".into(), chain));
        }
        register(&answer.registration_json()).map(drop)
    };
    assert_eq!(verify(&authenticator, -7, false), Ok(()));
    assert_eq!(
        verify(&authenticator, -8, false),
        Err(PasskeyRefusal::Signature)
    );
    assert_eq!(verify(&other, -7, false), Err(PasskeyRefusal::Signature));
    assert_eq!(
        verify(&authenticator, -7, true),
        Err(PasskeyRefusal::AttestationFormat)
    );
}

#[test]
fn json_that_is_no_credential_is_refused() {
    let good = Authenticator::new().registration().registration_json();
    assert!(register(&good).is_ok());
    let changes: [fn(&mut Value); 6] = [
        |json| json["type"] = json!("password"),
        |json| json["rawId"] = json!("a+b/"),
        |json| json["rawId"] = json!("AQ=="),
        |json| json["response"]["attestationObject"] = json!(null),
        |json| json["response"]["transports"] = json!("usb"),
        |json| drop(json.as_object_mut().unwrap().remove("response")),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut json = good.clone();
        change(&mut json);
        assert_eq!(register(&json), Err(PasskeyRefusal::Json), "change {at}");
    }
    let megabyte = format!("{{\"id\":\"{}\"}}", "A".repeat(1 << 20));
    assert_eq!(
        Assertion::parse(&megabyte).err(),
        Some(PasskeyRefusal::TooLong)
    );
    let result = relying_party().verify_registration(&megabyte, &CHALLENGE);
    assert_eq!(result, Err(PasskeyRefusal::TooLong));
}

#[test]
fn an_attestation_object_that_is_cut_off_is_refused() {
    let answer = Authenticator::new().registration();
    let whole = answer.attestation_object();
    let mut json = answer.registration_json();
    for end in 0..whole.len() {
        let cut = URL_SAFE_NO_PAD.encode(&whole[..end]);
        json["response"]["attestationObject"] = json!(cut);
        assert_eq!(
            register(&json),
            Err(PasskeyRefusal::AttestationObject),
            "{end}"
        );
    }
}
