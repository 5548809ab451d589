//! Service accounts and their keys: the identities of services, which have no password.

use std::sync::Arc;

use super::{DisplayName, FieldViolation, Roles, ServiceAccountId, ServiceKeyId, ViolationReason};
use crate::clock::Timestamp;

/// The unique name of a service account: a letter `a-z`, then up to 62 of `a-z`, `0-9` and `-`. Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccountName(Arc<str>);

impl ServiceAccountName {
    /// What a name must look like, for messages.
    pub const RULE: &str = "must be a letter a-z, then up to 62 of a-z, 0-9 and -";

    /// Checks the text of the request's `field`.
    ///
    /// # Errors
    /// It breaks the rule.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        if starts_well && text.len() <= 63 && text.bytes().all(legal) {
            return Ok(Self(text.into()));
        }
        let reason = match text.len() {
            0 => ViolationReason::Required,
            1..=63 => ViolationReason::Malformed,
            _ => ViolationReason::TooLong,
        };
        Err(FieldViolation::new(field, reason, Self::RULE))
    }

    /// A name read back from the database.
    pub fn from_stored(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The account of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Identifies the account; the claim `sub` of its tokens.
    pub id: ServiceAccountId,
    /// The unique name; it never changes.
    pub name: ServiceAccountName,
    /// A name for people.
    pub display_name: DisplayName,
    /// The roles of its tokens.
    pub roles: Roles,
    /// The audiences that its tokens may have; the first is that of a token for which none is asked.
    pub audiences: Vec<String>,
    /// The audiences at which it may act for users; none: it may not.
    pub act_for_users_at: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Since when it is disabled: no tokens are issued to it.
    pub disabled_at: Option<Timestamp>,
}

/// A key of a service account, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKey {
    /// Identifies the key; the claim `sid` of the tokens that are issued for it.
    pub id: ServiceKeyId,
    /// The account.
    pub account_id: ServiceAccountId,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when it is refused.
    pub expires_at: Timestamp,
    /// Since when it is refused, before that.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// What changes in a service account; `None` leaves a part as it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceAccountChange {
    /// The display name.
    pub display_name: Option<DisplayName>,
    /// The roles.
    pub roles: Option<Roles>,
    /// The audiences.
    pub audiences: Option<Vec<String>>,
    /// The audiences at which it may act for users.
    pub act_for_users_at: Option<Vec<String>>,
}

impl ServiceAccountChange {
    /// The account after the change, apart from the time.
    pub fn apply(&self, mut account: ServiceAccount) -> ServiceAccount {
        fn set<T: Clone>(to: &mut T, new: Option<&T>) {
            if let Some(new) = new {
                *to = new.clone();
            }
        }
        set(&mut account.display_name, self.display_name.as_ref());
        set(&mut account.roles, self.roles.as_ref());
        set(&mut account.audiences, self.audiences.as_ref());
        set(
            &mut account.act_for_users_at,
            self.act_for_users_at.as_ref(),
        );
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_breaks_the_rule_is_refused() {
        let longest = format!("a{}", "-".repeat(62));
        for name in ["a", "orders", "shop-2", "a--", longest.as_str()] {
            let parsed = ServiceAccountName::parse("name", name).unwrap();
            assert_eq!(parsed.as_str(), name);
        }
        let too_long = format!("{longest}-");
        for (name, reason) in [
            ("", ViolationReason::Required),
            ("2shop", ViolationReason::Malformed),
            ("-a", ViolationReason::Malformed),
            ("Orders", ViolationReason::Malformed),
            ("orders_2", ViolationReason::Malformed),
            ("orders ", ViolationReason::Malformed),
            ("ördérs", ViolationReason::Malformed),
            (too_long.as_str(), ViolationReason::TooLong),
        ] {
            let violation = ServiceAccountName::parse("name", name).unwrap_err();
            assert_eq!(violation.reason, reason, "{name:?}");
        }
    }
}
