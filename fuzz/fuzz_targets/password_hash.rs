//! Any text as a password hash of another system.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::password_hash(text));
