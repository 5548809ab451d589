//! Administration of the keys with which services authenticate.

use std::time::Duration;

use super::{
    Auth, AuthError, RequestContext, Revoked, in_its_own_task,
    service_accounts::{Page, ServiceAccounts, page, unpositioned},
};
use crate::{
    clock::Timestamp,
    domain::{
        FieldViolation, Revocation, ServiceAccountId, ServiceKey, ServiceKeyId, ViolationReason,
    },
    secret::Secret,
    store::{AuditKind, Versioned},
    tokens::DerivedKeys,
};

/// The longest life of a key.
const LONGEST_KEY_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

impl Auth {
    /// Creates a key of a service account, which expires at `expires_at`. The secret cannot be read again.
    ///
    /// # Errors
    /// Those of [`ServiceAccounts::create_key`].
    pub async fn create_service_key(
        &self,
        account: ServiceAccountId,
        expires_at: Timestamp,
        context: &RequestContext,
    ) -> Result<(Secret<String>, ServiceKey), AuthError> {
        let keys = &self.parts.derived_keys;
        let accounts = self.service_accounts();
        accounts
            .create_key(account, expires_at, keys, context)
            .await
    }

    /// Writes down when service keys were last used.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`]; it is tried again the next time.
    pub async fn record_key_uses(&self) -> Result<(), AuthError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        Ok(parts.directory.record_uses(&parts.store, now).await?)
    }
}

impl ServiceAccounts {
    /// Creates a key of a service account. The secret cannot be read again.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] when it would expire in the past or later than in a year,
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn create_key(
        &self,
        account_id: ServiceAccountId,
        expires_at: Timestamp,
        keys: &DerivedKeys,
        context: &RequestContext,
    ) -> Result<(Secret<String>, ServiceKey), AuthError> {
        let now = self.clock.now();
        if expires_at <= now || expires_at > now + LONGEST_KEY_LIFE {
            let rule = "must be in the future, at most 366 days ahead";
            let reason = ViolationReason::NotAllowed;
            let violation = FieldViolation::new("expire_time", reason, rule);
            return Err(AuthError::InvalidFields(vec![violation]));
        }
        let _lock = self.lock(context).await?;
        let key = ServiceKey {
            id: ServiceKeyId::generate(now),
            account_id,
            created_at: now,
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let event = context.audit_event(AuditKind::ServiceKeyCreated, now);
        let version = self
            .store
            .insert_service_key(&key, &event)
            .await?
            .ok_or(AuthError::ServiceAccountNotFound)?;
        let item = key.clone();
        self.directory.learn_key(Versioned { item, version });
        Ok((keys.service_key(key.id), key))
    }

    /// The keys of a service account that are not revoked, the oldest first: `size` of them at most, beginning after the
    /// key `after`.
    ///
    /// # Errors
    /// [`AuthError::ServiceAccountNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn list_keys(
        &self,
        account: ServiceAccountId,
        after: Option<ServiceKeyId>,
        size: u16,
    ) -> Result<Page<ServiceKey, ServiceKeyId>, AuthError> {
        self.find(account).await?;
        let limit = i64::from(size) + 1;
        let mut items = self.store.list_service_keys(account, after, limit).await?;
        for key in &mut items {
            // What this replica has not written down yet.
            key.last_used_at = key.last_used_at.max(self.directory.last_use(key.id));
        }
        Ok(page(items, size, |key| key.id))
    }

    /// Revokes a key and the tokens that were issued for it. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::ServiceKeyNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn revoke_key(
        &self,
        id: ServiceKeyId,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let lock = self.lock(context).await?;
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::ServiceKeyRevoked, now);
        let accounts = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let store = &accounts.store;
            let revoked = store
                .revoke_service_key(id, now, accounts.remember, &event)
                .await?;
            let (key, revocations) = match revoked {
                Some(revoked) => (revoked.key, revoked.revocations),
                // Another replica may have revoked it.
                None => {
                    let found = store.find_service_key(id).await?;
                    let found = found.ok_or(AuthError::ServiceKeyNotFound)?;
                    let end = now + accounts.remember;
                    let revocation = Revocation::of_session(id.into(), now, end);
                    (found, vec![unpositioned(revocation)])
                }
            };
            accounts.revocations.learn(&revocations);
            accounts.directory.learn_key(key);
            Ok(Revoked::new((), &revocations))
        })
        .await
    }
}
