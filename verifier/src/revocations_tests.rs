//! Tests of the set of revocations.

use super::*;
use crate::claims::PrincipalType;

const END: UnixMillis = UnixMillis(2_000_000);

fn id(number: u8) -> Id {
    let mut bytes = [0x70; 16];
    bytes[15] = number;
    Id::from_bytes(bytes)
}

/// A token of session 1 and user 2, issued at `millis`.
fn claims(millis: i64) -> Claims {
    let mut jti = [0; 16];
    jti[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    jti[6] = 0x70;
    Claims {
        issuer: String::new(),
        subject: id(2),
        session_id: id(1),
        token_id: Id::from_bytes(jti),
        audiences: Vec::new(),
        roles: Vec::new(),
        client_id: String::new(),
        acr: None,
        amr: Vec::new(),
        principal_type: PrincipalType::User,
        actor: None,
        certificate_sha256: None,
        key_id: String::new(),
        issued_at: UnixMillis(0),
        expires_at: END,
        authenticated_at: None,
    }
}

fn of_user(not_before: i64) -> Revocation {
    Revocation {
        subject: Subject::User(id(2), UnixMillis(not_before)),
        expires_at: END,
    }
}

fn of_session(id: Id) -> Revocation {
    Revocation {
        subject: Subject::Session(id),
        expires_at: END,
    }
}

#[test]
fn a_token_is_revoked_with_each_service_that_acts_in_it() {
    let actor = |number, before| Actor {
        subject: id(number).to_string(),
        session_id: Some(id(number + 100)),
        token_id: Some(claims(900).token_id),
        client_id: None,
        actor: before,
    };
    let mut token = claims(1_000);
    token.actor = Some(actor(10, Some(Box::new(actor(11, None)))));
    let of_account = |number, not_before| Revocation {
        subject: Subject::User(id(number), UnixMillis(not_before)),
        expires_at: END,
    };
    let covers = |revocation| Revocations::of(&[revocation]).covers(&token);
    assert!(covers(of_session(id(110))) && covers(of_session(id(111))));
    assert!(!covers(of_session(id(112))));
    assert!(covers(of_account(10, 900)) && covers(of_account(11, 900)));
    assert!(!covers(of_account(10, 899)) && !covers(of_account(11, 899)));
    assert!(!covers(of_account(12, 900)));
}

#[test]
fn every_token_of_a_revoked_session_is_revoked() {
    let all = Revocations::of(&[of_session(id(9))]);
    assert!(!all.covers(&claims(1_000)));
    all.learn(&[of_session(id(1))]);
    assert!(all.covers(&claims(1_000)));
    assert_eq!(all.len(), 2);
}

#[test]
fn a_user_is_revoked_up_to_the_millisecond_and_the_latest_counts() {
    let all = Revocations::of(&[of_user(1_000)]);
    all.learn(&[of_user(500)]);
    assert!(all.covers(&claims(999)));
    assert!(all.covers(&claims(1_000)));
    assert!(!all.covers(&claims(1_001)));
    all.learn(&[of_user(1_001), of_user(1_001)]);
    assert!(all.covers(&claims(1_001)));
    assert_eq!(all.len(), 1);
}

#[test]
fn a_session_of_the_users_id_is_not_the_user() {
    assert!(!Revocations::of(&[of_session(id(2))]).covers(&claims(1_000)));
}

#[test]
fn revocations_are_deleted_once_all_their_tokens_have_expired() {
    let all = Revocations::of(&[of_session(id(1)), of_user(1_000)]);
    let leeway = Duration::from_secs(5);
    let last = END.plus(leeway).plus(KEPT_LONGER);
    all.forget(UnixMillis(last.0 - 1), leeway);
    assert_eq!(all.len(), 2);
    all.forget(last, leeway);
    assert_eq!(all.len(), 0);
}
