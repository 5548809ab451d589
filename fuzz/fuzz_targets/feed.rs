//! Any bytes as a stream of the feed of revocations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| countersign_fuzz::feed(bytes));
