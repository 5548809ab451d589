//! Authenticator apps as they are stored: the secret is sealed by a master key.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    domain::{DeviceLabel, Factor, FactorId, FactorKind, UserId},
    store::{Store, StoreError, ids::parse_factor_id, read, schema::totp_factors, write},
};

/// An authenticator app.
#[derive(Clone, Debug)]
pub struct StoredTotp {
    /// Names the factor.
    pub id: FactorId,
    /// The secret under AES-256-GCM.
    pub sealed_secret: Vec<u8>,
    /// The version of the master key that sealed it.
    pub sealed_by: u8,
    /// The newest step whose code was accepted.
    pub last_used_step: i64,
    /// When it was confirmed.
    pub created_at: Timestamp,
    /// When a code was last accepted, since it was confirmed.
    pub last_used_at: Option<Timestamp>,
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = totp_factors, treat_none_as_default_value = false)]
pub(in crate::store) struct TotpRow {
    id: String,
    user_id: String,
    sealed_secret: Vec<u8>,
    sealed_by: i32,
    last_used_step: i64,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl TotpRow {
    pub(in crate::store) fn of(totp: &StoredTotp, user: UserId) -> Self {
        Self {
            id: totp.id.to_string(),
            user_id: user.to_string(),
            sealed_secret: totp.sealed_secret.clone(),
            sealed_by: totp.sealed_by.into(),
            last_used_step: totp.last_used_step,
            created_at: totp.created_at.micros(),
            last_used_at: totp.last_used_at.map(Timestamp::micros),
        }
    }
}

impl TryFrom<TotpRow> for StoredTotp {
    type Error = StoreError;

    fn try_from(row: TotpRow) -> Result<Self, StoreError> {
        Ok(Self {
            sealed_by: u8::try_from(row.sealed_by)
                .map_err(|_| StoreError::Corrupt(format!("master key {}", row.sealed_by)))?,
            id: parse_factor_id(&row.id)?,
            sealed_secret: row.sealed_secret,
            last_used_step: row.last_used_step,
            created_at: Timestamp::from_micros(row.created_at),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
        })
    }
}

impl From<&StoredTotp> for Factor {
    fn from(totp: &StoredTotp) -> Self {
        Self {
            id: totp.id,
            kind: FactorKind::Totp,
            label: DeviceLabel::default(),
            created_at: totp.created_at,
            last_used_at: totp.last_used_at,
        }
    }
}

impl Store {
    /// Up to `limit` secrets that another master key than `version` sealed, behind the factor `after`.
    pub async fn totp_secrets_of_other_keys(
        &self,
        version: u8,
        after: Option<FactorId>,
        limit: i64,
    ) -> Result<Vec<StoredTotp>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let rows: Vec<TotpRow> = read!(self, |conn| {
            Ok(totp_factors::table
                .filter(totp_factors::sealed_by.ne(i32::from(version)))
                .filter(totp_factors::id.gt(after))
                .order(totp_factors::id)
                .limit(limit)
                .select(TotpRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(StoredTotp::try_from).collect()
    }

    /// Replaces the sealed form of a secret that master key `from` sealed. Returns whether this call did.
    pub async fn reseal_totp_secret(
        &self,
        id: FactorId,
        from: u8,
        sealed_secret: &[u8],
        sealed_by: u8,
    ) -> Result<bool, StoreError> {
        let sealed_before = totp_factors::table
            .filter(totp_factors::id.eq(id.to_string()))
            .filter(totp_factors::sealed_by.eq(i32::from(from)));
        let changed = write!(self, |conn| {
            Ok(diesel::update(sealed_before)
                .set((
                    totp_factors::sealed_secret.eq(sealed_secret),
                    totp_factors::sealed_by.eq(i32::from(sealed_by)),
                ))
                .execute(conn)
                .await?)
        })?;
        Ok(changed > 0)
    }

    /// How many secrets this master key sealed; of all keys for `None`.
    pub async fn count_totp_secrets(&self, version: Option<u8>) -> Result<i64, StoreError> {
        let (least, greatest) = version_range(version);
        read!(self, |conn| {
            Ok(totp_factors::table
                .filter(totp_factors::sealed_by.between(least, greatest))
                .count()
                .get_result(conn)
                .await?)
        })
    }
}

/// The versions that a count is about.
pub(in crate::store) fn version_range(version: Option<u8>) -> (i32, i32) {
    match version {
        Some(version) => (version.into(), version.into()),
        None => (0, i32::MAX),
    }
}
