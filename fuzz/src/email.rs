//! Any text as an e-mail address.

use countersign::domain::Email;

/// What is accepted parses again to the same address.
pub fn email(text: &str) {
    if let Ok(email) = Email::parse("email", text) {
        let again =
            Email::parse("email", email.as_str()).expect("what was accepted once is accepted");
        assert_eq!(again.as_str(), email.as_str());
        assert_eq!(again.key(), email.key());
        assert!(email.as_str().contains('@') && !email.as_str().chars().any(char::is_control));
    }
}
