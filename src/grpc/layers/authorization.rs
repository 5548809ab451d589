//! Access control: the access token of the `authorization` metadata must satisfy what the table of
//! methods demands.
//!
//! `routes` puts this layer around every method with the `Access` of its line in the table, so no
//! service can be served without it.

use std::{
    convert::Infallible,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response, header::AUTHORIZATION};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{ConnectionCertificate, methods::Access};
use crate::grpc::RequestId;
use crate::{
    auth::{Auth, AuthError, ClientCertificate, ValidateQuery},
    grpc::{UserRateLimit, convert, error_status},
    tokens::{AccessClaims, PrincipalType, VerifiedClaims},
};

/// What access control asks of the use cases.
#[tonic::async_trait]
pub trait CheckCaller: Send + Sync {
    /// The claims of a valid access token of any audience of this server, which came with this client certificate.
    fn validate(
        &self,
        access_token: &str,
        certificate: ClientCertificate,
    ) -> Result<Arc<VerifiedClaims>, AuthError>;

    /// The same, or those of a token that is good for enrolling a second factor alone.
    fn validate_for_enrollment(&self, access_token: &str)
    -> Result<Arc<VerifiedClaims>, AuthError>;

    /// Whether the database says that the user or service account has one of these roles.
    async fn require_current_role(
        &self,
        claims: &AccessClaims,
        roles: &[&str],
    ) -> Result<(), AuthError>;
}

#[tonic::async_trait]
impl CheckCaller for Auth {
    fn validate(
        &self,
        access_token: &str,
        certificate: ClientCertificate,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        let query = ValidateQuery::any_use_of(access_token, certificate);
        let validated = Self::validate(self, query)?;
        Ok(validated.claims)
    }

    fn validate_for_enrollment(
        &self,
        access_token: &str,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        Self::validate_for_enrollment(self, access_token)
    }

    async fn require_current_role(
        &self,
        claims: &AccessClaims,
        roles: &[&str],
    ) -> Result<(), AuthError> {
        Self::require_current_role(self, claims, roles).await
    }
}

/// The claims of the caller's access token; in the extensions of every request to a method that
/// is not open to all.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Caller {
    /// The verified claims.
    pub(in crate::grpc) claims: Arc<VerifiedClaims>,
}

impl Caller {
    /// The caller of the request with these extensions; `None` for a method that is open to all.
    pub(in crate::grpc) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// Lets only those requests pass that satisfy one `Access`.
#[derive(Clone)]
pub(in crate::grpc) struct AuthorizationLayer {
    checks: Arc<dyn CheckCaller>,
    user_rate: UserRateLimit,
    verifiers: Arc<[String]>,
    access: Access,
}

impl AuthorizationLayer {
    /// Demands `access`. `user_rate` counts the calls of users on their own account; `verifiers` are the names of client
    /// certificates that may watch revocations.
    pub(in crate::grpc) const fn new(
        checks: Arc<dyn CheckCaller>,
        user_rate: UserRateLimit,
        verifiers: Arc<[String]>,
        access: Access,
    ) -> Self {
        Self {
            checks,
            user_rate,
            verifiers,
            access,
        }
    }

    /// Whether the caller needs no access token, because its certificate names a verifier. A token that is there is judged
    /// all the same.
    fn is_verifier<B>(&self, request: &Request<B>) -> bool {
        matches!(self.access, Access::AnyRoleOrVerifierCertificate(_))
            && !request.headers().contains_key(AUTHORIZATION)
            && ConnectionCertificate::of(request.extensions())
                .is_some_and(|own| self.verifiers.iter().any(|name| own.has_name(name)))
    }

    /// Adds the [`Caller`] to the request, unless no access token is demanded.
    async fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), AuthError> {
        let roles = match self.access {
            Access::Open => return Ok(()),
            Access::Bearer | Access::Enrolling => None,
            Access::AnyRoleOrVerifierCertificate(_) if self.is_verifier(request) => return Ok(()),
            Access::AnyRoleOrVerifierCertificate(roles) | Access::AnyCurrentRole(roles) => {
                Some(roles)
            }
        };
        let certificate = ConnectionCertificate::sha256(request.extensions()).into();
        let bearer = convert::bearer(request.headers())?;
        let claims = match self.access {
            // Only users enrol, and their tokens are not bound.
            Access::Enrolling => self.checks.validate_for_enrollment(bearer)?,
            _ => self.checks.validate(bearer, certificate)?,
        };
        // A token with which a service acts for a user is for the services that it is passed on to. Here it would let
        // them end the user's sessions, or administer in the name of an administrator.
        if !claims.actors.is_empty() {
            return Err(AuthError::InsufficientRole);
        }
        // A service account is no user.
        let is_of_users = matches!(self.access, Access::Bearer | Access::Enrolling);
        if is_of_users && claims.principal != PrincipalType::User {
            return Err(AuthError::InsufficientRole);
        }
        let is_held = |role: &&str| claims.roles.iter().any(|held| held == role);
        if !roles.is_none_or(|roles| roles.iter().any(is_held)) {
            return Err(AuthError::InsufficientRole);
        }
        request.extensions_mut().insert(Caller {
            claims: Arc::clone(&claims),
        });
        match self.access {
            Access::AnyCurrentRole(roles) => self.checks.require_current_role(&claims, roles).await,
            Access::Bearer | Access::Enrolling => self.user_rate.admit(claims.user_id).await,
            Access::AnyRoleOrVerifierCertificate(_) | Access::Open => Ok(()),
        }
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = AuthorizationService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthorizationService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`AuthorizationLayer`].
#[derive(Clone)]
pub(in crate::grpc) struct AuthorizationService<S> {
    inner: S,
    layer: AuthorizationLayer,
}

impl<S, B> Service<Request<B>> for AuthorizationService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            match layer.authorize(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(error) => {
                    let request_id = RequestId::of(request.extensions());
                    Ok(error_status(error, &request_id).into_http())
                }
            }
        })
    }
}
