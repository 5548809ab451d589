//! The mails that a server without SMTP has written to its folder.

use std::fs;

use super::{TestDatabase, eventually};

/// A mail as its reader sees it.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    /// The parts, as they are after the quoted-printable encoding was undone.
    pub body: String,
}

impl Mail {
    /// Reads a message (RFC 5322) whose parts are quoted-printable or plain.
    pub fn read(text: &str) -> Self {
        let (headers, body) = text.split_once("\r\n\r\n").expect("a message has headers");
        let header = |name: &str| {
            let line = headers.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            to: header("To:"),
            subject: header("Subject:"),
            body: body.replace("=\r\n", "").replace("=3D", "="),
        }
    }

    /// The one-time token in it.
    pub fn token(&self) -> String {
        let start = self.body.find("cso_").expect("the mail has a token");
        let token = &self.body[start..];
        let end = token
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .unwrap_or(token.len());
        token[..end].to_owned()
    }
}

/// All mails that were written, the oldest first.
pub fn mails(database: &TestDatabase) -> Vec<Mail> {
    let folder = database.folder.path().join("mail");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    // Their names are UUIDv7.
    files.sort();
    let text = |path| fs::read_to_string(path).unwrap();
    files
        .into_iter()
        .map(text)
        .map(|text| Mail::read(&text))
        .collect()
}

/// Waits for the mail number `number`, counted from one, with that subject to that address.
pub async fn mail(database: &TestDatabase, to: &str, subject: &str, number: usize) -> Mail {
    let find = || {
        let fits = |mail: &Mail| mail.to.contains(to) && mail.subject.contains(subject);
        mails(database).into_iter().filter(fits).nth(number - 1)
    };
    eventually(&format!("{subject} to {to}"), async || find().is_some()).await;
    find().unwrap()
}

/// Waits until no mail is left to be sent.
pub async fn all_sent(database: &TestDatabase) {
    eventually("all mails are sent", async || {
        database.count("mails WHERE done_at IS NULL").await == 0
    })
    .await;
}
