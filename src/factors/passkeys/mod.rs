//! Passkeys: the two ceremonies of WebAuthn Level 3 as pure functions (<https://www.w3.org/TR/webauthn-3/>, sections 7.1
//! and 7.2). Nothing here keeps state: the caller has the challenge and the stored passkey.
//!
//! What this service demands is fixed: discoverable credentials, user verification, no attestation, the algorithms of
//! [`PasskeyAlgorithm`], exact origins. Decision 1410 says why it is written here.

mod assertion;
mod attestation;
mod authenticator_data;
mod cbor;
mod client_data;
mod credential_json;
mod options;
#[cfg(test)]
mod property_tests;
mod public_key;
mod refusal;
mod registration;
mod relying_party;
#[cfg(test)]
mod test_authenticator;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcripts;

pub use assertion::{Assertion, RegisteredPasskey, UsedPasskey, UserIdentity};
pub use credential_json::MAX_LENGTH as MAX_RESPONSE_LENGTH;
pub use options::PasskeyOwner;
pub use public_key::PasskeyAlgorithm;
pub use refusal::PasskeyRefusal;
pub use registration::{CredentialDescriptor, NewPasskey, Transport};
pub use relying_party::RelyingParty;
