//! Credentials of a service account with role `verifier`: a key, or an assertion of its platform. Each connection gets a new
//! access token for it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};
use tonic::{Code, transport::Channel};

use crate::{
    login::{status_text, unavailable},
    pb::{
        IssueTokenRequest, issue_token_request::Credential,
        token_service_client::TokenServiceClient,
    },
    source::{BearerFuture, BearerSource, CredentialError},
};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The longest assertion that the server reads, in bytes.
const MAX_ASSERTION: u64 = 16 * 1024;

/// How a service account proves itself.
pub(crate) enum Proof {
    /// A service key, `csk_…`.
    Key(String),
    /// A file with a JWT that the platform renews. It is read for each token.
    AssertionFile(PathBuf),
}

/// Exchanges a proof for an access token, each time that it is asked: the server issues one from memory.
pub(crate) struct IssuedToken {
    client: TokenServiceClient<Channel>,
    proof: Proof,
}

impl IssuedToken {
    pub(crate) fn new(channel: Channel, proof: Proof) -> Self {
        Self {
            client: TokenServiceClient::new(channel),
            proof,
        }
    }

    async fn token(&self) -> Result<String, CredentialError> {
        let request = IssueTokenRequest {
            credential: Some(self.credential().await?),
            audiences: Vec::new(),
        };
        let mut client = self.client.clone();
        match timeout(PATIENCE, client.issue_token(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().access_token),
            Ok(Err(status)) => Err(match status.code() {
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                    CredentialError::Refused(status_text(&status))
                }
                _ => unavailable(&status),
            }),
            Err(_) => Err(CredentialError::Unavailable(
                "the server issues no token in time".to_owned(),
            )),
        }
    }

    async fn credential(&self) -> Result<Credential, CredentialError> {
        match &self.proof {
            Proof::Key(key) => Ok(Credential::ServiceKey(key.clone())),
            Proof::AssertionFile(path) => {
                let file = path.clone();
                let read = spawn_blocking(move || read_assertion(&file)).await;
                let assertion = read.map_err(io::Error::other).flatten();
                // The platform may be about to write it.
                let assertion = assertion.map_err(|error| {
                    CredentialError::Unavailable(format!("{}: {error}", path.display()))
                })?;
                Ok(Credential::ClientAssertion(assertion))
            }
        }
    }
}

fn read_assertion(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_ASSERTION + 1)
        .read_to_string(&mut text)?;
    match text.trim() {
        "" => Err(io::Error::other("the file is empty")),
        assertion if assertion.len() as u64 > MAX_ASSERTION => {
            Err(io::Error::other("the file has more than 16 KiB"))
        }
        assertion => Ok(assertion.to_owned()),
    }
}

impl BearerSource for IssuedToken {
    fn bearer<'a>(&'a self, _refused: Option<&'a str>) -> BearerFuture<'a> {
        Box::pin(self.token())
    }
}
