//! `GET /healthz` and `GET /readyz`: health for load balancers that cannot call `grpc.health.v1`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// What the server can do at the moment. `background` publishes it to the gRPC health service and to the HTTP port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// It can validate access tokens: keys are loaded, revocations are known, and no shutdown has begun.
    pub validation: bool,
    /// The database answers.
    pub database: bool,
}

impl Readiness {
    /// Whether everything works, the calls that need the database included.
    pub const fn is_complete(self) -> bool {
        self.validation && self.database
    }
}

/// 200 `ok`, or 503 `unavailable`. The answer is about this moment, so nobody may keep it.
pub(super) fn response(is_healthy: bool) -> Response {
    let (status, text) = match is_healthy {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text).into_response()
}
