//! All services that this server offers, ready to be served.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::runtime::Handle;
use tonic::service::Routes as TonicRoutes;
use tonic_reflection::server::{Builder as ReflectionBuilder, Error as ReflectionError};

use super::{
    AccountApi, AdminApi, AuthApi, AuthorizationApi, DESCRIPTORS, RouteSettings, Routes,
    ServiceAccountApi, TokenApi, UserRateLimit, VerifierApi,
    ext_authz_pb::authorization_server::AuthorizationServer,
    health::HealthApi,
    health_pb::health_server::HealthServer,
    layers::RateLimits,
    pb::{
        account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
        auth_service_server::AuthServiceServer,
        service_account_service_server::ServiceAccountServiceServer,
        token_service_server::TokenServiceServer, verifier_service_server::VerifierServiceServer,
    },
};
use crate::auth::Auth;

/// What the services need.
pub struct ServiceSettings {
    /// The use cases.
    pub auth: Auth,
    /// The health service.
    pub health: HealthServer<HealthApi>,
    /// Whether reflection is served.
    pub reflection: bool,
    /// The names of client certificates that may watch revocations.
    pub verifiers: Arc<[String]>,
    /// The rate limits.
    pub rate_limits: RateLimits,
    /// The limit on the calls of each user.
    pub user_rate: UserRateLimit,
    /// The most bytes that one request message may have.
    pub max_message_size: usize,
    /// How many calls may hash or use the database at once.
    pub max_concurrent_calls: NonZeroUsize,
    /// The runtime on which those calls run.
    pub runtime: Handle,
}

/// The routes to all services.
///
/// # Errors
/// The descriptors for reflection cannot be read.
pub fn services(settings: ServiceSettings) -> Result<TonicRoutes, ReflectionError> {
    let auth = settings.auth;
    let max = settings.max_message_size;
    let mut routes = Routes::new(RouteSettings {
        checks: Arc::new(auth.clone()),
        verifiers: settings.verifiers,
        rate_limits: settings.rate_limits,
        user_rate: settings.user_rate,
        max_concurrent_calls: settings.max_concurrent_calls,
        runtime: settings.runtime,
    })
    .add_in_memory(&settings.health.max_decoding_message_size(max))
    .add_in_memory(
        &AuthorizationServer::new(AuthorizationApi::new(auth.clone()))
            .max_decoding_message_size(max),
    )
    .add_isolated(
        &AuthServiceServer::new(AuthApi::new(auth.clone())).max_decoding_message_size(max),
    )
    .add_isolated(
        &VerifierServiceServer::new(VerifierApi::new(auth.clone())).max_decoding_message_size(max),
    )
    .add_isolated(
        &AccountServiceServer::new(AccountApi::new(auth.clone())).max_decoding_message_size(max),
    )
    .add_isolated(
        &AdminServiceServer::new(AdminApi::new(auth.clone())).max_decoding_message_size(max),
    )
    .add_isolated(
        &TokenServiceServer::new(TokenApi::new(auth.clone())).max_decoding_message_size(max),
    )
    .add_isolated(
        &ServiceAccountServiceServer::new(ServiceAccountApi::new(auth))
            .max_decoding_message_size(max),
    );
    if settings.reflection {
        let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        routes = routes
            .add_in_memory(&v1.max_decoding_message_size(max))
            .add_in_memory(&v1alpha.max_decoding_message_size(max));
    }
    Ok(routes.into_tonic())
}

fn reflection() -> ReflectionBuilder<'static> {
    ReflectionBuilder::configure().register_encoded_file_descriptor_set(DESCRIPTORS)
}
