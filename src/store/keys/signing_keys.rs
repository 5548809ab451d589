//! Signing keys, sealed by the master key: a copy of the database cannot sign.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    store::{
        AuditEvent, Store, StoreError, read,
        revocations::changes::Announce as _,
        schema::{audit_events, signing_keys},
        write,
    },
};

/// A signing key as it is stored.
#[derive(Clone, Debug)]
pub struct StoredSigningKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The number of the key in the order of keys; unique.
    pub ordinal: i32,
    /// JOSE name of the algorithm it signs with.
    pub algorithm: String,
    /// PKCS #8 under AES-256-GCM; empty once the key is revoked.
    pub sealed_private_key: Vec<u8>,
    /// The version of the master key that sealed it.
    pub sealed_by: u8,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs.
    pub activates_at: Timestamp,
    /// Since when its tokens are refused.
    pub revoked_at: Option<Timestamp>,
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = signing_keys)]
struct SigningKeyRow {
    kid: String,
    ordinal: i32,
    algorithm: String,
    sealed_private_key: Vec<u8>,
    sealed_by: i32,
    created_at: i64,
    activates_at: i64,
    revoked_at: Option<i64>,
}

impl From<&StoredSigningKey> for SigningKeyRow {
    fn from(key: &StoredSigningKey) -> Self {
        Self {
            kid: key.kid.clone(),
            ordinal: key.ordinal,
            algorithm: key.algorithm.clone(),
            sealed_private_key: key.sealed_private_key.clone(),
            sealed_by: i32::from(key.sealed_by),
            created_at: key.created_at.micros(),
            activates_at: key.activates_at.micros(),
            revoked_at: key.revoked_at.map(Timestamp::micros),
        }
    }
}

impl TryFrom<SigningKeyRow> for StoredSigningKey {
    type Error = StoreError;

    fn try_from(row: SigningKeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            sealed_by: u8::try_from(row.sealed_by)
                .map_err(|_| StoreError::Corrupt(format!("master key {}", row.sealed_by)))?,
            kid: row.kid,
            ordinal: row.ordinal,
            algorithm: row.algorithm,
            sealed_private_key: row.sealed_private_key,
            created_at: Timestamp::from_micros(row.created_at),
            activates_at: Timestamp::from_micros(row.activates_at),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
        })
    }
}

impl Store {
    /// All signing keys, oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, StoreError> {
        let rows: Vec<SigningKeyRow> = read!(self, |conn| {
            Ok(signing_keys::table
                .order(signing_keys::ordinal)
                .select(SigningKeyRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(StoredSigningKey::try_from).collect()
    }

    /// Adds a key, unless another replica was first to take its ordinal, records `event` and notifies the
    /// other replicas. Returns whether it was added.
    pub async fn insert_signing_key(
        &self,
        key: &StoredSigningKey,
        event: Option<&AuditEvent>,
    ) -> Result<bool, StoreError> {
        self.add_signing_key(key, event, None).await
    }

    /// Adds a key and revokes all before it, wiping their private keys, in one transaction. Returns
    /// `false`, and changes nothing, when another replica was first to take the ordinal.
    ///
    /// The insert comes first: while it waits for its commit no replica can take a later ordinal, so every
    /// key there is has an earlier one.
    pub async fn replace_signing_keys(
        &self,
        key: &StoredSigningKey,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let revoked_at = Some(key.created_at.micros());
        self.add_signing_key(key, Some(event), revoked_at).await
    }

    /// Adds a key, and revokes all earlier ones if `revoke_earlier_at` says when.
    async fn add_signing_key(
        &self,
        key: &StoredSigningKey,
        event: Option<&AuditEvent>,
        revoke_earlier_at: Option<i64>,
    ) -> Result<bool, StoreError> {
        let row = SigningKeyRow::from(key);
        let event = event.map(AuditEvent::to_row);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let inserted = diesel::insert_into(signing_keys::table)
                    .values(&row)
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                if inserted == 0 {
                    return Ok(false);
                }
                if revoke_earlier_at.is_some() {
                    let earlier = signing_keys::table
                        .filter(signing_keys::ordinal.lt(row.ordinal))
                        .filter(signing_keys::revoked_at.is_null());
                    diesel::update(earlier)
                        .set((
                            signing_keys::revoked_at.eq(revoke_earlier_at),
                            signing_keys::sealed_private_key.eq(Vec::new()),
                        ))
                        .execute(conn)
                        .await?;
                }
                if let Some(event) = &event {
                    diesel::insert_into(audit_events::table)
                        .values(event)
                        .execute(conn)
                        .await?;
                }
                conn.announce_change().await?;
                Ok(true)
            })
            .await
        })
    }

    /// Replaces the sealed form of a live key that master key `from` sealed. Returns whether this call
    /// did; another replica may have been first.
    pub async fn reseal_signing_key(
        &self,
        kid: &str,
        from: u8,
        sealed_private_key: &[u8],
        sealed_by: u8,
    ) -> Result<bool, StoreError> {
        let sealed_before = signing_keys::table
            .filter(signing_keys::kid.eq(kid))
            .filter(signing_keys::sealed_by.eq(i32::from(from)))
            .filter(signing_keys::revoked_at.is_null());
        let changed = write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let changed = diesel::update(sealed_before)
                    .set((
                        signing_keys::sealed_private_key.eq(sealed_private_key),
                        signing_keys::sealed_by.eq(i32::from(sealed_by)),
                    ))
                    .execute(conn)
                    .await?;
                // A replica without that master key has to know that there are tokens which it cannot judge.
                conn.announce_change().await?;
                Ok(changed)
            })
            .await
        })?;
        Ok(changed > 0)
    }

    /// Deletes keys with their private keys.
    pub async fn delete_signing_keys(&self, kids: &[String]) -> Result<usize, StoreError> {
        let unused = signing_keys::table.filter(signing_keys::kid.eq_any(kids));
        write!(self, |conn| {
            Ok(diesel::delete(unused).execute(conn).await?)
        })
    }
}
