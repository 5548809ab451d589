//! Checks once, at startup, that the role has the privileges on the tables.

use super::session::RawSession;
use crate::store::StoreError;

/// What a role may do.
pub(in crate::store) trait SessionRights {
    /// Refuses, naming the tables, when a privilege is missing.
    async fn check_rights(&self, tables: &[&str]) -> Result<(), StoreError>;
}

impl SessionRights for RawSession {
    async fn check_rights(&self, tables: &[&str]) -> Result<(), StoreError> {
        let names = tables.join("', '");
        // Those that are not there yet are made by a migration. The table of versions is only read.
        let question = format!(
            "SELECT current_user, name \
             FROM unnest(ARRAY['{names}', '__diesel_schema_migrations']) AS name \
             WHERE to_regclass(name) IS NOT NULL \
                AND NOT (has_table_privilege(to_regclass(name), 'SELECT') \
                    AND (name = '__diesel_schema_migrations' \
                        OR has_table_privilege(to_regclass(name), 'INSERT') \
                        AND has_table_privilege(to_regclass(name), 'UPDATE') \
                        AND has_table_privilege(to_regclass(name), 'DELETE')))"
        );
        let rows = self.rows(&question).await?;
        let Some(role) = rows.first().and_then(|row| row.first()) else {
            return Ok(());
        };
        let missing: Vec<_> = rows
            .iter()
            .filter_map(|row| row.get(1))
            .map(String::as_str)
            .collect();
        Err(StoreError::Refused(format!(
            "the role {role} may not read and write the tables {0}: \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {0} TO {role}",
            missing.join(", ")
        )))
    }
}
