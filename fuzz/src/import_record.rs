//! Any text as a line of an import.

use countersign::import::Record;

/// What is refused has a short reason without control characters; what is accepted is an object.
pub fn import_record(text: &str) {
    match Record::parse(text.as_bytes()) {
        Ok(_) => assert!(text.contains('{')),
        Err(reason) => {
            let said = reason.to_string();
            assert!(said.len() < 600 && !said.chars().any(char::is_control));
        }
    }
}
