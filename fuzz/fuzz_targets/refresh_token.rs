//! Any text as a refresh token.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::refresh_token(text));
