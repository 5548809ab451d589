//! The registration ceremony (WebAuthn section 7.1): what an authenticator answers becomes a passkey to store.

use super::{
    attestation::AttestationObject,
    authenticator_data::AuthenticatorData,
    client_data::{self, Ceremony},
    credential_json::{self, AttestationResponse},
    public_key::{PasskeyAlgorithm, PublicKey},
    refusal::PasskeyRefusal,
    relying_party::{RelyingParty, sha256},
};

/// How a browser reaches an authenticator; a hint for the next ceremony (WebAuthn section 5.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// USB.
    Usb,
    /// NFC.
    Nfc,
    /// Bluetooth Low Energy.
    Ble,
    /// A smart card with contacts.
    SmartCard,
    /// Another device, such as a phone.
    Hybrid,
    /// Part of the device.
    Internal,
}

impl Transport {
    const ALL: [Self; 6] = [
        Self::Usb,
        Self::Nfc,
        Self::Ble,
        Self::SmartCard,
        Self::Hybrid,
        Self::Internal,
    ];

    /// The name in the standard.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usb => "usb",
            Self::Nfc => "nfc",
            Self::Ble => "ble",
            Self::SmartCard => "smart-card",
            Self::Hybrid => "hybrid",
            Self::Internal => "internal",
        }
    }

    /// Those that are known of these names, each once.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let names: Vec<_> = names.into_iter().collect();
        let is_named = |transport: &Self| names.contains(&transport.as_str());
        Self::ALL.into_iter().filter(is_named).collect()
    }
}

/// A credential as browsers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialDescriptor {
    /// The credential's id.
    pub id: Vec<u8>,
    /// How it was reached at its registration.
    pub transports: Vec<Transport>,
}

/// A passkey that was just made. Every part is stored in a form of the standard, so that it can be read by whatever
/// verifies signatures later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPasskey {
    /// Names it: 1 to 1023 bytes that the authenticator chose.
    pub credential: CredentialDescriptor,
    /// The COSE key, byte by byte as the authenticator wrote it.
    pub public_key: Vec<u8>,
    /// The algorithm of the key.
    pub algorithm: PasskeyAlgorithm,
    /// The signature counter; 0 where the authenticator does not count.
    pub sign_count: u32,
    /// Whether it may be copied to other devices.
    pub is_backup_eligible: bool,
    /// Whether it is copied now.
    pub is_backed_up: bool,
    /// The model of the authenticator as it says itself; not attested.
    pub aaguid: [u8; 16],
}

impl RelyingParty {
    /// Verifies the response to a registration: `json` is `PublicKeyCredential.toJSON()`, `challenge` the bytes that the
    /// options held. That no user has the credential already is for the caller to check (step 27).
    ///
    /// # Errors
    /// The first rule that the response breaks.
    pub fn verify_registration(
        &self,
        json: &str,
        challenge: &[u8],
    ) -> Result<NewPasskey, PasskeyRefusal> {
        let (id, response) = credential_json::parse::<AttestationResponse>(json)?;
        let client_data = response.client_data.0;
        client_data::check(&client_data, Ceremony::Registration, challenge, self)?;
        let object = AttestationObject::parse(&response.attestation_object.0)?;
        let data = AuthenticatorData::parse(&object.authenticator_data)?;
        data.check(self)?;
        let credential = data
            .credential
            .as_ref()
            .ok_or(PasskeyRefusal::AuthenticatorData)?;
        if credential.id != id {
            return Err(PasskeyRefusal::CredentialId);
        }
        let key = PublicKey::parse(credential.public_key)?;
        object.check(&key, &sha256(&client_data))?;
        let transports = response.transports.iter().map(String::as_str);
        Ok(NewPasskey {
            credential: CredentialDescriptor {
                id,
                transports: Transport::of_names(transports),
            },
            public_key: credential.public_key.to_vec(),
            algorithm: key.algorithm,
            sign_count: data.sign_count,
            is_backup_eligible: data.is_backup_eligible(),
            is_backed_up: data.is_backed_up(),
            aaguid: credential.aaguid,
        })
    }
}
