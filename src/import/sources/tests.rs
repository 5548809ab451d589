//! Exports in the shapes of other systems (`tests/exports/`), read into records.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::{clock::Timestamp, import::Reason};

macro_rules! export {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/exports/",
            $name
        ))
        .as_slice()
    };
}

const KEEP_ROLES: SourceOptions = SourceOptions { keep_roles: true };

/// 2020-01-31T08:30:00Z.
const CREATED: Timestamp = Timestamp::from_seconds(1_580_459_400);

fn read(
    source: &Source,
    bytes: &[u8],
    options: SourceOptions,
) -> Vec<(u64, Result<Record, Reason>)> {
    let mut entries = Vec::new();
    let read = source.read(bytes, options, &mut |entry| {
        entries.push((entry.line, entry.record));
        ControlFlow::Continue(())
    });
    read.unwrap();
    entries
}

fn firebase() -> Source {
    let config = str::from_utf8(export!("firebase-hash-config.txt")).unwrap();
    Source::Firebase(HashConfig::parse(config).unwrap())
}

fn auth0() -> Source {
    let hashes = PasswordHashes::read(export!("auth0-password-hashes.jsonl")).unwrap();
    Source::Auth0(Some(hashes))
}

/// The parts of a record that all systems have.
fn facts(record: &Record) -> (&str, &str, bool, bool, bool) {
    let has_hash = record.password_hash.is_some();
    (
        &record.email,
        &record.display_name,
        record.email_verified,
        record.disabled,
        has_hash,
    )
}

fn refused(entry: &(u64, Result<Record, Reason>)) -> String {
    entry.1.as_ref().unwrap_err().to_string()
}

#[test]
fn a_realm_export_of_keycloak_is_read() {
    let entries = read(
        &Source::Keycloak,
        export!("keycloak-realm.json"),
        KEEP_ROLES,
    );
    assert_eq!(entries.len(), 5);
    let [ada, bob, eve] = [0, 1, 2].map(|n| entries[n].1.as_ref().unwrap());
    assert_eq!(
        facts(ada),
        ("ada@example.org", "Ada Lovelace", true, false, true)
    );
    assert_eq!(ada.create_time, Some(CREATED));
    assert_eq!(ada.roles, ["default-roles-shop", "editor"], "never admin");
    // The password and not the code of the second factor, which comes first.
    assert_eq!(facts(bob), ("bob@example.org", "", false, true, true));
    assert!(
        bob.password_hash
            .as_ref()
            .unwrap()
            .expose()
            .contains("argon2")
    );
    assert_eq!(facts(eve), ("eve@example.org", "", true, false, false));
    assert_eq!(refused(&entries[3]), "the service account of a client");
    assert_eq!(refused(&entries[4]), "an account without an e-mail address");
    let without = read(
        &Source::Keycloak,
        export!("keycloak-realm.json"),
        SourceOptions::default(),
    );
    assert!(without[0].1.as_ref().unwrap().roles.is_empty());
}

#[test]
fn an_export_of_firebase_is_read_with_either_base64() {
    let entries = read(
        &firebase(),
        export!("firebase-users.json"),
        SourceOptions::default(),
    );
    assert_eq!(entries.len(), 4);
    let [ada, bob, eve] = [0, 1, 2].map(|n| entries[n].1.as_ref().unwrap());
    assert_eq!(
        facts(ada),
        ("ada@example.org", "Ada Lovelace", true, false, true)
    );
    assert_eq!(ada.create_time, Some(CREATED));
    let hash = |record: &Record| record.password_hash.as_ref().unwrap().expose().clone();
    assert_eq!(hash(ada), hash(bob));
    assert_eq!(facts(bob), ("bob@example.org", "", false, true, true));
    assert_eq!(facts(eve), ("eve@example.org", "Eve", true, false, false));
    assert_eq!(refused(&entries[3]), "an account without an e-mail address");
}

#[test]
fn users_of_auth0_are_joined_with_their_hashes() {
    let entries = read(
        &auth0(),
        export!("auth0-users.jsonl"),
        SourceOptions::default(),
    );
    let [ada, bob, eve] = [0, 1, 2].map(|n| entries[n].1.as_ref().unwrap());
    assert_eq!(
        facts(ada),
        ("ada@example.org", "Ada Lovelace", true, false, true)
    );
    assert_eq!(ada.create_time, Some(CREATED));
    assert_eq!(facts(bob), ("bob@example.org", "", false, true, true));
    assert_eq!(facts(eve), ("eve@example.org", "Eve", true, false, false));
}

#[test]
fn the_dump_of_auth0_alone_is_read() {
    let dump = export!("auth0-password-hashes.jsonl");
    let entries = read(&Source::Auth0(None), dump, SourceOptions::default());
    let [ada, bob] = [0, 1].map(|n| entries[n].1.as_ref().unwrap());
    assert_eq!(facts(ada), ("ada@example.org", "", true, false, true));
    assert_eq!(facts(bob), ("bob@example.org", "", false, false, true));
}

#[test]
fn dumps_of_django_are_read_as_a_document_and_as_lines() {
    for dump in [export!("django-users.json"), export!("django-users.jsonl")] {
        let entries = read(&Source::Django, dump, SourceOptions::default());
        assert_eq!(entries.len(), 4, "the group is passed over");
        let [ada, bob, eve] = [0, 1, 2].map(|n| entries[n].1.as_ref().unwrap());
        assert_eq!(
            facts(ada),
            ("ada@example.org", "Ada Lovelace", false, false, true)
        );
        assert_eq!(ada.create_time, Some(CREATED));
        assert_eq!(facts(bob), ("bob@example.org", "", false, true, true));
        assert!(
            eve.password_hash
                .as_ref()
                .unwrap()
                .expose()
                .starts_with('!')
        );
        assert_eq!(refused(&entries[3]), "an account without an e-mail address");
    }
}

#[test]
fn users_of_wordpress_are_read_as_csv_and_as_json() {
    for list in [
        export!("wordpress-users.csv"),
        export!("wordpress-users.json"),
    ] {
        let entries = read(&Source::WordPress, list, KEEP_ROLES);
        assert_eq!(entries.len(), 3);
        let [ada, bob] = [0, 1].map(|n| entries[n].1.as_ref().unwrap());
        assert_eq!(
            facts(ada),
            ("ada@example.org", "Lovelace, \"Ada\"", false, false, true)
        );
        assert_eq!(ada.create_time, Some(CREATED));
        assert_eq!(ada.roles, ["administrator", "editor"]);
        assert!(
            bob.password_hash
                .as_ref()
                .unwrap()
                .expose()
                .starts_with("$P$")
        );
        assert_eq!(refused(&entries[2]), "an account without an e-mail address");
    }
}

#[test]
fn a_row_of_csv_with_too_few_values_or_bad_utf8_is_refused_alone_and_a_missing_column_ends_the_import()
 {
    let csv = b"user_email,user_pass\nada@example.org\n\xff@example.org,x\nbob@example.org,!\n";
    let entries = read(&Source::WordPress, csv, SourceOptions::default());
    assert_eq!(
        refused(&entries[0]),
        "not a row with a value for each column"
    );
    assert_eq!(refused(&entries[1]), "not UTF-8");
    assert_eq!(entries[2].1.as_ref().unwrap().email, "bob@example.org");
    let csv = &b"user_login,user_pass\nada,x\n"[..];
    let error = Source::WordPress.read(csv, SourceOptions::default(), &mut |_| {
        panic!("nothing can be read")
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "the first line does not name the column user_email"
    );
}

#[test]
fn hash_parameters_of_firebase_that_are_missing_are_named() {
    let whole = str::from_utf8(export!("firebase-hash-config.txt")).unwrap();
    for name in [
        "algorithm",
        "base64_signer_key",
        "base64_salt_separator",
        "rounds",
        "mem_cost",
    ] {
        let lines: Vec<_> = whole.lines().filter(|line| !line.contains(name)).collect();
        let error = HashConfig::parse(&lines.join("\n")).err().unwrap();
        assert!(error.starts_with(name), "{error}");
    }
    assert!(HashConfig::parse(&whole.replace("SCRYPT", "BCRYPT")).is_err());
}

#[test]
fn a_dump_of_hashes_that_cannot_be_read_is_refused_by_its_line() {
    let (line, why) = PasswordHashes::read(&b"{}\nnonsense\n"[..]).err().unwrap();
    assert_eq!(
        (line, why.as_str()),
        (2, "not the shape of a user of Auth0")
    );
}

fn sources() -> Vec<Source> {
    vec![
        Source::Records,
        Source::Keycloak,
        firebase(),
        Source::Auth0(None),
        Source::Django,
        Source::WordPress,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for source in sources() {
            let _ = source.read(bytes.as_slice(), KEEP_ROLES, &mut |_| ControlFlow::Continue(()));
        }
    }

    /// Documents of the right shape with changed bytes reach what random bytes do not.
    #[test]
    fn no_change_of_an_export_makes_its_reader_panic(
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let exports = [
            export!("keycloak-realm.json"), export!("firebase-users.json"), export!("auth0-password-hashes.jsonl"),
            export!("django-users.json"), export!("wordpress-users.csv"), export!("wordpress-users.json"),
        ];
        for export in exports {
            let mut bytes = export.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() + 1).max(at + 1));
            for source in sources() {
                let _ = source.read(bytes.as_slice(), KEEP_ROLES, &mut |_| ControlFlow::Continue(()));
            }
        }
    }
}
