//! The client: gRPC calls straight on HTTP/2, the same for every server, cheap enough to leave the
//! cores to them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use countersign::clock::monotonic_now;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Request, Uri};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::sleep_until,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tonic::Status;

use super::error::Result;

/// More than any answer here needs: no call waits for a window.
const WINDOW: u32 = 1 << 20;

/// `grpc-status` of a call that went well.
pub const OK: i32 = 0;
/// `grpc-status` of a call that was turned away.
pub const UNAVAILABLE: i32 = 14;

/// Open connections to one server.
#[derive(Clone)]
pub struct Client {
    senders: Vec<SendRequest<Bytes>>,
    authority: String,
}

/// What a server answered.
pub struct Answer {
    /// The `grpc-status`.
    pub code: i32,
    /// The message, without its gRPC prefix.
    pub message: Bytes,
    /// The `grpc-message` of a call that failed.
    pub explanation: String,
}

/// Makes calls of one method, one after the other.
pub struct Caller {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

/// Where the messages come from. It gets the number of the stream and the response to the stream's last call.
/// A stream ends when there is no message.
pub type Source = Arc<dyn Fn(usize, Option<Bytes>) -> Option<Bytes> + Send + Sync>;

/// What is called, how, and for how long.
#[derive(Clone)]
pub struct Load {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// The requests.
    pub source: Source,
    /// How many calls are under way at once.
    pub streams: usize,
    /// How long.
    pub duration: Duration,
    /// The pause from the begin of one call to that of the next on the same stream, if not none.
    pub pace: Option<Duration>,
}

/// What came of a load.
#[derive(Default)]
pub struct Sample {
    /// Nanoseconds that the calls took, by `grpc-status`.
    pub latencies: BTreeMap<i32, Histogram<u64>>,
    /// The `grpc-message` of the first call that failed with each `grpc-status`.
    pub explanations: BTreeMap<i32, String>,
    /// From the first call to the end of the last.
    pub elapsed: Duration,
}

impl Client {
    /// Opens that many connections.
    pub async fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(open(tcp(address).await?).await?);
        }
        Ok(Self {
            senders,
            authority: address.to_string(),
        })
    }

    /// Opens that many connections with TLS.
    pub async fn connect_tls(
        address: SocketAddr,
        connections: usize,
        connector: &TlsConnector,
    ) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(open(tls(address, connector).await?).await?);
        }
        Ok(Self {
            senders,
            authority: address.to_string(),
        })
    }

    /// A caller of `path`; callers with successive numbers are spread over the connections.
    pub fn caller(&self, path: &str, number: usize) -> Caller {
        let uri: Uri = format!("http://{}{path}", self.authority)
            .parse()
            .expect("an address and a path make a URI");
        let mut request = Request::post(uri).body(()).expect("a valid request");
        let headers = request.headers_mut();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("user-agent", HeaderValue::from_static("countersign-load"));
        Caller {
            sender: self.senders[number % self.senders.len()].clone(),
            request,
        }
    }

    /// One call, for which the answer must be good.
    pub async fn call<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<A> {
        let answer = self.caller(path, 0).call(frame(message)).await?;
        match answer.code {
            OK => Ok(A::decode(answer.message)?),
            code => Err(format!("{path} failed with {code}: {}", answer.explanation).into()),
        }
    }

    /// Keeps calling.
    pub async fn drive(&self, load: &Load) -> Result<Sample> {
        let begin = monotonic_now();
        let end = begin + load.duration;
        let mut streams = JoinSet::new();
        for number in 0..load.streams {
            let caller = self.caller(load.path, number);
            streams.spawn(keep_calling(caller, load.clone(), number, begin, end));
        }
        let mut sample = Sample::default();
        while let Some(stream) = streams.join_next().await {
            sample.add(stream??)?;
        }
        sample.elapsed = monotonic_now() - begin;
        Ok(sample)
    }
}

async fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection with TLS, after its handshake.
pub async fn tls(address: SocketAddr, connector: &TlsConnector) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::from(address.ip());
    Ok(connector.connect(name, tcp(address).await?).await?)
}

async fn open<S>(stream: S) -> Result<SendRequest<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

impl Caller {
    /// With an access token in each call's metadata.
    pub fn bearing(mut self, access_token: &str) -> Result<Self> {
        let value = HeaderValue::try_from(format!("Bearer {access_token}"))?;
        self.request.headers_mut().insert("authorization", value);
        Ok(self)
    }

    /// A call whose answer is a stream without end; adds one to `begun` when the first of it arrives.
    pub async fn listen(&mut self, framed: Bytes, begun: &AtomicUsize) -> Result<()> {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, mut stream) = self.sender.send_request(self.request.clone(), false)?;
        stream.send_data(framed, true)?;
        let mut body = response.await?.into_body();
        let mut is_first = true;
        while let Some(chunk) = body.data().await {
            body.flow_control().release_capacity(chunk?.len())?;
            if std::mem::take(&mut is_first) {
                begun.fetch_add(1, Ordering::Relaxed);
            }
        }
        Err("the stream ended".into())
    }

    /// One call.
    pub async fn call(&mut self, framed: Bytes) -> Result<Answer> {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, mut stream) = self.sender.send_request(self.request.clone(), false)?;
        stream.send_data(framed, true)?;
        let (head, mut body) = response.await?.into_parts();
        if let Some(code) = status(&head.headers) {
            return Ok(Answer {
                code,
                message: Bytes::new(),
                explanation: explanation(code, &head.headers),
            });
        }
        let mut message = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            if message.is_empty() {
                message = chunk;
            } else {
                message = [message, chunk].concat().into();
            }
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let code = status(&trailers).ok_or("an answer without grpc-status")?;
        let message = message
            .get(5..)
            .map_or_else(Bytes::new, |_| message.slice(5..));
        Ok(Answer {
            code,
            message,
            explanation: explanation(code, &trailers),
        })
    }
}

impl Sample {
    fn count_in(&mut self, answer: &Answer, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latencies
            .entry(answer.code)
            .or_insert_with(histogram_of_nanos)
            .saturating_record(nanos);
        if answer.code != OK {
            let explanation = || answer.explanation.clone();
            self.explanations
                .entry(answer.code)
                .or_insert_with(explanation);
        }
    }

    fn add(&mut self, other: Self) -> Result<()> {
        for (code, histogram) in other.latencies {
            let latencies = self.latencies.entry(code);
            latencies
                .or_insert_with(histogram_of_nanos)
                .add(histogram)?;
        }
        for (code, explanation) in other.explanations {
            self.explanations.entry(code).or_insert(explanation);
        }
        Ok(())
    }

    /// Calls with that status.
    pub fn count(&self, code: i32) -> u64 {
        self.latencies.get(&code).map_or(0, Histogram::len)
    }

    /// Good calls per second.
    pub fn rate(&self) -> f64 {
        float(self.count(OK)) / self.elapsed.as_secs_f64()
    }

    /// Microseconds within which that part of the calls with `code` were answered.
    pub fn micros(&self, code: i32, quantile: f64) -> f64 {
        let nanos = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile);
        float(self.latencies.get(&code).map_or(0, nanos)) / 1_000.0
    }

    /// An error unless all calls went well.
    pub fn all_good(&self) -> Result<()> {
        let bad = self.latencies.iter().find(|(code, _)| **code != OK);
        match bad {
            None => Ok(()),
            Some((code, calls)) => {
                let explanation = &self.explanations[code];
                Err(format!("{} calls failed with {code}: {explanation}", calls.len()).into())
            }
        }
    }
}

/// The number as the kind that ratios are made of.
#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// A source that repeats the same messages.
pub fn in_turn(messages: Vec<Bytes>) -> Source {
    let next = AtomicUsize::new(0);
    Arc::new(move |_, _| {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        messages.get(turn % messages.len()).cloned()
    })
}

/// A source that yields each message once.
pub fn once(messages: Vec<Bytes>) -> Source {
    let next = AtomicUsize::new(0);
    Arc::new(move |_, _| {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        messages.get(turn).cloned()
    })
}

/// A message as gRPC sends it: not compressed, its length before it.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("a short message"));
    message.encode(&mut framed).expect("the buffer grows");
    framed.freeze()
}

async fn keep_calling(
    mut caller: Caller,
    load: Load,
    number: usize,
    begin: Instant,
    end: Instant,
) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut last = None;
    // Paced streams do not start in step.
    let mut due = begin;
    if let Some(pace) = load.pace {
        let number = u32::try_from(number).unwrap_or(0);
        due += pace * number / u32::try_from(load.streams).unwrap_or(1);
    }
    loop {
        if let Some(pace) = load.pace {
            sleep_until(due.into()).await;
            due = (due + pace).max(monotonic_now());
        }
        // Asked also at the end: a source may have to remember the last answer.
        let message = (load.source)(number, last.take());
        let Some(message) = message.filter(|_| monotonic_now() < end) else {
            return Ok(sample);
        };
        let sent = monotonic_now();
        let answer = caller.call(message).await?;
        sample.count_in(&answer, sent.elapsed());
        last = (answer.code == OK).then_some(answer.message);
    }
}

/// From a microsecond to a minute, to three digits.
fn histogram_of_nanos() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

fn status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Only for what went wrong: it copies the headers.
fn explanation(code: i32, headers: &HeaderMap) -> String {
    let status = (code != OK).then(|| Status::from_header_map(headers));
    status
        .flatten()
        .map_or_else(String::new, |status| status.message().to_owned())
}
