//! Who may call: holds the access token of `authorization` against what `METHODS` demands.
//!
//! It is put around whole services, so that no handler can forget to ask. Services whose methods are
//! all open, `AuthService` with its hot path, go without.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::Service;

use super::{
    convert, error_status,
    layers::{
        RequestId,
        methods::{self, Access},
    },
    user_rate::UserRateLimit,
};
use crate::{
    auth::{Auth, AuthError, ValidateQuery},
    tokens::VerifiedClaims,
};

/// Whose access token was presented; in the extensions of every request that is not open to all.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// What the token says.
    pub(super) claims: Arc<VerifiedClaims>,
}

impl Caller {
    /// The caller of the request with these extensions; `None` for a method that is open to all.
    pub(super) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// A service that only those may call who are entitled to.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    auth: Auth,
    /// Counts the calls of each user.
    user_rate: UserRateLimit,
}

impl<S> Guarded<S> {
    /// Guards `inner`, with tokens judged by `auth`.
    pub(super) fn new(inner: S, auth: Auth) -> Self {
        let user_rate = UserRateLimit::new(None);
        Self {
            inner,
            auth,
            user_rate,
        }
    }

    /// The same with a limit on the calls of each user.
    pub(super) fn limited(self, user_rate: UserRateLimit) -> Self {
        Self { user_rate, ..self }
    }

    /// What the method demands of its caller.
    fn access<B>(request: &Request<B>) -> Access {
        methods::find(request.uri().path()).access
    }

    /// Lets a request through or says why not.
    fn admit<B>(&self, request: &mut Request<B>, access: Access) -> Result<(), AuthError> {
        let roles = match access {
            Access::Open => return Ok(()),
            Access::Bearer => None,
            Access::AnyRole(roles) | Access::AnyCurrentRole(roles) => Some(roles),
        };
        let access_token = convert::bearer(request.headers());
        let claims = authenticate(&self.auth, access_token, roles)?;
        self.user_rate.check(claims.user_id)?;
        request.extensions_mut().insert(Caller { claims });
        Ok(())
    }
}

/// The claims of a good token; where roles are given, of one that holds any of them.
fn authenticate(
    auth: &Auth,
    access_token: &str,
    roles: Option<&[&str]>,
) -> Result<Arc<VerifiedClaims>, AuthError> {
    let validated = auth.validate(ValidateQuery {
        access_token,
        audience: "",
        required_roles: &[],
    })?;
    let held = &validated.claims.roles;
    let is_held = |role: &&str| held.iter().any(|own| own == role);
    if roles.is_none_or(|roles| roles.iter().any(is_held)) {
        Ok(validated.claims)
    } else {
        Err(AuthError::InsufficientRole)
    }
}

/// Checks what only the database knows about a caller whose token is good.
async fn check_current_role(
    auth: &Auth,
    extensions: &Extensions,
    access: Access,
) -> Result<(), AuthError> {
    let Access::AnyCurrentRole(roles) = access else {
        return Ok(());
    };
    let caller = Caller::of(extensions).ok_or(AuthError::TokenMissing)?;
    auth.require_current_role(caller.claims.user_id, roles)
        .await
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Guarded<S>
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
        let access = Self::access(&request);
        let admitted = self.admit(&mut request, access);
        let auth = self.auth.clone();
        // The service that was polled ready is the one to call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let checked = match admitted {
                Ok(()) => check_current_role(&auth, request.extensions(), access).await,
                refused => refused,
            };
            match checked {
                Ok(()) => inner.call(request).await,
                Err(error) => {
                    let request_id = RequestId::of(request.extensions());
                    Ok(error_status(error, &request_id).into_http())
                }
            }
        })
    }
}
