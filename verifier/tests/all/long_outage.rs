//! A server that is away for an hour, by the verifier's clock, under each policy.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{Demand, FeedStatus, ManualClock, StalePolicy, Verifier, VerifyError};
use serde_json::json;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{
    FakeServer, Issuer, config, connected, cursor, id, now_millis, of_session_until, soon, until,
    verdict,
};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MILLIS: i64 = 3_600_000;

/// A session that was revoked before the outage, one that is revoked meanwhile, and one that is not revoked.
const BEFORE: u8 = 1;
const MEANWHILE: u8 = 3;
const NEVER: u8 = 5;

const REVOKED: Result<(), VerifyError> = Err(VerifyError::TokenRevoked);
const EXPIRED: Result<(), VerifyError> = Err(VerifyError::TokenExpired);

/// A token that is good for three hours, so that only revocations decide.
fn long_token(session: u8) -> String {
    let exp = now_millis() / 1_000 + 3 * 3_600;
    Issuer::shared().token_with(&id(session), &id(2), &json!({"exp": exp}))
}

fn of_session_for_three_hours(session: u8) -> countersign_verifier::pb::Revocation {
    of_session_until(&id(session), now_millis() + 3 * HOUR_MILLIS)
}

/// A verifier that has been without its server for an hour, and a token that was good for fifteen minutes.
struct Outage {
    server: FakeServer,
    verifier: Verifier,
    short: String,
}

async fn an_hour_away(policy: StalePolicy) -> Outage {
    let mut server = FakeServer::start().await;
    let clock = ManualClock::default();
    let config = config().stale_policy(policy).clock(clock.clone());
    let (verifier, watch) = connected(&mut server, config).await;
    watch
        .revocations(&[of_session_for_three_hours(BEFORE)])
        .await;
    watch.heartbeat(&cursor(1, 5)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 5)
    })
    .await;
    let short = Issuer::shared().token(&id(NEVER), &id(2));
    for token in [&short, &long_token(NEVER)] {
        assert_eq!(verdict(&verifier, token), Ok(()));
    }
    server.stop();
    until(&verifier, "the end of the stream", |state| {
        matches!(state.status, FeedStatus::Interrupted { .. })
    })
    .await;
    assert!(verifier.staleness() < HOUR);
    clock.advance(HOUR);
    assert!(verifier.staleness() >= HOUR);
    Outage {
        server,
        verifier,
        short,
    }
}

impl Outage {
    /// What no policy changes: a token that was revoked, or that has expired meanwhile, is told so; of a key that is not known nobody
    /// knows anything.
    fn what_is_known_is_told(&self) {
        let verifier = &self.verifier;
        assert_eq!(verdict(verifier, &long_token(BEFORE)), REVOKED);
        assert_eq!(verdict(verifier, &self.short), EXPIRED);
        let unknown = Issuer::new("second").token(&id(NEVER), &id(2));
        let unknown = verdict(verifier, &unknown).unwrap_err();
        assert!(unknown.is_unavailable(), "{unknown:?}");
    }

    /// The server comes back, by its clock an hour later too, and tells what it has revoked.
    async fn ends(&mut self) {
        self.server.run().await;
        let resumed = self.server.next_watch().await;
        assert_eq!(resumed.cursor, cursor(1, 5));
        let revoked = [of_session_for_three_hours(MEANWHILE)];
        resumed.snapshot(&Issuer::shared().jwks(), &revoked).await;
        resumed
            .heartbeat_as_of(&cursor(1, 6), now_millis() + HOUR_MILLIS)
            .await;
        until(&self.verifier, "the heartbeat", |state| {
            state.cursor.as_ref().unwrap().as_str() == cursor(1, 6)
        })
        .await;
        let verdicts =
            [BEFORE, MEANWHILE, NEVER].map(|session| verdict(&self.verifier, &long_token(session)));
        assert_eq!(verdicts, [REVOKED, REVOKED, Ok(())]);
    }
}

#[tokio::test]
async fn serve_verifies_for_an_hour_by_what_is_known() {
    let mut outage = an_hour_away(StalePolicy::Serve).await;
    outage.what_is_known_is_told();
    for session in [NEVER, MEANWHILE] {
        assert_eq!(verdict(&outage.verifier, &long_token(session)), Ok(()));
    }
    outage.ends().await;
}

#[tokio::test]
async fn reject_answers_unavailable_after_an_hour_and_verifies_again_once_the_server_is_back() {
    let mut outage = an_hour_away(StalePolicy::Reject).await;
    outage.what_is_known_is_told();
    for session in [NEVER, MEANWHILE] {
        let stale = Err(VerifyError::Stale);
        assert_eq!(verdict(&outage.verifier, &long_token(session)), stale);
    }
    assert!(VerifyError::Stale.is_unavailable());
    outage.ends().await;
}

#[tokio::test]
async fn ask_server_answers_unavailable_while_it_is_away_and_asks_when_only_the_feed_is_missing() {
    let mut outage = an_hour_away(StalePolicy::AskServer).await;
    outage.what_is_known_is_told();
    let verifier = outage.verifier.clone();
    let ask = async |session| {
        let (token, demand) = (long_token(session), Demand::new());
        let verdict = soon("the answer", verifier.verify_or_ask(&token, &demand)).await;
        verdict.map(|_| ())
    };
    let unavailable = ask(NEVER).await.unwrap_err();
    assert!(unavailable.is_unavailable(), "{unavailable:?}");
    assert_eq!(ask(BEFORE).await, REVOKED, "that is known here");

    // It answers again, and has no place for another watcher.
    let behaviour = std::sync::Arc::clone(&outage.server.behaviour);
    outage
        .server
        .refuse(Status::unavailable("too many watchers"));
    outage.server.run().await;
    soon("an answer of the server", async {
        while ask(NEVER).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let details = ErrorDetails::with_error_info("TOKEN_REVOKED", "auth.countersign.v1", []);
    let revoked = Status::with_error_details(tonic::Code::Unauthenticated, "no", details);
    *behaviour.validation.lock().unwrap() = Some(revoked);
    assert_eq!(ask(MEANWHILE).await, REVOKED);
    let asked = behaviour.validation_calls.load(Ordering::SeqCst);
    assert_eq!(ask(BEFORE).await, REVOKED);
    assert_eq!(
        behaviour.validation_calls.load(Ordering::SeqCst),
        asked,
        "what is known here is not asked"
    );

    outage.server.refuse(None);
    assert_eq!(outage.server.next_watch().await.cursor, cursor(1, 5));
}
