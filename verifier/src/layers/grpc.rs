//! Refusals as gRPC statuses, with the details of the contract.

use std::{collections::HashMap, time::Duration};

use http::Response;
use tonic::{Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::Refusal;
use crate::error::DOMAIN;

/// When a caller should try again after something was not known here.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn response<B: Default>(refusal: &Refusal) -> Response<B> {
    let error = refusal.error;
    let metadata: HashMap<String, String> = refusal
        .step_up()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
    if let Some(id) = &refusal.request_id {
        details.set_request_info(id, "");
    }
    if error.is_unavailable() {
        details.set_retry_info(Some(RETRY));
    }
    let mut status = Status::with_error_details(error.code(), error.to_string(), details);
    if error.is_unavailable() {
        // Retry policies of gRPC clients read this and not the details (gRFC A6).
        let pushback = MetadataValue::from(1_000);
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", pushback);
    }
    status.into_http()
}
