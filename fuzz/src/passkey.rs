//! Any text as what a page returns of a passkey, for a ceremony that Chromium once made
//! (`tests/vectors/webauthn/chromium-es256.json`).

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::factors::passkeys::{Assertion, RegisteredPasskey, RelyingParty, UserIdentity};

const RP_ID: &str = "localhost";
const ORIGIN: &str = "http://localhost:36357";
const REGISTRATION_CHALLENGE: &str = "uEWVygK9uf7B1vK56yyu23-4Tr1u4-39Ricg3a-IMsY";
const CHALLENGE: &str = "nYhhr5bs5wzQEIiTMf12Cwk5m87hAxjH5MGYjSSgG7U";
const USER_HANDLE: &[u8] = b"user-0001";
const REGISTRATION: &str = include_str!("../corpus/passkey/registration");

static RELYING_PARTY: LazyLock<RelyingParty> =
    LazyLock::new(|| RelyingParty::new(RP_ID.to_owned(), vec![ORIGIN.to_owned()]));

static REGISTERED: LazyLock<RegisteredPasskey> = LazyLock::new(|| {
    let new = RELYING_PARTY
        .verify_registration(REGISTRATION, &bytes(REGISTRATION_CHALLENGE))
        .expect("the corpus holds a good registration");
    RegisteredPasskey {
        credential_id: new.credential.id,
        user_handle: USER_HANDLE.to_vec(),
        public_key: new.public_key,
        sign_count: new.sign_count,
        is_backup_eligible: new.is_backup_eligible,
    }
});

/// An accepted assertion has the counter that the authenticator signed; an accepted registration has a credential id of 1 to 1023
/// bytes, and is backed up only where that is possible.
pub fn passkey(text: &str) {
    if let Ok(assertion) = Assertion::parse(text) {
        let used = RELYING_PARTY.verify_assertion(
            &assertion,
            &bytes(CHALLENGE),
            UserIdentity::Known,
            &REGISTERED,
        );
        // The counter is part of what was signed.
        assert!(used.is_err() || used.is_ok_and(|used| used.sign_count == 2));
    }
    let registered = RELYING_PARTY.verify_registration(text, &bytes(REGISTRATION_CHALLENGE));
    if let Ok(new) = registered {
        assert!((1..=1023).contains(&new.credential.id.len()));
        assert!(!new.is_backed_up || new.is_backup_eligible);
    }
}

fn bytes(base64: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(base64).expect("a constant")
}
