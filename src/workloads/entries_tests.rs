//! Tests of what replaces what in memory.

use super::*;
use crate::domain::{DisplayName, Roles};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn account(id: u8, name: &str, version: i64) -> Versioned<ServiceAccount> {
    let item = ServiceAccount {
        id: ServiceAccountId::from_bytes([id; 16]),
        name: ServiceAccountName::parse("name", name).unwrap(),
        display_name: DisplayName::from_stored(String::new()),
        roles: Roles::default(),
        audiences: vec!["api".to_owned()],
        act_for_users_at: Vec::new(),
        created_at: NOW,
        updated_at: NOW,
        disabled_at: None,
    };
    Versioned { item, version }
}

fn key(id: u8, account: u8, version: i64) -> Versioned<ServiceKey> {
    let item = ServiceKey {
        id: ServiceKeyId::from_bytes([id; 16]),
        account_id: ServiceAccountId::from_bytes([account; 16]),
        created_at: NOW,
        expires_at: NOW + HOUR,
        revoked_at: None,
        last_used_at: None,
    };
    Versioned { item, version }
}

/// What was read from the database.
fn read(accounts: Vec<Versioned<ServiceAccount>>, keys: Vec<Versioned<ServiceKey>>) -> Entries {
    let mut entries = Entries::default();
    for account in accounts {
        entries.learn_account(account);
    }
    for key in keys {
        entries.learn_key(key);
    }
    entries
}

/// Whether the key is live; `None` when it is unknown.
fn is_live(entries: &Entries, id: u8, now: Timestamp) -> Option<bool> {
    match entries.key(ServiceKeyId::from_bytes([id; 16]), now) {
        KeyState::Live(_) => Some(true),
        KeyState::Refused => Some(false),
        KeyState::Unknown => None,
    }
}

#[test]
fn a_key_is_live_until_it_expires_or_is_revoked_or_its_account_is_disabled() {
    let mut entries = Entries::default();
    entries.learn_key(key(1, 1, 2));
    assert_eq!(is_live(&entries, 1, NOW), None, "its account is not known");
    entries.learn_account(account(1, "orders", 1));
    assert_eq!(is_live(&entries, 1, NOW), Some(true));
    assert_eq!(is_live(&entries, 1, NOW + HOUR), Some(false));
    assert_eq!(is_live(&entries, 2, NOW), None);
    let mut disabled = account(1, "orders", 3);
    disabled.item.disabled_at = Some(NOW);
    entries.learn_account(disabled);
    assert_eq!(is_live(&entries, 1, NOW), Some(false));
    entries.learn_account(account(1, "orders", 4));
    assert_eq!(is_live(&entries, 1, NOW), Some(true));
    let mut revoked = key(1, 1, 5);
    revoked.item.revoked_at = Some(NOW);
    entries.learn_key(revoked);
    assert_eq!(is_live(&entries, 1, NOW), Some(false));
}

#[test]
fn a_late_read_does_not_bring_an_older_version_back() {
    let mut entries = Entries::default();
    entries.learn_account(account(1, "orders", 1));
    let mut revoked = key(1, 1, 3);
    revoked.item.revoked_at = Some(NOW);
    entries.learn_key(revoked);
    entries.learn_key(key(1, 1, 2));
    assert_eq!(is_live(&entries, 1, NOW), Some(false));
    // Nor does a read of everything that began before.
    entries.replace(
        read(vec![account(1, "orders", 1)], vec![key(1, 1, 2)]),
        2,
        false,
    );
    assert_eq!(is_live(&entries, 1, NOW), Some(false));
}

#[test]
fn a_read_that_began_before_a_deletion_does_not_bring_the_account_back() {
    let found = || {
        let accounts = vec![account(1, "orders", 1), account(2, "billing", 2)];
        read(accounts, vec![key(1, 1, 3), key(2, 2, 4)])
    };
    let id = ServiceAccountId::from_bytes([1; 16]);
    let after = |finish: fn(&mut Entries, Entries)| {
        let mut entries = found();
        entries.begin_read();
        entries.forget_account(id);
        finish(&mut entries, found());
        entries
    };
    for mut entries in [
        after(|entries, changed| entries.learn(changed, 4)),
        after(|entries, all| entries.replace(all, 4, false)),
        after(|entries, all| entries.replace(all, 4, true)),
    ] {
        assert_eq!(is_live(&entries, 1, NOW), None);
        assert_eq!(is_live(&entries, 2, NOW), Some(true));
        // A later read counts: the database may have been restored.
        entries.begin_read();
        entries.learn(found(), 4);
        assert_eq!(is_live(&entries, 1, NOW), Some(true));
    }
}

#[test]
fn a_read_that_began_before_a_deletion_leaves_the_name_to_the_new_account() {
    let mut entries = read(vec![account(1, "orders", 1)], vec![key(1, 1, 2)]);
    entries.begin_read();
    entries.forget_account(ServiceAccountId::from_bytes([1; 16]));
    entries.learn_account(account(2, "orders", 4));
    entries.learn(read(vec![account(1, "orders", 1)], Vec::new()), 2);
    let named = entries.account_named(&account(2, "orders", 4).item.name);
    assert_eq!(named.unwrap().id, ServiceAccountId::from_bytes([2; 16]));
}

#[test]
fn a_late_answer_does_not_bring_an_account_back_that_another_replica_has_deleted() {
    let mut entries = Entries::default();
    entries.replace(read(vec![account(1, "orders", 1)], Vec::new()), 1, true);
    // This replica changes it to version 2; another one deletes it as version 3, which is read before the answer comes.
    entries.replace(Entries::default(), 3, false);
    entries.learn_account(account(1, "orders", 2));
    assert_eq!(entries.len(), 0);
    entries.learn_account(account(2, "orders", 4));
    assert_eq!(entries.len(), 1, "a new account is newer");
}

#[test]
fn a_complete_read_removes_deleted_entries() {
    let mut entries = Entries::default();
    entries.learn_account(account(1, "orders", 1));
    entries.learn_account(account(2, "billing", 2));
    entries.learn_key(key(1, 1, 3));
    entries.learn_key(key(2, 2, 4));
    entries.replace(
        read(vec![account(2, "billing", 2)], vec![key(2, 2, 4)]),
        5,
        false,
    );
    assert_eq!(is_live(&entries, 1, NOW), None);
    assert_eq!(is_live(&entries, 2, NOW), Some(true));
    assert!(
        entries
            .account_named(&account(1, "orders", 1).item.name)
            .is_none()
    );
    // A restored database has lower versions than what is known here.
    entries.replace(read(vec![account(1, "orders", 1)], Vec::new()), 1, true);
    assert_eq!(is_live(&entries, 2, NOW), None);
    assert_eq!(entries.len(), 1);
}

#[test]
fn a_name_that_is_free_again_names_the_new_account() {
    let mut entries = Entries::default();
    entries.learn_account(account(1, "orders", 1));
    entries.learn_key(key(1, 1, 2));
    entries.learn_account(account(2, "orders", 3));
    entries.forget_account(ServiceAccountId::from_bytes([1; 16]));
    assert_eq!(is_live(&entries, 1, NOW), None);
    let named = entries.account_named(&account(1, "orders", 1).item.name);
    assert_eq!(named.unwrap().id, ServiceAccountId::from_bytes([2; 16]));
}

#[test]
fn uses_are_kept_to_the_minute_until_they_are_recorded() {
    let mut entries = Entries::default();
    entries.learn_account(account(1, "orders", 1));
    entries.learn_key(key(1, 1, 2));
    let id = ServiceKeyId::from_bytes([1; 16]);
    assert!(entries.unrecorded_uses().is_empty());
    entries.note_use(id, NOW + Duration::from_secs(59));
    let uses = entries.unrecorded_uses();
    assert_eq!(uses, [(id, NOW)]);
    // Whatever is read in between.
    entries.learn_key(key(1, 1, 2));
    entries.replace(
        read(vec![account(1, "orders", 1)], vec![key(1, 1, 2)]),
        2,
        false,
    );
    assert_eq!(entries.unrecorded_uses(), uses);
    entries.mark_recorded(&uses);
    assert!(entries.unrecorded_uses().is_empty());
    entries.note_use(id, NOW + Duration::from_secs(60));
    assert_eq!(entries.last_use(id), Some(NOW + Duration::from_secs(60)));
    assert_eq!(entries.unrecorded_uses().len(), 1);
}

#[test]
fn a_key_that_has_been_expired_for_long_is_forgotten() {
    let mut entries = Entries::default();
    entries.learn_account(account(1, "orders", 1));
    entries.learn_key(key(1, 1, 2));
    entries.forget_expired(NOW + HOUR);
    assert_eq!(is_live(&entries, 1, NOW + HOUR), Some(false));
    entries.forget_expired(NOW + HOUR + EXPIRED);
    assert_eq!(is_live(&entries, 1, NOW + HOUR), None);
}
