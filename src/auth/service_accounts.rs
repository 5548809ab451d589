//! Administration of service accounts. (`service_keys` has that of their keys.)
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
        DisplayName, FieldViolation, PositionedRevocation, Revocation, Roles, ServiceAccount,
        ServiceAccountChange, ServiceAccountId, ServiceAccountName, ViolationReason,
    },
    revocation::RevocationIndex,
    store::{AuditKind, Store, StoreError, Versioned},
    tokens::AccessProfile,
    workloads::{DIRECTORY_MAX_AGE, Directory},
};

/// Administration of service accounts. Cheap to clone.
#[derive(Clone)]
pub struct ServiceAccounts {
    pub(super) store: Store,
    pub(super) directory: Arc<Directory>,
    pub(super) revocations: Arc<RevocationIndex>,
    pub(super) clock: Clock,
    locks: WriteLocks,
    /// The configured audiences.
    audiences: Vec<String>,
    /// How long revocations are kept.
    pub(super) remember: Duration,
}

/// A service account that is to be created.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    /// The name.
    pub name: ServiceAccountName,
    /// The name for people.
    pub display_name: DisplayName,
    /// The roles.
    pub roles: Roles,
    /// The audiences; none: the first that is configured.
    pub audiences: Vec<String>,
    /// The audiences at which it may act for users.
    pub act_for_users_at: Vec<String>,
}

/// Some accounts or keys, the oldest first.
pub struct Page<T, Id> {
    /// The accounts or keys.
    pub items: Vec<T>,
    /// The next page begins after this one. `None` on the last page.
    pub next: Option<Id>,
}

/// What a server with this life of access tokens and this leeway remembers of a revoked account or key: a replica that
/// is cut off may issue tokens for as long as its directory is good.
fn remember(longest_life: Duration) -> Duration {
    DIRECTORY_MAX_AGE + longest_life + CLOCK_SKEW
}

impl Auth {
    /// Administration of service accounts.
    pub fn service_accounts(&self) -> ServiceAccounts {
        let parts = &self.parts;
        ServiceAccounts {
            store: parts.store.clone(),
            directory: Arc::clone(&parts.directory),
            revocations: Arc::clone(&parts.revocations),
            clock: parts.clock.clone(),
            locks: self.locks.clone(),
            audiences: parts.profile.audiences.clone(),
            remember: remember(parts.profile.longest_life()),
        }
    }
}

impl ServiceAccounts {
    /// Administration without a server. Running replicas learn of each change from the database.
    pub fn standalone(
        store: Store,
        clock: Clock,
        audiences: Vec<String>,
        access_ttl: Duration,
        leeway: Duration,
    ) -> Self {
        Self {
            store,
            directory: Arc::default(),
            revocations: Arc::default(),
            clock,
            locks: WriteLocks::default(),
            audiences,
            remember: remember(AccessProfile::longest_life_with(access_ttl, leeway)),
        }
    }

    /// Creates a service account.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for an audience that is not configured, [`AuthError::ServiceAccountExists`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn create(
        &self,
        new: NewServiceAccount,
        context: &RequestContext,
    ) -> Result<ServiceAccount, AuthError> {
        let mut audiences = self.configured("audiences", new.audiences)?;
        if audiences.is_empty() {
            audiences.extend(self.audiences.first().cloned());
        }
        let act_for_users_at = self.configured("act_for_users_at", new.act_for_users_at)?;
        let _lock = self.lock(context).await?;
        let now = self.clock.now();
        let account = ServiceAccount {
            id: ServiceAccountId::generate(now),
            name: new.name,
            display_name: new.display_name,
            roles: new.roles,
            audiences,
            act_for_users_at,
            created_at: now,
            updated_at: now,
            disabled_at: None,
        };
        let event = context.audit_event(AuditKind::ServiceAccountCreated, now);
        let inserted = self.store.insert_service_account(&account, &event).await;
        let version = inserted.map_err(|error| match error {
            StoreError::Conflict => AuthError::ServiceAccountExists,
            other => other.into(),
        })?;
        let item = account.clone();
        self.directory.learn_account(Versioned { item, version });
        Ok(account)
    }

    /// The service account with that id.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn find(&self, id: ServiceAccountId) -> Result<ServiceAccount, AuthError> {
        let found = self.store.find_service_account(id).await?;
        let found = found.ok_or(AuthError::ServiceAccountNotFound)?;
        Ok(found.item)
    }

    /// The service account with that name.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn find_by_name(
        &self,
        name: &ServiceAccountName,
    ) -> Result<ServiceAccount, AuthError> {
        let found = self.store.find_service_account_by_name(name).await?;
        found.ok_or(AuthError::ServiceAccountNotFound)
    }

    /// Service accounts, the oldest first: `size` of them at most, beginning after the account `after`.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn list(
        &self,
        after: Option<ServiceAccountId>,
        size: u16,
    ) -> Result<Page<ServiceAccount, ServiceAccountId>, AuthError> {
        let limit = i64::from(size) + 1;
        let items = self.store.list_service_accounts(after, limit).await?;
        Ok(page(items, size, |account| account.id))
    }

    /// Changes a service account. Its next tokens follow.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for an audience that is not configured, [`AuthError::ServiceAccountNotFound`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn update(
        &self,
        id: ServiceAccountId,
        mut change: ServiceAccountChange,
        context: &RequestContext,
    ) -> Result<ServiceAccount, AuthError> {
        if let Some(audiences) = change.audiences.take() {
            if audiences.is_empty() {
                let rule = "must name at least one";
                let reason = ViolationReason::Required;
                let violation = FieldViolation::new("service_account.audiences", reason, rule);
                return Err(AuthError::InvalidFields(vec![violation]));
            }
            change.audiences = Some(self.configured("service_account.audiences", audiences)?);
        }
        if let Some(audiences) = change.act_for_users_at.take() {
            let audiences = self.configured("service_account.act_for_users_at", audiences)?;
            change.act_for_users_at = Some(audiences);
        }
        let _lock = self.lock(context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::ServiceAccountUpdated, now);
        let updated = self
            .store
            .update_service_account(id, &change, now, &event)
            .await?
            .ok_or(AuthError::ServiceAccountNotFound)?;
        self.directory.learn_account(updated.clone());
        Ok(updated.item)
    }

    /// Disables a service account and revokes its tokens. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn disable(
        &self,
        id: ServiceAccountId,
        context: &RequestContext,
    ) -> Result<Revoked<ServiceAccount>, AuthError> {
        let lock = self.lock(context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::ServiceAccountDisabled, now);
        let accounts = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let store = &accounts.store;
            let disabled = store
                .disable_service_account(id, now, accounts.remember, &event)
                .await?;
            let (account, revocations) = match disabled {
                Some(disabled) => (disabled.account, disabled.revocations),
                // Another replica may have disabled it.
                None => {
                    let found = store.find_service_account(id).await?;
                    let found = found.ok_or(AuthError::ServiceAccountNotFound)?;
                    let is_disabled = found.item.disabled_at.is_some();
                    let known = is_disabled.then(|| accounts.all_until(id, now));
                    (found, known.into_iter().collect())
                }
            };
            accounts.revocations.learn(&revocations);
            accounts.directory.learn_account(account.clone());
            Ok(Revoked::new(account.item, &revocations))
        })
        .await
    }

    /// Enables a service account. Tokens that were revoked stay revoked. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn enable(
        &self,
        id: ServiceAccountId,
        context: &RequestContext,
    ) -> Result<ServiceAccount, AuthError> {
        let _lock = self.lock(context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::ServiceAccountEnabled, now);
        let enabled = self.store.enable_service_account(id, now, &event).await?;
        let Some(enabled) = enabled else {
            return self.find(id).await;
        };
        self.directory.learn_account(enabled.clone());
        Ok(enabled.item)
    }

    /// Deletes a service account with its keys and revokes its tokens.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn delete(
        &self,
        id: ServiceAccountId,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let lock = self.lock(context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::ServiceAccountDeleted, now);
        let accounts = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let revocations = accounts
                .store
                .delete_service_account(id, now, accounts.remember, &event)
                .await?
                .ok_or(AuthError::ServiceAccountNotFound)?;
            accounts.revocations.learn(&revocations);
            accounts.directory.forget_account(id);
            Ok(Revoked::new((), &revocations))
        })
        .await
    }

    /// Checks that audiences are configured; each is kept once, in the order given.
    fn configured(
        &self,
        field: &'static str,
        asked: Vec<String>,
    ) -> Result<Vec<String>, AuthError> {
        let mut kept: Vec<String> = Vec::new();
        for audience in asked {
            if !self.audiences.contains(&audience) {
                let rule = "each must be an audience that the server issues tokens for";
                let reason = ViolationReason::NotAllowed;
                let violation = FieldViolation::new(field, reason, rule);
                return Err(AuthError::InvalidFields(vec![violation]));
            }
            if !kept.contains(&audience) {
                kept.push(audience);
            }
        }
        Ok(kept)
    }

    /// Waits until nobody else on this replica changes service accounts.
    pub(super) async fn lock(&self, context: &RequestContext) -> Result<KeyedGuard<()>, AuthError> {
        let locks = &self.locks.directory;
        locks.lock((), Writer::Service, context.deadline).await
    }

    /// A revocation for this replica's index alone: the database has it already.
    fn all_until(&self, id: ServiceAccountId, now: Timestamp) -> PositionedRevocation {
        unpositioned(Revocation::of_user(id.into(), now, now + self.remember))
    }
}

/// A revocation for this replica's index alone.
pub(super) const fn unpositioned(revocation: Revocation) -> PositionedRevocation {
    PositionedRevocation {
        position: 0,
        revocation,
    }
}

/// A page of `size` at most; one more tells that there is a next page.
pub(super) fn page<T, Id>(mut items: Vec<T>, size: u16, id: impl Fn(&T) -> Id) -> Page<T, Id> {
    let has_more = items.len() > usize::from(size);
    items.truncate(size.into());
    let next = items.last().filter(|_| has_more).map(id);
    Page { items, next }
}
