//! The authenticator data: what the authenticator signs (WebAuthn section 6.1).

use super::{cbor::Map, refusal::PasskeyRefusal, relying_party::RelyingParty};

/// The length of RP id hash, flags and counter.
const FIXED_LENGTH: usize = 32 + 1 + 4;
/// The longest credential id that section 7.1 step 26 allows.
const MAX_CREDENTIAL_ID: usize = 1023;

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// Authenticator data, read to the last byte.
#[derive(Debug)]
pub(super) struct AuthenticatorData<'a> {
    rp_id_hash: &'a [u8],
    flags: u8,
    /// How many signatures the authenticator has made, or 0 where it does not count.
    pub(super) sign_count: u32,
    /// The new credential, in a registration.
    pub(super) credential: Option<AttestedCredential<'a>>,
}

/// A new credential (section 6.5.1).
#[derive(Debug)]
pub(super) struct AttestedCredential<'a> {
    /// The model of the authenticator.
    pub(super) aaguid: [u8; 16],
    /// Names the credential.
    pub(super) id: &'a [u8],
    /// The COSE key, byte by byte as the authenticator wrote it.
    pub(super) public_key: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    /// Reads the bytes. The flags decide what follows the fixed part; nothing else may.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PasskeyRefusal> {
        Self::read(bytes).ok_or(PasskeyRefusal::AuthenticatorData)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = bytes.split_at_checked(FIXED_LENGTH)?;
        let (rp_id_hash, fixed) = fixed.split_at(32);
        let (flags, sign_count) = fixed.split_first()?;
        let credential = match flags & HAS_CREDENTIAL {
            0 => None,
            _ => Some(AttestedCredential::take(&mut rest)?),
        };
        if flags & HAS_EXTENSIONS != 0 {
            // No extension is asked for whose output would matter.
            Map::take(&mut rest)?;
        }
        rest.is_empty().then_some(Self {
            rp_id_hash,
            flags: *flags,
            sign_count: u32::from_be_bytes(sign_count.try_into().ok()?),
            credential,
        })
    }

    /// What both ceremonies demand: steps 13 to 17 of section 7.1, steps 16 to 20 of section 7.2.
    pub(super) fn check(&self, relying_party: &RelyingParty) -> Result<(), PasskeyRefusal> {
        if self.rp_id_hash != relying_party.id_hash() {
            return Err(PasskeyRefusal::RelyingParty);
        }
        if !self.has(USER_PRESENT) {
            return Err(PasskeyRefusal::UserPresence);
        }
        if !self.has(USER_VERIFIED) {
            return Err(PasskeyRefusal::UserVerification);
        }
        if self.is_backed_up() && !self.is_backup_eligible() {
            return Err(PasskeyRefusal::BackupFlags);
        }
        Ok(())
    }

    /// Whether the passkey may be copied to other devices: whether it is a synced one.
    pub(super) const fn is_backup_eligible(&self) -> bool {
        self.has(BACKUP_ELIGIBLE)
    }

    /// Whether it is copied now.
    pub(super) const fn is_backed_up(&self) -> bool {
        self.has(BACKED_UP)
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl<'a> AttestedCredential<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let aaguid = rest.split_off(..16)?.try_into().ok()?;
        let length = u16::from_be_bytes(rest.split_off(..2)?.try_into().ok()?);
        let id = rest.split_off(..usize::from(length))?;
        let from_key = *rest;
        Map::take(rest)?;
        let public_key = &from_key[..from_key.len() - rest.len()];
        (1..=MAX_CREDENTIAL_ID).contains(&id.len()).then_some(Self {
            aaguid,
            id,
            public_key,
        })
    }
}
