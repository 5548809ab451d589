//! Which master key a version number stands for: only what tells keys apart is kept, never a key.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::store::{
    Store, StoreError, read,
    schema::{master_keys, signing_keys},
    write,
};

impl Store {
    /// Whether anything in the database was ever made with a master key.
    pub async fn has_used_a_master_key(&self) -> Result<bool, StoreError> {
        read!(self, |conn| {
            let known: i64 = master_keys::table.count().get_result(conn).await?;
            let sealed: i64 = signing_keys::table.count().get_result(conn).await?;
            Ok(known + sealed > 0)
        })
    }

    /// The fingerprint under which a master key of that version was first used here; `fingerprint`,
    /// when this is the first time.
    pub async fn master_key_fingerprint(
        &self,
        version: u8,
        fingerprint: &str,
    ) -> Result<String, StoreError> {
        let version = i32::from(version);
        let known: Option<String> = read!(self, |conn| {
            Ok(master_keys::table
                .find(version)
                .select(master_keys::fingerprint)
                .get_result(conn)
                .await
                .optional()?)
        })?;
        if let Some(known) = known {
            return Ok(known);
        }
        let row = (
            master_keys::version.eq(version),
            master_keys::fingerprint.eq(fingerprint),
        );
        write!(self, |conn| {
            diesel::insert_into(master_keys::table)
                .values(row)
                .on_conflict_do_nothing()
                .execute(conn)
                .await?;
            // Read again: another replica may have been first, with another key.
            Ok(master_keys::table
                .find(version)
                .select(master_keys::fingerprint)
                .get_result(conn)
                .await?)
        })
    }
}
