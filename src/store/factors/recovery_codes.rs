//! Recovery codes: MACs, replaced all at once, each used once.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::UserId,
    store::{
        AuditEvent, ChangeRefused, JudgedCaller, Store, StoreError,
        factors::{factor_changes::judge_again, totp_factors::version_range},
        read,
        schema::{audit_events, recovery_codes},
        write,
    },
};

/// New recovery codes of a user.
#[derive(Clone, Debug)]
pub struct NewRecoveryCodes {
    /// The MACs.
    pub macs: Vec<String>,
    /// The version of the master key.
    pub key_version: u8,
}

#[derive(Insertable)]
#[diesel(table_name = recovery_codes)]
pub(in crate::store) struct NewCodeRow {
    mac: String,
    user_id: String,
    key_version: i32,
    created_at: i64,
}

impl NewRecoveryCodes {
    pub(in crate::store) fn rows(&self, user: UserId, now: Timestamp) -> Vec<NewCodeRow> {
        let row = |mac: &String| NewCodeRow {
            mac: mac.clone(),
            user_id: user.to_string(),
            key_version: self.key_version.into(),
            created_at: now.micros(),
        };
        self.macs.iter().map(row).collect()
    }
}

/// Replaces all codes of a user inside a transaction.
macro_rules! replace_codes {
    ($conn:expr, $codes:expr, $user:expr, $now:expr) => {{
        use $crate::store::schema::recovery_codes;
        let user: $crate::domain::UserId = $user;
        let old = recovery_codes::table.filter(recovery_codes::user_id.eq(user.to_string()));
        diesel::delete(old).execute($conn).await?;
        for row in $codes.rows(user, $now) {
            diesel::insert_into(recovery_codes::table)
                .values(&row)
                .execute($conn)
                .await?;
        }
    }};
}

pub(in crate::store) use replace_codes;

impl Store {
    /// Replaces all recovery codes of the caller and records that, unless the caller is judged otherwise now.
    pub async fn replace_recovery_codes(
        &self,
        caller: JudgedCaller,
        codes: &NewRecoveryCodes,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Result<(), ChangeRefused>, StoreError> {
        let event = event.to_row_for(caller.user_id);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                if let Err(refused) = judge_again!(conn, caller, now) {
                    return Ok(Err(refused));
                }
                replace_codes!(conn, codes, caller.user_id, now);
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                Ok(Ok(()))
            })
            .await
        })
    }

    /// How many unused codes were made under this master key; under any for `None`.
    pub async fn count_recovery_codes(&self, version: Option<u8>) -> Result<i64, StoreError> {
        let (least, greatest) = version_range(version);
        read!(self, |conn| {
            Ok(recovery_codes::table
                .filter(recovery_codes::used_at.is_null())
                .filter(recovery_codes::key_version.between(least, greatest))
                .count()
                .get_result(conn)
                .await?)
        })
    }
}
