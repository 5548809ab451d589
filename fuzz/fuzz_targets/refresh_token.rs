//! Any text as a refresh token: what is accepted is exactly what we would issue ourselves.
#![no_main]

use countersign_fuzz::WORLD;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(parsed) = WORLD.derived_keys.parse_refresh_token(text) {
        let again = WORLD
            .derived_keys
            .refresh_token(parsed.session_id, parsed.generation);
        assert_eq!(again.expose(), text, "another spelling was accepted");
    }
});
