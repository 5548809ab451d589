//! Whether this program fits the schema it finds, and which migrations are missing.
//!
//! A release only adds to the schema, so that the version before runs beside it: during a rolling upgrade, and after a
//! rollback of the binary. The table `schema_compatibility` names the earliest migration that a program must know; a
//! migration that takes something away raises it, and so does the first second factor.

use std::collections::BTreeSet;

use crate::store::StoreError;

/// Reads the earliest migration that a program must know.
pub(super) const LEAST_MIGRATION: &str = "SELECT least_migration FROM schema_compatibility";

/// The migration that a program must know where a user has a second factor: one from before would let that user in by the
/// password alone.
pub(super) const FACTORS: &str = "20261128000012";

/// Has programs that do not know a migration refuse to start from the commit on. Versions are digits of one length, so
/// their order is that of their texts; where a later one is demanded already, nothing is locked or written.
macro_rules! demand_migration {
    ($conn:expr, $version:expr) => {{
        use $crate::store::schema::schema_compatibility;
        let earlier =
            schema_compatibility::table.filter(schema_compatibility::least_migration.lt($version));
        diesel::update(earlier)
            .set(schema_compatibility::least_migration.eq($version))
            .execute($conn)
            .await?
    }};
}

pub(super) use demand_migration;

/// What a program makes of the schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The versions that are still to be applied, in their order. Empty: the schema is that of this program.
    Missing(Vec<String>),
    /// The schema has migrations that this program does not know, this one among them.
    Newer(String),
}

/// Compares the migrations of this program, in their order, with those of the database.
pub(super) fn compare(known: &[String], applied: &BTreeSet<String>) -> Fit {
    match applied.iter().find(|version| !known.contains(version)) {
        Some(newer) => Fit::Newer(newer.clone()),
        None => Fit::Missing(
            known
                .iter()
                .filter(|version| !applied.contains(*version))
                .cloned()
                .collect(),
        ),
    }
}

/// Whether this program may use a schema that is newer; `least` is what `schema_compatibility` says, if it is there.
///
/// # Errors
/// [`StoreError::NewerSchema`] with `newer`.
pub(super) fn check_newer(
    known: &[String],
    applied: &BTreeSet<String>,
    newer: String,
    least: Option<&str>,
) -> Result<(), StoreError> {
    let suits = least.is_some_and(|least| known.iter().any(|version| version == least));
    // With a gap among its own, the schema belongs to another line of development.
    if !suits || known.iter().any(|version| !applied.contains(version)) {
        return Err(StoreError::NewerSchema(newer));
    }
    tracing::warn!(
        migration = newer,
        "the database has migrations of a newer version, which is compatible with this version"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<T: FromIterator<String>>(versions: &[&str]) -> T {
        versions.iter().map(|&version| version.to_owned()).collect()
    }

    #[test]
    fn missing_migrations_are_listed_in_their_order() {
        let fit = compare(&texts::<Vec<_>>(&["1", "2", "3"]), &texts(&["2"]));
        assert_eq!(fit, Fit::Missing(texts(&["1", "3"])));
    }

    #[test]
    fn a_newer_schema_is_used_only_when_it_says_so_and_has_all_of_ours() {
        let known: Vec<String> = texts(&["1", "2"]);
        let check = |applied: &[&str], least: Option<&str>| {
            check_newer(&known, &texts(applied), "3".to_owned(), least).is_ok()
        };
        assert_eq!(
            compare(&known, &texts(&["1", "2", "3"])),
            Fit::Newer("3".to_owned())
        );
        assert!(check(&["1", "2", "3"], Some("2")));
        assert!(check(&["1", "2", "3"], Some("1")));
        assert!(!check(&["1", "2", "3"], Some("3")));
        assert!(!check(&["1", "2", "3"], None));
        assert!(!check(&["1", "3"], Some("1")));
    }
}
