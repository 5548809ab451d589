//! The registration of a passkey: the browser is asked for one, and what it answers is stored.

use super::{
    AddedFactor, Auth, AuthError, RequestContext,
    factors::ProvedFactor,
    passkeys::{NewPasskeyChallenge, PasskeyCeremony, descriptors, refuse},
};
use crate::{
    domain::{DeviceLabel, FactorId, FactorKind, SessionClaims, UserId},
    factors::passkeys::{NewPasskey, PasskeyOwner, Transport},
    secret::Secret,
    store::{ChallengeUse, JudgedCaller, StoredPasskey},
    tokens::{AccessClaims, ChallengePurpose},
};

/// How many passkeys a user may have: each costs a row, and a place in the options of every ceremony.
const MAX_PASSKEYS: usize = 20;

/// A validated FinishPasskeyRegistration request.
pub struct PasskeyRegistrationCommand {
    /// The token of BeginPasskeyRegistration.
    pub challenge_token: Secret<String>,
    /// What the browser answered, in JSON.
    pub response: String,
    /// The user's name for the passkey.
    pub label: DeviceLabel,
}

impl Auth {
    /// Begins the registration of a passkey for the caller.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`], [`AuthError::FactorExists`] when the caller has as many as a user may have,
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn begin_passkey_registration(
        &self,
        claims: &AccessClaims,
    ) -> Result<PasskeyCeremony, AuthError> {
        let caller = self.judged_caller(claims).await?;
        let existing = self.passkeys_besides_one(caller).await?;
        let user = self.users().find(claims.user_id).await?;
        let challenge = self.new_passkey_challenge(NewPasskeyChallenge {
            purpose: ChallengePurpose::PasskeyRegistration,
            user_id: Some(user.id),
            bound_to: None,
        });
        let parts = &self.parts;
        let bytes = parts.derived_keys.webauthn_challenge(&challenge);
        let owner = PasskeyOwner {
            handle: user.id.as_bytes(),
            name: user.email.as_str(),
            display_name: user.display_name.as_str(),
        };
        let options = parts
            .relying_party
            .creation_options(&bytes, owner, &descriptors(&existing));
        Ok(self.ceremony(&challenge, options))
    }

    /// Adds the passkey that the browser made.
    ///
    /// # Errors
    /// [`AuthError::SecondFactorInvalid`], [`AuthError::FactorExists`] also when somebody has the passkey, and those of
    /// [`begin_passkey_registration`](Self::begin_passkey_registration).
    pub async fn finish_passkey_registration(
        &self,
        claims: &AccessClaims,
        command: PasskeyRegistrationCommand,
        context: &RequestContext,
    ) -> Result<AddedFactor, AuthError> {
        let caller = self.judged_caller(claims).await?;
        let purpose = ChallengePurpose::PasskeyRegistration;
        let challenge = self.open_challenge(purpose, &command.challenge_token)?;
        if challenge.user_id != Some(claims.user_id) {
            return Err(AuthError::SecondFactorInvalid);
        }
        self.passkeys_besides_one(caller).await?;
        let parts = &self.parts;
        let bytes = parts.derived_keys.webauthn_challenge(&challenge);
        let new = parts
            .relying_party
            .verify_registration(&command.response, &bytes)
            .map_err(refuse)?;
        let is_hardware_bound = !new.is_backup_eligible;
        let now = parts.clock.now();
        let passkey = self.stored(new, claims.user_id, command.label);
        let used = ChallengeUse::from(&challenge);
        let renewed = |current: &SessionClaims| {
            let audiences = current.audiences.clone();
            SessionClaims::of_passkey(now, audiences, is_hardware_bound, false)
        };
        let proved = ProvedFactor::Passkey(passkey);
        self.add_factor(caller, proved, Some(used), renewed, context)
            .await
    }

    /// The user's passkeys, if there may be one more.
    async fn passkeys_besides_one(
        &self,
        caller: JudgedCaller,
    ) -> Result<Vec<StoredPasskey>, AuthError> {
        if !caller.factors.has(FactorKind::Passkey) {
            return Ok(Vec::new());
        }
        let existing = self.parts.store.passkeys_of(caller.user_id).await?;
        match existing.len() < MAX_PASSKEYS {
            true => Ok(existing),
            false => Err(AuthError::FactorExists),
        }
    }

    fn stored(&self, new: NewPasskey, user_id: UserId, label: DeviceLabel) -> StoredPasskey {
        let now = self.parts.clock.now();
        let transports = new.credential.transports.iter().copied();
        let transports: Vec<_> = transports.map(Transport::as_str).collect();
        StoredPasskey {
            id: FactorId::generate(now),
            user_id,
            credential_id: new.credential.id,
            public_key: new.public_key,
            sign_count: new.sign_count,
            backup_eligible: new.is_backup_eligible,
            backed_up: new.is_backed_up,
            aaguid: new.aaguid,
            transports: transports.join(" "),
            label,
            created_at: now,
            last_used_at: None,
        }
    }
}
