//! What the fuzz target of the feed calls. No part of the crate's interface.

use prost::Message as _;

use crate::{
    clock::Clock, feed, local::LocalVerifier, pb::WatchRevocationsResponse, shared::Shared,
};

/// Applies a stream of messages, each with its length before it as a varint (protobuf's delimited form). Returns how many
/// messages were applied: the first that cannot be decoded, or ends the stream, is the end.
#[must_use]
pub fn feed(mut bytes: &[u8]) -> usize {
    let local = LocalVerifier::new("issuer", "audience").cached_tokens(0);
    let shared = Shared::new(local, Clock::System);
    let messages =
        std::iter::from_fn(|| WatchRevocationsResponse::decode_length_delimited(&mut bytes).ok());
    feed::apply_all(&shared, messages)
}
