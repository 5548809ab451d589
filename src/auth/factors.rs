//! The second factors of a user: list, add, remove, replace the recovery codes.

use super::{
    Auth, AuthError, RequestContext, Revoked, in_its_own_task, users::Users, write_locks::Writer,
};
use crate::{
    domain::{Factor, FactorId, FactorKind, MailKind, NewMail, Recipient, SessionClaims, UserId},
    factors::{RECOVERY_CODES, RecoveryCode},
    secret::Secret,
    store::{
        AuditKind, ChallengeUse, ChangeRefused, Enrolled, Enrollment, JudgedCaller, NewFactor,
        NewRecoveryCodes, Removal, StoreError, StoredPasskey, StoredTotp,
    },
    tokens::AccessClaims,
};

/// A factor that was added.
pub struct AddedFactor {
    /// The factor.
    pub factor: Factor,
    /// The recovery codes, with the first factor alone.
    pub recovery_codes: Vec<Secret<String>>,
}

/// A factor that was proved, with its row.
pub(super) enum ProvedFactor {
    /// An authenticator app.
    Totp(StoredTotp),
    /// A passkey.
    Passkey(StoredPasskey),
}

/// New recovery codes: to show once, and to store.
struct FreshCodes {
    shown: Vec<Secret<String>>,
    stored: NewRecoveryCodes,
}

impl Auth {
    /// The second factors of a user, the oldest first.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn list_factors(&self, user: UserId) -> Result<Vec<Factor>, AuthError> {
        Ok(self.parts.store.list_factors(user).await?)
    }

    /// The caller with the kinds of factors that there are, if the caller may change them now. The transaction of the change
    /// demands that this still holds.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`], [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub(super) async fn judged_caller(
        &self,
        claims: &AccessClaims,
    ) -> Result<JudgedCaller, AuthError> {
        let found = self.parts.store.factor_kinds_of(claims.user_id).await?;
        let factors = found.ok_or(AuthError::UserNotFound)?;
        self.require_recent_authentication(claims, factors)?;
        Ok(JudgedCaller {
            user_id: claims.user_id,
            session_id: claims.session_id,
            factors,
        })
    }

    /// Adds a factor that was proved, and makes the caller's session one of two factors. `renewed` makes its new claims of
    /// those that it has.
    ///
    /// # Errors
    /// [`AuthError::FactorExists`], [`AuthError::SecondFactorInvalid`] for a challenge that was used before,
    /// [`AuthError::StepUpRequired`] when a factor was added or removed meanwhile, [`AuthError::UserNotFound`],
    /// [`AuthError::TokenRevoked`], [`AuthError::DatabaseUnavailable`].
    pub(super) async fn add_factor(
        &self,
        caller: JudgedCaller,
        proved: ProvedFactor,
        challenge: Option<ChallengeUse>,
        renewed: impl FnOnce(&SessionClaims) -> SessionClaims,
        context: &RequestContext,
    ) -> Result<AddedFactor, AuthError> {
        let parts = &self.parts;
        let user = caller.user_id;
        let current = parts.store.find_session(caller.session_id).await?;
        let current = current.ok_or(AuthError::TokenRevoked)?;
        let renewed = renewed(&current.claims);
        let codes = self.fresh_codes(user);
        let locks = &self.locks.users;
        let _lock = locks.lock(user, Writer::User, context.deadline).await?;
        let now = parts.clock.now();
        let event = context.audit_event(AuditKind::FactorAdded, now);
        let (factor, new) = match &proved {
            ProvedFactor::Totp(totp) => (Factor::from(totp), NewFactor::Totp(totp)),
            ProvedFactor::Passkey(passkey) => (Factor::from(passkey), NewFactor::Passkey(passkey)),
        };
        let enrollment = Enrollment {
            caller,
            factor: new,
            challenge,
            codes: &codes.stored,
            claims: &renewed,
            mail: &context.mail(MailKind::FactorAdded, Recipient::User(user), now),
        };
        match parts.store.add_factor(enrollment, now, &event).await {
            Ok(Ok(Enrolled::Added { has_new_codes })) => Ok(AddedFactor {
                factor,
                recovery_codes: match has_new_codes {
                    true => codes.shown,
                    false => Vec::new(),
                },
            }),
            Ok(Ok(Enrolled::ChallengeUsed)) => Err(AuthError::SecondFactorInvalid),
            Ok(Err(ChangeRefused::FactorsChanged(now)))
                if factor.kind == FactorKind::Totp && now.has(FactorKind::Totp) =>
            {
                Err(AuthError::FactorExists)
            }
            Ok(Err(refused)) => Err(refused.into()),
            Err(StoreError::Conflict) => Err(AuthError::FactorExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a factor of the caller, and ends all sessions of the caller but this one.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`], [`AuthError::FactorNotFound`], [`AuthError::UserNotFound`],
    /// [`AuthError::TokenRevoked`], [`AuthError::DatabaseUnavailable`].
    pub async fn remove_factor(
        &self,
        claims: &AccessClaims,
        factor: FactorId,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let removal = Removal::One(factor, self.judged_caller(claims).await?);
        let users = self.users();
        let removed = users
            .remove(claims.user_id, removal, AuditKind::FactorRemoved, context)
            .await?;
        removed
            .map(|revoked| Revoked {
                outcome: (),
                position: revoked.position,
            })
            .ok_or(AuthError::FactorNotFound)
    }

    /// Replaces the recovery codes of the caller.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`], [`AuthError::FactorNotFound`] when the caller has no factor,
    /// [`AuthError::UserNotFound`], [`AuthError::TokenRevoked`], [`AuthError::DatabaseUnavailable`].
    pub async fn regenerate_recovery_codes(
        &self,
        claims: &AccessClaims,
        context: &RequestContext,
    ) -> Result<Vec<Secret<String>>, AuthError> {
        let caller = self.judged_caller(claims).await?;
        if caller.factors.is_empty() {
            return Err(AuthError::FactorNotFound);
        }
        let parts = &self.parts;
        let user = caller.user_id;
        let codes = self.fresh_codes(user);
        let locks = &self.locks.users;
        let _lock = locks.lock(user, Writer::User, context.deadline).await?;
        let now = parts.clock.now();
        let event = context.audit_event(AuditKind::RecoveryCodesReplaced, now);
        let store = &parts.store;
        store
            .replace_recovery_codes(caller, &codes.stored, now, &event)
            .await??;
        Ok(codes.shown)
    }

    fn fresh_codes(&self, user: UserId) -> FreshCodes {
        let keys = self.parts.derived_keys.active();
        let codes: Vec<_> = (0..RECOVERY_CODES)
            .map(|_| RecoveryCode::generate())
            .collect();
        FreshCodes {
            shown: codes.iter().map(RecoveryCode::to_text).collect(),
            stored: NewRecoveryCodes {
                macs: codes.iter().map(|code| code.mac(keys, user)).collect(),
                key_version: keys.version,
            },
        }
    }
}

impl Users {
    /// Removes all second factors and recovery codes of a user, and ends all sessions: the way back for who has lost
    /// everything. Returns how many factors there were. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn remove_factors(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<Revoked<usize>, AuthError> {
        let kind = AuditKind::FactorsRemoved;
        match self.remove(id, Removal::All, kind, context).await? {
            Some(removed) => Ok(removed),
            None => {
                self.find(id).await?;
                Ok(Revoked::new(0, &[]))
            }
        }
    }

    async fn remove(
        &self,
        id: UserId,
        removal: Removal,
        kind: AuditKind,
        context: &RequestContext,
    ) -> Result<Option<Revoked<usize>>, AuthError> {
        let lock = self.lock(id, context).await?;
        let now = self.now();
        let event = context.audit_event(kind, now);
        let mail = context.mail(MailKind::FactorRemoved, Recipient::User(id), now);
        let mail = match removal {
            Removal::One(..) => mail,
            // The address is the administrator's.
            Removal::All => NewMail {
                client_ip: String::new(),
                ..mail
            },
        };
        let users = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let removed = users.remove_stored(id, removal, now, &event, &mail).await?;
            Ok(removed.map(|removed| Revoked::new(removed.count, &removed.ended.revocations)))
        })
        .await
    }
}
