//! Any text as a refresh token.

use super::world::WORLD;

/// What is accepted is exactly what the server would issue itself.
pub fn refresh_token(text: &str) {
    if let Ok(parsed) = WORLD.derived_keys.parse_refresh_token(text) {
        let again = WORLD
            .derived_keys
            .refresh_token(parsed.session_id, parsed.generation);
        assert_eq!(again.expose(), text, "another encoding was accepted");
    }
}
