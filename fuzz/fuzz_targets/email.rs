//! Any text as an e-mail address.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::email(text));
