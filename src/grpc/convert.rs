//! Conversions between domain types and protobuf messages.

use std::str::FromStr;

use http::{HeaderMap, header::AUTHORIZATION};
use prost_types::Timestamp as PbTimestamp;
use tonic::metadata::MetadataMap;

use super::pb;
use crate::{
    auth::{AuthError, TokenPair},
    clock::Timestamp,
    domain::{
        FactorId, FieldViolation, ServiceAccountId, ServiceKeyId, SessionId, User, UserId,
        ViolationReason,
    },
    tokens::{AccessClaims, Actor, PrincipalType},
};

/// The most characters of `user-agent` that are kept.
const MAX_USER_AGENT: usize = 256;

/// Collects the violations of a request, so that the status can list all of them.
#[derive(Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    /// The parsed value; a violation is collected.
    pub(super) fn take<T>(&mut self, parsed: Result<T, FieldViolation>) -> Option<T> {
        parsed.map_err(|violation| self.0.push(violation)).ok()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Violations> for AuthError {
    fn from(violations: Violations) -> Self {
        Self::InvalidFields(violations.0)
    }
}

pub(super) fn user(user: &User) -> pb::User {
    pb::User {
        user_id: user.id.to_string(),
        email: user.email.as_str().to_owned(),
        display_name: user.display_name.as_str().to_owned(),
        email_verified: user.email_verified_at.is_some(),
        roles: user.roles.names().map(str::to_owned).collect(),
        create_time: Some(timestamp(user.created_at)),
        update_time: Some(timestamp(user.updated_at)),
        disabled: user.disabled_at.is_some(),
    }
}

pub(super) fn token_pair(pair: &TokenPair) -> pb::TokenPair {
    pb::TokenPair {
        access_token: pair.access_token.expose().clone(),
        refresh_token: pair.refresh_token.expose().clone(),
        token_type: "Bearer".to_owned(),
        access_expire_time: Some(timestamp(pair.access_expires_at)),
        refresh_expire_time: Some(timestamp(pair.refresh_expires_at)),
        session_id: pair.session_id.to_string(),
    }
}

/// The response about a valid token without `revocation_as_of`: the part that is always the same.
pub(super) fn claims(claims: &AccessClaims, issuer: &str) -> pb::ValidateTokenResponse {
    pb::ValidateTokenResponse {
        user_id: claims.user_id.to_string(),
        session_id: claims.session_id.to_string(),
        token_id: claims.token_id.to_string(),
        roles: claims.roles.clone(),
        audiences: claims.audiences.clone(),
        issue_time: Some(timestamp(claims.issued_at)),
        expire_time: Some(timestamp(claims.expires_at)),
        issuer: issuer.to_owned(),
        revocation_as_of: None,
        auth_time: claims.authenticated_at.map(timestamp),
        amr: claims.methods.clone(),
        acr: claims.acr.clone(),
        principal_type: match claims.principal {
            PrincipalType::User => pb::PrincipalType::User.into(),
            PrincipalType::Service => pb::PrincipalType::Service.into(),
        },
        actor: actor(&claims.actors).map(|actor| *actor),
        client_id: claims.client_id.clone(),
    }
}

/// The present actor, who is first, with those before it.
fn actor(actors: &[Actor]) -> Option<Box<pb::Actor>> {
    actors.iter().rev().fold(None, |earlier, actor| {
        Some(Box::new(pb::Actor {
            subject: actor.subject.to_string(),
            actor: earlier,
        }))
    })
}

pub(super) fn timestamp(moment: Timestamp) -> PbTimestamp {
    let micros = moment.micros().rem_euclid(1_000_000);
    PbTimestamp {
        seconds: moment.seconds(),
        nanos: i32::try_from(micros * 1_000).expect("less than a second"),
    }
}

/// Reads a time to the microsecond.
pub(super) fn moment(field: &'static str, time: &PbTimestamp) -> Result<Timestamp, FieldViolation> {
    let is_well_formed = (0..1_000_000_000).contains(&time.nanos);
    let micros = time.seconds.checked_mul(1_000_000);
    micros
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000))
        .filter(|_| is_well_formed)
        .map(Timestamp::from_micros)
        .ok_or_else(|| {
            let rule = "must be a valid google.protobuf.Timestamp";
            FieldViolation::new(field, ViolationReason::Malformed, rule)
        })
}

/// Parses a user's id.
pub(super) fn user_id(field: &'static str, text: &str) -> Result<UserId, FieldViolation> {
    id(field, text, "must be a user's id")
}

/// Parses a session's id.
pub(super) fn session_id(field: &'static str, text: &str) -> Result<SessionId, FieldViolation> {
    id(field, text, "must be a session's id")
}

/// Parses a service account's id.
pub(super) fn service_account_id(
    field: &'static str,
    text: &str,
) -> Result<ServiceAccountId, FieldViolation> {
    id(field, text, "must be a service account's id")
}

/// Parses a service key's id.
pub(super) fn service_key_id(
    field: &'static str,
    text: &str,
) -> Result<ServiceKeyId, FieldViolation> {
    id(field, text, "must be a service key's id")
}

/// Parses a factor's id.
pub(super) fn factor_id(field: &'static str, text: &str) -> Result<FactorId, FieldViolation> {
    id(field, text, "must be a factor's id")
}

fn id<T: FromStr>(
    field: &'static str,
    text: &str,
    form: &'static str,
) -> Result<T, FieldViolation> {
    let (reason, rule) = match text {
        "" => (ViolationReason::Required, "must be given"),
        _ => (ViolationReason::Malformed, form),
    };
    text.parse()
        .map_err(|_| FieldViolation::new(field, reason, rule))
}

/// The bearer token of the `authorization` metadata (RFC 6750 section 2.1); empty when there is
/// none. The scheme's name has no case (RFC 9110 section 11.1).
///
/// # Errors
/// `TokenInvalid` when there are several: which of them a proxy has checked cannot be known.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let text = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() {
        return Err(AuthError::TokenInvalid);
    }
    Ok(text.map_or("", bearer_of))
}

/// The bearer token in one value of `authorization`; empty when it is of another scheme.
pub(super) fn bearer_of(value: &str) -> &str {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        _ => "",
    }
}

/// The metadata `user-agent`, shortened; empty when it is not ASCII text.
pub(super) fn user_agent(metadata: &MetadataMap) -> String {
    let header = metadata.get("user-agent");
    let text = header.and_then(|value| value.to_str().ok());
    text.unwrap_or_default()
        .chars()
        .take(MAX_USER_AGENT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn only_one_value_with_the_scheme_bearer_is_a_bearer_token() {
        let token = |authorization| bearer(&headers(authorization)).unwrap().to_owned();
        assert_eq!(token("Bearer abc"), "abc");
        assert_eq!(token("bearer  abc"), "abc");
        for other in ["Basic abc", "Bearer", "Bearerabc", "", "abc"] {
            assert_eq!(token(other), "", "{other}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), "");
        let mut twice = headers("Bearer abc");
        twice.append(AUTHORIZATION, "Bearer abc".parse().unwrap());
        assert!(matches!(bearer(&twice), Err(AuthError::TokenInvalid)));
    }

    #[test]
    fn a_time_is_read_as_it_was_written_and_one_that_is_no_timestamp_is_refused() {
        for micros in [0, -1, 1_580_459_400_500_000, i64::MAX] {
            let written = Timestamp::from_micros(micros);
            assert_eq!(moment("time", &timestamp(written)), Ok(written));
        }
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            let refused = moment("time", &PbTimestamp { seconds, nanos }).unwrap_err();
            assert_eq!(refused.reason, ViolationReason::Malformed);
        }
    }

    #[test]
    fn times_before_the_epoch_keep_their_fraction_positive() {
        let moment = timestamp(Timestamp::from_micros(-1));
        assert_eq!((moment.seconds, moment.nanos), (-1, 999_999_000));
    }
}
