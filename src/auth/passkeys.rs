//! Passkeys: a login without a password, and a proof in CompleteLogin and Reauthenticate.

use super::{
    Auth, AuthError, LoggedIn, RequestContext,
    claimant::Claimant,
    factor_attempts::JudgedFactor,
    throttle::{Caller, Proven},
};
use crate::{
    clock::Timestamp,
    domain::{DeviceLabel, Email, Session, SessionClaims, User, UserId},
    factors::passkeys::{
        Assertion, CredentialDescriptor, PasskeyRefusal, RegisteredPasskey, Transport, UserIdentity,
    },
    secret::Secret,
    store::{ChallengeUse, FactorProof, FactorUse, StoredPasskey},
    tokens::{CHALLENGE_TTL, Challenge, ChallengePurpose, KnownDevice, NewChallenge},
};

/// A ceremony that has begun. Nothing of it is stored.
pub struct PasskeyCeremony {
    /// To be returned with the browser's answer.
    pub challenge_token: Secret<String>,
    /// What the browser is asked, in JSON.
    pub options: String,
    /// When the challenge expires.
    pub expires_at: Timestamp,
}

/// A validated FinishPasskeyLogin request.
pub struct PasskeyLoginCommand {
    /// The token of BeginPasskeyLogin.
    pub challenge_token: Secret<String>,
    /// What the browser answered, in JSON.
    pub response: String,
    /// The user's label for the session.
    pub device_label: DeviceLabel,
    /// The device token of an earlier login. An empty, malformed or forged one, or another user's, counts as none.
    pub device_token: Secret<String>,
    /// The audiences of the session's access tokens; empty for all that are configured.
    pub audiences: Vec<String>,
}

/// What the session of a login by passkey is to be.
struct Wanted {
    device: Option<KnownDevice>,
    device_label: DeviceLabel,
    audiences: Option<Vec<String>>,
}

impl Auth {
    /// Begins a login by passkey, of a user with that address if there is one. It reads nothing, and its answer is the same
    /// whoever has an account.
    pub fn begin_passkey_login(&self, email: Option<&Email>) -> PasskeyCeremony {
        let key = email.map(Email::key);
        let challenge = self.new_passkey_challenge(NewPasskeyChallenge {
            purpose: ChallengePurpose::PasskeyLogin,
            user_id: None,
            bound_to: key.as_deref(),
        });
        let parts = &self.parts;
        let bytes = parts.derived_keys.webauthn_challenge(&challenge);
        self.ceremony(&challenge, parts.relying_party.request_options(&bytes, &[]))
    }

    /// Opens a session for the user of the passkey that answered.
    ///
    /// # Errors
    /// [`AuthError::SecondFactorInvalid`], [`AuthError::AccountThrottled`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn finish_passkey_login(
        &self,
        command: PasskeyLoginCommand,
        context: &RequestContext,
    ) -> Result<LoggedIn, AuthError> {
        let keys = &self.parts.derived_keys;
        let wanted = Wanted {
            device: keys.parse_device_token(command.device_token.expose()),
            audiences: self.asked_audiences(&command.audiences)?,
            device_label: command.device_label,
        };
        let (purpose, token) = (ChallengePurpose::PasskeyLogin, &command.challenge_token);
        let challenge = self.open_challenge(purpose, token)?;
        let assertion = Assertion::parse(&command.response).map_err(refuse)?;
        let context = context.clone();
        self.in_attempt(&context.clone(), |auth, caller| async move {
            auth.log_in_by_passkey(challenge, assertion, wanted, &context, caller)
                .await
        })
        .await
    }

    async fn log_in_by_passkey(
        &self,
        challenge: Challenge,
        assertion: Assertion,
        wanted: Wanted,
        context: &RequestContext,
        mut caller: Caller,
    ) -> Result<LoggedIn, AuthError> {
        let claimant = Claimant::Passkey {
            credential_id: assertion.credential_id().to_vec(),
            challenge: challenge.id,
            device: wanted.device,
        };
        let (found, (), admitted) = self.admit(&claimant, &mut caller, || Ok(())).await?;
        let Some((found, passkey)) = found.and_then(|mut found| {
            let passkey = found.passkey.take();
            passkey.map(|passkey| (found, passkey))
        }) else {
            // Nobody's: there is no account whose failures this could be.
            return Err(AuthError::SecondFactorInvalid);
        };
        let used = ChallengeUse::from(&challenge);
        let is_admitted = found.user.disabled_at.is_none() && self.admits(&found.user);
        let judged = match is_admitted {
            true => {
                let identity = UserIdentity::FromResponse;
                self.verify_passkey(&challenge, &assertion, identity, &found.user, &passkey)
            }
            false => None,
        };
        let Some(judged) = judged else {
            let who = (Some(found.user.id), None);
            let counted = self.count_wrong_factor(&admitted, Some(&used), who, context);
            return Err(counted.await?);
        };
        let proven = Proven {
            user: found.user,
            verified_hash: found.password_hash,
            rehashed: None,
            is_breached: false,
            factors: found.factors,
            admitted,
        };
        let Wanted {
            device_label,
            audiences,
            ..
        } = wanted;
        let opened = self.new_session(&proven.user, device_label, audiences.clone(), context);
        let is_hardware_bound = !passkey.backup_eligible;
        let session = Session {
            claims: SessionClaims::of_passkey(
                opened.created_at,
                audiences,
                is_hardware_bound,
                false,
            ),
            ..opened
        };
        let proof = FactorProof {
            challenge: Some(used),
            factor: judged.factor,
        };
        self.open_with_factor(proven, session, &proof, context)
            .await
    }

    /// Judges what a passkey answered to a challenge, as a proof of that user. `None`: it is wrong.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub(super) async fn judge_passkey(
        &self,
        challenge: &Challenge,
        user: &User,
        response: &str,
    ) -> Result<Option<JudgedFactor>, AuthError> {
        let assertion = match Assertion::parse(response) {
            Ok(assertion) => assertion,
            Err(refusal) => {
                report(refusal);
                return Ok(None);
            }
        };
        let store = &self.parts.store;
        let found = store.find_passkey(user.id, assertion.credential_id());
        let found = found.await?;
        Ok(found.and_then(|passkey| {
            self.verify_passkey(challenge, &assertion, UserIdentity::Known, user, &passkey)
        }))
    }

    /// What a browser is asked for a passkey of the user.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub(super) async fn passkey_request_options(
        &self,
        challenge: &Challenge,
        user: UserId,
    ) -> Result<String, AuthError> {
        let parts = &self.parts;
        let passkeys = parts.store.passkeys_of(user).await?;
        let bytes = parts.derived_keys.webauthn_challenge(challenge);
        Ok(parts
            .relying_party
            .request_options(&bytes, &descriptors(&passkeys)))
    }

    fn verify_passkey(
        &self,
        challenge: &Challenge,
        assertion: &Assertion,
        identity: UserIdentity,
        user: &User,
        passkey: &StoredPasskey,
    ) -> Option<JudgedFactor> {
        let parts = &self.parts;
        let keys = &parts.derived_keys;
        // BeginPasskeyLogin named an address. (That of a login's challenge is the password's hash.)
        if challenge.purpose == ChallengePurpose::PasskeyLogin
            && challenge.is_bound()
            && !keys.is_challenge_bound_to(challenge, &user.email.key())
        {
            report(PasskeyRefusal::UserHandle);
            return None;
        }
        let registered = RegisteredPasskey {
            credential_id: passkey.credential_id.clone(),
            user_handle: passkey.user_id.as_bytes().to_vec(),
            public_key: passkey.public_key.clone(),
            sign_count: passkey.sign_count,
            is_backup_eligible: passkey.backup_eligible,
        };
        let bytes = keys.webauthn_challenge(challenge);
        let verified =
            parts
                .relying_party
                .verify_assertion(assertion, &bytes, identity, &registered);
        match verified {
            Ok(used) => Some(JudgedFactor {
                factor: FactorUse::Passkey {
                    id: passkey.id,
                    sign_count: used.sign_count,
                    backed_up: used.is_backed_up,
                },
                is_hardware_bound: Some(!passkey.backup_eligible),
            }),
            Err(refusal) => {
                report(refusal);
                None
            }
        }
    }

    /// A challenge that an authenticator is to sign.
    pub(super) fn new_passkey_challenge(&self, new: NewPasskeyChallenge<'_>) -> Challenge {
        let now = self.parts.clock.now();
        self.parts.derived_keys.new_challenge(NewChallenge {
            purpose: new.purpose,
            user_id: new.user_id,
            now,
            expires_at: now + CHALLENGE_TTL,
            bound_to: new.bound_to,
            login: None,
        })
    }

    /// A challenge and its options, as the caller gets them.
    pub(super) fn ceremony(&self, challenge: &Challenge, options: String) -> PasskeyCeremony {
        PasskeyCeremony {
            challenge_token: self.parts.derived_keys.challenge_token(challenge),
            options,
            expires_at: challenge.expires_at,
        }
    }

    /// The challenge of a token that is genuine, for that purpose, and has not expired.
    pub(super) fn open_challenge(
        &self,
        purpose: ChallengePurpose,
        token: &Secret<String>,
    ) -> Result<Challenge, AuthError> {
        let (keys, now) = (&self.parts.derived_keys, self.parts.clock.now());
        keys.parse_challenge(purpose, token.expose(), now)
            .ok_or_else(|| self.refused_token(token.expose(), AuthError::SecondFactorInvalid))
    }
}

/// What a challenge for an authenticator is made of.
#[derive(Clone, Copy)]
pub(super) struct NewPasskeyChallenge<'a> {
    /// What it is for.
    pub(super) purpose: ChallengePurpose,
    /// Whose it is, if that is known.
    pub(super) user_id: Option<UserId>,
    /// What it is good for alone.
    pub(super) bound_to: Option<&'a str>,
}

/// The passkeys as a browser is told of them.
pub(super) fn descriptors(passkeys: &[StoredPasskey]) -> Vec<CredentialDescriptor> {
    let describe = |passkey: &StoredPasskey| CredentialDescriptor {
        id: passkey.credential_id.clone(),
        transports: Transport::of_names(passkey.transports.split_ascii_whitespace()),
    };
    passkeys.iter().map(describe).collect()
}

/// The one answer for all that can be wrong with a response.
pub(super) fn refuse(refusal: PasskeyRefusal) -> AuthError {
    report(refusal);
    AuthError::SecondFactorInvalid
}

/// Tells the operator what the caller is not told: an origin that is missing in the configuration, for instance.
fn report(refusal: PasskeyRefusal) {
    tracing::info!(%refusal, "the response of a passkey was refused");
}
