//! ValidateToken over HTTP/2 by hand: whatever the frames look like, it answers as any other method would.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use countersign::grpc::pb::{ValidateTokenRequest, ValidateTokenResponse};
use http::{HeaderMap, Request};
use prost::Message as _;
use tokio::net::TcpStream;

use crate::support::{TestDatabase, TestServer, on_both_databases};

/// What a server answered: its `grpc-status`, and the message if there is one.
type Answer = (String, Option<ValidateTokenResponse>);

/// One call whose body is sent as these DATA frames, with these headers more.
struct Call {
    frames: Vec<Bytes>,
    headers: Vec<(&'static str, &'static str)>,
    trailers: bool,
}

impl Call {
    fn of(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            frames: frames.into_iter().collect(),
            headers: Vec::new(),
            trailers: false,
        }
    }

    async fn send(self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let uri = format!("http://{address}/countersign.auth.v1.AuthService/ValidateToken");
        let mut request = Request::post(uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let (response, mut body) = sender
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        for frame in self.frames {
            body.send_data(frame, false).unwrap();
            // The server sees one frame before the next is on its way.
            tokio::task::yield_now().await;
        }
        if self.trailers {
            body.send_trailers(HeaderMap::new()).unwrap();
        } else {
            body.send_data(Bytes::new(), true).unwrap();
        }
        let response = response.await.unwrap();
        assert!(response.headers().contains_key("x-request-id"));
        let (head, mut body) = response.into_parts();
        let mut message = BytesMut::new();
        while let Some(chunk) = body.data().await {
            message.extend_from_slice(&chunk.unwrap());
        }
        let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
        let status = trailers["grpc-status"].to_str().unwrap().to_owned();
        let message = message
            .get(5..)
            .map(|message| ValidateTokenResponse::decode(message).unwrap());
        (status, message)
    }
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(flag);
    framed.put_u32(length.try_into().unwrap());
    framed.put_slice(message);
    framed.freeze()
}

on_both_databases! {
    async fn a_message_may_come_in_any_pieces(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let good = server.validate(&access_token).await.unwrap();
        let message = ValidateTokenRequest { access_token, ..ValidateTokenRequest::default() }.encode_to_vec();
        let whole = framed(0, message.len(), &message);

        let one_by_one = whole.iter().map(|byte| Bytes::copy_from_slice(&[*byte]));
        let mut with_trailers = Call::of([whole.clone()]);
        with_trailers.trailers = true;
        for call in [
            Call::of([whole.clone()]),
            Call::of([Bytes::new(), whole.clone(), Bytes::new()]),
            Call::of([whole.slice(..3), whole.slice(3..9), whole.slice(9..)]),
            Call::of(one_by_one),
            with_trailers,
        ] {
            assert_eq!(call.send(server.address).await, ("0".to_owned(), Some(good.clone())));
        }
    }

    async fn a_malformed_body_is_refused_and_nothing_breaks(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let message = ValidateTokenRequest { access_token: access_token.clone(), ..ValidateTokenRequest::default() };
        let message = message.encode_to_vec();
        let mut compressed = Call::of([framed(1, message.len(), &message)]);
        compressed.headers.push(("grpc-encoding", "gzip"));
        let internal = "13";
        let unimplemented = "12";
        for (call, status) in [
            // No message; half a prefix; less than was announced; a flag that nobody knows.
            (Call::of([]), internal),
            (Call::of([Bytes::from_static(&[0, 0])]), internal),
            (Call::of([framed(0, message.len() + 1, &message)]), internal),
            (Call::of([framed(7, message.len(), &message)]), internal),
            // Compressed, with and without saying so.
            (Call::of([framed(1, message.len(), &message)]), internal),
            (compressed, unimplemented),
            // Not protobuf.
            (Call::of([framed(0, 2, &[0xff, 0xff])]), internal),
        ] {
            assert_eq!(call.send(server.address).await, (status.to_owned(), None));
        }
        server.validate(&access_token).await.unwrap();
    }
}
