//! A feed server: each stream is handed to the test, which writes it message by message.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_verifier::pb::{
    self, auth_service_server as auth, issue_token_request::Credential, revocation::Subject,
    token_service_server as tokens, verifier_service_server as verifier,
    watch_revocations_response::Event,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};

use super::{now_millis, soon};

type Message = Result<pb::WatchRevocationsResponse, Status>;

/// What the server does; tests change it.
#[derive(Default)]
pub struct Behaviour {
    /// Every stream is refused with this.
    pub refuse: Mutex<Option<Status>>,
    pub jwks: Mutex<String>,
    pub jwks_calls: AtomicUsize,
    pub watch_calls: AtomicUsize,
    /// The answer of `ValidateToken`, after a delay.
    pub validation: Mutex<Option<Status>>,
    pub validation_delay: Mutex<Duration>,
    pub validation_calls: AtomicUsize,
    /// How many access tokens were issued for a service key.
    pub issue_calls: AtomicUsize,
    /// Refresh tokens are refused.
    pub session_ended: AtomicBool,
}

/// A server in threads of its own: when it stops, its connections break as those of a killed process do.
pub struct FakeServer {
    address: SocketAddr,
    pub behaviour: Arc<Behaviour>,
    watches: mpsc::UnboundedReceiver<Watch>,
    sender: mpsc::UnboundedSender<Watch>,
    runtime: Option<Runtime>,
}

/// One stream that a verifier has opened.
pub struct Watch {
    pub cursor: String,
    pub bearer: String,
    messages: mpsc::Sender<Message>,
}

impl FakeServer {
    pub async fn start() -> Self {
        let (sender, watches) = mpsc::unbounded_channel();
        let mut server = Self {
            address: ([127, 0, 0, 1], 0).into(),
            behaviour: Arc::default(),
            watches,
            sender,
            runtime: None,
        };
        server.run().await;
        server
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks all connections and refuses new ones.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Serves (again), on the same port.
    pub async fn run(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bind = async {
            // The port may be in use for a moment after a stop.
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let (address, listener) = {
            let _guard = runtime.enter();
            let listener = soon("binding the port", bind).await;
            let listener = listener.into_std().unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        self.address = address;
        let service = Fake {
            behaviour: Arc::clone(&self.behaviour),
            watches: self.sender.clone(),
        };
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(verifier::VerifierServiceServer::new(service.clone()))
                .add_service(tokens::TokenServiceServer::new(service.clone()))
                .add_service(auth::AuthServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        self.runtime = Some(runtime);
    }

    pub fn refuse(&self, status: impl Into<Option<Status>>) {
        *self.behaviour.refuse.lock().unwrap() = status.into();
    }

    pub async fn next_watch(&mut self) -> Watch {
        soon("a connection of the verifier", self.watches.recv())
            .await
            .unwrap()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watch {
    pub async fn send(&self, event: Event) {
        let message = pb::WatchRevocationsResponse { event: Some(event) };
        let _ = self.messages.send(Ok(message)).await;
    }

    pub async fn end(self, status: Status) {
        let _ = self.messages.send(Err(status)).await;
    }

    pub async fn jwks(&self, jwks_json: &str) {
        let jwks_json = jwks_json.to_owned();
        self.send(Event::Jwks(pb::Jwks {
            jwks_json,
            max_age: None,
        }))
        .await;
    }

    pub async fn revocations(&self, revocations: &[pb::Revocation]) {
        let revocations = revocations.to_vec();
        self.send(Event::Revocations(pb::RevocationBatch { revocations }))
            .await;
    }

    pub async fn snapshot(&self, jwks: &str, revocations: &[pb::Revocation]) {
        self.jwks(jwks).await;
        self.revocations(revocations).await;
        self.send(Event::SnapshotComplete(pb::SnapshotComplete {}))
            .await;
    }

    pub async fn heartbeat(&self, cursor: &str) {
        self.heartbeat_as_of(cursor, now_millis()).await;
    }

    pub async fn heartbeat_as_of(&self, cursor: &str, as_of_millis: i64) {
        let heartbeat = pb::Heartbeat {
            revocation_as_of: Some(time(as_of_millis)),
            cursor: cursor.to_owned(),
        };
        self.send(Event::Heartbeat(heartbeat)).await;
    }

    /// Waits until the verifier has dropped the stream.
    pub async fn dropped(&self) {
        soon("the end of the stream", self.messages.closed()).await;
    }
}

/// A revocation of a session, for an hour.
pub fn of_session(id: &str) -> pb::Revocation {
    revocation(Subject::SessionId(id.to_owned()), None)
}

/// The same, until then.
pub fn of_session_until(id: &str, expire_millis: i64) -> pb::Revocation {
    pb::Revocation {
        expire_time: Some(time(expire_millis)),
        ..of_session(id)
    }
}

/// A revocation of all tokens of a user that were issued until then.
pub fn of_user(id: &str, not_before_millis: i64) -> pb::Revocation {
    revocation(Subject::UserId(id.to_owned()), Some(not_before_millis))
}

fn revocation(subject: Subject, not_before: Option<i64>) -> pb::Revocation {
    pb::Revocation {
        subject: Some(subject),
        not_before_time: not_before.map(time),
        expire_time: Some(time(now_millis() + 3_600_000)),
    }
}

fn time(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: i32::try_from(millis.rem_euclid(1_000)).unwrap() * 1_000_000,
    }
}

/// A cursor of an epoch and a position.
pub fn cursor(epoch: u8, position: i64) -> String {
    let mut bytes = vec![2];
    bytes.extend([epoch; 8]);
    bytes.extend(position.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

#[derive(Clone)]
struct Fake {
    behaviour: Arc<Behaviour>,
    watches: mpsc::UnboundedSender<Watch>,
}

#[tonic::async_trait]
impl verifier::VerifierService for Fake {
    async fn get_jwks(
        &self,
        _: Request<pb::GetJwksRequest>,
    ) -> Result<Response<pb::GetJwksResponse>, Status> {
        self.behaviour.jwks_calls.fetch_add(1, Ordering::SeqCst);
        let jwks_json = self.behaviour.jwks.lock().unwrap().clone();
        Ok(Response::new(pb::GetJwksResponse {
            jwks_json,
            max_age: None,
        }))
    }

    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Message> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        self.behaviour.watch_calls.fetch_add(1, Ordering::SeqCst);
        if let Some(status) = &*self.behaviour.refuse.lock().unwrap() {
            return Err(status.clone());
        }
        let bearer = request.metadata().get("authorization");
        let bearer = bearer.map(|value| value.to_str().unwrap().to_owned());
        let (messages, receiver) = mpsc::channel(1_024);
        let _ = self.watches.send(Watch {
            cursor: request.into_inner().cursor,
            bearer: bearer.unwrap_or_default(),
            messages,
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Fake {
    fn tokens(name: &str) -> pb::TokenPair {
        pb::TokenPair {
            access_token: name.to_owned(),
            refresh_token: name.to_owned(),
            ..pb::TokenPair::default()
        }
    }
}

fn not_here() -> Status {
    Status::unimplemented("not in these tests")
}

#[tonic::async_trait]
impl auth::AuthService for Fake {
    async fn register(
        &self,
        _: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        Err(not_here())
    }

    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        if request.get_ref().password != "good password" {
            return Err(Status::unauthenticated("wrong password"));
        }
        let tokens = Some(Self::tokens("login"));
        Ok(Response::new(pb::LoginResponse {
            tokens,
            ..pb::LoginResponse::default()
        }))
    }

    async fn complete_login(
        &self,
        _: Request<pb::CompleteLoginRequest>,
    ) -> Result<Response<pb::CompleteLoginResponse>, Status> {
        Err(not_here())
    }

    async fn begin_passkey_login(
        &self,
        _: Request<pb::BeginPasskeyLoginRequest>,
    ) -> Result<Response<pb::BeginPasskeyLoginResponse>, Status> {
        Err(not_here())
    }

    async fn finish_passkey_login(
        &self,
        _: Request<pb::FinishPasskeyLoginRequest>,
    ) -> Result<Response<pb::FinishPasskeyLoginResponse>, Status> {
        Err(not_here())
    }

    async fn refresh(
        &self,
        request: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::RefreshResponse>, Status> {
        match self.behaviour.session_ended.load(Ordering::SeqCst) {
            true => Err(Status::unauthenticated("ended")),
            false => {
                let before = request.into_inner().refresh_token;
                let tokens = Some(Self::tokens(&format!("{before}+")));
                Ok(Response::new(pb::RefreshResponse { tokens }))
            }
        }
    }

    async fn validate_token(
        &self,
        _: Request<pb::ValidateTokenRequest>,
    ) -> Result<Response<pb::ValidateTokenResponse>, Status> {
        self.behaviour
            .validation_calls
            .fetch_add(1, Ordering::SeqCst);
        let delay = *self.behaviour.validation_delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        match &*self.behaviour.validation.lock().unwrap() {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(pb::ValidateTokenResponse::default())),
        }
    }

    async fn logout(
        &self,
        _: Request<pb::LogoutRequest>,
    ) -> Result<Response<pb::LogoutResponse>, Status> {
        Err(not_here())
    }
}

#[tonic::async_trait]
impl tokens::TokenService for Fake {
    async fn issue_token(
        &self,
        request: Request<pb::IssueTokenRequest>,
    ) -> Result<Response<pb::IssueTokenResponse>, Status> {
        let good = [
            Credential::ServiceKey("csk_good".to_owned()),
            Credential::ClientAssertion("assertion".to_owned()),
        ];
        let credential = request.into_inner().credential;
        if !credential.is_some_and(|credential| good.contains(&credential)) {
            return Err(Status::unauthenticated("not a credential of ours"));
        }
        let number = self.behaviour.issue_calls.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Response::new(pb::IssueTokenResponse {
            access_token: format!("issued{number}"),
            ..pb::IssueTokenResponse::default()
        }))
    }

    async fn exchange_token(
        &self,
        _: Request<pb::ExchangeTokenRequest>,
    ) -> Result<Response<pb::ExchangeTokenResponse>, Status> {
        Err(not_here())
    }
}
