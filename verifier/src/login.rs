//! A credential that logs in as a user with the role `verifier`, and refreshes its tokens.

use std::time::Duration;

use tokio::{sync::Mutex, time::timeout};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    pb::{LoginRequest, RefreshRequest, TokenPair, auth_service_client::AuthServiceClient},
    source::{BearerFuture, BearerSource, CredentialError},
};

/// How long the server may take. A login hashes a password, and may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the session is called in the list of the user's sessions.
const DEVICE_LABEL: &str = "countersign-verifier";

/// Logs in with a password, and then lives on refresh tokens: one session, not one for each connection.
pub(crate) struct PasswordLogin {
    client: AuthServiceClient<Channel>,
    email: String,
    password: String,
    tokens: Mutex<Option<TokenPair>>,
}

impl PasswordLogin {
    pub(crate) fn new(channel: Channel, email: String, password: String) -> Self {
        Self {
            client: AuthServiceClient::new(channel),
            email,
            password,
            tokens: Mutex::default(),
        }
    }

    /// A fresh access token for each connection, so that a stream lasts as long as a token does.
    async fn token(&self) -> Result<String, CredentialError> {
        let mut tokens = self.tokens.lock().await;
        let renewed = match &*tokens {
            // After an outage the same refresh token is sent again.
            Some(pair) => self.refresh(&pair.refresh_token).await?,
            None => None,
        };
        let pair = match renewed {
            Some(pair) => pair,
            None => {
                *tokens = None;
                self.login().await?
            }
        };
        let token = pair.access_token.clone();
        *tokens = Some(pair);
        Ok(token)
    }

    /// `None` when the session has ended.
    async fn refresh(&self, token: &str) -> Result<Option<TokenPair>, CredentialError> {
        #[allow(clippy::needless_update, reason = "the message may grow")]
        let request = RefreshRequest {
            refresh_token: token.to_owned(),
            ..RefreshRequest::default()
        };
        let mut client = self.client.clone();
        match timeout(PATIENCE, client.refresh(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().tokens),
            Ok(Err(status)) if status.code() == Code::Unauthenticated => Ok(None),
            Ok(Err(status)) => Err(unavailable(&status)),
            Err(_) => Err(silent()),
        }
    }

    async fn login(&self) -> Result<TokenPair, CredentialError> {
        let request = LoginRequest {
            email: self.email.clone(),
            password: self.password.clone(),
            device_label: DEVICE_LABEL.to_owned(),
            ..LoginRequest::default()
        };
        let mut client = self.client.clone();
        match timeout(PATIENCE, client.login(request)).await {
            Ok(Ok(response)) => response
                .into_inner()
                .tokens
                .ok_or_else(|| CredentialError::Refused("the user has a second factor".to_owned())),
            Ok(Err(status)) => Err(match status.code() {
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                    CredentialError::Refused(status_text(&status))
                }
                _ => unavailable(&status),
            }),
            Err(_) => Err(silent()),
        }
    }
}

impl BearerSource for PasswordLogin {
    fn bearer<'a>(&'a self, _refused: Option<&'a str>) -> BearerFuture<'a> {
        Box::pin(self.token())
    }
}

pub(crate) fn status_text(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    reason.unwrap_or_else(|| format!("{:?}", status.code()))
}

pub(crate) fn unavailable(status: &Status) -> CredentialError {
    CredentialError::Unavailable(status_text(status))
}

fn silent() -> CredentialError {
    CredentialError::Unavailable("the server does not answer a login".to_owned())
}
