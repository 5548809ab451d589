//! Any header and payload under a valid signature: the checks that come after the signature.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::signed_token(text));
