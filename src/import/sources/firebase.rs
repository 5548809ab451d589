//! Firebase Authentication: `firebase auth:export users.json`, with the hash parameters of the project.

use std::io::BufRead;

use serde::Deserialize;

use super::{
    Entry, ReadError, Sink,
    elements::{Place, each_element},
};
use crate::{
    import::{Reason, Record, time},
    secret::Secret,
};

/// The hash parameters of a project, as the console shows them ("Password hash parameters").
pub struct HashConfig {
    signer_key: Secret<String>,
    salt_separator: String,
    rounds: u32,
    mem_cost: u32,
}

impl HashConfig {
    /// Reads the text that the console shows:
    ///
    /// ```text
    /// hash_config {
    ///   algorithm: SCRYPT,
    ///   base64_signer_key: …,
    ///   base64_salt_separator: Bw==,
    ///   rounds: 8,
    ///   mem_cost: 14,
    /// }
    /// ```
    ///
    /// # Errors
    /// The parameter that is missing or cannot be read. It repeats no value.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let value = |name: &str| {
            let mut values = text.lines().filter_map(|line| {
                let (key, value) = line.trim().split_once(':')?;
                (key.trim() == name).then(|| value.trim().trim_end_matches(',').trim())
            });
            values.next_back()
        };
        let number = |name| value(name)?.parse().ok();
        if value("algorithm") != Some("SCRYPT") {
            return Err("algorithm: must be SCRYPT");
        }
        let signer_key = value("base64_signer_key").filter(|key| !key.is_empty());
        Ok(Self {
            signer_key: Secret::new(standard(signer_key.ok_or("base64_signer_key: is missing")?)),
            salt_separator: standard(
                value("base64_salt_separator").ok_or("base64_salt_separator: is missing")?,
            ),
            rounds: number("rounds").ok_or("rounds: is missing or no number")?,
            mem_cost: number("mem_cost").ok_or("mem_cost: is missing or no number")?,
        })
    }

    /// The hash of a user in the form of Supabase, which carries the parameters.
    fn hash(&self, hash: &str, salt: &str) -> Secret<String> {
        Secret::new(format!(
            "$fbscrypt$v=1,n={},r={},p=1,ss={},sk={}${}${}",
            self.mem_cost,
            self.rounds,
            self.salt_separator,
            self.signer_key.expose(),
            standard(salt),
            standard(hash),
        ))
    }
}

/// The API writes Base64 for URLs, the command line tool the standard one.
fn standard(text: &str) -> String {
    text.replace('-', "+").replace('_', "/")
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct User {
    email: Option<String>,
    email_verified: Option<bool>,
    display_name: Option<String>,
    password_hash: Option<String>,
    salt: Option<String>,
    /// Milliseconds as text.
    created_at: Option<String>,
    disabled: Option<bool>,
}

pub(super) fn read(
    reader: impl BufRead,
    config: &HashConfig,
    sink: Sink<'_>,
) -> Result<(), ReadError> {
    each_element(reader, Place::Member("users"), &mut |line, text| {
        let record = record(text, config);
        sink(Entry { line, record })
    })
}

fn record(text: &str, config: &HashConfig) -> Result<Record, Reason> {
    let user: User = serde_json::from_str(text)
        .map_err(|_| Reason::NotAnAccount("not the shape of a user of Firebase"))?;
    let email = user.email.filter(|email| !email.is_empty());
    let hash = user.password_hash.filter(|hash| !hash.is_empty());
    let salt = user.salt.unwrap_or_default();
    let created = user.created_at.and_then(|text| text.parse().ok());
    Ok(Record {
        email: email.ok_or(Reason::NotAnAccount("an account without an e-mail address"))?,
        display_name: user.display_name.unwrap_or_default(),
        email_verified: user.email_verified == Some(true),
        roles: Vec::new(),
        disabled: user.disabled == Some(true),
        create_time: created.and_then(time::millis),
        password_hash: hash.map(|hash| config.hash(&hash, &salt)),
        password_secret: None,
    })
}
