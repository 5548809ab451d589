//! The record of one account, and the reader of our own form: one JSON object a line.
//!
//! ```json
//! {"email":"ada@example.org","display_name":"Ada","email_verified":true,"roles":["editor"],"disabled":false,
//!  "create_time":"2020-01-31T08:30:00Z","password_hash":"$2b$10$...","password_secret":"cGVwcGVy"}
//! ```
//!
//! Only `email` must be there.

use std::{collections::BTreeSet, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{lines::MAX_LINE, reason::Reason, time};
use crate::{clock::Timestamp, secret::Secret};

/// One account as another system has it. Nothing about it is checked yet.
#[derive(Clone, Default)]
pub struct Record {
    /// The e-mail address.
    pub email: String,
    /// The display name.
    pub display_name: String,
    /// Whether the other system has verified the address.
    pub email_verified: bool,
    /// The names of the roles.
    pub roles: Vec<String>,
    /// Whether the account may not log in.
    pub disabled: bool,
    /// When the account was created there.
    pub create_time: Option<Timestamp>,
    /// The hash of the password, in a form of `docs/import.md`; `None`: the account has no password.
    pub password_hash: Option<Secret<String>>,
    /// The secret of the application that goes into the hash: Devise's pepper, Argon2's secret.
    pub password_secret: Option<Secret<Vec<u8>>>,
}

/// Redacted: addresses and hashes go into no log.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record([redacted])")
    }
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// [`Reason`]: too long, not UTF-8, not an object, a member that is unknown, repeated or of another type.
    pub fn parse(line: &[u8]) -> Result<Self, Reason> {
        if line.len() > MAX_LINE {
            return Err(Reason::TooLong);
        }
        let line = str::from_utf8(line).map_err(|_| Reason::NotUtf8)?;
        let Members(members) = serde_json::from_str(line).map_err(|_| Reason::NotJson)?;
        let mut record = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in members {
            if seen.contains(&name) {
                return Err(Reason::repeated_member(&name));
            }
            record.set(&name, value)?;
            seen.insert(name);
        }
        match seen.contains("email") {
            true => Ok(record),
            false => Err(Reason::field("email", "must be given")),
        }
    }

    fn set(&mut self, name: &str, value: &RawValue) -> Result<(), Reason> {
        const TEXT: &str = "must be text";
        const SWITCH: &str = "must be true or false";
        match name {
            "email" => self.email = of_type("email", TEXT, value)?,
            "display_name" => self.display_name = of_type("display_name", TEXT, value)?,
            "email_verified" => self.email_verified = of_type("email_verified", SWITCH, value)?,
            "roles" => self.roles = of_type("roles", "must be a list of names", value)?,
            "disabled" => self.disabled = of_type("disabled", SWITCH, value)?,
            "create_time" => {
                const RULE: &str = "must be a time such as 2020-01-31T08:30:00Z";
                let text: Option<String> = of_type("create_time", RULE, value)?;
                let parse = |text: String| time::rfc3339(&text);
                let refused = || Reason::field("create_time", RULE);
                self.create_time = text
                    .map(|text| parse(text).ok_or_else(refused))
                    .transpose()?;
            }
            "password_hash" => {
                let text: Option<String> = of_type("password_hash", TEXT, value)?;
                self.password_hash = text.map(Secret::new);
            }
            "password_secret" => {
                const RULE: &str = "must be bytes in Base64 with padding";
                let text: Option<String> = of_type("password_secret", RULE, value)?;
                let text = text.map(Secret::new);
                let decode = |text: Secret<String>| STANDARD.decode(text.expose());
                let bytes = text.map(decode).transpose();
                let bytes = bytes.map_err(|_| Reason::field("password_secret", RULE))?;
                self.password_secret = bytes.map(Secret::new);
            }
            unknown => return Err(Reason::unknown_member(unknown)),
        }
        Ok(())
    }
}

/// The value of a member, if it has the type that `rule` demands. serde's own message would repeat the value.
fn of_type<'a, T: Deserialize<'a>>(
    field: &'static str,
    rule: &'static str,
    value: &'a RawValue,
) -> Result<T, Reason> {
    serde_json::from_str(value.get()).map_err(|_| Reason::field(field, rule))
}

/// Members that a record can have.
const MEMBERS: usize = 8;

/// The first members of an object in their order, repeated ones too; their values are not read yet. Of more than a record can
/// have, one is unknown or repeated among the first.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() <= MEMBERS {
                        members.push(member);
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = r#"{"email":"ada@example.org","display_name":"Ada","email_verified":true,
        "roles":["editor","reader"],"disabled":true,"create_time":"2020-01-31T08:30:00Z",
        "password_hash":"$2b$10$abc","password_secret":"cGVwcGVy"}"#;

    fn refusal(line: &str) -> String {
        Record::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_member_is_read() {
        let record = Record::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(record.email, "ada@example.org");
        assert_eq!(record.display_name, "Ada");
        assert!(record.email_verified && record.disabled);
        assert_eq!(record.roles, ["editor", "reader"]);
        assert_eq!(
            record.create_time,
            Some(Timestamp::from_seconds(1_580_459_400))
        );
        assert_eq!(record.password_hash.unwrap().expose(), "$2b$10$abc");
        assert_eq!(record.password_secret.unwrap().expose(), b"pepper");
    }

    #[test]
    fn an_address_alone_is_a_record_of_an_account_without_a_password() {
        let record = Record::parse(br#"{"email":"ada@example.org","password_hash":null}"#).unwrap();
        assert!(record.password_hash.is_none() && record.roles.is_empty());
        assert!(!record.email_verified && !record.disabled);
    }

    #[test]
    fn unknown_and_repeated_members_are_refused_by_their_names() {
        assert_eq!(
            refusal(r#"{"email":"ada@example.org","passwordHash":"$2b$10$abc"}"#),
            "unknown member \"passwordHash\""
        );
        assert_eq!(
            refusal(r#"{"email":"ada@example.org","email":"eve@example.org"}"#),
            "member \"email\" occurs twice"
        );
    }

    #[test]
    fn an_object_of_many_members_is_refused_by_one_of_the_first_and_the_rest_is_not_kept() {
        let line = format!("{{{}\"email\":\"a@b.org\"}}", "\"\":0,".repeat(12_000));
        let Members(kept) = serde_json::from_str(&line).unwrap();
        assert_eq!(kept.len(), MEMBERS + 1);
        assert_eq!(refusal(&line), "unknown member \"\"");
        let whole = WHOLE.replace('}', ",\"email\":\"eve@example.org\"}");
        assert_eq!(refusal(&whole), "member \"email\" occurs twice");
    }

    #[test]
    fn a_value_of_another_type_is_refused_and_not_repeated() {
        for (line, expected) in [
            (r#"{"email":["ada@example.org"]}"#, "email: must be text"),
            (
                r#"{"email":"a@b.org","email_verified":"yes-secret"}"#,
                "email_verified: must be true or false",
            ),
            (
                r#"{"email":"a@b.org","roles":"admin"}"#,
                "roles: must be a list of names",
            ),
            (
                r#"{"email":"a@b.org","create_time":1580459400}"#,
                "create_time: must be a time such as 2020-01-31T08:30:00Z",
            ),
            (
                r#"{"email":"a@b.org","create_time":"yesterday"}"#,
                "create_time: must be a time such as 2020-01-31T08:30:00Z",
            ),
            (
                r#"{"email":"a@b.org","password_hash":{"secret":1}}"#,
                "password_hash: must be text",
            ),
            (
                r#"{"email":"a@b.org","password_secret":"not base64!"}"#,
                "password_secret: must be bytes in Base64 with padding",
            ),
            (r#"{"display_name":"Ada"}"#, "email: must be given"),
        ] {
            assert_eq!(refusal(line), expected);
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for line in [
            "",
            "null",
            "[]",
            "\"ada@example.org\"",
            "{\"email\":\"ada@example.org\"",
            "{\"email\":\"ada@example.org\"}{}",
            "{email:\"ada@example.org\"}",
            &"[".repeat(60_000),
            &format!("{{\"roles\":{}", "[".repeat(60_000)),
        ] {
            assert_eq!(Record::parse(line.as_bytes()).err(), Some(Reason::NotJson));
        }
        let long = format!("{{\"email\":\"{}\"}}", "x".repeat(10 << 20));
        assert_eq!(Record::parse(long.as_bytes()).err(), Some(Reason::TooLong));
        assert_eq!(Record::parse(b"{\xff}").err(), Some(Reason::NotUtf8));
    }

    #[test]
    fn debug_is_redacted() {
        let record = Record::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(format!("{record:?}"), "Record([redacted])");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&line);
        }

        #[test]
        fn no_object_makes_the_reader_panic_or_repeats_a_value(
            name in prop::sample::select(vec![
                "email", "display_name", "email_verified", "roles", "disabled", "create_time", "password_hash",
                "password_secret",
            ]),
            value in "(\"needle\\PC{0,20}\"|\\[\"needle\"\\]|[0-9]{1,30}|true|null|\\{\\})",
        ) {
            let line = format!("{{\"{name}\":{value},\"email\":\"a@b.org\"}}");
            if let Err(reason) = Record::parse(line.as_bytes()) {
                prop_assert!(!reason.to_string().contains("needle"), "{reason}");
            }
        }
    }
}
