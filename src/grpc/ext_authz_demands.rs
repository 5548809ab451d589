//! What a route requires of the token: Envoy's context extensions, parsed.
//!
//! They are configuration, so unknown names and invalid values are refused: a misspelt `required_roles` must fail closed.

use std::{collections::HashMap, time::Duration};

use super::demands;
use crate::{
    auth::AuthError,
    domain::{FieldViolation, Role, ViolationReason},
};

/// The demands of one route.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RouteDemands {
    /// The audience that the token must be for; empty for any that this service issues for.
    pub audience: String,
    /// The roles that it must hold, all of them.
    pub required_roles: Vec<String>,
    /// How long ago the user may have been authenticated.
    pub max_auth_age: Option<Duration>,
    /// The values of `acr` of which it must have one.
    pub acceptable_acrs: Vec<String>,
    /// Whether a request without a token may pass, without an identity.
    pub optional: bool,
    /// Whether the upstream must not see the token.
    pub remove_authorization: bool,
}

impl RouteDemands {
    /// Parses the context extensions of a route.
    ///
    /// # Errors
    /// `InvalidFields` when a name is unknown or a value breaks its rule. An empty value breaks every rule.
    pub(super) fn parse(extensions: &HashMap<String, String>) -> Result<Self, AuthError> {
        let mut parsed = Self::default();
        for (name, value) in extensions {
            parsed.set(name, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AuthError> {
        match name {
            "audience" => self.audience = audience(value)?,
            "required_roles" => self.required_roles = roles(value)?,
            "max_auth_age" => self.max_auth_age = Some(seconds(value)?),
            "acceptable_acrs" => {
                self.acceptable_acrs = value.split(' ').map(str::to_owned).collect();
                demands::acceptable_acrs(&self.acceptable_acrs)?;
            }
            "optional" => self.optional = boolean("optional", value)?,
            "remove_authorization" => {
                self.remove_authorization = boolean("remove_authorization", value)?;
            }
            _ => {
                let rule = "has an entry with an unknown name";
                return Err(refused("context_extensions", rule));
            }
        }
        Ok(())
    }
}

fn audience(value: &str) -> Result<String, AuthError> {
    match value {
        "" => Err(refused("audience", "must not be empty")),
        value => Ok(value.to_owned()),
    }
}

fn roles(value: &str) -> Result<Vec<String>, AuthError> {
    let names = value.split(',').map(str::trim);
    let roles: Option<Vec<Role>> = names.map(Role::parse).collect();
    let roles =
        roles.ok_or_else(|| refused("required_roles", "must be role names, commas between"))?;
    Ok(roles.iter().map(|role| role.as_str().to_owned()).collect())
}

fn seconds(value: &str) -> Result<Duration, AuthError> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = Some(value)
        .filter(|_| digits)
        .and_then(|value| value.parse::<u32>().ok());
    seconds
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or_else(|| refused("max_auth_age", "must be a whole number of seconds"))
}

fn boolean(field: &'static str, value: &str) -> Result<bool, AuthError> {
    value
        .parse()
        .map_err(|_| refused(field, "must be true or false"))
}

fn refused(field: &'static str, rule: &'static str) -> AuthError {
    let violation = FieldViolation::new(field, ViolationReason::Malformed, rule);
    AuthError::InvalidFields(vec![violation])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<RouteDemands, AuthError> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RouteDemands::parse(&pairs.collect())
    }

    #[test]
    fn every_demand_is_read() {
        assert_eq!(parse(&[]).unwrap(), RouteDemands::default());
        let all = parse(&[
            ("audience", "orders"),
            ("required_roles", "admin, billing:read"),
            ("max_auth_age", "300"),
            (
                "acceptable_acrs",
                "urn:countersign:acr:2 urn:countersign:acr:phr",
            ),
            ("optional", "true"),
            ("remove_authorization", "true"),
        ]);
        let expected = RouteDemands {
            audience: "orders".to_owned(),
            required_roles: vec!["admin".to_owned(), "billing:read".to_owned()],
            max_auth_age: Some(Duration::from_secs(300)),
            acceptable_acrs: vec![
                "urn:countersign:acr:2".to_owned(),
                "urn:countersign:acr:phr".to_owned(),
            ],
            optional: true,
            remove_authorization: true,
        };
        assert_eq!(all.unwrap(), expected);
    }

    #[test]
    fn an_unknown_name_or_invalid_value_is_refused() {
        for (name, value) in [
            ("required_role", "admin"),
            ("Audience", "orders"),
            ("audience", ""),
            ("required_roles", ""),
            ("required_roles", "admin,"),
            ("required_roles", "Admin"),
            ("max_auth_age", ""),
            ("max_auth_age", "-1"),
            ("max_auth_age", "+1"),
            ("max_auth_age", "5m"),
            ("max_auth_age", "4294967296"),
            ("acceptable_acrs", ""),
            ("acceptable_acrs", "a  b"),
            ("optional", "yes"),
            ("optional", ""),
            ("remove_authorization", "TRUE"),
        ] {
            let refused = parse(&[(name, value)]);
            assert!(
                matches!(refused, Err(AuthError::InvalidFields(_))),
                "{name}={value}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_parser_panic(value in any::<String>()) {
            for name in ["audience", "required_roles", "max_auth_age", "acceptable_acrs", "optional", "other"] {
                let _ = parse(&[(name, &value)]);
            }
        }
    }
}
