//! Tests of the index, without a database.

use super::*;
use crate::{
    domain::FeedEpoch,
    tokens::{Actor, PrincipalType},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn claims(issued_at: Timestamp) -> AccessClaims {
    AccessClaims {
        user_id: UserId::from_bytes([1; 16]),
        session_id: SessionId::from_bytes([2; 16]),
        token_id: TokenId::generate(issued_at),
        roles: Vec::new(),
        audiences: Vec::new(),
        issued_at: issued_at.floor_to_second(),
        expires_at: at(10_000),
        authenticated_at: None,
        methods: Vec::new(),
        acr: String::new(),
        client_id: String::new(),
        principal: PrincipalType::User,
        actors: Vec::new(),
        certificate_sha256: None,
        kid: String::new(),
    }
}

fn revoke(
    subject: RevokedSubject,
    not_before: Timestamp,
    expires_at: Timestamp,
    position: i64,
) -> PositionedRevocation {
    positioned(subject, not_before, expires_at, position)
}

fn session(number: u128) -> RevokedSubject {
    RevokedSubject::Session(SessionId::from_bytes(number.to_be_bytes()))
}

#[test]
fn a_token_is_revoked_with_each_service_that_acts_in_it() {
    let actor = |id: u8, issued_at| Actor {
        subject: UserId::from_bytes([id; 16]),
        session_id: SessionId::from_bytes([id + 100; 16]),
        token_id: TokenId::generate(issued_at),
    };
    let token = AccessClaims {
        actors: vec![actor(10, at(900)), actor(11, at(800))],
        ..claims(at(1_000))
    };
    let is_revoked = |subject, not_before| {
        let index = RevocationIndex::default();
        index.learn(&[revoke(subject, not_before, at(5_000), 1)]);
        index.is_revoked(&token)
    };
    let account = |id: u8| RevokedSubject::User(UserId::from_bytes([id; 16]));
    let key = |id: u8| RevokedSubject::Session(SessionId::from_bytes([id + 100; 16]));
    assert!(is_revoked(key(10), at(0)) && is_revoked(key(11), at(0)));
    assert!(!is_revoked(key(12), at(0)));
    // By the time of issue of the actor's own token.
    assert!(is_revoked(account(10), at(900)) && !is_revoked(account(10), at(899)));
    assert!(is_revoked(account(11), at(800)) && !is_revoked(account(11), at(799)));
}

#[test]
fn a_session_is_revoked_until_the_revocation_expires() {
    let index = RevocationIndex::default();
    let token = claims(at(1_000));
    assert!(!index.is_revoked(&token));
    let subject = RevokedSubject::Session(token.session_id);
    let revocation = revoke(subject, at(1_001), at(2_000), 1);
    index.learn(&[revocation, revocation]);
    assert!(index.is_revoked(&token));
    assert_eq!(index.len(), 1);
    index.forget_expired(at(1_999));
    assert!(index.is_revoked(&token));
    index.forget_expired(at(2_000));
    assert!(index.is_empty());
}

#[test]
fn a_user_is_revoked_up_to_the_millisecond_and_not_after_it() {
    let index = RevocationIndex::default();
    let user = RevokedSubject::User(UserId::from_bytes([1; 16]));
    let moment = Timestamp::from_micros(1_000_500_000);
    index.learn(&[
        revoke(user, moment, at(2_000), 1),
        revoke(user, at(10), at(2_000), 2),
    ]);
    assert!(index.is_revoked(&claims(moment)));
    assert!(index.is_revoked(&claims(at(999))));
    assert!(!index.is_revoked(&claims(Timestamp::from_micros(1_000_501_000))));
}

#[test]
fn only_new_revocations_are_announced() {
    let index = RevocationIndex::default();
    let mut changes = index.subscribe();
    let user = RevokedSubject::User(UserId::from_bytes([1; 16]));
    let first = revoke(session(1), at(1), at(100), 5);
    let early = revoke(user, at(10), at(100), 6);
    let late = revoke(user, at(20), at(100), 7);
    index.learn(&[first]);
    index.learn(&[first, late]);
    index.learn(&[first, late, early]);
    index.announce_keys_changed();
    assert_eq!(changes.try_recv(), Ok(Change::Revoked(first)));
    assert_eq!(changes.try_recv(), Ok(Change::Revoked(late)));
    assert_eq!(changes.try_recv(), Ok(Change::KeysChanged));
    assert!(changes.try_recv().is_err());
}

#[test]
fn a_snapshot_begins_at_a_position() {
    let index = RevocationIndex::default();
    // The position of the first is not known.
    for number in 0..10_u8 {
        let revocation = revoke(session(number.into()), at(1), at(100), number.into());
        index.learn(&[revocation]);
    }
    assert_eq!(index.live_since(i64::MIN).len(), 10);
    let mut positions: Vec<_> = index
        .live_since(7)
        .iter()
        .map(|revocation| revocation.position)
        .collect();
    positions.sort_unstable();
    assert_eq!(positions, [0, 7, 8, 9]);
}

#[test]
fn staleness_is_measured_on_the_monotonic_clock_only() {
    let index = RevocationIndex::default();
    let second = Duration::from_secs(1);
    assert_eq!(index.as_of(at(500), second), Timestamp::default());
    assert_eq!(index.last_read().staleness(second), Duration::MAX);
    index.caught_up(second, Cursor::START);
    assert_eq!(index.as_of(at(500), 3 * second), at(498));
    // Somebody sets the time of day back by 400 s: knowledge is as old as it was.
    assert_eq!(index.as_of(at(100), 3 * second), at(98));
    assert_eq!(index.last_read().staleness(3 * second), 2 * second);
}

/// Issue: at most 100 bytes for each live revocation. A hash table has 2^n places of which it uses seven
/// eighths at most, so it is largest for its use just after it has doubled.
#[test]
fn a_revocation_takes_at_most_a_hundred_bytes() {
    let places_per_entry = 16.0 / 7.0;
    for size in [
        size_of::<(SessionId, RevokedSession)>(),
        size_of::<(UserId, RevokedUser)>(),
    ] {
        let control_byte = 1;
        #[expect(clippy::cast_precision_loss, reason = "a size is small")]
        let bytes = (size + control_byte) as f64 * places_per_entry;
        assert!(bytes <= 100.0, "{bytes} bytes");
    }
}

#[test]
fn memory_is_given_back() {
    let index = RevocationIndex::default();
    let many: Vec<_> = (0..20_000)
        .map(|number| revoke(session(number), at(1), at(100), 1))
        .collect();
    index.learn(&many);
    let full = index.read().sessions.capacity();
    index.forget_expired(at(99));
    assert_eq!(index.read().sessions.capacity(), full);
    index.forget_expired(at(100));
    assert!(index.read().sessions.capacity() < full / 4);
}

#[tokio::test]
async fn waiting_for_a_cursor_triggers_a_database_read_and_ends_when_it_is_reached() {
    let cursor = |epoch, position| Cursor::new(FeedEpoch::from_bytes([epoch; 8]), position);
    let index = std::sync::Arc::new(RevocationIndex::default());
    index.caught_up(Duration::ZERO, cursor(1, 5));
    index.is_at_least(cursor(1, 5)).await;
    let waiting = tokio::spawn({
        let index = std::sync::Arc::clone(&index);
        async move { index.is_at_least(cursor(1, 7)).await }
    });
    index.read_wanted().await;
    for other in [cursor(1, 6), cursor(2, 9)] {
        index.caught_up(Duration::ZERO, other);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "{other:?} is not that fresh");
    }
    index.caught_up(Duration::ZERO, cursor(1, 7));
    waiting.await.unwrap();
}
