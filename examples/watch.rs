//! Follows the feed of a running server and prints what it tells, as a gateway that validates by itself
//! would use it: it keeps what is revoked, resumes where it was, and gets another token when its own ends. It ends, with code 1,
//! only when its credential is refused.
//!
//! ```sh
//! countersign service-accounts create gateway --role verifier
//! cargo run --example watch -- http://127.0.0.1:50051 "$(countersign service-keys create gateway --expires-in 30d)"
//! ```

use std::{collections::HashMap, process::ExitCode, time::Duration};

use countersign::grpc::pb::{
    Heartbeat, IssueTokenRequest, Revocation, WatchRevocationsRequest, WatchRevocationsResponse,
    issue_token_request::Credential, revocation::Subject, token_service_client::TokenServiceClient,
    verifier_service_client::VerifierServiceClient, watch_revocations_response::Event,
};
use prost_types::Timestamp;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, transport::Channel};

/// A heartbeat comes every second. Silence for longer means that the connection is lost. No other answer takes so long.
const SILENCE: Duration = Duration::from_secs(5);

/// What a gateway knows of revocations.
#[derive(Default)]
struct Known {
    /// Revoked sessions, and until when they have to be kept.
    sessions: HashMap<String, Timestamp>,
    /// Users, and the time up to which their tokens are revoked.
    users: HashMap<String, Timestamp>,
    /// Before it is set nothing is known well enough to accept a token.
    is_complete: bool,
    /// Where to go on after a break.
    cursor: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, service_key] = &arguments[..] else {
        eprintln!("usage: watch ADDRESS SERVICE_KEY");
        return ExitCode::from(2);
    };
    eprintln!("watch: {}", follow(address, service_key).await);
    ExitCode::FAILURE
}

/// Follows the feed through every outage. Returns why there is no point in trying again.
async fn follow(address: &str, service_key: &str) -> String {
    let channel = match Channel::from_shared(address.to_owned()) {
        Ok(endpoint) => endpoint
            .connect_timeout(SILENCE)
            .timeout(SILENCE)
            .connect_lazy(),
        Err(error) => return format!("{address:?} is no URL of a server: {error}"),
    };
    let mut known = Known::default();
    loop {
        let watched = match issue_token(channel.clone(), service_key).await {
            Ok(token) => watch(channel.clone(), &token, &mut known).await,
            // A key that is not accepted stays so. A later `Unauthenticated` is only an access token that has expired.
            Err(status) if status.code() == Code::Unauthenticated => {
                return format!("the service key is not accepted: {}", status.message());
            }
            Err(status) => Err(status),
        };
        match watched {
            Ok(()) => println!("the server shuts down: resuming"),
            // Who may not watch need not try again.
            Err(status) if status.code() == Code::PermissionDenied => {
                return format!("the service account may not watch: {}", status.message());
            }
            Err(status) => println!("{:?}, {}: resuming", status.code(), status.message()),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Gets an access token for the service key.
async fn issue_token(channel: Channel, service_key: &str) -> Result<String, Status> {
    let request = IssueTokenRequest {
        credential: Some(Credential::ServiceKey(service_key.to_owned())),
        audiences: Vec::new(),
    };
    let issued = TokenServiceClient::new(channel)
        .issue_token(request)
        .await?;
    Ok(issued.into_inner().access_token)
}

/// Watches until the stream ends.
async fn watch(channel: Channel, token: &str, known: &mut Known) -> Result<(), Status> {
    let mut request = Request::new(WatchRevocationsRequest {
        cursor: known.cursor.clone(),
    });
    let bearer = format!("Bearer {token}").parse();
    let bearer = bearer.map_err(|_| Status::invalid_argument("the token is no text"))?;
    request.metadata_mut().insert("authorization", bearer);
    let mut verifier = VerifierServiceClient::new(channel);
    let mut stream = verifier.watch_revocations(request).await?.into_inner();
    loop {
        let message = timeout(SILENCE, stream.message()).await;
        let message =
            message.map_err(|_| Status::unavailable("no message within the heartbeat limit"))?;
        match message? {
            Some(message) => known.apply(message),
            None => return Ok(()),
        }
    }
}

impl Known {
    fn apply(&mut self, message: WatchRevocationsResponse) {
        match message.event {
            Some(Event::Revocations(batch)) => {
                let count = batch.revocations.len();
                batch
                    .revocations
                    .into_iter()
                    .for_each(|one| self.learn(one));
                println!("{count} revocations");
            }
            Some(Event::Jwks(jwks)) => println!("keys: {}", jwks.jwks_json),
            Some(Event::SnapshotComplete(_)) => {
                self.is_complete = true;
                let (sessions, users) = (self.sessions.len(), self.users.len());
                println!("up to date: {sessions} sessions and {users} users are revoked");
            }
            Some(Event::Heartbeat(heartbeat)) => self.note(heartbeat),
            // An event of a newer server.
            None => {}
        }
    }

    fn learn(&mut self, revocation: Revocation) {
        match revocation.subject {
            Some(Subject::SessionId(id)) => {
                println!("  session {id}");
                self.sessions
                    .insert(id, revocation.expire_time.unwrap_or_default());
            }
            Some(Subject::UserId(id)) => {
                println!("  user {id}");
                let not_before = revocation.not_before_time.unwrap_or_default();
                let newest = self.users.entry(id).or_insert(not_before);
                // Revocations come in any order, and more than once.
                if (newest.seconds, newest.nanos) < (not_before.seconds, not_before.nanos) {
                    *newest = not_before;
                }
            }
            None => {}
        }
    }

    fn note(&mut self, heartbeat: Heartbeat) {
        let as_of = heartbeat.revocation_as_of.unwrap_or_default();
        self.sessions.retain(|_, end| end.seconds > as_of.seconds);
        println!("heartbeat; as of {as_of}");
        self.cursor = heartbeat.cursor;
    }
}
