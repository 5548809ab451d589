//! Administration of users: disable, enable, revoke sessions, change roles. (`accounts` creates, lists and deletes them.)
//!
//! Separate from [`Auth`], which needs keys and hashing threads, so that the command line can use it with a database
//! alone.

use std::{sync::Arc, time::Duration};

use super::{
    Auth, AuthError, CLOCK_SKEW, RequestContext, Revoked, in_its_own_task,
    write_locks::{KeyedGuard, WriteLocks, Writer},
};
use crate::{
    clock::{Clock, Timestamp},
    domain::{
        Email, NewMail, PositionedRevocation, Revocation, Role, Roles, SessionId, User, UserId,
    },
    revocation::RevocationIndex,
    store::{AuditEvent, AuditKind, Removal, RemovedFactors, Store},
    tokens::{AccessProfile, DerivedKeys},
};

/// Administration of users. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(super) store: Store,
    pub(super) revocations: Arc<RevocationIndex>,
    pub(super) clock: Clock,
    locks: WriteLocks,
    /// How long revocations are kept.
    pub(super) remember: Duration,
}

impl Auth {
    /// Administration of users.
    pub fn users(&self) -> Users {
        let parts = &self.parts;
        Users {
            store: parts.store.clone(),
            revocations: Arc::clone(&parts.revocations),
            clock: parts.clock.clone(),
            locks: self.locks.clone(),
            remember: parts.remember(),
        }
    }
}

impl Auth {
    /// Forgives a user's failed logins.
    ///
    /// # Errors
    /// Those of [`Users::clear_login_failures`].
    pub async fn clear_login_failures(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let keys = &self.parts.derived_keys;
        self.users().clear_login_failures(id, keys, context).await
    }
}

impl Users {
    /// Administration without a server. Running replicas learn of each change from the database.
    pub fn standalone(store: Store, clock: Clock, access_ttl: Duration, leeway: Duration) -> Self {
        Self {
            store,
            revocations: Arc::default(),
            clock,
            locks: WriteLocks::default(),
            remember: AccessProfile::longest_life_with(access_ttl, leeway) + CLOCK_SKEW,
        }
    }

    /// The user with that id.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn find(&self, id: UserId) -> Result<User, AuthError> {
        let found = self.store.find_user(id).await?;
        found.ok_or(AuthError::UserNotFound)
    }

    /// The user with that address.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn find_by_email(&self, email: &Email) -> Result<User, AuthError> {
        let found = self.store.find_user_by_email(email).await?;
        found.ok_or(AuthError::UserNotFound)
    }

    /// Disables a user: login and refresh fail, and every access token is revoked. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::RateLimited`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn disable_user(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<Revoked<User>, AuthError> {
        let lock = self.lock(id, context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::UserDisabled, now);
        let users = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let ended = users
                .store
                .disable_user(id, now, users.remember, &event)
                .await?;
            let user = users.find(id).await;
            let known = match (ended, &user) {
                (Some(ended), _) => {
                    users.store.request_sweep_if(ended.is_partial);
                    ended.revocations
                }
                // Another replica may have disabled the user.
                (None, Ok(user)) if user.disabled_at.is_some() => vec![users.all_until(id, now)],
                (None, _) => Vec::new(),
            };
            users.revocations.learn(&known);
            Ok(Revoked::new(user?, &known))
        })
        .await
    }

    /// Enables a user. Sessions that were revoked stay revoked. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn enable_user(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let _lock = self.lock(id, context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::UserEnabled, now);
        self.store.enable_user(id, now, &event).await?;
        self.find(id).await
    }

    /// Revokes all sessions of a user except the one that is `kept`. Returns how many of them were live; no more than
    /// 1,000 are counted.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn revoke_user_sessions(
        &self,
        id: UserId,
        kept: Option<SessionId>,
        context: &RequestContext,
    ) -> Result<Revoked<usize>, AuthError> {
        let lock = self.lock(id, context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::UserSessionsRevoked, now);
        let users = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let ended = users
                .store
                .revoke_user_sessions(id, kept, now, users.remember, &event)
                .await?
                .ok_or(AuthError::UserNotFound)?;
            if ended.revocations.is_empty() && kept.is_none() {
                // Another replica may just have revoked them.
                users.revocations.learn(&[users.all_until(id, now)]);
            }
            users.revocations.learn(&ended.revocations);
            users.store.request_sweep_if(ended.is_partial);
            Ok(Revoked::new(ended.count, &ended.revocations))
        })
        .await
    }

    /// Replaces the roles of a user. Takes effect with the next access token.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::DatabaseUnavailable`].
    pub async fn set_roles(
        &self,
        id: UserId,
        roles: Roles,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        self.change_roles(id, |_| roles.clone(), context).await
    }

    /// Adds a role to a user. Takes effect with the next access token.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn grant_role(
        &self,
        id: UserId,
        role: &Role,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        self.change_roles(id, |roles| roles.with(role.clone()), context)
            .await
    }

    /// Removes a role from a user. Takes effect with the next access token.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::DatabaseUnavailable`].
    pub async fn revoke_role(
        &self,
        id: UserId,
        role: &Role,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        self.change_roles(id, |roles| roles.without(role), context)
            .await
    }

    async fn change_roles(
        &self,
        id: UserId,
        change: impl Fn(Roles) -> Roles + Send + Sync,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let _lock = self.lock(id, context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::UserRolesChanged, now);
        self.store.change_roles(id, change, now, &event).await?;
        self.find(id).await
    }

    /// Forgives a user's failed logins: clears the counters of the account, of its known devices and of its sessions.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn clear_login_failures(
        &self,
        id: UserId,
        keys: &DerivedKeys,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let user = self.find(id).await?;
        let event = context.audit_event(AuditKind::LoginFailuresCleared, self.clock.now());
        let names = keys.account_counters(&user.email);
        self.store.clear_counters_of(id, &names, &event).await?;
        Ok(user)
    }

    /// The time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Removes factors in the database, and adds the ended sessions to this replica's revocation index.
    pub(super) async fn remove_stored(
        &self,
        id: UserId,
        removal: Removal,
        now: Timestamp,
        event: &AuditEvent,
        mail: &NewMail,
    ) -> Result<Option<RemovedFactors>, AuthError> {
        let store = &self.store;
        let removed = store
            .remove_factors(id, removal, now, self.remember, event, mail)
            .await??;
        if let Some(removed) = &removed {
            self.revocations.learn(&removed.ended.revocations);
            store.request_sweep_if(removed.ended.is_partial);
        }
        Ok(removed)
    }

    /// Waits until nobody else on this replica changes the user.
    pub(super) async fn lock(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<KeyedGuard<UserId>, AuthError> {
        let writer = match context.actor {
            Some(actor) if actor == id => Writer::User,
            _ => Writer::Service,
        };
        self.locks.users.lock(id, writer, context.deadline).await
    }

    /// A revocation for this replica's index alone: the database has it already.
    fn all_until(&self, id: UserId, now: Timestamp) -> PositionedRevocation {
        PositionedRevocation {
            position: 0,
            revocation: Revocation::of_user(id, now, now + self.remember),
        }
    }
}
