//! A user and the roles that go into its access tokens.

use super::{DisplayName, Email, UserId};
use crate::clock::Timestamp;

/// One role: 1 to 64 characters of `a-z`, `0-9`, `_`, `-`, `.` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

impl Role {
    /// Takes the name of a role; `None` when it is not one.
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

/// A set of roles, sorted and without doubles; stored as one line with single spaces between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Sorts the roles and drops doubles.
    pub fn new(mut roles: Vec<Role>) -> Self {
        roles.sort();
        roles.dedup();
        Self(roles)
    }

    /// Reads the stored line back; what is no role in it is left out.
    pub fn from_stored(line: &str) -> Self {
        Self::new(line.split(' ').filter_map(Role::parse).collect())
    }

    /// The line to store.
    pub fn to_stored(&self) -> String {
        self.names().collect::<Vec<_>>().join(" ")
    }

    /// These and one more.
    pub fn with(mut self, role: Role) -> Self {
        self.0.push(role);
        Self::new(self.0)
    }

    /// These but for one.
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
    /// Names the user for good.
    pub id: UserId,
    /// The address as registered.
    pub email: Email,
    /// The name to show.
    pub display_name: DisplayName,
    /// When the user proved to receive mail at `email`.
    pub email_verified_at: Option<Timestamp>,
    /// The roles that new access tokens carry.
    pub roles: Roles,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When the user was last changed.
    pub updated_at: Timestamp,
    /// Since when the user is barred from logging in and refreshing.
    pub disabled_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_storage_sorted_and_without_doubles() {
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
    fn roles_come_and_go() {
        let admin = Role::parse("admin").unwrap();
        let roles = Roles::from_stored("verifier").with(admin.clone());
        assert_eq!(roles.to_stored(), "admin verifier");
        assert_eq!(roles.clone().with(admin.clone()), roles);
        assert_eq!(roles.without(&admin).to_stored(), "verifier");
    }

    #[test]
    fn a_role_cannot_smuggle_a_separator() {
        for name in ["", "two words", "UPPER", "a\0b", &"x".repeat(65)] {
            assert_eq!(Role::parse(name), None);
        }
    }
}
