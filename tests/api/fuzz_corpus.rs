//! Runs the corpus of the fuzz targets, and every prefix of each input, through the functions that libFuzzer calls.
//! `scripts/fuzz` searches for new inputs; that needs a build of its own.

use std::{fs, path::Path};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Runs every input of the target's corpus that is text, and each of its prefixes.
fn replay(target: &str, run: fn(&str)) {
    replay_bytes(target, |bytes| {
        // The libFuzzer target of a `&str` is not called for other bytes, either.
        if let Ok(text) = str::from_utf8(bytes) {
            run(text);
        }
    });
}

/// The same for a target that takes any bytes.
fn replay_bytes(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        inputs += 1;
        for end in 0..=bytes.len() {
            run(&bytes[..end]);
        }
    }
    assert!(inputs > 5, "the corpus of {target} has {inputs} inputs");
}

#[test]
fn no_input_of_the_corpus_breaks_the_access_token_parser() {
    replay("access_token", targets::access_token);
}

#[test]
fn no_input_of_the_corpus_breaks_the_checks_behind_the_signature() {
    replay("signed_token", targets::signed_token);
}

#[test]
fn no_input_of_the_corpus_breaks_the_refresh_token_parser() {
    replay("refresh_token", targets::refresh_token);
}

#[test]
fn no_input_of_the_corpus_breaks_the_email_parser() {
    replay("email", targets::email);
}

#[test]
fn no_input_of_the_corpus_breaks_the_readers_of_password_hashes() {
    replay("password_hash", targets::password_hash);
}

#[test]
fn no_input_of_the_corpus_breaks_the_receiver_of_the_feed() {
    replay_bytes("feed", targets::feed);
}

#[test]
fn no_input_of_the_corpus_breaks_the_ceremonies_of_passkeys() {
    replay("passkey", targets::passkey);
}

#[test]
fn no_input_of_the_corpus_breaks_the_reader_of_import_records() {
    replay("import_record", targets::import_record);
}
