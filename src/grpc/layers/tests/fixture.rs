//! A server on a free port with the layers around a scripted service, and a subscriber that captures
//! the log.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpConnectInfo},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    auth::{AuthError, ClientCertificate},
    clock::Clock,
    grpc::{
        Detail, Reason, RequestId, RouteSettings, Routes, UserRateLimit,
        health::HealthStatuses,
        layers::{CheckCaller, ClientAddress, Quota, RateLimits, Settings, stack},
        pb::{
            self,
            auth_service_client::AuthServiceClient,
            auth_service_server::{AuthService, AuthServiceServer},
        },
        status,
    },
    tokens::{AccessClaims, VerifiedClaims},
};

/// Answers at once, never (`Register` with the name "stuck"), or with a failure (`ValidateToken` with
/// the token "bad"). `Login` returns the client address as the user's e-mail address.
struct ScriptedService;

#[tonic::async_trait]
impl AuthService for ScriptedService {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        if request.get_ref().display_name == "stuck" {
            std::future::pending::<()>().await;
        }
        tracing::info!("inside");
        Ok(Response::new(pb::RegisterResponse::default()))
    }

    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        assert!(request.extensions().get::<TcpConnectInfo>().is_some());
        let client = ClientAddress::of(request.extensions()).unwrap();
        let user = pb::User {
            email: client.ip().to_string(),
            ..pb::User::default()
        };
        Ok(Response::new(pb::LoginResponse {
            user: Some(user),
            ..pb::LoginResponse::default()
        }))
    }

    async fn complete_login(
        &self,
        _: Request<pb::CompleteLoginRequest>,
    ) -> Result<Response<pb::CompleteLoginResponse>, Status> {
        Ok(Response::new(pb::CompleteLoginResponse::default()))
    }

    async fn begin_passkey_login(
        &self,
        _: Request<pb::BeginPasskeyLoginRequest>,
    ) -> Result<Response<pb::BeginPasskeyLoginResponse>, Status> {
        Ok(Response::new(pb::BeginPasskeyLoginResponse::default()))
    }

    async fn finish_passkey_login(
        &self,
        _: Request<pb::FinishPasskeyLoginRequest>,
    ) -> Result<Response<pb::FinishPasskeyLoginResponse>, Status> {
        Ok(Response::new(pb::FinishPasskeyLoginResponse::default()))
    }

    async fn refresh(
        &self,
        _: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::RefreshResponse>, Status> {
        Ok(Response::new(pb::RefreshResponse::default()))
    }

    async fn validate_token(
        &self,
        request: Request<pb::ValidateTokenRequest>,
    ) -> Result<Response<pb::ValidateTokenResponse>, Status> {
        if request.get_ref().access_token == "bad" {
            let request_id = RequestId::of(request.extensions());
            return Err(status(Reason::TokenInvalid, &request_id, Detail::None));
        }
        Ok(Response::new(pb::ValidateTokenResponse::default()))
    }

    async fn logout(
        &self,
        _: Request<pb::LogoutRequest>,
    ) -> Result<Response<pb::LogoutResponse>, Status> {
        Ok(Response::new(pb::LogoutResponse::default()))
    }
}

/// Access control that knows no valid token: all methods of the service are open.
struct NoTokens;

#[tonic::async_trait]
impl CheckCaller for NoTokens {
    fn validate(&self, _: &str, _: ClientCertificate) -> Result<Arc<VerifiedClaims>, AuthError> {
        Err(AuthError::TokenInvalid)
    }

    fn validate_for_enrollment(&self, _: &str) -> Result<Arc<VerifiedClaims>, AuthError> {
        Err(AuthError::TokenInvalid)
    }

    async fn require_current_role(&self, _: &AccessClaims, _: &[&str]) -> Result<(), AuthError> {
        Err(AuthError::InsufficientRole)
    }
}

/// A running server.
pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    pub(super) channel: Channel,
}

impl Fixture {
    /// A server without limits and without trusted proxies.
    pub(super) async fn start() -> Self {
        Self::with(Quota::OFF, &[]).await
    }

    pub(super) async fn with(credential: Quota, trusted: &[&str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, health_server) = HealthStatuses::new().await;
        let settings = Settings {
            clock: Clock::System,
            trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            max_header_size: 16 * 1024,
            request_timeout: Duration::from_secs(10),
        };
        let routes = Routes::new(RouteSettings {
            checks: Arc::new(NoTokens),
            verifiers: Arc::new([]),
            rate_limits: RateLimits::new(credential, Quota::OFF),
            user_rate: UserRateLimit::new(None),
            max_concurrent_calls: NonZeroUsize::new(100).unwrap(),
            runtime: Handle::current(),
        })
        .add_isolated(&AuthServiceServer::new(ScriptedService))
        .add_in_memory(&health_server);
        let server = Server::builder()
            .layer(stack(settings))
            .add_routes(routes.into_tonic())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self { address, channel }
    }

    pub(super) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }
}

/// Captures as JSON what this thread logs until it is dropped. The tests' runtimes have one thread.
pub(super) struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(super) fn at(filter: &str) -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(lines.clone())
            .finish();
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines with that target so far.
    pub(super) fn of(&self, target: &str) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["target"] == target)
            .collect()
    }

    /// Waits for `count` access lines: the last one is written when the server drops the call, a moment
    /// after the client has its response.
    pub(super) async fn access(&self, count: usize) -> Vec<Value> {
        for _ in 0..200 {
            if self.of("countersign::access").len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lines = self.of("countersign::access");
        assert_eq!(lines.len(), count, "{}", self.text());
        lines
    }
}
