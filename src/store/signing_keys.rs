//! Signing keys, sealed: the database alone cannot sign anything.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{Store, StoreError, changes::Announce as _, read, schema::signing_keys, write};
use crate::clock::Timestamp;

/// A signing key as it lies in the database.
#[derive(Clone, Debug)]
pub struct StoredSigningKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Counts the keys up; unique.
    pub ordinal: i32,
    /// JOSE name of the algorithm it signs with.
    pub algorithm: String,
    /// PKCS #8 under AES-256-GCM.
    pub sealed_private_key: Vec<u8>,
    /// The version of the master key that sealed it.
    pub sealed_by: u8,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs.
    pub activates_at: Timestamp,
    /// Since when its tokens are dead.
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

    /// Adds a key, unless another replica was first to take its ordinal. Returns whether it was added.
    pub async fn insert_signing_key(&self, key: &StoredSigningKey) -> Result<bool, StoreError> {
        let row = SigningKeyRow {
            kid: key.kid.clone(),
            ordinal: key.ordinal,
            algorithm: key.algorithm.clone(),
            sealed_private_key: key.sealed_private_key.clone(),
            sealed_by: i32::from(key.sealed_by),
            created_at: key.created_at.micros(),
            activates_at: key.activates_at.micros(),
            revoked_at: key.revoked_at.map(Timestamp::micros),
        };
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let inserted = diesel::insert_into(signing_keys::table)
                    .values(&row)
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                if inserted > 0 {
                    conn.announce_change().await?;
                }
                Ok(inserted > 0)
            })
            .await
        })
    }
}
