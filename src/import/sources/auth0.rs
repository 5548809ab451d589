//! Auth0: the export of users (JSON lines), joined with the dump of password hashes that its support hands out; or that
//! dump alone.

use std::{collections::HashMap, io::BufRead};

use serde::Deserialize;

use crate::{
    import::{Reason, Record, lines::Lines, time},
    secret::Secret,
};

/// A line of either file: their members have different names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    /// In the export: `auth0|` and the id.
    user_id: Option<String>,
    /// In the dump.
    #[serde(rename = "_id")]
    id: Option<ObjectId>,
    /// In the dump, where the application chose its own id.
    alt_id: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    /// In the dump, where the members above may be missing.
    identifiers: Vec<Identifier>,
    name: Option<String>,
    created_at: Option<String>,
    blocked: Option<bool>,
    #[serde(rename = "passwordHash")]
    password_hash: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectId {
    #[serde(rename = "$oid")]
    oid: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Identifier {
    r#type: String,
    value: String,
    verified: bool,
}

impl Line {
    fn parse(text: &str) -> Result<Self, Reason> {
        serde_json::from_str(text)
            .map_err(|_| Reason::NotAnAccount("not the shape of a user of Auth0"))
    }

    /// What the lines of one user in both files have in common.
    fn key(&self) -> Option<&str> {
        match &self.user_id {
            Some(id) => id.strip_prefix("auth0|"),
            None => self
                .alt_id
                .as_deref()
                .or_else(|| self.id.as_ref().map(|id| id.oid.as_str())),
        }
    }

    fn email(&self) -> Option<(&str, bool)> {
        let own = self.email.as_deref().filter(|email| !email.is_empty());
        let own = own.map(|email| (email, self.email_verified == Some(true)));
        own.or_else(|| {
            let mut emails = self.identifiers.iter().filter(|one| one.r#type == "email");
            emails.next().map(|one| (one.value.as_str(), one.verified))
        })
    }
}

/// The dump of password hashes, in memory: some 200 bytes for each user.
#[derive(Default)]
pub struct PasswordHashes(HashMap<Box<str>, Secret<String>>);

impl PasswordHashes {
    /// Reads the dump.
    ///
    /// # Errors
    /// The number of the first line that cannot be read, and why.
    pub fn read(reader: impl BufRead) -> Result<Self, (u64, String)> {
        let mut hashes = HashMap::new();
        let mut lines = Lines::new(reader);
        let mut number = 0;
        while let Some((line, text)) = lines.next().map_err(|error| (number, error.to_string()))? {
            number = line;
            let parsed = text.and_then(Line::parse);
            let parsed = parsed.map_err(|reason| (line, reason.to_string()))?;
            if let (Some(key), Some(hash)) = (parsed.key(), parsed.password_hash.as_ref()) {
                hashes.insert(key.into(), Secret::new(hash.clone()));
            }
        }
        Ok(Self(hashes))
    }
}

pub(super) fn record(text: &str, hashes: Option<&PasswordHashes>) -> Result<Record, Reason> {
    let line = Line::parse(text)?;
    let no_address = Reason::NotAnAccount("an account without an e-mail address");
    let (email, email_verified) = line.email().ok_or(no_address)?;
    let joined = line.key().and_then(|key| hashes?.0.get(key)).cloned();
    // Without a name of its own the address is shown as one.
    let name = line.name.as_deref().filter(|name| *name != email);
    Ok(Record {
        email: email.to_owned(),
        display_name: name.unwrap_or_default().to_owned(),
        email_verified,
        roles: Vec::new(),
        disabled: line.blocked == Some(true),
        create_time: line.created_at.as_deref().and_then(time::loose),
        password_hash: joined.or_else(|| line.password_hash.clone().map(Secret::new)),
        password_secret: None,
    })
}
