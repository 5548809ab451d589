//! Keys of service accounts, without their secrets, which are not stored anywhere.

use std::{collections::BTreeMap, time::Duration};

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{PositionedRevocation, Revocation, ServiceAccountId, ServiceKey, ServiceKeyId},
    store::{
        AuditEvent, Store, StoreError,
        ids::{parse_service_account_id, parse_service_key_id},
        read,
        retention::EXPIRED_KEYS,
        revocations::{changes::Announce as _, records::append_revocations},
        revoke,
        schema::{audit_events, service_accounts, service_keys},
        services::directory::{PAGE, Versioned, next_version},
        write,
    },
};

/// Keys whose last use one statement writes.
const USES: usize = 500;

// `NULL` is written out, so that the statement is always the same.
#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = service_keys, treat_none_as_default_value = false)]
pub(in crate::store) struct ServiceKeyRow {
    id: String,
    service_account_id: String,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    version: i64,
}

impl ServiceKeyRow {
    fn new(key: &ServiceKey, version: i64) -> Self {
        Self {
            id: key.id.to_string(),
            service_account_id: key.account_id.to_string(),
            created_at: key.created_at.micros(),
            expires_at: key.expires_at.micros(),
            revoked_at: key.revoked_at.map(Timestamp::micros),
            last_used_at: key.last_used_at.map(Timestamp::micros),
            version,
        }
    }
}

impl TryFrom<ServiceKeyRow> for Versioned<ServiceKey> {
    type Error = StoreError;

    fn try_from(row: ServiceKeyRow) -> Result<Self, StoreError> {
        let item = ServiceKey {
            id: parse_service_key_id(&row.id)?,
            account_id: parse_service_account_id(&row.service_account_id)?,
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: Timestamp::from_micros(row.expires_at),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
        };
        Ok(Self {
            item,
            version: row.version,
        })
    }
}

/// A key that was revoked, with the tokens that were issued for it.
#[derive(Clone, Debug)]
pub struct RevokedKey {
    /// The key after the change.
    pub key: Versioned<ServiceKey>,
    /// What tells every replica.
    pub revocations: Vec<PositionedRevocation>,
}

impl Store {
    /// Creates a key. Returns its version; `None` when there is no such service account.
    pub async fn insert_service_key(
        &self,
        key: &ServiceKey,
        event: &AuditEvent,
    ) -> Result<Option<i64>, StoreError> {
        let mut event = event.to_row_for(key.account_id.into());
        event.session_id = Some(key.id.to_string());
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let version = next_version!(conn);
                let account: Option<String> = service_accounts::table
                    .find(key.account_id.to_string())
                    .select(service_accounts::id)
                    .get_result(conn)
                    .await
                    .optional()?;
                if account.is_none() {
                    return Ok(None);
                }
                diesel::insert_into(service_keys::table)
                    .values(&ServiceKeyRow::new(key, version))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                conn.announce_change().await?;
                Ok(Some(version))
            })
            .await
        })
    }

    /// The key with that id, revoked or not.
    pub async fn find_service_key(
        &self,
        id: ServiceKeyId,
    ) -> Result<Option<Versioned<ServiceKey>>, StoreError> {
        let found: Option<ServiceKeyRow> = read!(self, |conn| {
            Ok(service_keys::table
                .find(id.to_string())
                .select(ServiceKeyRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(Versioned::try_from).transpose()
    }

    /// A page of the keys that have changed after `version`, behind the key `after`, in the order of their ids; without those
    /// that have been expired for long at `now`. Empty after the last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn service_keys_since(
        &self,
        version: i64,
        now: Timestamp,
        after: &str,
    ) -> Result<Vec<Versioned<ServiceKey>>, StoreError> {
        let oldest_kept = (now - EXPIRED_KEYS).micros();
        let rows: Vec<ServiceKeyRow> = read!(self, |conn| {
            Ok(service_keys::table
                .filter(service_keys::version.gt(version))
                .filter(service_keys::expires_at.gt(oldest_kept))
                .filter(service_keys::id.gt(after))
                .order(service_keys::id)
                .limit(PAGE)
                .select(ServiceKeyRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(Versioned::try_from).collect()
    }

    /// The keys of a service account that are not revoked, the oldest first: `limit` of them at most, from the one behind
    /// `after` on.
    pub async fn list_service_keys(
        &self,
        account: ServiceAccountId,
        after: Option<ServiceKeyId>,
        limit: i64,
    ) -> Result<Vec<ServiceKey>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let rows: Vec<ServiceKeyRow> = read!(self, |conn| {
            Ok(service_keys::table
                .filter(service_keys::service_account_id.eq(account.to_string()))
                .filter(service_keys::revoked_at.is_null())
                .filter(service_keys::id.gt(&after))
                .order(service_keys::id)
                .limit(limit)
                .select(ServiceKeyRow::as_select())
                .load(conn)
                .await?)
        })?;
        let keys = rows
            .into_iter()
            .map(|row| Ok(Versioned::try_from(row)?.item));
        keys.collect()
    }

    /// Revokes a key and the tokens that were issued for it, which is remembered for so long. `None` when it is revoked
    /// already or does not exist.
    pub async fn revoke_service_key(
        &self,
        id: ServiceKeyId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<RevokedKey>, StoreError> {
        let mut event = event.to_row();
        event.session_id = Some(id.to_string());
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let version = next_version!(conn);
                let live = service_keys::table
                    .find(id.to_string())
                    .filter(service_keys::revoked_at.is_null());
                let revoked: Option<ServiceKeyRow> = diesel::update(live)
                    .set((
                        service_keys::revoked_at.eq(now.micros()),
                        service_keys::version.eq(version),
                    ))
                    .returning(ServiceKeyRow::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(revoked) = revoked else {
                    return Ok(None);
                };
                event.user_id = Some(revoked.service_account_id.clone());
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                let revocation = Revocation::of_session(id.into(), now, now + remember);
                Ok(Some(RevokedKey {
                    key: revoked.try_into()?,
                    revocations: append_revocations!(conn, vec![revocation]),
                }))
            })
            .await
        })
    }

    /// Records when keys were last used. A later use that is recorded already stays.
    pub async fn record_key_uses(
        &self,
        uses: &[(ServiceKeyId, Timestamp)],
    ) -> Result<(), StoreError> {
        // They are given to the minute, so there are few different times.
        let mut by_time: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (id, at) in uses {
            by_time.entry(at.micros()).or_default().push(id.to_string());
        }
        for (at, ids) in by_time {
            for ids in ids.chunks(USES) {
                let unused_since = service_keys::last_used_at
                    .is_null()
                    .or(service_keys::last_used_at.lt(at));
                let keys = service_keys::table
                    .filter(service_keys::id.eq_any(ids))
                    .filter(unused_since);
                write!(self, |conn| {
                    diesel::update(keys)
                        .set(service_keys::last_used_at.eq(at))
                        .execute(conn)
                        .await?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}
