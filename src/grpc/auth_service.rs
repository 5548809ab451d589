//! `AuthService`: converts each request, calls its use case and converts the result.

use tonic::{Request, Response, Status};

use super::{
    RequestId,
    convert::{self, Violations},
    error_status, factors, fast_path,
    layers::Deadline,
    passkeys,
    pb::{self, auth_service_server},
    request_info::RequestInfo,
};
use crate::{
    auth::{Auth, AuthError, LoginCommand, LoginOutcome, RegisterCommand},
    domain::{DeviceLabel, DisplayName, Email, Password},
    secret::Secret,
};

/// Serves `countersign.auth.v1.AuthService`.
pub struct AuthApi {
    auth: Auth,
}

impl AuthApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl auth_service_server::AuthService for AuthApi {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let command = register_command(request.get_ref())?;
            let user = self.auth.register(command, &info.context()).await?;
            Ok(pb::RegisterResponse {
                user: user.as_ref().map(convert::user),
            })
        };
        info.respond(result.await)
    }

    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let command = login_command(request.get_ref())?;
            let outcome = self.auth.login(command, &info.context()).await?;
            Ok(match outcome {
                LoginOutcome::LoggedIn(logged_in) => pb::LoginResponse {
                    tokens: Some(convert::token_pair(&logged_in.tokens)),
                    user: Some(convert::user(&logged_in.user)),
                    challenge: None,
                    device_token: logged_in.device_token.expose().clone(),
                },
                LoginOutcome::Challenged(challenge) => pb::LoginResponse {
                    challenge: Some(factors::login_challenge(&challenge)),
                    ..pb::LoginResponse::default()
                },
            })
        };
        info.respond(result.await)
    }

    async fn complete_login(
        &self,
        request: Request<pb::CompleteLoginRequest>,
    ) -> Result<Response<pb::CompleteLoginResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let command = factors::complete_login_command(request.get_ref())?;
            let logged_in = self.auth.complete_login(command, &info.context()).await?;
            Ok(pb::CompleteLoginResponse {
                tokens: Some(convert::token_pair(&logged_in.tokens)),
                user: Some(convert::user(&logged_in.user)),
                device_token: logged_in.device_token.expose().clone(),
            })
        };
        info.respond(result.await)
    }

    async fn begin_passkey_login(
        &self,
        request: Request<pb::BeginPasskeyLoginRequest>,
    ) -> Result<Response<pb::BeginPasskeyLoginResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = passkeys::begin_login(&self.auth, request.get_ref());
        info.respond(result)
    }

    async fn finish_passkey_login(
        &self,
        request: Request<pb::FinishPasskeyLoginRequest>,
    ) -> Result<Response<pb::FinishPasskeyLoginResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = passkeys::finish_login(&self.auth, request.get_ref(), &info.context()).await;
        info.respond(result)
    }

    async fn refresh(
        &self,
        request: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::RefreshResponse>, Status> {
        let info = RequestInfo::of(&request);
        let request = request.into_inner();
        let context = info.context();
        let pair = self
            .auth
            .refresh(&request.refresh_token, &request.audiences, &context)
            .await;
        info.respond(pair.map(|pair| pb::RefreshResponse {
            tokens: Some(convert::token_pair(&pair)),
        }))
    }

    /// Only for calls that the fast path passes on: see `fast_path.rs`.
    async fn validate_token(
        &self,
        request: Request<pb::ValidateTokenRequest>,
    ) -> Result<Response<pb::ValidateTokenResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let result = async {
            let query = fast_path::query(&message, metadata.as_ref())?;
            if !message.at_least_cursor.is_empty() {
                let deadline = Deadline::of(&extensions).map(Deadline::instant);
                self.auth
                    .wait_for_cursor(&message.at_least_cursor, query.access_token, deadline)
                    .await?;
            }
            self.auth.validate(query)
        };
        let validated = result
            .await
            .map_err(|error| error_status(error, &RequestId::of(&extensions)))?;
        Ok(Response::new(pb::ValidateTokenResponse {
            revocation_as_of: Some(convert::timestamp(validated.revocation_as_of)),
            ..convert::claims(&validated.claims, self.auth.issuer())
        }))
    }

    async fn logout(
        &self,
        request: Request<pb::LogoutRequest>,
    ) -> Result<Response<pb::LogoutResponse>, Status> {
        let info = RequestInfo::of(&request);
        let token = request.into_inner().refresh_token;
        let result = async {
            let revoked = self.auth.logout(&token, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&revoked).await?;
            Ok(pb::LogoutResponse {
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }
}

fn register_command(request: &pb::RegisterRequest) -> Result<RegisterCommand, AuthError> {
    let mut violations = Violations::default();
    let email = violations.take(Email::parse("email", &request.email));
    let password = violations.take(Password::parse("password", &request.password));
    let display_name = violations.take(DisplayName::parse("display_name", &request.display_name));
    match (email, password, display_name) {
        (Some(email), Some(password), Some(display_name)) => Ok(RegisterCommand {
            email,
            password,
            display_name,
        }),
        _ => Err(violations.into()),
    }
}

fn login_command(request: &pb::LoginRequest) -> Result<LoginCommand, AuthError> {
    let mut violations = Violations::default();
    let email = violations.take(Email::parse("email", &request.email));
    let password = violations.take(Password::parse("password", &request.password));
    let device_label = violations.take(DeviceLabel::parse("device_label", &request.device_label));
    match (email, password, device_label) {
        (Some(email), Some(password), Some(device_label)) => Ok(LoginCommand {
            email,
            password,
            device_label,
            device_token: Secret::new(request.device_token.clone()),
            audiences: request.audiences.clone(),
        }),
        _ => Err(violations.into()),
    }
}
