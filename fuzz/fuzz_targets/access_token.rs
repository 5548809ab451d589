//! Any text as an access token.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::access_token(text));
