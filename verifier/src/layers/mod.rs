//! A tower layer that lets only requests with a good token through, for tonic servers and for axum.

mod bearer;
mod grpc;
mod http;
mod service;

use std::{collections::HashMap, fmt, sync::Arc};

pub use self::{bearer::BearerToken, service::RequireTokenService};
use crate::{Demand, Verifier, VerifyError};

/// How a refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As a gRPC status with the contract's details.
    Grpc,
    /// As an HTTP status with `WWW-Authenticate` (RFC 6750 section 3).
    Http,
}

/// A [tower layer](tower_layer::Layer) that demands a good token of every request.
///
/// It reads `authorization: Bearer …`, verifies the token, and puts `Arc<Claims>` and [`BearerToken`] into the extensions of the request. What
/// is refused does not reach the service:
///
/// | | gRPC | HTTP |
/// | --- | --- | --- |
/// | no token, or a bad one | `UNAUTHENTICATED`, `ErrorInfo.reason` as the server's | 401 with `WWW-Authenticate` (RFC 6750) |
/// | a role is missing | `PERMISSION_DENIED` `INSUFFICIENT_ROLE` | 403 |
/// | the login is too old or too weak | `UNAUTHENTICATED` `STEP_UP_REQUIRED` | 401 as RFC 9470 says |
/// | not known here | `UNAVAILABLE` `REVOCATION_STATE_STALE`, `RetryInfo` | 503 with `Retry-After` |
///
/// ```no_run
/// # async fn example(verifier: countersign_verifier::Verifier) {
/// use countersign_verifier::{Demand, RequireToken};
///
/// let layer = RequireToken::http(verifier).demand(Demand::new().role("reader"));
/// let app: axum::Router = axum::Router::new()
///     .route("/orders", axum::routing::get(|| async { "[]" }))
///     .layer(layer);
/// # }
/// ```
#[derive(Clone)]
pub struct RequireToken {
    verifier: Verifier,
    form: Form,
    demand: Arc<Demand>,
    /// By path; `None` for one that is open.
    paths: Arc<HashMap<String, Option<Arc<Demand>>>>,
}

impl RequireToken {
    /// For tonic servers: refusals are gRPC statuses.
    pub fn grpc(verifier: Verifier) -> Self {
        Self::new(verifier, Form::Grpc)
    }

    /// For axum and other HTTP servers: refusals are HTTP statuses.
    pub fn http(verifier: Verifier) -> Self {
        Self::new(verifier, Form::Http)
    }

    fn new(verifier: Verifier, form: Form) -> Self {
        Self {
            verifier,
            form,
            demand: Arc::default(),
            paths: Arc::default(),
        }
    }

    /// What is demanded of the token, for every path without a demand of its own.
    #[must_use]
    pub fn demand(mut self, demand: Demand) -> Self {
        self.demand = Arc::new(demand);
        self
    }

    /// What is demanded for one path instead, exactly as written. For gRPC, whose paths have one form: `/shop.v1.Orders/Cancel`. In
    /// an HTTP service give routes a layer of their own.
    #[must_use]
    pub fn demand_at(mut self, path: impl Into<String>, demand: Demand) -> Self {
        Arc::make_mut(&mut self.paths).insert(path.into(), Some(Arc::new(demand)));
        self
    }

    /// Lets a path through without a token, exactly as written, such as `/grpc.health.v1.Health/Check`.
    #[must_use]
    pub fn open(mut self, path: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.paths).insert(path.into(), None);
        self
    }

    /// `None` when the path is open.
    fn demand_of(&self, path: &str) -> Option<Arc<Demand>> {
        match self.paths.get(path) {
            Some(demand) => demand.clone(),
            None => Some(Arc::clone(&self.demand)),
        }
    }

    fn answer<B: Default>(&self, refusal: &Refusal) -> ::http::Response<B> {
        match self.form {
            Form::Grpc => grpc::response(refusal),
            Form::Http => self::http::response(refusal),
        }
    }
}

impl<S> tower_layer::Layer<S> for RequireToken {
    type Service = RequireTokenService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireTokenService::new(self.clone(), inner)
    }
}

impl fmt::Debug for RequireToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireToken")
            .field("form", &self.form)
            .field("demand", &self.demand)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

/// What the answer to a refused request needs.
struct Refusal {
    error: VerifyError,
    demand: Arc<Demand>,
    /// `x-request-id`, where the caller sent a good one.
    request_id: Option<String>,
}

impl Refusal {
    /// What a login must be like that meets the demand (RFC 9470 section 3): `acr_values` and `max_age`, where demanded.
    fn step_up(&self) -> Vec<(&'static str, String)> {
        let mut parts = Vec::new();
        if self.error == VerifyError::StepUpRequired {
            if !self.demand.acceptable_acrs.is_empty() {
                parts.push(("acr_values", self.demand.acceptable_acrs.join(" ")));
            }
            if let Some(age) = self.demand.max_auth_age {
                parts.push(("max_age", age.as_secs().to_string()));
            }
        }
        parts
    }
}
