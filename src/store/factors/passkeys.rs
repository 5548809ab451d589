//! Passkeys as they are stored.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    domain::{DeviceLabel, Factor, FactorId, FactorKind, UserId},
    store::{
        Store, StoreError,
        ids::{parse_factor_id, parse_user_id},
        read,
        schema::passkeys,
    },
};

/// A passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPasskey {
    /// Names the factor.
    pub id: FactorId,
    /// Whose it is.
    pub user_id: UserId,
    /// The id that the authenticator gave it.
    pub credential_id: Vec<u8>,
    /// A COSE_Key (RFC 9052), the bytes that the authenticator sent.
    pub public_key: Vec<u8>,
    /// The counter of its last use.
    pub sign_count: u32,
    /// Whether it may be copied to other devices of its user (flag BE).
    pub backup_eligible: bool,
    /// Whether it was, at its last use (flag BS).
    pub backed_up: bool,
    /// The model of the authenticator; zero where it is not told.
    pub aaguid: [u8; 16],
    /// How the authenticator is reached, single spaces between.
    pub transports: String,
    /// The user's name for it.
    pub label: DeviceLabel,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last accepted.
    pub last_used_at: Option<Timestamp>,
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = passkeys, treat_none_as_default_value = false)]
pub(in crate::store) struct PasskeyRow {
    id: String,
    user_id: String,
    credential_id: Vec<u8>,
    public_key: Vec<u8>,
    sign_count: i64,
    backup_eligible: i32,
    backed_up: i32,
    aaguid: Vec<u8>,
    transports: String,
    label: String,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl From<&StoredPasskey> for PasskeyRow {
    fn from(passkey: &StoredPasskey) -> Self {
        Self {
            id: passkey.id.to_string(),
            user_id: passkey.user_id.to_string(),
            credential_id: passkey.credential_id.clone(),
            public_key: passkey.public_key.clone(),
            sign_count: passkey.sign_count.into(),
            backup_eligible: passkey.backup_eligible.into(),
            backed_up: passkey.backed_up.into(),
            aaguid: passkey.aaguid.to_vec(),
            transports: passkey.transports.clone(),
            label: passkey.label.as_str().to_owned(),
            created_at: passkey.created_at.micros(),
            last_used_at: passkey.last_used_at.map(Timestamp::micros),
        }
    }
}

impl TryFrom<PasskeyRow> for StoredPasskey {
    type Error = StoreError;

    fn try_from(row: PasskeyRow) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt(format!("passkey {}", row.id));
        Ok(Self {
            id: parse_factor_id(&row.id)?,
            user_id: parse_user_id(&row.user_id)?,
            sign_count: u32::try_from(row.sign_count).map_err(|_| corrupt())?,
            backup_eligible: row.backup_eligible != 0,
            backed_up: row.backed_up != 0,
            aaguid: row.aaguid.as_slice().try_into().map_err(|_| corrupt())?,
            credential_id: row.credential_id,
            public_key: row.public_key,
            transports: row.transports,
            label: DeviceLabel::from_stored(row.label),
            created_at: Timestamp::from_micros(row.created_at),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
        })
    }
}

impl From<&StoredPasskey> for Factor {
    fn from(passkey: &StoredPasskey) -> Self {
        Self {
            id: passkey.id,
            kind: FactorKind::Passkey,
            label: passkey.label.clone(),
            created_at: passkey.created_at,
            last_used_at: passkey.last_used_at,
        }
    }
}

impl Store {
    /// The passkeys of a user, the oldest first.
    pub async fn passkeys_of(&self, user: UserId) -> Result<Vec<StoredPasskey>, StoreError> {
        let rows: Vec<PasskeyRow> = read!(self, |conn| {
            Ok(passkeys::table
                .filter(passkeys::user_id.eq(user.to_string()))
                .order(passkeys::id)
                .select(PasskeyRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(StoredPasskey::try_from).collect()
    }

    /// The user's passkey with that id of its authenticator.
    pub async fn find_passkey(
        &self,
        user: UserId,
        credential_id: &[u8],
    ) -> Result<Option<StoredPasskey>, StoreError> {
        let found: Option<PasskeyRow> = read!(self, |conn| {
            Ok(passkeys::table
                .filter(passkeys::credential_id.eq(credential_id))
                .filter(passkeys::user_id.eq(user.to_string()))
                .select(PasskeyRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(StoredPasskey::try_from).transpose()
    }
}
