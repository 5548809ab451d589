//! The routes: every method of the table, each with the layers that its line demands.
//!
//! Routes are made from the table of methods and from nothing else. A method that the table does not
//! name has no route, so it is refused although its service would answer it.

use std::{convert::Infallible, mem, num::NonZeroUsize, sync::Arc};

use axum::Router;
use http::{Request, Response};
use tokio::runtime::Handle;
use tonic::{body::Body, server::NamedService, service::Routes as TonicRoutes};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::{
    Bulkhead, RequestId, UserRateLimit,
    layers::{
        AuthorizationLayer, AuthorizationService, CheckCaller, ConcurrencyLimit, RateLimits,
        methods::{self, Method},
    },
    protocol_error::ProtocolError,
};

/// What the layers around the methods need.
#[derive(Clone)]
pub struct RouteSettings {
    /// What access control asks.
    pub checks: Arc<dyn CheckCaller>,
    /// The names of client certificates that may watch revocations.
    pub verifiers: Arc<[String]>,
    /// The rate limits.
    pub rate_limits: RateLimits,
    /// The limit on the calls of each user.
    pub user_rate: UserRateLimit,
    /// How many calls to working services may be under way at once.
    pub max_concurrent_calls: NonZeroUsize,
    /// The runtime on which those calls run.
    pub runtime: Handle,
}

/// The routes to the services that have been added.
pub struct Routes {
    router: Router,
    settings: RouteSettings,
    concurrency: ConcurrencyLimit,
}

impl Routes {
    /// No routes: every call is refused.
    pub fn new(settings: RouteSettings) -> Self {
        let refuse = service_fn(async |request: Request<axum::body::Body>| {
            let request_id = RequestId::of(request.extensions());
            let response: Response<Body> = ProtocolError::UnknownService.response(&request_id);
            Ok::<_, Infallible>(response)
        });
        Self {
            router: Router::new().fallback_service(refuse),
            concurrency: ConcurrencyLimit::new(settings.max_concurrent_calls),
            settings,
        }
    }

    /// Adds a service that hashes, uses the database or computes for long: its calls run apart from
    /// the connections, and only so many at once.
    pub fn add_isolated<S>(mut self, service: &S) -> Self
    where
        S: NamedService
            + Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let limit = self.concurrency.clone();
        for method in methods::of_service(S::NAME) {
            // Access control may ask the database, so it runs apart as well.
            let service = self.authorize(method, service.clone());
            let service = Bulkhead::new(service, self.settings.runtime.clone());
            self.router = self.add_route(method, service, Some(&limit));
        }
        self
    }

    /// Adds a service that answers from memory: its calls run where their connection does.
    pub fn add_in_memory<S>(mut self, service: &S) -> Self
    where
        S: NamedService
            + Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        for method in methods::of_service(S::NAME) {
            let service = self.authorize(method, service.clone());
            self.router = self.add_route(method, service, None);
        }
        self
    }

    fn authorize<S>(&self, method: &Method, service: S) -> AuthorizationService<S> {
        let checks = Arc::clone(&self.settings.checks);
        let user_rate = self.settings.user_rate.clone();
        let verifiers = Arc::clone(&self.settings.verifiers);
        AuthorizationLayer::new(checks, user_rate, verifiers, method.access).layer(service)
    }

    /// The router with one more route, limited as the method and the service demand.
    fn add_route<S>(
        &mut self,
        method: &Method,
        service: S,
        concurrency: Option<&ConcurrencyLimit>,
    ) -> Router
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let router = mem::take(&mut self.router);
        let limit = method.limit;
        match limit.and_then(|limit| self.settings.rate_limits.governor(limit)) {
            None => add_route(router, method.path, service, concurrency),
            Some(governor) => {
                let service = governor.layer(service);
                add_route(router, method.path, service, concurrency)
            }
        }
    }

    /// The routes in the form that tonic serves.
    pub fn into_tonic(self) -> TonicRoutes {
        self.router.into()
    }
}

fn add_route<S>(
    router: Router,
    path: &str,
    service: S,
    concurrency: Option<&ConcurrencyLimit>,
) -> Router
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let service = service.map_request(|request: Request<axum::body::Body>| request.map(Body::new));
    match concurrency {
        None => router.route_service(path, service),
        Some(limit) => router.route_service(path, limit.wrap(service)),
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::{
        auth::{AuthError, ClientCertificate},
        grpc::layers::Quota,
        tokens::{AccessClaims, VerifiedClaims},
    };

    /// A service that answers every path with OK, as no generated one would.
    #[derive(Clone)]
    struct AnswersEverything;

    impl NamedService for AnswersEverything {
        const NAME: &'static str = "countersign.auth.v1.AdminService";
    }

    /// The same under a name that the table does not hold.
    #[derive(Clone)]
    struct NotInTheTable;

    impl NamedService for NotInTheTable {
        const NAME: &'static str = "countersign.auth.v1.NewService";
    }

    macro_rules! answers_ok {
        ($($service:ty)*) => {$(
            impl Service<Request<Body>> for $service {
                type Response = Response<Body>;
                type Error = Infallible;
                type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

                fn poll_ready(
                    &mut self,
                    _: &mut std::task::Context<'_>,
                ) -> std::task::Poll<Result<(), Infallible>> {
                    std::task::Poll::Ready(Ok(()))
                }

                fn call(&mut self, _: Request<Body>) -> Self::Future {
                    std::future::ready(Ok(Response::new(Body::empty())))
                }
            }
        )*};
    }

    answers_ok!(AnswersEverything NotInTheTable);

    /// Knows no valid token.
    struct NoTokens;

    #[tonic::async_trait]
    impl CheckCaller for NoTokens {
        fn validate(
            &self,
            _: &str,
            _: ClientCertificate,
        ) -> Result<Arc<VerifiedClaims>, AuthError> {
            Err(AuthError::TokenInvalid)
        }

        fn validate_for_enrollment(&self, _: &str) -> Result<Arc<VerifiedClaims>, AuthError> {
            Err(AuthError::TokenInvalid)
        }

        async fn require_current_role(
            &self,
            _: &AccessClaims,
            _: &[&str],
        ) -> Result<(), AuthError> {
            Err(AuthError::InsufficientRole)
        }
    }

    fn routes() -> TonicRoutes {
        Routes::new(RouteSettings {
            checks: Arc::new(NoTokens),
            verifiers: Arc::new([]),
            rate_limits: RateLimits::new(Quota::OFF, Quota::OFF),
            user_rate: UserRateLimit::new(None),
            max_concurrent_calls: NonZeroUsize::MIN,
            runtime: Handle::current(),
        })
        .add_isolated(&AnswersEverything)
        .add_in_memory(&NotInTheTable)
        .into_tonic()
    }

    async fn code(path: &str) -> Code {
        let request = Request::post(path).body(Body::empty()).unwrap();
        let response = routes().oneshot(request).await.unwrap();
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    #[tokio::test]
    async fn a_path_that_the_table_does_not_name_is_refused_although_the_service_answers_it() {
        let service = AnswersEverything::NAME;
        for path in [
            "/".to_owned(),
            format!("/{service}"),
            format!("/{service}/"),
            format!("/{service}/NewMethod"),
            format!("/{service}/disableuser"),
            format!("/{service}/DisableUser/"),
            format!("/{service}//DisableUser"),
            format!("//{service}/DisableUser"),
            format!("/{service}/Disable%55ser"),
            format!("/{service}/%44isableUser"),
            format!("/{}/DisableUser", service.to_lowercase()),
            "/countersign.auth.v1.NewService/NewMethod".to_owned(),
        ] {
            assert_eq!(code(&path).await, Code::Unimplemented, "{path}");
        }
    }

    #[tokio::test]
    async fn a_path_of_the_table_is_guarded_as_it_says_also_with_a_query() {
        for path in ["DisableUser", "DisableUser?a=b", "SetUserRoles"] {
            let path = format!("/{}/{path}", AnswersEverything::NAME);
            assert_eq!(code(&path).await, Code::Unauthenticated, "{path}");
        }
    }
}
