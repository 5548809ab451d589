//! Any text as a line of an import.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| countersign_fuzz::import_record(text));
