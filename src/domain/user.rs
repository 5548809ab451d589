//! A user and the roles that its access tokens carry.

use super::{DisplayName, Email, FieldViolation, UserId, ViolationReason};
use crate::clock::Timestamp;

/// One role: 1 to 64 characters of `a-z`, `0-9`, `_`, `-`, `.` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

/// The roles that open services of Countersign itself: AdminService and WatchRevocations.
const OWN: [&str; 2] = ["admin", "verifier"];

impl Role {
    /// The rule for its name.
    pub const RULE: &str = "must have 1 to 64 characters a-z, 0-9, _, -, . and :";

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

    /// Whether it gives access to Countersign's own services.
    pub fn gives_access_to_countersign(&self) -> bool {
        OWN.contains(&self.as_str())
    }
}

/// A set of roles: sorted, without duplicates, stored as one line separated by single spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// The most that a user or service account can have: every access token contains all of them.
    const MOST: usize = 64;

    /// Checks the names of all roles of a user or service account.
    ///
    /// # Errors
    /// There are too many, or one breaks the rule.
    pub fn parse(field: &'static str, names: &[String]) -> Result<Self, FieldViolation> {
        if names.len() > Self::MOST {
            let rule = format!("must be at most {} roles", Self::MOST);
            return Err(FieldViolation::new(field, ViolationReason::TooLong, rule));
        }
        let roles: Option<Vec<Role>> = names.iter().map(|name| Role::parse(name)).collect();
        roles.map(Self::new).ok_or_else(|| {
            let rule = format!("each {}", Role::RULE);
            FieldViolation::new(field, ViolationReason::Malformed, rule)
        })
    }

    /// Sorts the roles and removes duplicates.
    pub fn new(mut roles: Vec<Role>) -> Self {
        roles.sort();
        roles.dedup();
        // Those of service accounts stay in memory.
        roles.shrink_to_fit();
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

    /// Whether one of them gives access to Countersign's own services.
    pub fn gives_access_to_countersign(&self) -> bool {
        self.0.iter().any(Role::gives_access_to_countersign)
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
    fn more_than_64_roles_and_an_invalid_name_are_refused() {
        let parse = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            Roles::parse("roles", &names).map_err(|violation| violation.reason)
        };
        assert_eq!(parse(&["b", "a", "b"]), Ok(Roles::from_stored("a b")));
        assert_eq!(parse(&["a"; 64]), Ok(Roles::from_stored("a")));
        assert_eq!(parse(&["a"; 65]), Err(ViolationReason::TooLong));
        assert_eq!(parse(&["a", "B"]), Err(ViolationReason::Malformed));
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
