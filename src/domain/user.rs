//! A user and the roles that its access tokens carry.

use super::{DisplayName, Email, UserId};
use crate::clock::Timestamp;

/// One role: 1 to 64 characters of `a-z`, `0-9`, `_`, `-`, `.` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

impl Role {
    /// Checks the name of a role; `None` when it breaks the rule.
    pub fn parse(name: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.:".contains(&b);
        let well_formed = (1..=64).contains(&name.len()) && name.bytes().all(legal);
        well_formed.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A set of roles: sorted, without duplicates, stored as one line separated by single spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Sorts the roles and removes duplicates.
    pub fn new(mut roles: Vec<Role>) -> Self {
        roles.sort();
        roles.dedup();
        Self(roles)
    }

    /// Reads the stored line; words that are no roles are left out.
    pub fn from_stored(line: &str) -> Self {
        Self::new(line.split(' ').filter_map(Role::parse).collect())
    }

    /// The line to store.
    pub fn to_stored(&self) -> String {
        self.names().collect::<Vec<_>>().join(" ")
    }

    /// These roles and one more.
    pub fn with(mut self, role: Role) -> Self {
        self.0.push(role);
        Self::new(self.0)
    }

    /// These roles except one.
    pub fn without(mut self, role: &Role) -> Self {
        self.0.retain(|own| own != role);
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Role::as_str)
    }
}

/// A person or service that can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Identifies the user; it never changes.
    pub id: UserId,
    /// The address as registered.
    pub email: Email,
    /// The display name.
    pub display_name: DisplayName,
    /// When the user verified `email`.
    pub email_verified_at: Option<Timestamp>,
    /// The roles of new access tokens.
    pub roles: Roles,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When the user was last changed.
    pub updated_at: Timestamp,
    /// Since when the user is disabled: neither Login nor Refresh succeeds.
    pub disabled_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_stored_sorted_and_without_duplicates() {
        let roles = Roles::new(
            ["verifier", "admin", "admin"]
                .iter()
                .map(|name| Role::parse(name).unwrap())
                .collect(),
        );
        assert_eq!(roles.to_stored(), "admin verifier");
        assert_eq!(Roles::from_stored(&roles.to_stored()), roles);
        assert_eq!(Roles::from_stored(""), Roles::default());
    }

    #[test]
    fn adding_a_role_twice_keeps_one_and_removing_it_removes_it() {
        let admin = Role::parse("admin").unwrap();
        let roles = Roles::from_stored("verifier").with(admin.clone());
        assert_eq!(roles.to_stored(), "admin verifier");
        assert_eq!(roles.clone().with(admin.clone()), roles);
        assert_eq!(roles.without(&admin).to_stored(), "verifier");
    }

    #[test]
    fn a_role_with_a_separator_or_another_forbidden_character_is_refused() {
        for name in ["", "two words", "UPPER", "a\0b", &"x".repeat(65)] {
            assert_eq!(Role::parse(name), None);
        }
    }
}
