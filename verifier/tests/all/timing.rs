//! What takes time, or depends on clocks: silence, requests for keys, clocks that differ.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{Demand, FeedStatus, StalePolicy, Verifier, VerifyError};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::support::{
    FakeServer, Issuer, Lateness, Watch, config, connected, connected_at, cursor, id, id_at,
    now_millis, of_session_until, of_user, soon, until, verdict,
};

const REVOKED: Result<(), VerifyError> = Err(VerifyError::TokenRevoked);

/// By how much the server's clock is ahead of the verifier's, in milliseconds.
const SKEWS: [i64; 2] = [-5_000, 5_000];

/// Sends a heartbeat, and waits until the verifier has read it and everything before.
async fn heartbeat(verifier: &Verifier, watch: &Watch, position: i64, as_of: i64) {
    watch.heartbeat_as_of(&cursor(1, position), as_of).await;
    until(verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, position)
    })
    .await;
}

#[tokio::test]
async fn after_missed_heartbeats_the_verifier_connects_again_within_five_seconds() {
    let lateness = Lateness::measure();
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    // The connection stays open and answers pings: only the messages are missing.
    heartbeat(&verifier, &watch, 2, now_millis()).await;
    let last = Instant::now();
    let resumed = server.next_watch().await;
    let took = last.elapsed();
    assert_eq!(resumed.cursor, cursor(1, 2));
    let bound = Duration::from_secs(5) + lateness.allowance();
    println!("connected again after {took:?}, bound {bound:?}");
    assert!(took < bound, "{took:?}, where {bound:?} is allowed");
    drop(watch);
}

#[tokio::test]
async fn an_emergency_rotation_during_an_outage_is_known_once_the_feed_has_resumed() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let new = Issuer::new("emergency");
    let [old_token, new_token] =
        [Issuer::shared(), &new].map(|issuer| issuer.token(&id(1), &id(2)));
    server.stop();
    until(&verifier, "the end of the stream", |state| {
        matches!(state.status, FeedStatus::Interrupted { .. })
    })
    .await;
    assert_eq!(verdict(&verifier, &old_token), Ok(()), "nobody has told it");

    *server.behaviour.jwks.lock().unwrap() = new.jwks();
    server.run().await;
    let resumed = server.next_watch().await;
    resumed.snapshot(&new.jwks(), &[]).await;
    resumed.heartbeat(&cursor(1, 2)).await;
    until(&verifier, "the second connection", |state| {
        state.connections == 2
    })
    .await;
    // The signature of this token was verified before.
    let demand = Demand::new();
    assert_ne!(verdict(&verifier, &old_token), Ok(()), "the key is gone");
    let asked = soon("the keys", verifier.verify_or_ask(&old_token, &demand)).await;
    assert_eq!(asked.map(|_| ()), Err(VerifyError::TokenInvalid));
    assert_eq!(verdict(&verifier, &new_token), Ok(()));
}

#[tokio::test]
async fn floods_of_unknown_keys_are_one_request_in_ten_seconds() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let strange = Issuer::new("strange").token(&id(1), &id(2));
    *server.behaviour.jwks.lock().unwrap() = Issuer::shared().jwks();
    server.refuse(Status::new(Code::ResourceExhausted, "too many watchers"));
    drop(watch);
    until(&verifier, "the end of the stream", |state| {
        matches!(state.status, FeedStatus::Interrupted { .. })
    })
    .await;
    let requests = || server.behaviour.jwks_calls.load(Ordering::SeqCst);
    let began = Instant::now();
    for expected in 1..=2 {
        soon("a request for the keys", async {
            while requests() < expected {
                for _ in 0..100 {
                    assert_eq!(verdict(&verifier, &strange), Err(VerifyError::KeyUnknown));
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(requests(), expected);
    }
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(10),
        "two requests within {took:?}"
    );
}

#[tokio::test]
async fn a_clock_that_is_five_seconds_off_shifts_only_the_expiry_of_tokens() {
    for skew in SKEWS {
        let mut server = FakeServer::start().await;
        let with_leeway = config().leeway(Duration::from_secs(10));
        let server_now = now_millis() + skew;
        let (strict, _watch) = connected_at(&mut server, config(), server_now).await;
        let (lenient, _other) = connected_at(&mut server, with_leeway, server_now).await;
        let token = |life: i64| {
            let seconds = server_now / 1_000;
            let claims =
                json!({"iat": seconds, "exp": seconds + life, "jti": id_at(server_now, 7)});
            Issuer::shared().token_with(&id(1), &id(2), &claims)
        };
        // One that has just been issued, also where that is in the future.
        assert_eq!(verdict(&strict, &token(900)), Ok(()), "{skew}");
        // For a verifier whose clock is ahead it ends five seconds early; a leeway makes up for that.
        let ends_early = match skew < 0 {
            true => Err(VerifyError::TokenExpired),
            false => Ok(()),
        };
        assert_eq!(verdict(&strict, &token(3)), ends_early, "{skew}");
        assert_eq!(verdict(&lenient, &token(3)), Ok(()), "{skew}");
        // One that ended long ago has ended by any clock.
        let expired = Err(VerifyError::TokenExpired);
        assert_eq!(verdict(&strict, &token(-60)), expired, "{skew}");
        assert_eq!(verdict(&lenient, &token(-60)), expired, "{skew}");
    }
}

#[tokio::test]
async fn revocations_count_by_the_server_s_clock_when_the_verifier_s_is_five_seconds_off() {
    for skew in SKEWS {
        let mut server = FakeServer::start().await;
        let (verifier, watch) = connected_at(&mut server, config(), now_millis() + skew).await;
        let server_now = now_millis() + skew;
        let issued = |session: u8, user: u8, at: i64| {
            let claims = json!({"iat": at / 1_000, "exp": at / 1_000 + 900, "jti": id_at(at, 7)});
            Issuer::shared().token_with(&id(session), &id(user), &claims)
        };
        let [before, after] = [0, 1].map(|more| issued(1, 2, server_now + more));
        let of_the_session = issued(3, 4, server_now);
        for token in [&before, &after, &of_the_session] {
            assert_eq!(verdict(&verifier, token), Ok(()), "{skew}");
        }
        watch
            .revocations(&[
                of_user(&id(2), server_now),
                // It may be forgotten by the server's clock in a second: by the verifier's perhaps already.
                of_session_until(&id(3), server_now + 1_000),
            ])
            .await;
        heartbeat(&verifier, &watch, 2, server_now).await;
        assert_eq!(verdict(&verifier, &before), REVOKED, "{skew}");
        assert_eq!(verdict(&verifier, &of_the_session), REVOKED, "{skew}");
        assert_eq!(
            verdict(&verifier, &after),
            Ok(()),
            "{skew}: of a millisecond later"
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_five_seconds_off_does_not_change_staleness() {
    const MAX: Duration = Duration::from_secs(4);
    let lateness = Lateness::measure();
    for skew in SKEWS {
        let mut server = FakeServer::start().await;
        let rejecting = config()
            .stale_policy(StalePolicy::Reject)
            .max_staleness(MAX);
        let (verifier, watch) = connected_at(&mut server, rejecting, now_millis() + skew).await;
        let good = Issuer::shared().token(&id(1), &id(2));
        let mut position = 1;
        // Repeated, because on a busy machine four seconds may pass between a heartbeat and the verdict.
        soon("fresh knowledge", async {
            while verdict(&verifier, &good) != Ok(()) {
                position += 1;
                heartbeat(&verifier, &watch, position, now_millis() + skew).await;
            }
        })
        .await;

        // From now on the server is connected, and does not read its database.
        let as_of = now_millis() + skew;
        position += 1;
        heartbeat(&verifier, &watch, position, as_of).await;
        let read = Instant::now();
        soon("stale knowledge", async {
            while verdict(&verifier, &good) != Err(VerifyError::Stale) {
                position += 1;
                heartbeat(&verifier, &watch, position, as_of).await;
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        let took = read.elapsed();
        let bound = MAX + Duration::from_secs(1) + lateness.allowance();
        assert!(took < bound, "{skew}: {took:?}, where {bound:?} is allowed");
        assert_eq!(verifier.state().connections, 1, "it stayed connected");
    }
}
