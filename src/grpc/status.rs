//! The one door through which failures leave: a gRPC status with the details the contract promises.

use std::{collections::HashMap, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt as _};

use super::{Reason, layers::RequestId};
use crate::{auth::AuthError, domain::FieldViolation};

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "auth.countersign.v1";

/// How soon a caller should ask again when the database is gone: it is looked for every second.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// What a failure tells besides its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// The fields at fault; becomes `google.rpc.BadRequest`.
    Fields(Vec<FieldViolation>),
    /// When trying again makes sense; becomes `google.rpc.RetryInfo`, never less than 1 ms.
    RetryAfter(Duration),
}

/// The status of a call that failed for `reason`: exactly one `ErrorInfo`, one `RequestInfo`, and
/// what `detail` adds.
pub fn status(reason: Reason, request_id: &RequestId, detail: Detail) -> Status {
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, HashMap::new());
    details.set_request_info(request_id.as_str(), "");
    match detail {
        Detail::None => {}
        Detail::Fields(violations) => {
            let violations: Vec<_> = violations.into_iter().map(wire_violation).collect();
            details.set_bad_request(violations);
        }
        Detail::RetryAfter(delay) => {
            details.set_retry_info(Some(delay.max(Duration::from_millis(1))));
        }
    }
    Status::with_error_details(reason.code(), reason.message(), details)
}

/// Turns the failure of a use case into a status. The one place where the two worlds meet; a new
/// variant does not compile until it has a reason here.
pub fn error_status(error: AuthError, request_id: &RequestId) -> Status {
    let (reason, detail) = match error {
        AuthError::InvalidFields(violations) => (Reason::InvalidField, Detail::Fields(violations)),
        AuthError::WeakPassword(violation) => {
            (Reason::WeakPassword, Detail::Fields(vec![violation]))
        }
        AuthError::EmailTaken => (Reason::EmailTaken, Detail::None),
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
        AuthError::RefreshTokenInvalid => (Reason::RefreshTokenInvalid, Detail::None),
        AuthError::RefreshTokenExpired => (Reason::RefreshTokenExpired, Detail::None),
        AuthError::RefreshTokenReused => (Reason::RefreshTokenReused, Detail::None),
        AuthError::SessionRevoked => (Reason::SessionRevoked, Detail::None),
        AuthError::UserNotFound => (Reason::UserNotFound, Detail::None),
        AuthError::SessionNotFound => (Reason::SessionNotFound, Detail::None),
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
    fn a_retry_delay_is_never_zero() {
        let request_id = RequestId::generate(Timestamp::from_seconds(1));
        for (given, sent) in [(0, 1), (1, 1), (2_500, 2_500)] {
            let detail = Detail::RetryAfter(Duration::from_millis(given));
            let status = status(Reason::Overloaded, &request_id, detail);
            let info = status.get_details_retry_info().unwrap();
            assert_eq!(info.retry_delay, Some(Duration::from_millis(sent)));
        }
    }
}
