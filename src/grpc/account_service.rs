//! `AccountService`. The account is that of the access token, which `layers::AuthorizationLayer` has
//! validated.

use tonic::{Request, Response, Status};

use super::{
    convert::{self, Violations},
    factors,
    layers::Caller,
    paging::{self, Listing},
    passkeys,
    pb::{self, account_service_server},
    request_info::RequestInfo,
};
use crate::{
    auth::{Auth, AuthError, ChangePasswordCommand},
    domain::{Email, Password, Session, SessionId, UserId},
};

/// Serves `countersign.auth.v1.AccountService`.
pub struct AccountApi {
    auth: Auth,
}

impl AccountApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl account_service_server::AccountService for AccountApi {
    async fn get_current_user(
        &self,
        request: Request<pb::GetCurrentUserRequest>,
    ) -> Result<Response<pb::GetCurrentUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (user_id, _) = caller(&request)?;
            let user = self.auth.users().find(user_id).await?;
            Ok(pb::GetCurrentUserResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<pb::ChangePasswordResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let command = change_password_command(caller(&request)?, request.get_ref())?;
            let tokens = self.auth.change_password(command, &info.context()).await?;
            Ok(pb::ChangePasswordResponse {
                tokens: Some(convert::token_pair(&tokens)),
            })
        };
        info.respond(result.await)
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (user_id, current) = caller(&request)?;
            let listing = Listing::new(self.auth.page_tokens(), "sessions", "");
            let (after, size) = page_of(listing, request.get_ref())?;
            let page = self.auth.list_sessions(user_id, after, size).await?;
            let sessions = page.sessions.iter();
            Ok(pb::ListSessionsResponse {
                sessions: sessions.map(|one| session(one, current)).collect(),
                next_page_token: listing.token(page.next),
            })
        };
        info.respond(result.await)
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (user_id, _) = caller(&request)?;
            let id = session_id(&request.get_ref().session_id)?;
            let revoked = self
                .auth
                .revoke_session_of(user_id, id, &info.context())
                .await?;
            let cursor = self.auth.revocation_cursor(&revoked).await?;
            Ok(pb::RevokeSessionResponse {
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn revoke_all_sessions(
        &self,
        request: Request<pb::RevokeAllSessionsRequest>,
    ) -> Result<Response<pb::RevokeAllSessionsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (user_id, current) = caller(&request)?;
            let kept = request.get_ref().keep_current.then_some(current);
            let users = self.auth.users();
            let revoked = users
                .revoke_user_sessions(user_id, kept, &info.context())
                .await?;
            let cursor = self.auth.revocation_cursor(&revoked).await?;
            Ok(pb::RevokeAllSessionsResponse {
                revoked_count: i32::try_from(revoked.outcome).unwrap_or(i32::MAX),
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn reauthenticate(
        &self,
        request: Request<pb::ReauthenticateRequest>,
    ) -> Result<Response<pb::ReauthenticateResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let command = factors::reauthenticate_command(caller(&request)?, request.get_ref())?;
            let tokens = self.auth.reauthenticate(command, &info.context()).await?;
            Ok(pb::ReauthenticateResponse {
                tokens: Some(convert::token_pair(&tokens)),
            })
        };
        info.respond(result.await)
    }

    async fn list_factors(
        &self,
        request: Request<pb::ListFactorsRequest>,
    ) -> Result<Response<pb::ListFactorsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = factors::list(&self.auth, &request).await;
        info.respond(result)
    }

    async fn begin_totp_enrollment(
        &self,
        request: Request<pb::BeginTotpEnrollmentRequest>,
    ) -> Result<Response<pb::BeginTotpEnrollmentResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = factors::begin_totp(&self.auth, &request).await;
        info.respond(result)
    }

    async fn confirm_totp_enrollment(
        &self,
        request: Request<pb::ConfirmTotpEnrollmentRequest>,
    ) -> Result<Response<pb::ConfirmTotpEnrollmentResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = factors::confirm_totp(&self.auth, &request, &info.context()).await;
        info.respond(result)
    }

    async fn begin_passkey_registration(
        &self,
        request: Request<pb::BeginPasskeyRegistrationRequest>,
    ) -> Result<Response<pb::BeginPasskeyRegistrationResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = passkeys::begin_registration(&self.auth, &request).await;
        info.respond(result)
    }

    async fn finish_passkey_registration(
        &self,
        request: Request<pb::FinishPasskeyRegistrationRequest>,
    ) -> Result<Response<pb::FinishPasskeyRegistrationResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = passkeys::finish_registration(&self.auth, &request, &info.context()).await;
        info.respond(result)
    }

    async fn remove_factor(
        &self,
        request: Request<pb::RemoveFactorRequest>,
    ) -> Result<Response<pb::RemoveFactorResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = factors::remove(&self.auth, &request, &info.context()).await;
        info.respond(result)
    }

    async fn regenerate_recovery_codes(
        &self,
        request: Request<pb::RegenerateRecoveryCodesRequest>,
    ) -> Result<Response<pb::RegenerateRecoveryCodesResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = factors::regenerate(&self.auth, &request, &info.context()).await;
        info.respond(result)
    }

    async fn request_email_verification(
        &self,
        request: Request<pb::RequestEmailVerificationRequest>,
    ) -> Result<Response<pb::RequestEmailVerificationResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (user_id, _) = caller(&request)?;
            self.auth
                .request_email_verification(user_id, &info.context())
                .await?;
            Ok(pb::RequestEmailVerificationResponse {})
        };
        info.respond(result.await)
    }

    async fn verify_email(
        &self,
        request: Request<pb::VerifyEmailRequest>,
    ) -> Result<Response<pb::VerifyEmailResponse>, Status> {
        let info = RequestInfo::of(&request);
        let token = request.into_inner().verification_token;
        let verified = self.auth.verify_email(&token, &info.context()).await;
        info.respond(verified.map(|user| pb::VerifyEmailResponse {
            user: Some(convert::user(&user)),
        }))
    }

    async fn request_password_reset(
        &self,
        request: Request<pb::RequestPasswordResetRequest>,
    ) -> Result<Response<pb::RequestPasswordResetResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let mut violations = Violations::default();
            let email = violations.take(Email::parse("email", &request.get_ref().email));
            let email = email.ok_or(violations)?;
            self.auth
                .request_password_reset(email, &info.context())
                .await?;
            Ok(pb::RequestPasswordResetResponse {})
        };
        info.respond(result.await)
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<pb::ResetPasswordResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let request = request.get_ref();
            let mut violations = Violations::default();
            let parsed = Password::parse("new_password", &request.new_password);
            let password = violations.take(parsed).ok_or(violations)?;
            self.auth
                .reset_password(&request.reset_token, password, &info.context())
                .await?;
            Ok(pb::ResetPasswordResponse {})
        };
        info.respond(result.await)
    }
}

/// The user and the session of the access token.
fn caller<T>(request: &Request<T>) -> Result<(UserId, SessionId), AuthError> {
    let caller = Caller::of(request.extensions()).ok_or(AuthError::TokenMissing)?;
    Ok((caller.claims.user_id, caller.claims.session_id))
}

fn change_password_command(
    (user_id, session_id): (UserId, SessionId),
    request: &pb::ChangePasswordRequest,
) -> Result<ChangePasswordCommand, AuthError> {
    let mut violations = Violations::default();
    let current = violations.take(Password::parse(
        "current_password",
        &request.current_password,
    ));
    let new = violations.take(Password::parse("new_password", &request.new_password));
    match (current, new) {
        (Some(current_password), Some(new_password)) => Ok(ChangePasswordCommand {
            user_id,
            session_id,
            current_password,
            new_password,
        }),
        _ => Err(violations.into()),
    }
}

fn page_of(
    listing: Listing<'_>,
    request: &pb::ListSessionsRequest,
) -> Result<(Option<SessionId>, u16), AuthError> {
    let mut violations = Violations::default();
    let size = violations.take(paging::size("page_size", request.page_size));
    let after = violations.take(listing.position("page_token", &request.page_token));
    match (after, size) {
        (Some(after), Some(size)) => Ok((after, size)),
        _ => Err(violations.into()),
    }
}

fn session_id(text: &str) -> Result<SessionId, AuthError> {
    let mut violations = Violations::default();
    let id = violations.take(convert::session_id("session_id", text));
    id.ok_or_else(|| violations.into())
}

fn session(session: &Session, current: SessionId) -> pb::Session {
    pb::Session {
        session_id: session.id.to_string(),
        device_label: session.device_label.as_str().to_owned(),
        client_ip: session.client_ip.clone(),
        user_agent: session.user_agent.clone(),
        create_time: Some(convert::timestamp(session.created_at)),
        last_refresh_time: Some(convert::timestamp(session.rotated_at)),
        expire_time: Some(convert::timestamp(session.expires_at())),
        current: session.id == current,
    }
}
