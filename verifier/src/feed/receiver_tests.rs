//! Tests that no message of the feed, however malformed, makes the receiver panic or forget.

use proptest::prelude::*;
use prost::Message as _;
use prost_types::Timestamp;

use super::*;
use crate::{
    clock::Clock,
    local::LocalVerifier,
    pb::{
        Heartbeat, Jwks, RevocationBatch, SnapshotComplete, WatchRevocationsResponse, revocation,
    },
};

const SESSION: &str = "0193735b-2a00-7000-8000-000000000001";
const NO_KEYS: &str = r#"{"keys":[]}"#;

fn shared() -> Shared {
    Shared::new(LocalVerifier::new("issuer", "audience"), Clock::System)
}

fn message(event: Event) -> WatchRevocationsResponse {
    WatchRevocationsResponse { event: Some(event) }
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    let any = (any::<i64>(), any::<i32>());
    let near = (0_i64..4_000_000_000, 0..1_000_000_000);
    proptest::option::of(
        prop_oneof![any.boxed(), near.boxed()]
            .prop_map(|(seconds, nanos)| Timestamp { seconds, nanos }),
    )
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(SESSION.to_owned()),
        "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}",
        ".{0,40}",
    ]
}

fn revocation() -> impl Strategy<Value = pb::Revocation> {
    let subject = prop_oneof![
        id().prop_map(|id| Some(revocation::Subject::SessionId(id))),
        id().prop_map(|id| Some(revocation::Subject::UserId(id))),
        Just(None),
    ];
    (subject, time(), time()).prop_map(|(subject, not_before_time, expire_time)| pb::Revocation {
        subject,
        not_before_time,
        expire_time,
    })
}

fn event() -> impl Strategy<Value = Option<Event>> {
    let jwks = prop_oneof![
        Just(NO_KEYS.to_owned()),
        ".{0,60}",
        r#"\{"keys":\[[{}":a-z,]{0,40}\]\}"#
    ];
    let cursor = prop_oneof!["[A-Za-z0-9_-]{0,24}", ".{0,30}"];
    prop_oneof![
        proptest::collection::vec(revocation(), 0..8)
            .prop_map(|revocations| Some(Event::Revocations(RevocationBatch { revocations }))),
        jwks.prop_map(|jwks_json| Some(Event::Jwks(Jwks {
            jwks_json,
            max_age: None
        }))),
        Just(Some(Event::SnapshotComplete(SnapshotComplete {}))),
        (time(), cursor).prop_map(|(revocation_as_of, cursor)| {
            Some(Event::Heartbeat(Heartbeat {
                revocation_as_of,
                cursor,
            }))
        }),
        Just(None),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_messages_makes_the_receiver_panic(
        events in proptest::collection::vec(event(), 0..24), resumed in any::<bool>(),
    ) {
        let shared = shared();
        let cursor = resumed.then(|| "AgAAAAAAAAAAAAAAAAAAAAE".parse().unwrap());
        let mut receiver = Receiver::new(&shared, cursor);
        for event in events {
            if receiver.apply(WatchRevocationsResponse { event }).is_err() {
                receiver = Receiver::new(&shared, None);
            }
        }
        // What comes afterwards is still understood.
        receiver.apply(message(Event::Jwks(Jwks { jwks_json: NO_KEYS.to_owned(), max_age: None }))).unwrap();
        receiver.apply(message(Event::SnapshotComplete(SnapshotComplete {}))).unwrap();
        let before = shared.local.revocation_count();
        let fresh = revocation::Subject::SessionId("0193735b-2a00-7000-8000-ffffffffffff".to_owned());
        let end = Some(Timestamp { seconds: 4_000_000_000, nanos: 0 });
        let one = pb::Revocation { subject: Some(fresh), not_before_time: None, expire_time: end };
        receiver.apply(message(Event::Revocations(RevocationBatch { revocations: vec![one] }))).unwrap();
        prop_assert_eq!(shared.local.revocation_count(), before + 1);
    }

    #[test]
    fn bytes_that_decode_are_applied_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let shared = shared();
        let mut receiver = Receiver::new(&shared, None);
        if let Ok(message) = WatchRevocationsResponse::decode(bytes.as_slice()) {
            let _ = receiver.apply(message);
        }
    }
}
