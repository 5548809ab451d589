//! Any text as what a page returns of a passkey.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::passkey(text));
