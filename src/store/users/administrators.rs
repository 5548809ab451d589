//! Keeps at least one enabled user with the role `admin`: without one nobody could call AdminService.

use crate::domain::Roles;

/// The condition of the partial index `users_administrators`, in just its words: a query that has it can use the index.
/// SQLite's LIKE ignores the case of ASCII letters, so it may select more users than those with the role.
pub(in crate::store) const IN_ADMINISTRATORS_INDEX: &str =
    "' ' || users.roles || ' ' LIKE '% admin %'";

/// The role that opens AdminService.
pub(in crate::store) const ADMINISTRATOR: &str = "admin";

/// Whether these roles open AdminService.
pub(in crate::store) fn is_administrator(roles: &Roles) -> bool {
    roles.names().any(|name| name == ADMINISTRATOR)
}

/// Fails the transaction, which has locked the row of an enabled administrator and is about to take the user away, when
/// there is no other one.
///
/// Two administrators who demote each other lock different rows, and neither would see the other's change. So both change
/// one row first: the second waits for the commit of the first, and then counts anew (a statement of a READ COMMITTED
/// transaction sees what was committed before it; SQLite has one writer).
macro_rules! keep_an_administrator {
    ($conn:expr, $user:expr) => {{
        use $crate::store::schema::administrator_guard;
        diesel::update(administrator_guard::table)
            .set(administrator_guard::changes.eq(administrator_guard::changes + 1))
            .execute($conn)
            .await?;
        let is_other_administrator = diesel::dsl::sql::<diesel::sql_types::Bool>(
            $crate::store::users::administrators::IN_ADMINISTRATORS_INDEX,
        );
        let other: Option<String> = users::table
            .filter(is_other_administrator)
            .filter(users::disabled_at.is_null())
            // Not one who is invited and has no password yet.
            .filter(users::password_hash.not_like("$none$%"))
            .filter(users::id.ne($user.to_string()))
            .select(users::id)
            .limit(1)
            .get_result($conn)
            .await
            .optional()?;
        if other.is_none() {
            return Err(StoreError::LastAdministrator);
        }
    }};
}

pub(in crate::store) use keep_an_administrator;
