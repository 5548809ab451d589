//! A gRPC call over HTTP/2 by hand, for requests that no gRPC library sends.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    Reason, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::AbortHandle,
    time::timeout,
};
use tonic::Status;

use super::PATIENCE;

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With END_STREAM.
    Stream,
    /// With trailers.
    Trailers,
    /// Never.
    Never,
}

/// A request: its body is sent as these DATA frames.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub frames: Vec<Bytes>,
    pub end: End,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub http_status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Call {
    /// A proper call, up to its body.
    pub fn new(path: &str, frames: impl IntoIterator<Item = Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        Self {
            method: Method::POST,
            path: path.to_owned(),
            headers,
            frames: frames.into_iter().collect(),
            end: End::Stream,
        }
    }

    /// The same with a header replaced; an empty value removes it.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        match value {
            "" => drop(self.headers.remove(name)),
            value => drop(self.headers.insert(name, value.parse().unwrap())),
        }
        self
    }

    /// The same with one more value of a header.
    pub fn and_header(mut self, name: &'static str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// The same with another HTTP method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The same with another end.
    pub const fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Sends it on a connection of its own; `None`: it was ended without an answer.
    pub async fn send(self, address: SocketAddr) -> Option<Answer> {
        Connection::open(address).await.send(self).await
    }

    /// Sends it on a connection of its own, without the end of its body.
    pub async fn begin(self, address: SocketAddr) -> Begun {
        let connection = Connection::open(address).await;
        let (response, body) = connection.begin(self).await;
        Begun {
            connection,
            _response: response,
            body,
        }
    }
}

/// A connection.
pub struct Connection {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    driver: AbortHandle,
}

impl Connection {
    /// Opens one.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream, address).await
    }

    /// Opens one as the peer `127.0.0.LAST`.
    pub async fn open_as(last: u8, address: SocketAddr) -> Self {
        Self::over(stream_as(last, address).await.unwrap(), address).await
    }

    async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Self {
            sender,
            address,
            driver,
        }
    }

    /// Sends a call; `None`: it was ended without an answer.
    pub async fn send(&self, call: Call) -> Option<Answer> {
        let end = call.end;
        let (response, mut body) = self.begin(call).await;
        match end {
            End::Stream => drop(body.send_data(Bytes::new(), true)),
            End::Trailers => drop(body.send_trailers(HeaderMap::new())),
            End::Never => {}
        }
        let response = timeout(PATIENCE, response).await.expect("an answer");
        let (head, mut body) = response.ok()?.into_parts();
        let mut message = BytesMut::new();
        while let Some(chunk) = body.data().await {
            message.extend_from_slice(&chunk.ok()?);
        }
        Some(Answer {
            http_status: head.status,
            headers: head.headers,
            body: message.freeze(),
            trailers: body.trailers().await.ok()?,
        })
    }

    /// Sends a call without the end of its body; dropping what comes back resets it.
    pub async fn begin(&self, call: Call) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("http://{}{}", self.address, call.path))
            .body(())
            .unwrap();
        *request.headers_mut() = call.headers;
        let (response, mut body) = sender.send_request(request, false).unwrap();
        for frame in call.frames {
            // The server may have answered already and reset the stream.
            let _ = body.send_data(frame, false);
            // It sees one frame before the next is on its way.
            tokio::task::yield_now().await;
        }
        (response, body)
    }
}

/// A TCP connection from `127.0.0.LAST`: on Linux all of 127.0.0.0/8 is this machine.
pub async fn stream_as(last: u8, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), 0))?;
    socket.connect(address).await
}

/// A call whose body has not ended.
pub struct Begun {
    connection: Connection,
    _response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Begun {
    /// Ends the call with RST_STREAM, and keeps the connection.
    pub fn reset(mut self, reason: Reason) -> Connection {
        self.body.send_reset(reason);
        self.connection
    }

    /// Closes the connection.
    pub fn close(self) {
        drop(self.connection);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// The gRPC status, with the metadata of the response.
    pub fn status(&self) -> Status {
        let mut headers = self.headers.clone();
        headers.extend(self.trailers.clone().unwrap_or_default());
        Status::from_header_map(&headers).expect("a grpc-status")
    }
}

/// A message in its gRPC frame, with any flag and any length.
pub fn frame(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(flag);
    framed.put_u32(length.try_into().unwrap());
    framed.put_slice(message);
    framed.freeze()
}

/// A message in its proper gRPC frame.
pub fn whole(message: &[u8]) -> Bytes {
    frame(0, message.len(), message)
}
