//! Any text as an e-mail address: what is accepted parses again to the same user.
#![no_main]

use countersign::domain::Email;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(email) = Email::parse("email", text) {
        let again =
            Email::parse("email", email.as_str()).expect("what was accepted once is accepted");
        assert_eq!(again.as_str(), email.as_str());
        assert_eq!(again.key(), email.key());
        assert!(email.as_str().contains('@') && !email.as_str().chars().any(char::is_control));
    }
});
