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

/// How many tokens may be asked about at once.
const MOST_AT_ONCE: usize = 1024;

type Answer = Result<Arc<Claims>, VerifyError>;

/// Asks by `AuthService.ValidateToken`.
pub(crate) struct Asker {
    client: AuthServiceClient<Channel>,
    patience: Duration,
    under_way: Mutex<HashMap<Box<str>, Arc<OnceCell<Answer>>>>,
}

impl Asker {
    pub(crate) fn new(channel: Channel, patience: Duration) -> Self {
        Self {
            client: AuthServiceClient::new(channel),
            patience,
            under_way: Mutex::default(),
        }
    }

    /// The claims of a token that the server calls valid. The demand is still to be checked.
    pub(crate) async fn ask(&self, token: &str) -> Answer {
        let cell = {
            let mut under_way = self.under_way();
            if under_way.len() >= MOST_AT_ONCE && !under_way.contains_key(token) {
                return Err(VerifyError::ServerUnavailable);
            }
            Arc::clone(under_way.entry(token.into()).or_default())
        };
        // Whoever asks ends the question, also when its caller goes away: then another of those that wait asks again.
        let _end = EndOfQuestion {
            asker: self,
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

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<OnceCell<Answer>>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question away when the last one that waits for its answer has it, or has gone.
struct EndOfQuestion<'a> {
    asker: &'a Asker,
    token: &'a str,
    cell: &'a Arc<OnceCell<Answer>>,
}

impl Drop for EndOfQuestion<'_> {
    fn drop(&mut self) {
        let mut under_way = self.asker.under_way();
        let is_ours = under_way
            .get(self.token)
            .is_some_and(|cell| Arc::ptr_eq(cell, self.cell));
        // The map has one count, and each that waits another.
        let is_last = Arc::strong_count(self.cell) <= 2;
        if is_ours && (self.cell.initialized() || is_last) {
            under_way.remove(self.token);
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
