//! Any text as a password hash of another system.

use countersign::passwords::formats::accept;

/// What is accepted has one spelling, which is accepted again and stays as it is. No hash function runs.
pub fn password_hash(text: &str) {
    if let Ok(hash) = accept(text) {
        let canonical = hash.canonical();
        let again = accept(canonical.expose()).expect("what was accepted once is accepted");
        assert_eq!(again.canonical().expose(), canonical.expose());
        assert_eq!(again.is_weak(), hash.is_weak());
    }
}
