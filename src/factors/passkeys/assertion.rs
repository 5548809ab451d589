//! The authentication ceremony (WebAuthn section 7.2): proof that the user holds a stored passkey.

use super::{
    authenticator_data::AuthenticatorData,
    client_data::{self, Ceremony},
    credential_json::{self, AssertionResponse},
    public_key::PublicKey,
    refusal::PasskeyRefusal,
    relying_party::{RelyingParty, sha256},
};

/// A response to an authentication, read and not verified yet.
#[derive(Debug)]
pub struct Assertion {
    credential_id: Vec<u8>,
    response: AssertionResponse,
}

/// A passkey as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredPasskey {
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// The user handle that the options of the registration held.
    pub user_handle: Vec<u8>,
    /// The COSE key, byte by byte as the authenticator wrote it.
    pub public_key: Vec<u8>,
    /// The signature counter of the last use.
    pub sign_count: u32,
    /// Whether it may be copied to other devices.
    pub is_backup_eligible: bool,
}

/// What a verified use changes of the stored passkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedPasskey {
    /// The signature counter of this use.
    pub sign_count: u32,
    /// Whether it is copied to other devices now.
    pub is_backed_up: bool,
}

/// When the user is known (section 7.2 step 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserIdentity {
    /// Before the ceremony, by another proof.
    Known,
    /// Only by the response, whose user handle must say who it is.
    FromResponse,
}

impl Assertion {
    /// Reads `PublicKeyCredential.toJSON()`.
    ///
    /// # Errors
    /// It is too long or malformed.
    pub fn parse(json: &str) -> Result<Self, PasskeyRefusal> {
        let (credential_id, response) = credential_json::parse(json)?;
        Ok(Self {
            credential_id,
            response,
        })
    }

    /// Names the passkey that was used, if the response is genuine.
    pub fn credential_id(&self) -> &[u8] {
        &self.credential_id
    }
}

impl RelyingParty {
    /// Verifies a response against the stored passkey with its credential id. `challenge` are the bytes that the options
    /// held.
    ///
    /// # Errors
    /// The first rule that the response breaks.
    pub fn verify_assertion(
        &self,
        assertion: &Assertion,
        challenge: &[u8],
        identity: UserIdentity,
        stored: &RegisteredPasskey,
    ) -> Result<UsedPasskey, PasskeyRefusal> {
        if assertion.credential_id != stored.credential_id {
            return Err(PasskeyRefusal::CredentialId);
        }
        let response = &assertion.response;
        match &response.user_handle {
            Some(handle) if handle.0 == stored.user_handle => {}
            None if identity == UserIdentity::Known => {}
            _ => return Err(PasskeyRefusal::UserHandle),
        }
        let client_data = &response.client_data.0;
        client_data::check(client_data, Ceremony::Authentication, challenge, self)?;
        let signed_data = &response.authenticator_data.0;
        let data = AuthenticatorData::parse(signed_data)?;
        data.check(self)?;
        if data.credential.is_some() {
            return Err(PasskeyRefusal::AuthenticatorData);
        }
        if data.is_backup_eligible() != stored.is_backup_eligible {
            return Err(PasskeyRefusal::BackupFlags);
        }
        let message = [signed_data.as_slice(), &sha256(client_data)].concat();
        if !PublicKey::parse(&stored.public_key)?.verifies(&message, &response.signature.0) {
            return Err(PasskeyRefusal::Signature);
        }
        // Synced passkeys do not count: theirs is 0 for ever (section 6.1.1).
        let counts = data.sign_count != 0 || stored.sign_count != 0;
        if counts && data.sign_count <= stored.sign_count {
            return Err(PasskeyRefusal::SignCount);
        }
        Ok(UsedPasskey {
            sign_count: data.sign_count,
            is_backed_up: data.is_backed_up(),
        })
    }
}
