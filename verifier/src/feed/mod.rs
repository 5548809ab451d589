//! The task that reads the server's stream of revocations and keys, and reconnects when it breaks.

mod message;
mod receiver;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, transport::Endpoint};
use tonic_types::StatusExt as _;

use self::receiver::{Receiver, Unusable};
use crate::{
    config::VerifierConfig,
    cursor::Cursor,
    pb::{
        WatchRevocationsRequest, WatchRevocationsResponse,
        verifier_service_client::VerifierServiceClient,
    },
    shared::Shared,
    source::CredentialError,
    state::FeedStatus,
    token::read_without_verifying,
};

/// The first and the longest wait between two connections, before the random part.
const DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// How long the source of the credential may take.
const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a message of the snapshot may take: the server makes others wait while many connect at once.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// The stream is reopened this long before its access token expires.
const RENEWED_BEFORE: Duration = Duration::from_secs(15);

/// A token that ends sooner is used up to its end.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// The longest wait that a server can ask for.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Follows the feed for as long as the verifier lives.
pub(crate) struct Feed {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) config: VerifierConfig,
}

/// Applies the messages of one new stream until one makes it unusable, as the task does. Returns how many there were.
pub(crate) fn apply_all(
    shared: &Shared,
    messages: impl Iterator<Item = WatchRevocationsResponse>,
) -> usize {
    let mut receiver = Receiver::new(shared, None);
    messages
        .take_while(|message| receiver.apply(message.clone()).is_ok())
        .count()
}

/// Why a stream ended.
enum End {
    /// The access token will expire: another one is due.
    Renewal,
    /// The server ended it: it shuts down, or the connection became too old.
    Closed,
    /// It broke, or it was never there.
    Lost(String),
    /// The server asks to wait.
    Later(Duration, String),
    /// The access token is not accepted, or not any longer.
    NotAllowed(String),
    /// The source of access tokens says that its credential is not accepted.
    NoCredential(String),
    /// The server does not know the cursor.
    CursorUnknown,
}

/// What the next connection is made with.
#[derive(Default)]
struct Attempts {
    /// How many in a row were refused.
    refused: u32,
    /// The access token of the last one, if it was refused.
    refused_token: Option<String>,
}

impl Feed {
    pub(crate) async fn run(self) {
        let mut attempts = Attempts::default();
        let mut delays = exponential(DELAYS);
        let mut refused_delays = self.refused_delays();
        loop {
            let connections = self.connections();
            let end = self.follow(&mut attempts).await;
            if self.connections() != connections {
                delays = exponential(DELAYS);
                refused_delays = self.refused_delays();
                attempts.refused = 0;
            }
            let delay = next(&mut delays);
            let (status, delay) = match end {
                End::Renewal => continue,
                End::Closed => (interrupted("the server ended the stream"), delay),
                End::Lost(cause) => (interrupted(cause), delay),
                End::Later(wait, cause) => (interrupted(cause), delay + wait.min(LONGEST_RETRY)),
                End::CursorUnknown => {
                    self.shared.state.send_modify(|state| state.cursor = None);
                    (interrupted("the server does not know the cursor"), delay)
                }
                // An access token that has just expired: the next one may be good.
                End::NotAllowed(cause) if attempts.refused == 0 => {
                    attempts.refused = 1;
                    (interrupted(cause), delay)
                }
                End::NotAllowed(cause) | End::NoCredential(cause) => {
                    let status = FeedStatus::CredentialRefused { cause };
                    (status, next(&mut refused_delays))
                }
            };
            self.shared.set_status(status);
            sleep(delay).await;
        }
    }

    /// Connects and applies what the server sends, until the end.
    async fn follow(&self, attempts: &mut Attempts) -> End {
        let refused = attempts.refused_token.take();
        let bearer = self.config.credential.bearer(refused.as_deref());
        let token = match timeout(CREDENTIAL_TIMEOUT, bearer).await {
            Ok(Ok(token)) => token,
            Ok(Err(CredentialError::Refused(cause))) => return End::NoCredential(cause),
            Ok(Err(CredentialError::Unavailable(cause))) => return End::Lost(cause),
            Err(_) => return End::Lost("the source of the credential does not answer".to_owned()),
        };
        let end = self.watch(token.as_deref()).await.unwrap_or_else(|end| end);
        if matches!(end, End::NotAllowed(_)) {
            attempts.refused_token = token;
        }
        end
    }

    async fn watch(&self, token: Option<&str>) -> Result<End, End> {
        // A connection of its own each time: the one before may be what is broken.
        let channel = self.endpoint.connect().await;
        let channel = channel.map_err(|error| End::Lost(described(&error)))?;
        let cursor = self.shared.state.borrow().cursor.clone();
        let request = request(cursor.as_ref(), token)?;
        let mut client = VerifierServiceClient::new(channel);
        let started = timeout(SNAPSHOT_PATIENCE, client.watch_revocations(request)).await;
        let started = started.map_err(|_| silent())?;
        let mut stream = started.map_err(|status| ended(&status))?.into_inner();
        let mut receiver = Receiver::new(&self.shared, cursor);
        let clock = &self.shared.clock;
        let renewal = token.and_then(|token| renewal(token, clock.now()));
        let renewal = renewal.map(|after| clock.monotonic() + after);
        loop {
            let patience = match receiver.is_complete() {
                true if renewal.is_some_and(|at| clock.monotonic() >= at) => {
                    return Ok(End::Renewal);
                }
                true => self.config.silence,
                false => SNAPSHOT_PATIENCE,
            };
            let message = timeout(patience, stream.message()).await;
            match message.map_err(|_| silent())? {
                Ok(Some(message)) => receiver
                    .apply(message)
                    .map_err(|Unusable(cause)| End::Lost(cause.to_owned()))?,
                Ok(None) => return Ok(End::Closed),
                Err(status) => return Err(ended(&status)),
            }
        }
    }

    fn connections(&self) -> u64 {
        self.shared.state.borrow().connections
    }

    fn refused_delays(&self) -> ExponentialBackoff {
        let first = self.config.refused_retry;
        exponential([first, first * 10])
    }
}

/// After what time the stream is reopened with another access token, so that no revocation waits for the end of this one. `None` for a
/// token that is no JWT, or that ends soon: its source would be asked again and again.
fn renewal(token: &str, now: SystemTime) -> Option<Duration> {
    let claims = read_without_verifying(token)?;
    let left = claims.expires_at.since(now.into());
    (left >= SHORTEST_LIFE).then(|| left.saturating_sub(RENEWED_BEFORE))
}

fn request(
    cursor: Option<&Cursor>,
    token: Option<&str>,
) -> Result<Request<WatchRevocationsRequest>, End> {
    let cursor = cursor.map(ToString::to_string).unwrap_or_default();
    let mut request = Request::new(WatchRevocationsRequest { cursor });
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse();
        let bearer =
            bearer.map_err(|_| End::NoCredential("the token is not ASCII text".to_owned()))?;
        request.metadata_mut().insert("authorization", bearer);
    }
    Ok(request)
}

fn ended(status: &Status) -> End {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let cause = format!("{:?} {}", status.code(), reason.unwrap_or(status.message()));
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    match (status.code(), wait) {
        (Code::Unauthenticated | Code::PermissionDenied, _) => End::NotAllowed(cause),
        (Code::InvalidArgument, _) => End::CursorUnknown,
        (_, Some(wait)) => End::Later(wait, cause),
        _ => End::Lost(cause),
    }
}

fn silent() -> End {
    End::Lost("no message within the heartbeat limit".to_owned())
}

fn interrupted(cause: impl Into<String>) -> FeedStatus {
    FeedStatus::Interrupted {
        cause: cause.into(),
    }
}

/// An error with its causes: tonic's own text is only "transport error".
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Delays that double, each with a random part, so that a fleet does not connect in one instant.
fn exponential([first, longest]: [Duration; 2]) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

fn next(delays: &mut ExponentialBackoff) -> Duration {
    delays.next().unwrap_or(DELAYS[1])
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    const ID: &str = "0193735b-2a00-7000-8000-000000000001";

    fn token(expires_at: i64) -> String {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k"});
        let claims = json!({
            "iss": "i", "sub": ID, "sid": ID, "jti": ID, "aud": "a", "roles": [], "client_id": "c", "iat": 0, "exp": expires_at,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.")
    }

    #[test]
    fn a_stream_is_reopened_before_its_token_expires_unless_that_is_within_a_minute() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let after = |token: &str| renewal(token, now).map(|after| after.as_secs());
        assert_eq!(after(&token(1_300)), Some(285));
        assert_eq!(after(&token(1_060)), Some(45));
        for soon in [1_059, 1_000, 0, -1] {
            assert_eq!(after(&token(soon)), None, "{soon}");
        }
        assert_eq!(after("no JWT"), None);
    }
}
