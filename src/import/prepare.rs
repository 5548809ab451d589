//! From a record to a row: every rule is checked, and the hash is encrypted. No database and no hash function is needed.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::{Reason, Record};
use crate::{
    clock::{Clock, Timestamp},
    domain::{DisplayName, Email, Roles, User, UserId},
    passwords::{
        HashSealer, PasswordError, PasswordHash,
        formats::{self, RefusalKind, StoredHash},
    },
    secret::Secret,
    store::ImportedUser,
};

/// How far the clock of the other system may be ahead.
const CLOCK_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// Turns records into rows.
#[derive(Clone)]
pub struct Preparer {
    sealer: HashSealer,
    clock: Clock,
}

/// A record that was accepted, as it will be stored.
pub struct Prepared {
    pub(super) row: ImportedUser,
    /// What the hash costs, in the form of [`PasswordHash::parameters`]; `None` without a password.
    pub(super) parameters: Option<String>,
    /// Whether a stolen hash could be guessed at billions of passwords a second.
    pub(super) is_weak: bool,
}

impl Preparer {
    /// Encrypts hashes by `sealer`.
    pub const fn new(sealer: HashSealer, clock: Clock) -> Self {
        Self { sealer, clock }
    }

    /// Checks a record and encrypts its hash.
    ///
    /// # Errors
    /// The rule that the record breaks. The outer error is a failure of this machine and not of the record.
    pub fn prepare(&self, record: &Record) -> Result<Result<Prepared, Reason>, PasswordError> {
        let now = self.clock.now();
        let checked = user(record, now).and_then(|user| Ok((user, accepted_hash(record)?)));
        let (user, hash) = match checked {
            Ok(checked) => checked,
            Err(reason) => return Ok(Err(reason)),
        };
        let is_weak = hash.as_ref().is_some_and(StoredHash::is_weak);
        let sealed = hash.map(|hash| self.sealer.seal(&hash)).transpose()?;
        let parameters = sealed.as_ref().and_then(PasswordHash::parameters);
        let stored = sealed.map_or_else(PasswordHash::absent, Ok)?;
        Ok(Ok(Prepared {
            row: ImportedUser {
                marks: self.marks(record, &user),
                user,
                password_hash: stored.as_str().to_owned(),
            },
            parameters,
            is_weak,
        }))
    }

    /// Identifies a record that was imported before: equal contents have equal marks.
    fn marks(&self, record: &Record, user: &User) -> Vec<String> {
        let created = record.create_time.map(|time| time.micros().to_string());
        let flags = [u8::from(record.email_verified), u8::from(record.disabled)];
        let hash = record.password_hash.as_ref();
        let secret = record.password_secret.as_ref();
        self.sealer.marks(&[
            user.email.as_str().as_bytes(),
            user.display_name.as_str().as_bytes(),
            user.roles.to_stored().as_bytes(),
            &flags,
            created.unwrap_or_default().as_bytes(),
            hash.map_or(&b""[..], |hash| hash.expose().as_bytes()),
            secret.map_or(&b""[..], |secret| secret.expose().as_slice()),
        ])
    }
}

fn user(record: &Record, now: Timestamp) -> Result<User, Reason> {
    let created_at = record.create_time.unwrap_or(now);
    if created_at < Timestamp::default() {
        return Err(Reason::field("create_time", "must not be before 1970"));
    }
    if created_at > now + CLOCK_TOLERANCE {
        return Err(Reason::field("create_time", "must not be in the future"));
    }
    Ok(User {
        id: UserId::generate(now),
        email: Email::parse("email", &record.email)?,
        display_name: DisplayName::parse("display_name", &record.display_name)?,
        email_verified_at: record.email_verified.then_some(now),
        roles: Roles::parse("roles", &record.roles)?,
        created_at,
        updated_at: now,
        disabled_at: record.disabled.then_some(now),
    })
}

/// The hash; `None` for an account without a password, as some systems mark it.
fn accepted_hash(record: &Record) -> Result<Option<StoredHash>, Reason> {
    let accepted = match (&record.password_hash, &record.password_secret) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let rule = "must not be given without password_hash";
            return Err(Reason::field("password_secret", rule));
        }
        (Some(hash), None) => formats::accept(hash.expose()),
        (Some(hash), Some(secret)) => formats::accept(&with_secret(hash, secret)?),
    };
    match accepted {
        Ok(hash) => Ok(Some(hash)),
        Err(refusal) if refusal.kind == RefusalKind::NoPassword => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The form in which the reader of hashes takes the secret of an application.
fn with_secret(
    hash: &Secret<String>,
    secret: &Secret<Vec<u8>>,
) -> Result<Zeroizing<String>, Reason> {
    let hash = hash.expose();
    if !hash.starts_with('$') {
        let rule = "is only for hashes that begin with $";
        return Err(Reason::field("password_secret", rule));
    }
    let secret = Zeroizing::new(STANDARD_NO_PAD.encode(secret.expose()));
    Ok(Zeroizing::new(format!("$with-secret${}{hash}", *secret)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, passwords::Pepper};

    const NOW: Timestamp = Timestamp::from_seconds(1_795_478_400);
    const BCRYPT: &str = "$2b$04$k53lZqEDFgctLxUgSv4o7egyQSus8aoKpJkLslcuup6TAcQc99/fS";

    fn prepare(line: &str) -> Result<Prepared, Reason> {
        let pepper = Pepper {
            version: 1,
            key: Secret::new([1; 32]),
        };
        let sealer = HashSealer::new(&[pepper]).unwrap();
        let preparer = Preparer::new(sealer, Clock::Manual(ManualClock::new(NOW)));
        preparer.prepare(&Record::parse(line.as_bytes())?).unwrap()
    }

    fn refusal(line: &str) -> (&'static str, String) {
        let reason = prepare(line).err().expect("refused");
        (reason.code(), reason.to_string())
    }

    fn with_hash(hash: &str) -> String {
        serde_json::json!({"email": "ada@example.org", "password_hash": hash}).to_string()
    }

    #[test]
    fn a_record_becomes_a_user_with_an_encrypted_hash() {
        let line = format!(
            r#"{{"email":"Ada@Example.org","display_name":" Ada ","email_verified":true,"roles":["b","a"],
            "disabled":true,"create_time":"2020-01-31T08:30:00Z","password_hash":"{BCRYPT}"}}"#
        );
        let prepared = prepare(&line).unwrap();
        let user = &prepared.row.user;
        assert_eq!(user.email.as_str(), "Ada@Example.org");
        assert_eq!(user.display_name.as_str(), "Ada");
        assert_eq!(user.roles.to_stored(), "a b");
        assert_eq!(user.created_at, Timestamp::from_seconds(1_580_459_400));
        assert_eq!(
            (user.email_verified_at, user.disabled_at, user.updated_at),
            (Some(NOW), Some(NOW), NOW)
        );
        let stored = &prepared.row.password_hash;
        assert!(stored.starts_with("$imported$k=bcrypt,w=16,keyid=AQ$"));
        assert_eq!(prepared.parameters.unwrap(), "$imported$k=bcrypt,w=16");
        assert!(!prepared.is_weak);
    }

    #[test]
    fn an_account_without_a_password_is_imported_without_one() {
        for hash in ["", "!", "*", "!$2b$10$abc"] {
            let prepared = prepare(&with_hash(hash)).unwrap();
            assert!(prepared.row.password_hash.starts_with("$none$"), "{hash}");
            assert_eq!(prepared.parameters, None);
        }
        let alone = prepare(r#"{"email":"a@b.org"}"#).unwrap();
        assert!(alone.row.password_hash.starts_with("$none$"));
    }

    #[test]
    fn a_hash_that_is_unknown_garbled_plain_or_too_costly_is_refused_with_its_kind() {
        for (hash, code) in [
            ("correct horse", "HASH_UNKNOWN"),
            ("$rot13$abc", "HASH_UNKNOWN"),
            ("{noop}correct horse", "HASH_PLAIN_TEXT"),
            ("$1$abc$def", "HASH_NOT_SUPPORTED"),
            (&BCRYPT[..50], "HASH_MALFORMED"),
            (&BCRYPT.replace("$04$", "$31$"), "HASH_TOO_COSTLY"),
            (
                "pbkdf2_sha256$4000000000$salt$YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=",
                "HASH_TOO_COSTLY",
            ),
        ] {
            let (found, text) = refusal(&with_hash(hash));
            assert_eq!(found, code, "{hash}: {text}");
            assert!(!text.contains("correct horse"), "{text}");
        }
    }

    #[test]
    fn members_that_break_a_rule_are_refused_by_name() {
        for (line, field) in [
            (r#"{"email":"ada"}"#.to_owned(), "email: "),
            (
                format!(
                    r#"{{"email":"a@b.org","display_name":"{}"}}"#,
                    "x".repeat(201)
                ),
                "display_name: ",
            ),
            (
                r#"{"email":"a@b.org","roles":["Two Words"]}"#.to_owned(),
                "roles: ",
            ),
            (
                format!(r#"{{"email":"a@b.org","roles":{:?}}}"#, vec!["a"; 65]),
                "roles: ",
            ),
            (
                r#"{"email":"a@b.org","create_time":"2031-01-01T00:00:00Z"}"#.to_owned(),
                "create_time: ",
            ),
            (
                r#"{"email":"a@b.org","password_secret":"cGVwcGVy"}"#.to_owned(),
                "password_secret: ",
            ),
            (
                r#"{"email":"a@b.org","password_hash":"pbkdf2:x","password_secret":"cGVwcGVy"}"#
                    .to_owned(),
                "password_secret: ",
            ),
        ] {
            let (code, text) = refusal(&line);
            assert_eq!(code, "INVALID_FIELD");
            assert!(text.starts_with(field), "{text}");
        }
    }

    #[test]
    fn a_mark_is_of_the_contents_and_not_of_the_spelling_of_the_line() {
        let mark = |line: &str| prepare(line).unwrap().row.marks.remove(0);
        let line = with_hash(BCRYPT);
        let spaced = line.replace(':', " : ");
        assert_eq!(mark(&line), mark(&spaced));
        assert_ne!(mark(&line), mark(r#"{"email":"ada@example.org"}"#));
        assert_ne!(
            mark(r#"{"email":"a@b.org"}"#),
            mark(r#"{"email":"a@b.org","disabled":true}"#)
        );
    }

    #[test]
    fn a_hash_of_md5_is_weak() {
        let line = with_hash("$md5-hex$5f4dcc3b5aa765d61d8327deb882cf99");
        assert!(prepare(&line).unwrap().is_weak);
    }
}
