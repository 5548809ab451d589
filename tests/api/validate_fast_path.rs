//! ValidateToken's fast path: whatever the frames look like, it answers as any other method would.

use std::net::SocketAddr;

use bytes::Bytes;
use countersign::grpc::pb::{ValidateTokenRequest, ValidateTokenResponse};
use prost::Message as _;
use tonic::Code;

use crate::support::{
    TestDatabase, TestServer, failure, on_both_databases,
    raw::{Call, End, whole},
};

fn call(frames: impl IntoIterator<Item = Bytes>) -> Call {
    Call::new("/countersign.auth.v1.AuthService/ValidateToken", frames)
}

/// The response to a call that succeeds.
async fn response(call: Call, address: SocketAddr) -> ValidateTokenResponse {
    let answer = call.send(address).await.expect("an answer");
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(answer.status().code(), Code::Ok);
    assert_eq!(answer.body[..5], whole(&answer.body[5..])[..5]);
    ValidateTokenResponse::decode(&answer.body[5..]).unwrap()
}

on_both_databases! {
    async fn a_message_may_arrive_in_any_number_of_frames(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let expected = server.validate(&access_token).await.unwrap();
        let message = ValidateTokenRequest { access_token, ..ValidateTokenRequest::default() }.encode_to_vec();
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
            assert_eq!(response(call, server.address).await, expected);
        }
    }

    async fn calls_counted_by_a_rate_limit_get_the_same_answers(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_TOKEN_RATE_BURST", "2"),
        ]).await;
        let access_token = server.signed_in("ada@example.org").await.access_token;
        let message = ValidateTokenRequest { access_token, ..ValidateTokenRequest::default() }.encode_to_vec();
        let good = response(call([whole(&message)]), server.address).await;
        assert_eq!(good.issuer, "http://localhost:50051");
        let malformed = call([whole(b"\xff")]).send(server.address).await.unwrap();
        assert_eq!(failure(&malformed.status()).reason, "INVALID_FIELD");
        let limited = call([whole(&message)]).send(server.address).await.unwrap();
        assert_eq!(failure(&limited.status()).reason, "RATE_LIMITED");
        assert_eq!(limited.headers["grpc-retry-pushback-ms"], "1000");
    }
}
