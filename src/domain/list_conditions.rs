//! What the lists of users and of audit events can be filtered by.

use std::{net::IpAddr, str::FromStr, time::UNIX_EPOCH};

use super::{
    Email, FieldViolation, Role, SessionId, UserId, ViolationReason,
    filter::{Comparison, Operator, parse_filter},
};
use crate::clock::Timestamp;

/// One condition on a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCondition {
    /// `email = "…"`: the user of this mailbox, however it is spelt.
    Email(Email),
    /// `roles:admin`
    HasRole(Role),
    /// `disabled = true`
    Disabled(bool),
    /// `email_verified = true`
    EmailVerified(bool),
    /// `create_time >= 2026-11-24T00:00:00Z`
    Created(TimeBound),
}

/// One condition on an audit event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditCondition {
    /// `kind = logged_in`
    Kind(TextBound),
    /// `subject_id = …`
    Subject(UserId),
    /// `actor_id = …`
    Actor(UserId),
    /// `session_id = …`
    Session(SessionId),
    /// `client_ip = …`
    ClientIp(TextBound),
    /// `request_id = …`
    RequestId(String),
    /// `event_time >= 2026-11-24T00:00:00Z`
    Time(TimeBound),
}

/// A text that a field has or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextBound {
    /// Whether the field must be different.
    pub negated: bool,
    /// The text.
    pub text: String,
}

/// A bound of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// At this time or later.
    From(Timestamp),
    /// Before this time.
    Before(Timestamp),
}

/// Parses the filter of a list of users.
///
/// # Errors
/// It is no filter, or names a field, an operator or a value that there is not.
pub fn user_conditions(
    field: &'static str,
    text: &str,
) -> Result<Vec<UserCondition>, FieldViolation> {
    conditions(field, text, |comparison| {
        let value = comparison.value.as_str();
        Ok(match (comparison.field.as_str(), comparison.operator) {
            ("email", Operator::Equal) => UserCondition::Email(
                Email::parse(field, value).map_err(|_| "email must be compared with an address")?,
            ),
            ("roles", Operator::Has) => UserCondition::HasRole(
                Role::parse(value).ok_or("roles must be compared with the name of a role")?,
            ),
            ("disabled", Operator::Equal) => UserCondition::Disabled(flag(value)?),
            ("email_verified", Operator::Equal) => UserCondition::EmailVerified(flag(value)?),
            ("create_time", operator) => UserCondition::Created(time(operator, value)?),
            _ => {
                return Err(
                    "can compare email =, roles:, disabled =, email_verified =, create_time < <= > >=",
                );
            }
        })
    })
}

/// Parses the filter of a list of audit events.
///
/// # Errors
/// It is no filter, or names a field, an operator or a value that there is not.
pub fn audit_conditions(
    field: &'static str,
    text: &str,
) -> Result<Vec<AuditCondition>, FieldViolation> {
    conditions(field, text, |comparison| {
        let value = comparison.value.as_str();
        let words = |negated| TextBound {
            negated,
            text: value.to_owned(),
        };
        let address = |negated| TextBound {
            negated,
            text: address(value),
        };
        Ok(match (comparison.field.as_str(), comparison.operator) {
            ("kind", Operator::Equal) => AuditCondition::Kind(words(false)),
            ("kind", Operator::NotEqual) => AuditCondition::Kind(words(true)),
            ("subject_id", Operator::Equal) => AuditCondition::Subject(id(value)?),
            ("actor_id", Operator::Equal) => AuditCondition::Actor(id(value)?),
            ("session_id", Operator::Equal) => AuditCondition::Session(id(value)?),
            ("client_ip", Operator::Equal) => AuditCondition::ClientIp(address(false)),
            ("client_ip", Operator::NotEqual) => AuditCondition::ClientIp(address(true)),
            ("request_id", Operator::Equal) => AuditCondition::RequestId(value.to_owned()),
            ("event_time", operator) => AuditCondition::Time(time(operator, value)?),
            _ => {
                return Err(
                    "can compare kind and client_ip with = and !=, subject_id, actor_id, session_id and request_id with =, event_time with < <= > >=",
                );
            }
        })
    })
}

fn conditions<T>(
    field: &'static str,
    text: &str,
    read: impl Fn(&Comparison) -> Result<T, &'static str>,
) -> Result<Vec<T>, FieldViolation> {
    let comparisons = parse_filter(field, text)?;
    let read: Result<_, &str> = comparisons.iter().map(read).collect();
    read.map_err(|rule| FieldViolation::new(field, ViolationReason::Malformed, rule))
}

fn flag(value: &str) -> Result<bool, &'static str> {
    value
        .parse()
        .map_err(|_| "disabled and email_verified must be compared with true or false")
}

fn id<T: FromStr>(value: &str) -> Result<T, &'static str> {
    value
        .parse()
        .map_err(|_| "ids must be compared with a UUID in its hyphenated form")
}

/// An address in the form in which events have it, whatever its spelling; other text, such as `command line`, as it is.
fn address(value: &str) -> String {
    let address: Result<IpAddr, _> = value.parse();
    address.map_or_else(
        |_| value.to_owned(),
        |address| address.to_canonical().to_string(),
    )
}

fn time(operator: Operator, value: &str) -> Result<TimeBound, &'static str> {
    let parsed = humantime::parse_rfc3339(value)
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since_epoch = parsed
        .ok_or("times must be compared with RFC 3339 in UTC, such as 2026-11-24T00:00:00Z")?;
    let at = Timestamp::default() + since_epoch;
    let next = Timestamp::from_micros(at.micros().saturating_add(1));
    match operator {
        Operator::AtLeast => Ok(TimeBound::From(at)),
        Operator::Greater => Ok(TimeBound::From(next)),
        Operator::Less => Ok(TimeBound::Before(at)),
        Operator::AtMost => Ok(TimeBound::Before(next)),
        Operator::Equal | Operator::NotEqual | Operator::Has => {
            Err("times can be compared with < <= > and >=")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_is_read_with_its_operators() {
        let users = "email = Ada@Example.org AND roles:admin AND disabled = false AND email_verified = true \
                     AND create_time < 1970-01-01T00:00:01Z";
        let read = user_conditions("filter", users).unwrap();
        assert_eq!(read.len(), 5);
        let bound = TimeBound::Before(Timestamp::from_seconds(1));
        assert_eq!(read[4], UserCondition::Created(bound));
        let id = "01900000-0000-7000-8000-000000000000";
        let events = format!(
            "kind != logged_in AND subject_id = {id} AND actor_id = {id} AND session_id = {id} \
             AND client_ip = 2001:db8::1 AND request_id = \"r 1\" AND event_time > 1970-01-01T00:00:01Z"
        );
        let read = audit_conditions("filter", &events).unwrap();
        assert_eq!(read.len(), 7);
        let bound = TimeBound::From(Timestamp::from_micros(1_000_001));
        assert_eq!(read[6], AuditCondition::Time(bound));
    }

    #[test]
    fn all_forms_of_an_ip_address_are_equal() {
        for (spelling, stored) in [
            ("::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("2001:DB8:0::7", "2001:db8::7"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("\"command line\"", "command line"),
        ] {
            let read = audit_conditions("filter", &format!("client_ip = {spelling}")).unwrap();
            let [AuditCondition::ClientIp(bound)] = read.as_slice() else {
                panic!("{read:?}")
            };
            assert_eq!(bound.text, stored, "{spelling}");
        }
    }

    #[test]
    fn another_field_operator_or_value_is_refused() {
        for text in [
            "password = x",
            "email : ada@example.org",
            "email = nobody",
            "roles = admin",
            "roles:Admin",
            "disabled = 1",
            "create_time = 2026-11-24T00:00:00Z",
            "create_time > yesterday",
        ] {
            assert!(user_conditions("filter", text).is_err(), "{text}");
        }
        for text in [
            "details = x",
            "kind < a",
            "subject_id = ada",
            "subject_id != 01900000-0000-7000-8000-000000000000",
            "event_time >= 2026-11-24",
            "request_id = \"a\0\"",
        ] {
            assert!(audit_conditions("filter", text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_comparison_makes_the_parsers_panic(
            field in "email|roles|disabled|email_verified|create_time|kind|subject_id|client_ip|event_time",
            operator in "=|!=|<|<=|>|>=|:",
            value in "[0-9TZ:.-]{0,30}|\\PC{0,30}",
        ) {
            let text = format!("{field} {operator} \"{value}\"");
            let _ = user_conditions("filter", &text);
            let _ = audit_conditions("filter", &text);
        }
    }
}
