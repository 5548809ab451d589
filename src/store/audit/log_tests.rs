//! Tests of the published schemas: one for each kind, met by the events of this version.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::*;
use crate::{
    domain::{Roles, SessionId, UserId},
    store::{AuditDetails, AuditKind},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/audit-schema")
}

fn file_name(kind: AuditKind) -> String {
    format!("{}.v{}.json", kind.as_str(), kind.version())
}

/// Whether events of the kind name a subject and a session, and what else they say.
fn shape(kind: AuditKind) -> (bool, bool, AuditDetails) {
    use AuditKind as Kind;
    let none = AuditDetails::None;
    match kind {
        Kind::LoggedIn => {
            let (new_device, breached_password) = (true, true);
            let details = AuditDetails::Login {
                new_device,
                breached_password,
            };
            (true, true, details)
        }
        Kind::LoginFailed | Kind::LoginThrottled => (true, false, AuditDetails::Repeated(3)),
        Kind::PasswordCheckFailed | Kind::PasswordCheckThrottled => {
            (true, true, AuditDetails::Repeated(1))
        }
        Kind::RefusalsDropped => (false, false, AuditDetails::Repeated(9)),
        Kind::UserRolesChanged => {
            let before = Roles::from_stored("editor");
            let after = Roles::from_stored("admin editor");
            (true, false, AuditDetails::Roles { before, after })
        }
        Kind::RegistrationRefused
        | Kind::SigningKeyRotated
        | Kind::SigningKeysRevoked
        | Kind::UsersImported => (false, false, none),
        Kind::LoggedOut
        | Kind::SessionRevoked
        | Kind::RefreshTokenReused
        | Kind::SessionLimitReached
        | Kind::ServiceKeyCreated
        | Kind::ServiceKeyRevoked => (true, true, none),
        Kind::SecondFactorFailed => (true, true, AuditDetails::Repeated(2)),
        Kind::FactorAdded
        | Kind::FactorRemoved
        | Kind::FactorsRemoved
        | Kind::RecoveryCodesReplaced
        | Kind::RecoveryCodeUsed
        | Kind::Reauthenticated
        | Kind::UserRegistered
        | Kind::UserCreated
        | Kind::UserInvited
        | Kind::UserDeleted
        | Kind::PasswordChanged
        | Kind::UserDisabled
        | Kind::UserEnabled
        | Kind::UserSessionsRevoked
        | Kind::LoginFailuresCleared
        | Kind::ServiceAccountCreated
        | Kind::ServiceAccountUpdated
        | Kind::ServiceAccountDisabled
        | Kind::ServiceAccountEnabled
        | Kind::ServiceAccountDeleted
        | Kind::PasswordResetMailed
        | Kind::PasswordReset
        | Kind::EmailVerified => (true, false, none),
    }
}

fn example(kind: AuditKind) -> StoredAuditEvent {
    let at = Timestamp::from_micros(1_795_478_400_000_001);
    let (has_subject, has_session, details) = shape(kind);
    let id = |is_there: bool| is_there.then(|| UserId::generate(at).to_string());
    StoredAuditEvent {
        id: AuditEventId::generate(at).to_string(),
        kind: kind.as_str().to_owned(),
        actor_id: None,
        subject_id: id(has_subject),
        session_id: has_session.then(|| SessionId::generate(at).to_string()),
        client_ip: "192.0.2.1".to_owned(),
        request_id: "request 1".to_owned(),
        created_at: at.micros(),
        version: kind.version(),
        details: details.to_json().to_string(),
        position: None,
    }
}

#[test]
fn an_event_of_each_kind_meets_its_published_schema_and_no_other() {
    for kind in AuditKind::ALL {
        let file = folder().join(file_name(*kind));
        let text =
            fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing", file.display()));
        let schema = serde_json::from_str(&text).unwrap();
        let options = jsonschema::options().should_validate_formats(true);
        let schema = options.build(&schema).unwrap();
        let event = example(*kind).to_json();
        if let Err(error) = schema.validate(&event) {
            panic!("{}: {error}", kind.as_str());
        }
        for changed in [
            ("kind", json!("another")),
            ("version", json!(2)),
            ("details", json!({ "email": "ada@example.org" })),
            ("time", json!("yesterday")),
            ("email", json!("ada@example.org")),
        ] {
            let mut other = event.clone();
            other[changed.0] = changed.1;
            assert!(!schema.is_valid(&other), "{}: {other}", kind.as_str());
        }
    }
}

#[test]
fn no_schema_is_without_a_kind() {
    let known: BTreeSet<_> = AuditKind::ALL.iter().map(|kind| file_name(*kind)).collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // Those of earlier versions stay: events of them do.
        let version = name
            .strip_suffix(".json")
            .and_then(|name| name.rsplit_once(".v"));
        let is_earlier = version.is_some_and(|(_, version)| version != "1");
        assert!(known.contains(&name) || is_earlier, "{name}");
    }
}

#[test]
fn a_time_in_the_filter_bounds_the_ids() {
    let at = Timestamp::from_seconds(1_795_478_400);
    let inside = AuditEventId::generate(at).to_string();
    let before = AuditEventId::generate(Timestamp::from_micros(at.micros() - 2_000)).to_string();
    let after = AuditEventId::generate(Timestamp::from_micros(at.micros() + 2_000)).to_string();
    let from = AuditCondition::Time(TimeBound::From(at));
    let to = AuditCondition::Time(TimeBound::Before(Timestamp::from_micros(at.micros() + 1)));
    let (first, last) = id_bounds(None, &[from, to]);
    assert!(first <= inside && inside < last);
    assert!(before < first && last <= after, "{first} {last}");
    let (first, last) = id_bounds(inside.parse().ok(), &[]);
    assert_eq!((first.as_str(), last), ("", inside));
}
