//! Filters made and read again.

use std::{fmt::Write as _, fs, path::PathBuf};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tempfile::TempDir;

use super::{BreachedPasswords, BuildError, build};
use crate::domain::Password;

fn sha1(text: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let mut digits = String::new();
    for byte in hash.as_ref() {
        write!(digits, "{byte:02X}").unwrap();
    }
    digits
}

/// The list of so many passwords, in order; the n-th was seen n times.
fn list(count: u32) -> String {
    let mut lines: Vec<_> = (1..=count)
        .map(|n| format!("{}:{n}\n", sha1(&format!("password {n}"))))
        .collect();
    lines.sort();
    lines.concat()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("breached.bin");
    (folder, file)
}

fn password(text: &str) -> Password {
    Password::parse("password", text).unwrap()
}

#[test]
fn every_password_of_a_list_is_found_and_hardly_another() {
    // One password alone in its shard, a few, and many.
    for count in [1, 3, 300, 60_000] {
        let (_folder, file) = folder();
        let built = build(list(count).as_bytes(), &file, 1).unwrap();
        assert_eq!((built.passwords, built.left_out), (count.into(), 0));
        assert_eq!(built.bytes, fs::metadata(&file).unwrap().len());
        let filter = BreachedPasswords::read(&file).unwrap();
        assert_eq!(filter.passwords(), u64::from(count));
        for n in 1..=count {
            assert!(filter.contains(&password(&format!("password {n}"))), "{n}");
        }
        let wrong = (0..100_000).filter(|n| filter.contains(&password(&format!("other {n}"))));
        let wrong = wrong.count();
        assert!(wrong < 30, "{wrong} of 100,000 where 2 are expected");
    }
}

#[test]
fn a_password_is_found_as_it_was_typed_and_normalised() {
    let (_folder, file) = folder();
    let composed = format!("{}\n", sha1("caf\u{e9} au lait noir"));
    build(composed.as_bytes(), &file, 1).unwrap();
    let filter = BreachedPasswords::read(&file).unwrap();
    assert!(filter.contains(&password("cafe\u{301} au lait noir")));
    let typed = format!("{}\n", sha1("cafe\u{301} au lait noir"));
    build(typed.as_bytes(), &file, 1).unwrap();
    let filter = BreachedPasswords::read(&file).unwrap();
    assert!(filter.contains(&password("cafe\u{301} au lait noir")));
    assert!(!filter.contains(&password("caf\u{e9} au lait noir")));
}

#[test]
fn rare_passwords_and_repeated_lines_are_left_out() {
    let (_folder, file) = folder();
    let built = build(list(100).as_bytes(), &file, 91).unwrap();
    assert_eq!((built.passwords, built.left_out), (10, 90));
    let filter = BreachedPasswords::read(&file).unwrap();
    assert!(filter.contains(&password("password 91")));
    assert!(!filter.contains(&password("password 90")));
    let twice = list(1).repeat(2);
    let built = build(twice.as_bytes(), &file, 1).unwrap();
    assert_eq!((built.passwords, built.left_out), (1, 1));
    assert!(matches!(
        build(list(5).as_bytes(), &file, 6),
        Err(BuildError::Empty)
    ));
}

#[test]
fn an_unsorted_list_is_refused_and_leaves_no_file() {
    let (folder, file) = folder();
    let list = list(300);
    let mut lines: Vec<_> = list.lines().collect();
    lines.reverse();
    let refused = build(lines.join("\n").as_bytes(), &file, 1).unwrap_err();
    assert!(matches!(refused, BuildError::Unsorted(2)), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let nowhere = folder.path().join("none/breached.bin");
    let refused = build(list.as_bytes(), &nowhere, 1).unwrap_err();
    assert!(matches!(refused, BuildError::Write { .. }), "{refused}");
}

#[test]
fn a_file_with_any_byte_changed_or_missing_is_refused() {
    let (_folder, file) = folder();
    build(list(40).as_bytes(), &file, 1).unwrap();
    let good = fs::read(&file).unwrap();
    // Every byte of the beginning, and some of the rest.
    for at in (0..64)
        .chain((64..good.len()).step_by(97))
        .chain([good.len() - 1])
    {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        fs::write(&file, &bytes).unwrap();
        assert!(BreachedPasswords::read(&file).is_err(), "byte {at}");
        assert!(BreachedPasswords::check(&file).is_err(), "byte {at}");
    }
    for length in [0, 7, 31, 4_000, good.len() - 33, good.len() - 1] {
        fs::write(&file, &good[..length]).unwrap();
        assert!(BreachedPasswords::read(&file).is_err(), "{length} bytes");
        assert!(BreachedPasswords::check(&file).is_err(), "{length} bytes");
    }
    fs::write(&file, [&good[..], b"x"].concat()).unwrap();
    assert!(BreachedPasswords::read(&file).is_err());
    fs::write(&file, &good).unwrap();
    assert!(BreachedPasswords::read(&file).is_ok());
    assert_eq!(BreachedPasswords::check(&file).unwrap(), 40);
}

#[test]
fn a_folder_and_a_missing_file_are_refused_by_name() {
    let (folder, file) = folder();
    for path in [folder.path(), &file] {
        let error = BreachedPasswords::read(path).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.starts_with("COUNTERSIGN_BREACHED_PASSWORDS_FILE"),
            "{error}"
        );
    }
}
