//! `AdminService`. `layers::AuthorizationLayer` has checked that the access token holds the role `admin`.

use tonic::{Request, Response, Status, Streaming};

use super::{
    admin_users::{self, invited, roles_of, user_id},
    convert, import_users,
    pb::{self, admin_service_server},
    request_info::RequestInfo,
};
use crate::{auth::Auth, tokens::SigningKeyInfo};

/// Serves `countersign.auth.v1.AdminService`.
pub struct AdminApi {
    auth: Auth,
}

impl AdminApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl admin_service_server::AdminService for AdminApi {
    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let user = self.auth.users().find(id).await?;
            Ok(pb::GetUserResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let info = RequestInfo::of(&request);
        info.respond(admin_users::list_users(&self.auth, request.get_ref()).await)
    }

    async fn invite_user(
        &self,
        request: Request<pb::InviteUserRequest>,
    ) -> Result<Response<pb::InviteUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let new = invited(request.get_ref())?;
            let user = self.auth.invite_user(new, &info.context()).await?;
            Ok(pb::InviteUserResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let deleted = self.auth.delete_user(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&deleted).await?;
            Ok(pb::DeleteUserResponse {
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Result<Response<pb::ListAuditEventsResponse>, Status> {
        let info = RequestInfo::of(&request);
        info.respond(admin_users::list_audit_events(&self.auth, request.get_ref()).await)
    }
    async fn rotate_signing_key(
        &self,
        request: Request<pb::RotateSigningKeyRequest>,
    ) -> Result<Response<pb::RotateSigningKeyResponse>, Status> {
        let info = RequestInfo::of(&request);
        let emergency = request.get_ref().emergency;
        let context = info.context();
        let key = self.auth.rotate_signing_key(emergency, &context).await;
        info.respond(key.map(|key| pb::RotateSigningKeyResponse {
            signing_key: Some(signing_key(key)),
        }))
    }

    async fn disable_user(
        &self,
        request: Request<pb::DisableUserRequest>,
    ) -> Result<Response<pb::DisableUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let disabled = self.auth.users().disable_user(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&disabled).await?;
            Ok(pb::DisableUserResponse {
                user: Some(convert::user(&disabled.outcome)),
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn enable_user(
        &self,
        request: Request<pb::EnableUserRequest>,
    ) -> Result<Response<pb::EnableUserResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let user = self.auth.users().enable_user(id, &info.context()).await?;
            Ok(pb::EnableUserResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<pb::RevokeUserSessionsRequest>,
    ) -> Result<Response<pb::RevokeUserSessionsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let users = self.auth.users();
            let revoked = users
                .revoke_user_sessions(id, None, &info.context())
                .await?;
            let cursor = self.auth.revocation_cursor(&revoked).await?;
            Ok(pb::RevokeUserSessionsResponse {
                revoked_count: i32::try_from(revoked.outcome).unwrap_or(i32::MAX),
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn clear_login_failures(
        &self,
        request: Request<pb::ClearLoginFailuresRequest>,
    ) -> Result<Response<pb::ClearLoginFailuresResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let user = self.auth.clear_login_failures(id, &info.context()).await?;
            Ok(pb::ClearLoginFailuresResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }

    async fn remove_user_factors(
        &self,
        request: Request<pb::RemoveUserFactorsRequest>,
    ) -> Result<Response<pb::RemoveUserFactorsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = user_id(&request.get_ref().user_id)?;
            let users = self.auth.users();
            let removed = users.remove_factors(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&removed).await?;
            Ok(pb::RemoveUserFactorsResponse {
                removed_count: i32::try_from(removed.outcome).unwrap_or(i32::MAX),
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn import_users(
        &self,
        request: Request<Streaming<pb::ImportUsersRequest>>,
    ) -> Result<Response<pb::ImportUsersResponse>, Status> {
        import_users::import_users(&self.auth, request).await
    }

    async fn set_user_roles(
        &self,
        request: Request<pb::SetUserRolesRequest>,
    ) -> Result<Response<pb::SetUserRolesResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (id, roles) = roles_of(request.get_ref())?;
            let users = self.auth.users();
            let user = users.set_roles(id, roles, &info.context()).await?;
            Ok(pb::SetUserRolesResponse {
                user: Some(convert::user(&user)),
            })
        };
        info.respond(result.await)
    }
}

fn signing_key(key: SigningKeyInfo) -> pb::SigningKey {
    pb::SigningKey {
        kid: key.kid,
        algorithm: key.algorithm,
        create_time: Some(convert::timestamp(key.created_at)),
        activate_time: Some(convert::timestamp(key.activates_at)),
    }
}
