//! A credential that needs nothing but a service account with role `verifier` and one of its keys: each connection gets a
//! new access token for it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, transport::Channel};

use crate::{
    login::{told, unavailable},
    pb::{
        IssueTokenRequest, issue_token_request::Credential,
        token_service_client::TokenServiceClient,
    },
    source::{BearerFuture, BearerSource, CredentialError},
};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Exchanges a service key for an access token, each time that it is asked: the server issues one from memory.
pub(crate) struct ServiceKey {
    client: TokenServiceClient<Channel>,
    key: String,
}

impl ServiceKey {
    pub(crate) fn new(channel: Channel, key: String) -> Self {
        Self {
            client: TokenServiceClient::new(channel),
            key,
        }
    }

    async fn token(&self) -> Result<String, CredentialError> {
        let request = IssueTokenRequest {
            credential: Some(Credential::ServiceKey(self.key.clone())),
            audiences: Vec::new(),
        };
        let mut client = self.client.clone();
        match timeout(PATIENCE, client.issue_token(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().access_token),
            Ok(Err(status)) => Err(match status.code() {
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                    CredentialError::Refused(told(&status))
                }
                _ => unavailable(&status),
            }),
            Err(_) => Err(CredentialError::Unavailable(
                "the server issues no token in time".to_owned(),
            )),
        }
    }
}

impl BearerSource for ServiceKey {
    fn bearer<'a>(&'a self, _refused: Option<&'a str>) -> BearerFuture<'a> {
        Box::pin(self.token())
    }
}
