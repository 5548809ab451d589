//! The status of a failed call, with the details that the contract promises. All failures of use
//! cases are mapped here.

use std::{collections::HashMap, time::Duration};

use http::Response;
use tonic::{Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt as _};

use super::{Reason, RequestId};
use crate::{auth::AuthError, domain::FieldViolation};

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "auth.countersign.v1";

/// The metadata by which retry policies of gRPC clients learn when to try again, in milliseconds
/// (gRFC A6). They do not read `RetryInfo`.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// When a caller should try again after the database was not available: it is pinged every second.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// What a status says besides its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// The invalid fields: `google.rpc.BadRequest`.
    Fields(Vec<FieldViolation>),
    /// What the user's authentication has to be (RFC 9470 section 3): the metadata `acr_values` and `max_age` of
    /// `google.rpc.ErrorInfo`, each where it was demanded.
    StepUp {
        /// Values of `acr`, single spaces between.
        acr_values: String,
        /// In whole seconds on the wire.
        max_age: Option<Duration>,
    },
    /// How long to wait before the next try, at least 1 ms: `google.rpc.RetryInfo`, and
    /// `grpc-retry-pushback-ms`.
    RetryAfter(Duration),
}

impl Detail {
    /// The metadata of the `ErrorInfo`.
    fn metadata(&self) -> HashMap<String, String> {
        let Self::StepUp {
            acr_values,
            max_age,
        } = self
        else {
            return HashMap::new();
        };
        let acr_values = Some(acr_values.clone()).filter(|values| !values.is_empty());
        let max_age = max_age.map(|age| age.as_secs().to_string());
        [("acr_values", acr_values), ("max_age", max_age)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// A failure whose status is still to be made. Handlers that do not see the request, and so do not
/// know its id, put it into the extensions of their response; the trace layer makes the status.
#[derive(Clone, Debug)]
pub(super) struct PendingStatus {
    pub(super) reason: Reason,
    pub(super) detail: Detail,
}

impl PendingStatus {
    /// The response that stands for this failure.
    pub(super) fn into_response<B: Default>(self) -> Response<B> {
        let mut response = Status::new(self.reason.code(), self.reason.message()).into_http();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status of a call that failed for `reason`: exactly one `ErrorInfo`, one `RequestInfo`, and
/// what `detail` adds. Limits that refuse are counted here, where every refusal passes once.
pub fn status(reason: Reason, request_id: &RequestId, detail: Detail) -> Status {
    if let Some(limit) = reason.limit() {
        limit.count();
    }
    let metadata = detail.metadata();
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata);
    details.set_request_info(request_id.as_str(), "");
    let mut retry_after = None;
    match detail {
        Detail::None | Detail::StepUp { .. } => {}
        Detail::Fields(violations) => {
            let violations: Vec<_> = violations.into_iter().map(wire_violation).collect();
            details.set_bad_request(violations);
        }
        Detail::RetryAfter(delay) => {
            let delay = delay.max(Duration::from_millis(1));
            details.set_retry_info(Some(delay));
            retry_after = Some(delay);
        }
    }
    let mut status = Status::with_error_details(reason.code(), reason.message(), details);
    if let Some(delay) = retry_after {
        let metadata = status.metadata_mut();
        metadata.insert(RETRY_PUSHBACK, MetadataValue::from(pushback(delay)));
    }
    status
}

/// Milliseconds, rounded up: a client that waits so long has waited long enough. The largest value
/// that clients read is that of an `int32`.
fn pushback(delay: Duration) -> i32 {
    let millis = delay.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis).unwrap_or(i32::MAX)
}

/// Maps the failure of a use case to a status. A new variant of `AuthError` does not compile until
/// it has a reason here.
pub fn error_status(error: AuthError, request_id: &RequestId) -> Status {
    let (reason, detail) = match error {
        AuthError::InvalidFields(violations) => (Reason::InvalidField, Detail::Fields(violations)),
        AuthError::WeakPassword(violation) => {
            (Reason::WeakPassword, Detail::Fields(vec![violation]))
        }
        AuthError::OneTimeTokenInvalid => (Reason::OneTimeTokenInvalid, Detail::None),
        AuthError::EmailTaken => (Reason::EmailTaken, Detail::None),
        AuthError::RegistrationClosed => (Reason::RegistrationClosed, Detail::None),
        AuthError::LastAdmin => (Reason::LastAdmin, Detail::None),
        AuthError::InvalidCredentials => (Reason::InvalidCredentials, Detail::None),
        AuthError::AccountThrottled { retry_after } => {
            (Reason::AccountThrottled, Detail::RetryAfter(retry_after))
        }
        AuthError::RateLimited { retry_after } => {
            (Reason::RateLimited, Detail::RetryAfter(retry_after))
        }
        AuthError::Overloaded { retry_after } => {
            (Reason::Overloaded, Detail::RetryAfter(retry_after))
        }
        AuthError::TokenMissing => (Reason::TokenMissing, Detail::None),
        AuthError::TokenInvalid => (Reason::TokenInvalid, Detail::None),
        AuthError::TokenExpired => (Reason::TokenExpired, Detail::None),
        AuthError::TokenRevoked => (Reason::TokenRevoked, Detail::None),
        AuthError::InsufficientRole => (Reason::InsufficientRole, Detail::None),
        AuthError::StepUpRequired {
            acr_values,
            max_age,
        } => (
            Reason::StepUpRequired,
            Detail::StepUp {
                acr_values,
                max_age,
            },
        ),
        AuthError::RefreshTokenInvalid => (Reason::RefreshTokenInvalid, Detail::None),
        AuthError::RefreshTokenExpired => (Reason::RefreshTokenExpired, Detail::None),
        AuthError::RefreshTokenReused => (Reason::RefreshTokenReused, Detail::None),
        AuthError::SessionRevoked => (Reason::SessionRevoked, Detail::None),
        AuthError::SecondFactorInvalid => (Reason::SecondFactorInvalid, Detail::None),
        AuthError::FactorExists => (Reason::FactorExists, Detail::None),
        AuthError::FactorNotFound => (Reason::FactorNotFound, Detail::None),
        AuthError::UserNotFound => (Reason::UserNotFound, Detail::None),
        AuthError::SessionNotFound => (Reason::SessionNotFound, Detail::None),
        AuthError::ServiceAccountNotFound => (Reason::ServiceAccountNotFound, Detail::None),
        AuthError::ServiceKeyNotFound => (Reason::ServiceKeyNotFound, Detail::None),
        AuthError::ServiceAccountExists => (Reason::ServiceAccountExists, Detail::None),
        AuthError::ClientCredentialInvalid(cause) => {
            let request_id = request_id.as_str();
            tracing::info!(request_id, %cause, "client credential refused");
            (Reason::ClientCredentialInvalid, Detail::None)
        }
        AuthError::ExchangeNotAllowed(cause) => {
            let request_id = request_id.as_str();
            tracing::info!(request_id, cause, "exchange refused");
            (Reason::ExchangeNotAllowed, Detail::None)
        }
        AuthError::DatabaseUnavailable(cause) => {
            tracing::warn!(
                request_id = request_id.as_str(),
                cause,
                "database unavailable"
            );
            (
                Reason::DatabaseUnavailable,
                Detail::RetryAfter(DATABASE_RETRY),
            )
        }
        AuthError::RevocationStateStale => (
            Reason::RevocationStateStale,
            Detail::RetryAfter(DATABASE_RETRY),
        ),
        AuthError::Internal(cause) => {
            tracing::error!(request_id = request_id.as_str(), cause, "request failed");
            (Reason::Internal, Detail::None)
        }
    };
    status(reason, request_id, detail)
}

fn wire_violation(violation: FieldViolation) -> WireViolation {
    WireViolation {
        field: violation.field.to_owned(),
        description: violation.description,
        reason: violation.reason.as_str().to_owned(),
        localized_message: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        domain::{FieldViolation, ViolationReason},
    };
    use tonic_types::ErrorDetail;

    #[test]
    fn every_status_holds_one_error_info_and_one_request_info() {
        let request_id = RequestId::generate(Timestamp::from_seconds(1_700_000_000));
        for reason in Reason::ALL {
            let status = status(*reason, &request_id, Detail::None);
            assert_eq!(status.code(), reason.code());
            assert_eq!(status.message(), reason.message());
            let details = status.check_error_details_vec().unwrap();
            let [
                ErrorDetail::ErrorInfo(info),
                ErrorDetail::RequestInfo(request),
            ] = &details[..]
            else {
                panic!("unexpected details: {details:?}");
            };
            assert_eq!(info.reason, reason.as_str());
            assert_eq!(info.domain, DOMAIN);
            assert_eq!(request.request_id, request_id.as_str());
        }
    }

    #[test]
    fn field_violations_keep_their_path_and_reason() {
        let request_id = RequestId::generate(Timestamp::from_seconds(1));
        let violation = FieldViolation::new("email", ViolationReason::Required, "must be given");
        let status = status(
            Reason::InvalidField,
            &request_id,
            Detail::Fields(vec![violation]),
        );
        let bad_request = status.get_details_bad_request().unwrap();
        let [violation] = &bad_request.field_violations[..] else {
            panic!("one violation was given");
        };
        assert_eq!(violation.field, "email");
        assert_eq!(violation.description, "must be given");
        assert_eq!(violation.reason, "REQUIRED");
    }

    #[test]
    fn a_retry_delay_is_sent_in_both_forms_and_is_never_zero() {
        let request_id = RequestId::generate(Timestamp::from_seconds(1));
        let (milli, longest) = (Duration::from_millis(1), Duration::from_secs(1 << 32));
        for (given, sent, pushback) in [
            (Duration::ZERO, milli, "1"),
            (milli, milli, "1"),
            (milli / 2 * 5, milli / 2 * 5, "3"),
            (milli * 2_500, milli * 2_500, "2500"),
            (longest, longest, "2147483647"),
        ] {
            let status = status(Reason::Overloaded, &request_id, Detail::RetryAfter(given));
            let info = status.get_details_retry_info().unwrap();
            assert_eq!(info.retry_delay, Some(sent));
            assert_eq!(status.metadata().get(RETRY_PUSHBACK).unwrap(), pushback);
        }
        let status = status(Reason::TokenInvalid, &request_id, Detail::None);
        assert!(!status.metadata().contains_key(RETRY_PUSHBACK));
    }
}
