//! `VerifierService`: the public keys, and the stream of revocations.

use std::{pin::Pin, time::Duration};

use http::Extensions;
use prost_types::Duration as PbDuration;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    Detail, Reason, RequestId, convert, error_status,
    layers::{Caller, ConnectionCertificate},
    pb::{self, verifier_service_server, watch_revocations_response::Event},
    status,
};
use crate::{
    auth::{Auth, AuthError, Watcher},
    domain::{PositionedRevocation, RevokedSubject},
    revocation::{FeedEvent, WatchEnd},
};

/// When a watcher whose stream was ended should connect again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// Serves `countersign.auth.v1.VerifierService`.
pub struct VerifierApi {
    auth: Auth,
}

impl VerifierApi {
    /// Serves the use cases of `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl verifier_service_server::VerifierService for VerifierApi {
    async fn get_jwks(
        &self,
        _: Request<pb::GetJwksRequest>,
    ) -> Result<Response<pb::GetJwksResponse>, Status> {
        Ok(Response::new(pb::GetJwksResponse {
            jwks_json: self.auth.jwks().json.clone(),
            max_age: Some(duration(self.auth.jwks_max_age())),
        }))
    }

    type WatchRevocationsStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let request_id = RequestId::of(request.extensions());
        let events = watcher(request.extensions())
            .and_then(|watcher| self.auth.watch(&request.get_ref().cursor, watcher))
            .map_err(|error| error_status(error, &request_id))?;
        let max_age = self.auth.jwks_max_age();
        let stream = ReceiverStream::new(events).map(move |event| match event {
            Ok(event) => Ok(response(event, max_age)),
            Err(WatchEnd::NotAllowed(error)) => Err(error_status(error, &request_id)),
            Err(WatchEnd::TooSlow) => {
                let detail = Detail::RetryAfter(WATCH_RETRY);
                Err(status(Reason::WatcherTooSlow, &request_id, detail))
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Who watches: access control has let pass a good token, or else a certificate.
fn watcher(extensions: &Extensions) -> Result<Watcher, AuthError> {
    if let Some(caller) = Caller::of(extensions) {
        return Ok(Watcher::Token(caller.claims.clone()));
    }
    let sha256 = ConnectionCertificate::sha256(extensions).ok_or(AuthError::TokenMissing)?;
    Ok(Watcher::Certificate { sha256 })
}

fn response(event: FeedEvent, max_age: Duration) -> pb::WatchRevocationsResponse {
    let event = match event {
        FeedEvent::Revocations(batch) => Event::Revocations(pb::RevocationBatch {
            revocations: batch.iter().map(revocation).collect(),
        }),
        FeedEvent::Keys(keys) => Event::Jwks(pb::Jwks {
            jwks_json: keys.json.clone(),
            max_age: Some(duration(max_age)),
        }),
        FeedEvent::SnapshotComplete => Event::SnapshotComplete(pb::SnapshotComplete {}),
        FeedEvent::Heartbeat(heartbeat) => Event::Heartbeat(pb::Heartbeat {
            revocation_as_of: Some(convert::timestamp(heartbeat.as_of)),
            cursor: heartbeat.cursor.to_string(),
        }),
    };
    pb::WatchRevocationsResponse { event: Some(event) }
}

fn revocation(positioned: &PositionedRevocation) -> pb::Revocation {
    let revocation = &positioned.revocation;
    let (subject, not_before_time) = match revocation.subject {
        RevokedSubject::Session(id) => {
            let subject = pb::revocation::Subject::SessionId(id.to_string());
            (subject, None)
        }
        RevokedSubject::User(id) => {
            let not_before = convert::timestamp(revocation.not_before);
            (
                pb::revocation::Subject::UserId(id.to_string()),
                Some(not_before),
            )
        }
    };
    pb::Revocation {
        subject: Some(subject),
        not_before_time,
        expire_time: Some(convert::timestamp(revocation.expires_at)),
    }
}

fn duration(duration: Duration) -> PbDuration {
    PbDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than a second"),
    }
}
