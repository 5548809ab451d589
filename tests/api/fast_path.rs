//! The fast path of ValidateToken and Check: whatever the frames look like, it answers as any other method would.

use std::net::SocketAddr;

use bytes::Bytes;
use countersign::grpc::{
    ext_authz_pb::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Request},
    },
    pb::{ValidateTokenRequest, ValidateTokenResponse},
};
use prost::Message;
use tonic::Code;

use crate::support::{
    TestDatabase, TestServer, failure, on_both_databases,
    raw::{Call, End, whole},
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

fn call(frames: impl IntoIterator<Item = Bytes>) -> Call {
    Call::new("/countersign.auth.v1.AuthService/ValidateToken", frames)
}

/// What Envoy asks about a request with that token.
fn question(access_token: &str) -> CheckRequest {
    let headers = [
        ("authorization", format!("Bearer {access_token}")),
        (
            "x-request-id",
            "0f6c1e0e-6a41-4d0c-8f2b-3f2f0e6f7a11".to_owned(),
        ),
    ];
    let http = HttpRequest {
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request { http: Some(http) }),
            ..AttributeContext::default()
        }),
    }
}

/// The response to a call that succeeds.
async fn response<M: Message + Default>(call: Call, address: SocketAddr) -> M {
    let answer = call.send(address).await.expect("an answer");
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(answer.status().code(), Code::Ok);
    assert_eq!(answer.body[..5], whole(&answer.body[5..])[..5]);
    M::decode(&answer.body[5..]).unwrap()
}

on_both_databases! {
    async fn a_message_may_arrive_in_any_number_of_frames(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let expected = server.validate(&access_token).await.unwrap();
        let message = ValidateTokenRequest { access_token: access_token.clone(), ..ValidateTokenRequest::default() }.encode_to_vec();
        let message = whole(&message);
        // h2 closes a connection on which hundreds of tiny frames arrive faster than they are read.
        let pieces = message.chunks(16).map(Bytes::copy_from_slice);
        for call in [
            call([message.clone()]),
            call([Bytes::new(), message.clone(), Bytes::new()]),
            call([message.slice(..3), message.slice(3..9), message.slice(9..)]),
            call(pieces),
            call([message.clone()]).end(End::Trailers),
            call([message.clone()]).header("grpc-encoding", "identity"),
        ] {
            assert_eq!(response::<ValidateTokenResponse>(call, server.address).await, expected);
        }
        for (token, code) in [(access_token.as_str(), Code::Ok), ("", Code::Unauthenticated)] {
            let message = whole(&question(token).encode_to_vec());
            let fast: CheckResponse = response(Call::new(CHECK, [message.clone()]), server.address).await;
            assert_eq!(fast.status.as_ref().map(|status| status.code), Some(code.into()));
            let frames = [message.slice(..3), message.slice(3..9), message.slice(9..)];
            let slow: CheckResponse = response(Call::new(CHECK, frames), server.address).await;
            assert_eq!(slow, fast);
        }
    }

    async fn calls_counted_by_a_rate_limit_get_the_same_answers(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_TOKEN_RATE_BURST", "2"),
        ]).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let message = ValidateTokenRequest { access_token, ..ValidateTokenRequest::default() }.encode_to_vec();
        let good: ValidateTokenResponse = response(call([whole(&message)]), server.address).await;
        assert_eq!(good.issuer, "http://localhost:50051");
        let malformed = call([whole(b"\xff")]).send(server.address).await.unwrap();
        assert_eq!(failure(&malformed.status()).reason, "INVALID_FIELD");
        let limited = call([whole(&message)]).send(server.address).await.unwrap();
        assert_eq!(failure(&limited.status()).reason, "RATE_LIMITED");
        assert_eq!(limited.headers["grpc-retry-pushback-ms"], "1000");
    }
}
