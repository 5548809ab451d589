//! Validates one token by a call to the server. Concurrent calls for the same token share one call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::timeout};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    VerifyError,
    claims::Claims,
    error::DOMAIN,
    pb::{ValidateTokenRequest, auth_service_client::AuthServiceClient},
    token,
};

/// How many tokens may be validated at once.
const MAX_PENDING: usize = 1024;

type Answer = Result<Arc<Claims>, VerifyError>;

/// Validates tokens with `AuthService.ValidateToken`.
pub(crate) struct RemoteValidator {
    client: AuthServiceClient<Channel>,
    patience: Duration,
    pending: Mutex<HashMap<Box<str>, Arc<OnceCell<Answer>>>>,
}

impl RemoteValidator {
    pub(crate) fn new(channel: Channel, patience: Duration) -> Self {
        Self {
            client: AuthServiceClient::new(channel),
            patience,
            pending: Mutex::default(),
        }
    }

    /// The claims of a token that the server accepts. The caller has to check its demand.
    pub(crate) async fn ask(&self, token: &str) -> Answer {
        let cell = {
            let mut pending = self.pending();
            if pending.len() >= MAX_PENDING && !pending.contains_key(token) {
                return Err(VerifyError::ServerUnavailable);
            }
            Arc::clone(pending.entry(token.into()).or_default())
        };
        // Removes the entry when this caller has the answer or goes away; in the latter case another waiting caller repeats the call.
        let _end = PendingCall {
            validator: self,
            token,
            cell: &cell,
        };
        cell.get_or_init(|| self.call(token)).await.clone()
    }

    async fn call(&self, token: &str) -> Answer {
        let request = ValidateTokenRequest {
            access_token: token.to_owned(),
            ..ValidateTokenRequest::default()
        };
        let mut client = self.client.clone();
        match timeout(self.patience, client.validate_token(request)).await {
            Ok(Ok(_)) => token::read_without_verifying(token)
                .map(Arc::new)
                .ok_or(VerifyError::TokenInvalid),
            Ok(Err(status)) => Err(refused(&status)),
            Err(_) => Err(VerifyError::ServerUnavailable),
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<OnceCell<Answer>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the entry of a call when it has its answer, or when the last caller that waits for it has gone.
struct PendingCall<'a> {
    validator: &'a RemoteValidator,
    token: &'a str,
    cell: &'a Arc<OnceCell<Answer>>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        let mut pending = self.validator.pending();
        let is_ours = pending
            .get(self.token)
            .is_some_and(|cell| Arc::ptr_eq(cell, self.cell));
        // The map has one count, and each that waits another.
        let is_last = Arc::strong_count(self.cell) <= 2;
        if is_ours && (self.cell.initialized() || is_last) {
            pending.remove(self.token);
        }
    }
}

fn refused(status: &Status) -> VerifyError {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let reason = info.map(|info| info.reason.as_str());
    match (status.code(), reason) {
        (Code::Unauthenticated, Some("TOKEN_EXPIRED")) => VerifyError::TokenExpired,
        (Code::Unauthenticated, Some("TOKEN_REVOKED")) => VerifyError::TokenRevoked,
        (Code::Unauthenticated, Some(_)) => VerifyError::TokenInvalid,
        _ => VerifyError::ServerUnavailable,
    }
}
