//! Short words for service accounts: create one with a key, get its token, exchange tokens.

use countersign::grpc::pb::{
    CreateServiceAccountRequest, CreateServiceKeyRequest, DisableServiceAccountRequest,
    EnableServiceAccountRequest, ExchangeTokenRequest, IssueTokenRequest, RevokeServiceKeyRequest,
    ServiceAccount, ServiceKey, issue_token_request::Credential,
    service_account_service_client::ServiceAccountServiceClient,
    token_service_client::TokenServiceClient,
};
use prost_types::Timestamp;
use tonic::{Status, transport::Channel};

use super::{TestServer, operator::bearing};

/// A service with an account and a key.
pub struct Service {
    pub account: ServiceAccount,
    pub key: ServiceKey,
    /// `csk_…`
    pub secret: String,
}

/// What an account may do; each list with single spaces between.
#[derive(Clone, Copy, Default)]
pub struct Rights<'a> {
    pub roles: &'a str,
    pub audiences: &'a str,
    pub act_for_users_at: &'a str,
}

pub fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

impl TestServer {
    pub fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub fn service_accounts(&self) -> ServiceAccountServiceClient<Channel> {
        ServiceAccountServiceClient::new(self.channel.clone())
    }

    /// The access token of an administrator.
    pub async fn administrator(&self) -> String {
        self.signed_in_as("root@example.org", "admin")
            .await
            .access_token
    }

    pub async fn create_account(
        &self,
        admin: &str,
        name: &str,
        rights: Rights<'_>,
    ) -> Result<ServiceAccount, Status> {
        let request = CreateServiceAccountRequest {
            name: name.to_owned(),
            display_name: String::new(),
            roles: words(rights.roles),
            audiences: words(rights.audiences),
            act_for_users_at: words(rights.act_for_users_at),
        };
        let request = bearing(admin, request);
        let response = self
            .service_accounts()
            .create_service_account(request)
            .await?;
        Ok(response.into_inner().service_account.unwrap())
    }

    /// A new key of an account, good for a day on the server's clock.
    pub async fn create_key(
        &self,
        admin: &str,
        account: &ServiceAccount,
    ) -> Result<(String, ServiceKey), Status> {
        let now = account
            .create_time
            .unwrap()
            .seconds
            .max(self.clock.now().seconds());
        let request = CreateServiceKeyRequest {
            service_account_id: account.service_account_id.clone(),
            expire_time: Some(Timestamp {
                seconds: now + 86_400,
                nanos: 0,
            }),
        };
        let request = bearing(admin, request);
        let response = self.service_accounts().create_service_key(request).await?;
        let created = response.into_inner();
        Ok((created.service_key, created.key.unwrap()))
    }

    pub async fn service(&self, admin: &str, name: &str, rights: Rights<'_>) -> Service {
        let account = self.create_account(admin, name, rights).await.unwrap();
        let (secret, key) = self.create_key(admin, &account).await.unwrap();
        Service {
            account,
            key,
            secret,
        }
    }

    pub async fn revoke_key(&self, admin: &str, key: &ServiceKey) -> Result<String, Status> {
        let key_id = key.key_id.clone();
        let request = bearing(admin, RevokeServiceKeyRequest { key_id });
        let response = self.service_accounts().revoke_service_key(request).await?;
        Ok(response.into_inner().revocation_cursor)
    }

    pub async fn disable_account(
        &self,
        admin: &str,
        account: &ServiceAccount,
    ) -> Result<ServiceAccount, Status> {
        let service_account_id = account.service_account_id.clone();
        let request = bearing(admin, DisableServiceAccountRequest { service_account_id });
        let response = self
            .service_accounts()
            .disable_service_account(request)
            .await?;
        Ok(response.into_inner().service_account.unwrap())
    }

    pub async fn enable_account(
        &self,
        admin: &str,
        account: &ServiceAccount,
    ) -> Result<ServiceAccount, Status> {
        let service_account_id = account.service_account_id.clone();
        let request = bearing(admin, EnableServiceAccountRequest { service_account_id });
        let response = self
            .service_accounts()
            .enable_service_account(request)
            .await?;
        Ok(response.into_inner().service_account.unwrap())
    }

    /// An access token for a service key, for these audiences.
    pub async fn issue_for(&self, secret: &str, audiences: &str) -> Result<String, Status> {
        let request = IssueTokenRequest {
            credential: Some(Credential::ServiceKey(secret.to_owned())),
            audiences: words(audiences),
        };
        let response = self.tokens().issue_token(request).await?;
        Ok(response.into_inner().access_token)
    }

    pub async fn issue(&self, secret: &str) -> Result<String, Status> {
        self.issue_for(secret, "").await
    }

    /// Exchanges a subject token by the token of an actor.
    pub async fn exchange(
        &self,
        subject: &str,
        actor: &str,
        audiences: &str,
        roles: &str,
    ) -> Result<String, Status> {
        let request = ExchangeTokenRequest {
            subject_token: subject.to_owned(),
            actor_token: actor.to_owned(),
            audiences: words(audiences),
            roles: words(roles),
        };
        let response = self.tokens().exchange_token(request).await?;
        Ok(response.into_inner().access_token)
    }
}
