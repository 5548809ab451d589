//! Service accounts. Each change is one transaction that begins by taking the next version of the directory, which
//! makes changes take turns, and ends by notifying the replicas.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{
        DisplayName, PositionedRevocation, Revocation, Roles, ServiceAccount, ServiceAccountChange,
        ServiceAccountId, ServiceAccountName,
    },
    store::{
        AuditEvent, Store, StoreError,
        ids::parse_service_account_id,
        read,
        revocations::{changes::Announce as _, records::append_revocations},
        revoke,
        schema::{audit_events, service_accounts, service_directory, service_keys},
        services::directory::{PAGE, Versioned, next_version},
        write,
    },
};

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = service_accounts, treat_none_as_default_value = false)]
pub(in crate::store) struct ServiceAccountRow {
    id: String,
    name: String,
    display_name: String,
    roles: String,
    audiences: String,
    act_for_users_at: String,
    created_at: i64,
    updated_at: i64,
    disabled_at: Option<i64>,
    version: i64,
}

impl ServiceAccountRow {
    fn new(account: &ServiceAccount, version: i64) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name.as_str().to_owned(),
            display_name: account.display_name.as_str().to_owned(),
            roles: account.roles.to_stored(),
            audiences: account.audiences.join(" "),
            act_for_users_at: account.act_for_users_at.join(" "),
            created_at: account.created_at.micros(),
            updated_at: account.updated_at.micros(),
            disabled_at: account.disabled_at.map(Timestamp::micros),
            version,
        }
    }
}

impl TryFrom<ServiceAccountRow> for Versioned<ServiceAccount> {
    type Error = StoreError;

    fn try_from(row: ServiceAccountRow) -> Result<Self, StoreError> {
        let names = |line: &str| {
            let mut names: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
            // Accounts stay in memory, and a collected vector has room for four at least.
            names.shrink_to_fit();
            names
        };
        let item = ServiceAccount {
            id: parse_service_account_id(&row.id)?,
            name: ServiceAccountName::from_stored(row.name),
            display_name: DisplayName::from_stored(row.display_name),
            roles: Roles::from_stored(&row.roles),
            audiences: names(&row.audiences),
            act_for_users_at: names(&row.act_for_users_at),
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
            disabled_at: row.disabled_at.map(Timestamp::from_micros),
        };
        Ok(Self {
            item,
            version: row.version,
        })
    }
}

/// A change that revoked the tokens of an account.
#[derive(Clone, Debug)]
pub struct RevokedAccount {
    /// The account after the change.
    pub account: Versioned<ServiceAccount>,
    /// What tells every replica.
    pub revocations: Vec<PositionedRevocation>,
}

impl Store {
    /// Creates a service account. Returns its version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn insert_service_account(
        &self,
        account: &ServiceAccount,
        event: &AuditEvent,
    ) -> Result<i64, StoreError> {
        let event = event.to_row_for(account.id.into());
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let version = next_version!(conn);
                diesel::insert_into(service_accounts::table)
                    .values(&ServiceAccountRow::new(account, version))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                conn.announce_change().await?;
                Ok(version)
            })
            .await
        })
    }

    /// The service account with that id.
    pub async fn find_service_account(
        &self,
        id: ServiceAccountId,
    ) -> Result<Option<Versioned<ServiceAccount>>, StoreError> {
        let found: Option<ServiceAccountRow> = read!(self, |conn| {
            Ok(service_accounts::table
                .find(id.to_string())
                .select(ServiceAccountRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(Versioned::try_from).transpose()
    }

    /// The service account with that name.
    pub async fn find_service_account_by_name(
        &self,
        name: &ServiceAccountName,
    ) -> Result<Option<ServiceAccount>, StoreError> {
        let found: Option<ServiceAccountRow> = read!(self, |conn| {
            Ok(service_accounts::table
                .filter(service_accounts::name.eq(name.as_str()))
                .select(ServiceAccountRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        let found = found.map(Versioned::try_from).transpose()?;
        Ok(found.map(|found| found.item))
    }

    /// A page of the service accounts that have changed after `version`, behind the account `after`, in the order of their
    /// ids. Empty after the last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn service_accounts_since(
        &self,
        version: i64,
        after: &str,
    ) -> Result<Vec<Versioned<ServiceAccount>>, StoreError> {
        let rows: Vec<ServiceAccountRow> = read!(self, |conn| {
            Ok(service_accounts::table
                .filter(service_accounts::version.gt(version))
                .filter(service_accounts::id.gt(after))
                .order(service_accounts::id)
                .limit(PAGE)
                .select(ServiceAccountRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(Versioned::try_from).collect()
    }

    /// Service accounts, the oldest first: `limit` of them at most, from the one behind `after` on.
    pub async fn list_service_accounts(
        &self,
        after: Option<ServiceAccountId>,
        limit: i64,
    ) -> Result<Vec<ServiceAccount>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let rows: Vec<ServiceAccountRow> = read!(self, |conn| {
            Ok(service_accounts::table
                .filter(service_accounts::id.gt(&after))
                .order(service_accounts::id)
                .limit(limit)
                .select(ServiceAccountRow::as_select())
                .load(conn)
                .await?)
        })?;
        let accounts = rows
            .into_iter()
            .map(|row| Ok(Versioned::try_from(row)?.item));
        accounts.collect()
    }

    /// Changes a service account. `None` when there is none. Nothing is written when nothing changes.
    pub async fn update_service_account(
        &self,
        id: ServiceAccountId,
        change: &ServiceAccountChange,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Option<Versioned<ServiceAccount>>, StoreError> {
        // Most calls that change nothing end here.
        let Some(found) = self.find_service_account(id).await? else {
            return Ok(None);
        };
        if change.apply(found.item.clone()) == found.item {
            return Ok(Some(found));
        }
        let event = event.to_row_for(id.into());
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                // From here on nobody else changes the account.
                let version = next_version!(conn);
                let found: Option<ServiceAccountRow> = service_accounts::table
                    .find(id.to_string())
                    .select(ServiceAccountRow::as_select())
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(found) = found else {
                    return Ok(None);
                };
                let before = Versioned::try_from(found)?.item;
                let changed = ServiceAccount {
                    updated_at: now,
                    ..change.apply(before)
                };
                let row = ServiceAccountRow::new(&changed, version);
                diesel::update(service_accounts::table.find(&row.id))
                    .set((
                        service_accounts::display_name.eq(&row.display_name),
                        service_accounts::roles.eq(&row.roles),
                        service_accounts::audiences.eq(&row.audiences),
                        service_accounts::act_for_users_at.eq(&row.act_for_users_at),
                        service_accounts::updated_at.eq(row.updated_at),
                        service_accounts::version.eq(version),
                    ))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                conn.announce_change().await?;
                Ok(Some(Versioned {
                    item: changed,
                    version,
                }))
            })
            .await
        })
    }

    /// Disables a service account and revokes its tokens, which is remembered for so long. `None` when it is disabled
    /// already or does not exist.
    pub async fn disable_service_account(
        &self,
        id: ServiceAccountId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<RevokedAccount>, StoreError> {
        let event = event.to_row_for(id.into());
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let version = next_version!(conn);
                let enabled = service_accounts::table
                    .find(id.to_string())
                    .filter(service_accounts::disabled_at.is_null());
                let disabled: Option<ServiceAccountRow> = diesel::update(enabled)
                    .set((
                        service_accounts::disabled_at.eq(now.micros()),
                        service_accounts::updated_at.eq(now.micros()),
                        service_accounts::version.eq(version),
                    ))
                    .returning(ServiceAccountRow::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(disabled) = disabled else {
                    return Ok(None);
                };
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                let revocation = Revocation::of_user(id.into(), now, now + remember);
                Ok(Some(RevokedAccount {
                    account: disabled.try_into()?,
                    revocations: append_revocations!(conn, vec![revocation]),
                }))
            })
            .await
        })
    }

    /// Enables a service account. `None` when it is enabled already or does not exist.
    pub async fn enable_service_account(
        &self,
        id: ServiceAccountId,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Option<Versioned<ServiceAccount>>, StoreError> {
        let event = event.to_row_for(id.into());
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let version = next_version!(conn);
                let disabled = service_accounts::table
                    .find(id.to_string())
                    .filter(service_accounts::disabled_at.is_not_null());
                let enabled: Option<ServiceAccountRow> = diesel::update(disabled)
                    .set((
                        service_accounts::disabled_at.eq(None::<i64>),
                        service_accounts::updated_at.eq(now.micros()),
                        service_accounts::version.eq(version),
                    ))
                    .returning(ServiceAccountRow::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(enabled) = enabled else {
                    return Ok(None);
                };
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                conn.announce_change().await?;
                Ok(Some(enabled.try_into()?))
            })
            .await
        })
    }

    /// Deletes a service account with its keys and revokes its tokens, which is remembered for so long. `None` when there
    /// is none.
    pub async fn delete_service_account(
        &self,
        id: ServiceAccountId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<Vec<PositionedRevocation>>, StoreError> {
        let event = event.to_row_for(id.into());
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                next_version!(conn);
                let keys =
                    service_keys::table.filter(service_keys::service_account_id.eq(id.to_string()));
                diesel::delete(keys).execute(conn).await?;
                let deleted = diesel::delete(service_accounts::table.find(id.to_string()))
                    .execute(conn)
                    .await?;
                if deleted == 0 {
                    return Ok(None);
                }
                diesel::update(service_directory::table)
                    .set(service_directory::deleted_version.eq(service_directory::version))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                let revocation = Revocation::of_user(id.into(), now, now + remember);
                Ok(Some(append_revocations!(conn, vec![revocation])))
            })
            .await
        })
    }
}
