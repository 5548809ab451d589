//! `ServiceAccountService`. `layers::AuthorizationLayer` has checked that the caller has the role `admin`.

use prost_types::{FieldMask, Timestamp as PbTimestamp};
use tonic::{Request, Response, Status};

use super::{
    convert::{self, Violations},
    paging::{self, Listing},
    pb::{self, service_account_service_server},
    request_info::RequestInfo,
};
use crate::{
    auth::{Auth, AuthError, NewServiceAccount, ServiceAccounts},
    clock::Timestamp,
    domain::{
        DisplayName, FieldViolation, Roles, ServiceAccount, ServiceAccountChange, ServiceAccountId,
        ServiceAccountName, ServiceKey, ViolationReason,
    },
};

/// Serves `countersign.auth.v1.ServiceAccountService`.
pub struct ServiceAccountApi {
    auth: Auth,
}

impl ServiceAccountApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }

    fn accounts(&self) -> ServiceAccounts {
        self.auth.service_accounts()
    }
}

#[tonic::async_trait]
impl service_account_service_server::ServiceAccountService for ServiceAccountApi {
    async fn create_service_account(
        &self,
        request: Request<pb::CreateServiceAccountRequest>,
    ) -> Result<Response<pb::CreateServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let new = new_account(request.get_ref())?;
            let created = self.accounts().create(new, &info.context()).await?;
            Ok(pb::CreateServiceAccountResponse {
                service_account: Some(account(&created)),
            })
        };
        info.respond(result.await)
    }

    async fn get_service_account(
        &self,
        request: Request<pb::GetServiceAccountRequest>,
    ) -> Result<Response<pb::GetServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = account_id(&request.get_ref().service_account_id)?;
            let found = self.accounts().find(id).await?;
            Ok(pb::GetServiceAccountResponse {
                service_account: Some(account(&found)),
            })
        };
        info.respond(result.await)
    }

    async fn list_service_accounts(
        &self,
        request: Request<pb::ListServiceAccountsRequest>,
    ) -> Result<Response<pb::ListServiceAccountsResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let request = request.get_ref();
            let listing = Listing::new(self.auth.page_tokens(), "service accounts", "");
            let mut violations = Violations::default();
            let size = violations.take(paging::size("page_size", request.page_size));
            let after = violations.take(listing.position("page_token", &request.page_token));
            let (Some(after), Some(size)) = (after, size) else {
                return Err(violations.into());
            };
            let page = self.accounts().list(after, size).await?;
            Ok(pb::ListServiceAccountsResponse {
                service_accounts: page.items.iter().map(account).collect(),
                next_page_token: listing.token(page.next),
            })
        };
        info.respond(result.await)
    }

    async fn update_service_account(
        &self,
        request: Request<pb::UpdateServiceAccountRequest>,
    ) -> Result<Response<pb::UpdateServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let (id, change) = change_of(request.get_ref())?;
            let updated = self.accounts().update(id, change, &info.context()).await?;
            Ok(pb::UpdateServiceAccountResponse {
                service_account: Some(account(&updated)),
            })
        };
        info.respond(result.await)
    }

    async fn disable_service_account(
        &self,
        request: Request<pb::DisableServiceAccountRequest>,
    ) -> Result<Response<pb::DisableServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = account_id(&request.get_ref().service_account_id)?;
            let disabled = self.accounts().disable(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&disabled).await?;
            Ok(pb::DisableServiceAccountResponse {
                service_account: Some(account(&disabled.outcome)),
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn enable_service_account(
        &self,
        request: Request<pb::EnableServiceAccountRequest>,
    ) -> Result<Response<pb::EnableServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = account_id(&request.get_ref().service_account_id)?;
            let enabled = self.accounts().enable(id, &info.context()).await?;
            Ok(pb::EnableServiceAccountResponse {
                service_account: Some(account(&enabled)),
            })
        };
        info.respond(result.await)
    }

    async fn delete_service_account(
        &self,
        request: Request<pb::DeleteServiceAccountRequest>,
    ) -> Result<Response<pb::DeleteServiceAccountResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let id = account_id(&request.get_ref().service_account_id)?;
            let deleted = self.accounts().delete(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&deleted).await?;
            Ok(pb::DeleteServiceAccountResponse {
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }

    async fn create_service_key(
        &self,
        request: Request<pb::CreateServiceKeyRequest>,
    ) -> Result<Response<pb::CreateServiceKeyResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let request = request.get_ref();
            let mut violations = Violations::default();
            let id = &request.service_account_id;
            let id = violations.take(convert::service_account_id("service_account_id", id));
            let expires_at = violations.take(expiry(request.expire_time.as_ref()));
            let (Some(id), Some(expires_at)) = (id, expires_at) else {
                return Err(violations.into());
            };
            let (secret, created) = self
                .auth
                .create_service_key(id, expires_at, &info.context())
                .await?;
            Ok(pb::CreateServiceKeyResponse {
                service_key: secret.expose().clone(),
                key: Some(key(&created)),
            })
        };
        info.respond(result.await)
    }

    async fn list_service_keys(
        &self,
        request: Request<pb::ListServiceKeysRequest>,
    ) -> Result<Response<pb::ListServiceKeysResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let request = request.get_ref();
            let mut violations = Violations::default();
            let id = &request.service_account_id;
            let listing = Listing::new(self.auth.page_tokens(), "service keys", id);
            let id = violations.take(convert::service_account_id("service_account_id", id));
            let size = violations.take(paging::size("page_size", request.page_size));
            let after = violations.take(listing.position("page_token", &request.page_token));
            let (Some(id), Some(after), Some(size)) = (id, after, size) else {
                return Err(violations.into());
            };
            let page = self.accounts().list_keys(id, after, size).await?;
            Ok(pb::ListServiceKeysResponse {
                service_keys: page.items.iter().map(key).collect(),
                next_page_token: listing.token(page.next),
            })
        };
        info.respond(result.await)
    }

    async fn revoke_service_key(
        &self,
        request: Request<pb::RevokeServiceKeyRequest>,
    ) -> Result<Response<pb::RevokeServiceKeyResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let mut violations = Violations::default();
            let id = &request.get_ref().key_id;
            let id = violations.take(convert::service_key_id("key_id", id));
            let id = id.ok_or_else(|| AuthError::from(violations))?;
            let revoked = self.accounts().revoke_key(id, &info.context()).await?;
            let cursor = self.auth.revocation_cursor(&revoked).await?;
            Ok(pb::RevokeServiceKeyResponse {
                revocation_cursor: cursor.to_string(),
            })
        };
        info.respond(result.await)
    }
}

fn account_id(text: &str) -> Result<ServiceAccountId, AuthError> {
    let mut violations = Violations::default();
    let id = violations.take(convert::service_account_id("service_account_id", text));
    id.ok_or_else(|| violations.into())
}

fn new_account(request: &pb::CreateServiceAccountRequest) -> Result<NewServiceAccount, AuthError> {
    let mut violations = Violations::default();
    let name = violations.take(ServiceAccountName::parse("name", &request.name));
    let display_name = violations.take(DisplayName::parse("display_name", &request.display_name));
    let roles = violations.take(Roles::parse("roles", &request.roles));
    match (name, display_name, roles) {
        (Some(name), Some(display_name), Some(roles)) => Ok(NewServiceAccount {
            name,
            display_name,
            roles,
            audiences: request.audiences.clone(),
            act_for_users_at: request.act_for_users_at.clone(),
        }),
        _ => Err(violations.into()),
    }
}

/// The parts of a service account that can be changed.
const PARTS: [&str; 4] = ["display_name", "roles", "audiences", "act_for_users_at"];

fn change_of(
    request: &pb::UpdateServiceAccountRequest,
) -> Result<(ServiceAccountId, ServiceAccountChange), AuthError> {
    let given = request.service_account.clone().unwrap_or_default();
    let mut violations = Violations::default();
    let id = "service_account.service_account_id";
    let id = violations.take(convert::service_account_id(id, &given.service_account_id));
    let named = violations.take(named_parts(request.update_mask.as_ref()));
    // Without a mask, what is not empty changes (AIP-134).
    let changes = |part, is_given| match named.as_ref().and_then(Option::as_ref) {
        Some(named) => named.contains(&part),
        None => is_given,
    };
    let [display_name, roles, audiences, act_for_users_at] = PARTS;
    let mut change = ServiceAccountChange::default();
    if changes(display_name, !given.display_name.is_empty()) {
        let field = "service_account.display_name";
        change.display_name = violations.take(DisplayName::parse(field, &given.display_name));
    }
    if changes(roles, !given.roles.is_empty()) {
        change.roles = violations.take(Roles::parse("service_account.roles", &given.roles));
    }
    if changes(audiences, !given.audiences.is_empty()) {
        change.audiences = Some(given.audiences);
    }
    if changes(act_for_users_at, !given.act_for_users_at.is_empty()) {
        change.act_for_users_at = Some(given.act_for_users_at);
    }
    match (id, violations.is_empty()) {
        (Some(id), true) => Ok((id, change)),
        _ => Err(violations.into()),
    }
}

/// The parts that a mask names; `None` without a mask.
fn named_parts(mask: Option<&FieldMask>) -> Result<Option<Vec<&'static str>>, FieldViolation> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        return Ok(None);
    };
    let mut named = Vec::new();
    for path in &mask.paths {
        match PARTS.into_iter().find(|part| part == path) {
            Some(part) => named.push(part),
            None if path == "*" => named.extend(PARTS),
            None => {
                let rule = "may name display_name, roles, audiences and act_for_users_at, or be *";
                let reason = ViolationReason::NotAllowed;
                return Err(FieldViolation::new("update_mask", reason, rule));
            }
        }
    }
    Ok(Some(named))
}

fn expiry(time: Option<&PbTimestamp>) -> Result<Timestamp, FieldViolation> {
    let field = "expire_time";
    let time =
        time.ok_or_else(|| FieldViolation::new(field, ViolationReason::Required, "must be given"))?;
    convert::moment(field, time)
}

fn account(account: &ServiceAccount) -> pb::ServiceAccount {
    pb::ServiceAccount {
        service_account_id: account.id.to_string(),
        name: account.name.as_str().to_owned(),
        display_name: account.display_name.as_str().to_owned(),
        roles: account.roles.names().map(str::to_owned).collect(),
        audiences: account.audiences.clone(),
        disabled: account.disabled_at.is_some(),
        create_time: Some(convert::timestamp(account.created_at)),
        update_time: Some(convert::timestamp(account.updated_at)),
        act_for_users_at: account.act_for_users_at.clone(),
    }
}

fn key(key: &ServiceKey) -> pb::ServiceKey {
    pb::ServiceKey {
        key_id: key.id.to_string(),
        service_account_id: key.account_id.to_string(),
        create_time: Some(convert::timestamp(key.created_at)),
        expire_time: Some(convert::timestamp(key.expires_at)),
        last_use_time: key.last_used_at.map(convert::timestamp),
    }
}
