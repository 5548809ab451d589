//! Any bytes as a stream of the feed of revocations.

use countersign_verifier::fuzzing;

/// No message makes the receiver panic, however malformed it is; each that is applied takes a byte or more.
pub fn feed(bytes: &[u8]) {
    let applied = fuzzing::feed(bytes);
    assert!(applied <= bytes.len());
}
