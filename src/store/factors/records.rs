//! Second factors of a user: listed, added, removed. Each change is one transaction that begins by locking the user's row,
//! as a login does, and keeps `users.factor_kinds` in step: a login sees it in the row that it locks.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Factor, FactorId, FactorKind, FactorKinds, NewMail, SessionClaims, UserId},
    store::{
        AuditEvent, ChallengeUse, ChangeRefused, JudgedCaller, NewRecoveryCodes, Store, StoreError,
        StoredPasskey, StoredTotp,
        factors::{
            factor_changes::judge_again, passkeys::PasskeyRow, proofs::use_challenge,
            recovery_codes::replace_codes, totp_factors::TotpRow,
        },
        mails::outbox::{NewMailRow, queue_mail},
        read,
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, passkeys, recovery_codes, sessions, totp_factors, users},
        schema_version::{FACTORS, demand_migration},
        sessions::ending::{EndedSessions, Ending, Scope, raise_epoch, revoke_ended},
        users::records::stored_kinds,
        write,
    },
};

/// A factor that was proved and is to be added.
#[derive(Clone, Copy, Debug)]
pub enum NewFactor<'a> {
    /// An authenticator app.
    Totp(&'a StoredTotp),
    /// A passkey.
    Passkey(&'a StoredPasskey),
}

/// An enrollment, all of it at once.
pub struct Enrollment<'a> {
    /// Whose factor, and the session in which it was proved.
    pub caller: JudgedCaller,
    /// The factor.
    pub factor: NewFactor<'a>,
    /// The challenge that it answers, if there is one.
    pub challenge: Option<ChallengeUse>,
    /// The codes that the user gets with the first factor.
    pub codes: &'a NewRecoveryCodes,
    /// What the session's tokens say from now on.
    pub claims: &'a SessionClaims,
    /// What tells the owner.
    pub mail: &'a NewMail,
}

/// What became of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// The factor was added. `has_new_codes`: it is the first one, so the codes are good now.
    Added {
        /// Whether the codes were stored.
        has_new_codes: bool,
    },
    /// The challenge was used before.
    ChallengeUsed,
}

/// The factors to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// One of the user's own; the session of the caller goes on.
    One(FactorId, JudgedCaller),
    /// All.
    All,
}

/// Factors that were removed.
#[derive(Clone, Debug)]
pub struct RemovedFactors {
    /// How many.
    pub count: usize,
    /// The sessions that ended with it.
    pub ended: EndedSessions,
}

impl NewFactor<'_> {
    const fn kind(&self) -> FactorKind {
        match self {
            Self::Totp(_) => FactorKind::Totp,
            Self::Passkey(_) => FactorKind::Passkey,
        }
    }
}

impl Removal {
    fn scope(self) -> Scope {
        match self {
            Self::One(_, caller) => Scope::AllBut(caller.session_id),
            Self::All => Scope::All,
        }
    }
}

/// Deletes the rows of one of the factor tables that a removal is about; how many there were.
macro_rules! delete_factors {
    ($conn:expr, $table:ident, $user:expr, $removal:expr) => {{
        let own = $table::table.filter($table::user_id.eq($user));
        match $removal {
            Removal::One(id, _) => {
                diesel::delete(own.filter($table::id.eq(id.to_string())))
                    .execute($conn)
                    .await?
            }
            Removal::All => diesel::delete(own).execute($conn).await?,
        }
    }};
}

/// Whether the user has a row in one of the factor tables.
macro_rules! has_factor {
    ($conn:expr, $table:ident, $user:expr) => {{
        let own = $table::table.filter($table::user_id.eq($user));
        own.count().get_result::<i64>($conn).await? > 0
    }};
}

impl Store {
    /// The kinds of factors that a user has; `None` when there is no such user.
    pub async fn factor_kinds_of(&self, user: UserId) -> Result<Option<FactorKinds>, StoreError> {
        let found: Option<Option<String>> = read!(self, |conn| {
            Ok(users::table
                .find(user.to_string())
                .select(users::factor_kinds)
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found
            .map(|kinds| stored_kinds(kinds.as_deref()))
            .transpose()
    }

    /// The factors of a user, the oldest first.
    pub async fn list_factors(&self, user: UserId) -> Result<Vec<Factor>, StoreError> {
        let id = user.to_string();
        let totp: Vec<TotpRow> = read!(self, |conn| {
            Ok(totp_factors::table
                .filter(totp_factors::user_id.eq(&id))
                .select(TotpRow::as_select())
                .load(conn)
                .await?)
        })?;
        let totp: Result<Vec<StoredTotp>, _> = totp.into_iter().map(TryInto::try_into).collect();
        let passkeys = self.passkeys_of(user).await?;
        let mut factors: Vec<Factor> = totp?.iter().map(Factor::from).collect();
        factors.extend(passkeys.iter().map(Factor::from));
        factors.sort_by_key(|factor| (factor.created_at, factor.id));
        Ok(factors)
    }

    /// Adds a factor that was proved, with recovery codes if it is the first, and makes the session one of two factors,
    /// unless the caller is judged otherwise now.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user has an authenticator app already, or somebody has the passkey.
    pub async fn add_factor(
        &self,
        new: Enrollment<'_>,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Result<Enrolled, ChangeRefused>, StoreError> {
        let caller = new.caller;
        let id = caller.user_id.to_string();
        let event = event.to_row_for(caller.user_id);
        let mail = NewMailRow::of(new.mail);
        let methods = new.claims.stored_methods();
        let added = write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                if let Err(refused) = judge_again!(conn, caller, now) {
                    return Ok(Err(refused));
                }
                let before = caller.factors;
                if let Some(challenge) = &new.challenge
                    && !use_challenge!(conn, challenge, now)
                {
                    return Ok(Ok(Enrolled::ChallengeUsed));
                }
                match new.factor {
                    NewFactor::Totp(totp) => {
                        diesel::insert_into(totp_factors::table)
                            .values(&TotpRow::of(totp, caller.user_id))
                            .execute(conn)
                            .await?
                    }
                    NewFactor::Passkey(passkey) => {
                        diesel::insert_into(passkeys::table)
                            .values(&PasskeyRow::from(passkey))
                            .execute(conn)
                            .await?
                    }
                };
                let kinds = before.with(new.factor.kind());
                diesel::update(users::table.find(&id))
                    .set((
                        users::factor_kinds.eq(kinds.to_stored()),
                        users::updated_at.eq(now.micros()),
                    ))
                    .execute(conn)
                    .await?;
                if before.is_empty() {
                    demand_migration!(conn, FACTORS);
                    replace_codes!(conn, new.codes, caller.user_id, now);
                }
                let session = sessions::table
                    .filter(sessions::id.eq(caller.session_id.to_string()))
                    .filter(sessions::user_id.eq(&id));
                diesel::update(session)
                    .set((
                        sessions::authenticated_at.eq(new.claims.authenticated_at.micros()),
                        sessions::authentication_methods.eq(methods.as_deref()),
                    ))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                queue_mail!(conn, &mail);
                Ok(Ok(Enrolled::Added {
                    has_new_codes: before.is_empty(),
                }))
            })
            .await
        })?;
        self.mail_queued.notify_one();
        Ok(added)
    }

    /// Removes factors of a user, and the recovery codes with the last one, and ends sessions: all, or all but the one of
    /// the caller, unless the caller is judged otherwise now. `None` when there was no such factor, or no such user.
    ///
    /// `remember` is how long the last access token may live, counted from its session's last rotation.
    pub async fn remove_factors(
        &self,
        user: UserId,
        removal: Removal,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
        mail: &NewMail,
    ) -> Result<Result<Option<RemovedFactors>, ChangeRefused>, StoreError> {
        let id = user.to_string();
        let event = event.to_row_for(user);
        let mail = NewMailRow::of(mail);
        let removed = revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                if let Removal::One(_, caller) = removal
                    && let Err(refused) = judge_again!(conn, caller, now)
                {
                    return Ok(Err(refused));
                }
                let lock = diesel::update(users::table.find(&id))
                    .set(users::updated_at.eq(users::updated_at))
                    .returning(users::session_epoch);
                let Some(epoch) = lock.get_result::<i64>(conn).await.optional()? else {
                    return Ok(Ok(None));
                };
                let count = delete_factors!(conn, totp_factors, &id, removal)
                    + delete_factors!(conn, passkeys, &id, removal);
                if count == 0 {
                    return Ok(Ok(None));
                }
                let mut kinds = FactorKinds::NONE;
                if has_factor!(conn, totp_factors, &id) {
                    kinds = kinds.with(FactorKind::Totp);
                }
                if has_factor!(conn, passkeys, &id) {
                    kinds = kinds.with(FactorKind::Passkey);
                }
                diesel::update(users::table.find(&id))
                    .set((
                        users::factor_kinds.eq(kinds.to_stored()),
                        users::updated_at.eq(now.micros()),
                    ))
                    .execute(conn)
                    .await?;
                if kinds.is_empty() {
                    let codes = recovery_codes::table.filter(recovery_codes::user_id.eq(&id));
                    diesel::delete(codes).execute(conn).await?;
                }
                let ending = Ending {
                    user,
                    scope: removal.scope(),
                    epoch,
                    now,
                    remember,
                };
                let epoch = raise_epoch!(conn, ending);
                queue_mail!(conn, &mail);
                let ended = revoke_ended!(conn, ending, epoch, &event);
                Ok(Ok(Some(RemovedFactors { count, ended })))
            })
            .await
        })?;
        self.mail_queued.notify_one();
        Ok(removed)
    }
}
