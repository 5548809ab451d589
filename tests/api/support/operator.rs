//! Short words for what those do who hold an access token: the account and admin calls, and a watcher that keeps what it
//! hears.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use countersign::grpc::pb::{
    GetJwksRequest, GetJwksResponse, Heartbeat, Jwks, TokenPair, WatchRevocationsRequest,
    WatchRevocationsResponse, account_service_client::AccountServiceClient,
    admin_service_client::AdminServiceClient, revocation::Subject,
    verifier_service_client::VerifierServiceClient, watch_revocations_response::Event,
};
use tokio::time::timeout;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::TestServer;

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A request with a bearer; with none for an empty token.
pub fn bearing<T>(access_token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !access_token.is_empty() {
        let bearer = format!("Bearer {access_token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

impl TestServer {
    pub fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub fn verifier(&self) -> VerifierServiceClient<Channel> {
        VerifierServiceClient::new(self.channel.clone())
    }

    /// Registers a user with these roles, single spaces between, and logs in.
    pub async fn signed_in_as(&self, email: &str, roles: &str) -> TokenPair {
        self.register(email).await.unwrap();
        let sql = format!("UPDATE users SET roles = '{roles}' WHERE email_key = '{email}'");
        self.database.execute(&sql).await;
        self.login(email).await.unwrap()
    }

    pub async fn jwks(&self) -> GetJwksResponse {
        let response = self.verifier().get_jwks(GetJwksRequest {}).await;
        response.unwrap().into_inner()
    }

    pub async fn watch(&self, access_token: &str, cursor: &str) -> Result<Watcher, Status> {
        Watcher::begin(self.verifier(), access_token, cursor).await
    }
}

/// A watcher, and all it has heard.
pub struct Watcher {
    pub stream: Streaming<WatchRevocationsResponse>,
    request_id: MetadataValue<Ascii>,
    pub sessions: BTreeSet<String>,
    /// Each user's newest `not_before_time`, in seconds.
    pub users: BTreeMap<String, i64>,
    pub jwks: Option<Jwks>,
    pub is_complete: bool,
    pub heartbeat: Option<Heartbeat>,
}

impl Watcher {
    pub async fn begin(
        mut client: VerifierServiceClient<Channel>,
        access_token: &str,
        cursor: &str,
    ) -> Result<Self, Status> {
        let request = WatchRevocationsRequest {
            cursor: cursor.to_owned(),
        };
        let response = client.watch_revocations(bearing(access_token, request));
        let response = response.await?;
        Ok(Self {
            request_id: response.metadata().get("x-request-id").unwrap().clone(),
            stream: response.into_inner(),
            sessions: BTreeSet::new(),
            users: BTreeMap::new(),
            jwks: None,
            is_complete: false,
            heartbeat: None,
        })
    }

    /// Takes the next message; `false` when the stream has ended.
    pub async fn hear(&mut self) -> Result<bool, Status> {
        let message = timeout(PATIENCE, self.stream.message()).await;
        let message = message
            .expect("something is heard in time")
            .map_err(|mut status| {
                // The id was in the headers, which have been read long ago.
                let metadata = status.metadata_mut();
                metadata.insert("x-request-id", self.request_id.clone());
                status
            })?;
        let Some(message) = message else {
            return Ok(false);
        };
        match message.event.expect("every message has an event") {
            Event::Revocations(batch) => {
                assert!((1..=256).contains(&batch.revocations.len()));
                for revocation in batch.revocations {
                    assert!(revocation.expire_time.is_some());
                    let not_before = revocation.not_before_time.map(|time| time.seconds);
                    match revocation.subject.expect("every revocation has a subject") {
                        Subject::SessionId(id) => {
                            assert_eq!(not_before, None);
                            self.sessions.insert(id);
                        }
                        Subject::UserId(id) => {
                            let newest = self.users.entry(id).or_default();
                            *newest = not_before.unwrap().max(*newest);
                        }
                    }
                }
            }
            Event::Jwks(jwks) => self.jwks = Some(jwks),
            Event::SnapshotComplete(_) => {
                assert!(!self.is_complete, "the mark comes once");
                assert!(self.jwks.is_some(), "the keys come before the mark");
                self.is_complete = true;
            }
            Event::Heartbeat(heartbeat) => {
                assert!(self.is_complete, "heartbeats come after the mark");
                self.heartbeat = Some(heartbeat);
            }
        }
        Ok(true)
    }

    /// Listens until `enough` says so.
    pub async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let all = async {
            while !enough(self) {
                assert!(self.hear().await.unwrap(), "the stream has ended");
            }
        };
        timeout(PATIENCE, all).await.expect("it is heard in time");
    }

    /// Listens to the first heartbeat after this moment, and tells its cursor.
    pub async fn cursor(&mut self) -> String {
        self.heartbeat = None;
        self.until(|heard| heard.heartbeat.is_some()).await;
        self.heartbeat.clone().unwrap().cursor
    }

    /// Listens until the stream ends.
    pub async fn end(mut self) -> Result<(), Status> {
        let all = async {
            while self.hear().await? {}
            Ok(())
        };
        timeout(PATIENCE, all).await.expect("it ends in time")
    }
}
