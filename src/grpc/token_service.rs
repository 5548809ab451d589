//! `TokenService`. It needs no bearer: the credential is in the message.

use tonic::{Request, Response, Status};

use super::{
    convert,
    layers::ConnectionCertificate,
    pb::{self, issue_token_request::Credential, token_service_server},
    request_info::RequestInfo,
};
use crate::{
    auth::{Auth, AuthError, ClientCredential, ExchangeCommand},
    domain::{FieldViolation, ViolationReason},
};

/// Serves `countersign.auth.v1.TokenService`.
pub struct TokenApi {
    auth: Auth,
}

impl TokenApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl token_service_server::TokenService for TokenApi {
    async fn issue_token(
        &self,
        request: Request<pb::IssueTokenRequest>,
    ) -> Result<Response<pb::IssueTokenResponse>, Status> {
        let info = RequestInfo::of(&request);
        let result = async {
            let certificate = ConnectionCertificate::sha256(request.extensions());
            let request = request.get_ref();
            let credential = credential(request.credential.as_ref())?;
            let issued = self
                .auth
                .issue_service_token(credential, &request.audiences, certificate)
                .await?;
            Ok(pb::IssueTokenResponse {
                access_token: issued.access_token.expose().clone(),
                expire_time: Some(convert::timestamp(issued.expires_at)),
                token_type: "Bearer".to_owned(),
            })
        };
        info.respond(result.await)
    }

    async fn exchange_token(
        &self,
        request: Request<pb::ExchangeTokenRequest>,
    ) -> Result<Response<pb::ExchangeTokenResponse>, Status> {
        let info = RequestInfo::of(&request);
        let certificate_sha256 = ConnectionCertificate::sha256(request.extensions());
        let request = request.get_ref();
        let exchanged = self.auth.exchange_token(&ExchangeCommand {
            subject_token: &request.subject_token,
            actor_token: &request.actor_token,
            audiences: &request.audiences,
            roles: &request.roles,
            certificate_sha256,
        });
        info.respond(exchanged.map(|exchanged| pb::ExchangeTokenResponse {
            access_token: exchanged.access_token.expose().clone(),
            expire_time: Some(convert::timestamp(exchanged.expires_at)),
        }))
    }
}

fn credential(given: Option<&Credential>) -> Result<ClientCredential<'_>, AuthError> {
    match given {
        Some(Credential::ServiceKey(key)) => Ok(ClientCredential::ServiceKey(key)),
        Some(Credential::ClientAssertion(jwt)) => Ok(ClientCredential::Assertion(jwt)),
        None => {
            let rule = "a service key or a client assertion must be given";
            let violation = FieldViolation::new("credential", ViolationReason::Required, rule);
            Err(AuthError::InvalidFields(vec![violation]))
        }
    }
}
