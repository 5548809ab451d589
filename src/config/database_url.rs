//! Where the database is: a file of our own or a PostgreSQL server.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use super::{postgres_url::PostgresUrl, refusal::Refusal};

/// Where the database is. `Debug` shows what [`DatabaseUrl::describe`] shows: never the password.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// A SQLite file at this path, relative to the working directory unless absolute.
    Sqlite(PathBuf),
    /// A PostgreSQL server, or several of which one is the primary.
    Postgres(Box<PostgresUrl>),
}

const HINT: &str =
    "use sqlite://PATH (sqlite:///PATH when absolute) or postgres://USER:PASSWORD@HOST:PORT/NAME";

impl DatabaseUrl {
    /// The URL without password and options, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(url) => url.describe().to_owned(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text.split_once("://") {
            Some(("sqlite", path)) => sqlite_path(path).map(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => {
                let Some(shown) = postgres_without_secrets(text) else {
                    let wrong = "the PostgreSQL URL is malformed (in user, password and name, \
                                 characters such as @ : / ? # % are written as %40 %3A %2F %3F %23 %25)";
                    return Err(Refusal::new(wrong, HINT));
                };
                let refused = |wrong| {
                    Refusal::new(format!("the PostgreSQL URL cannot be used: {wrong}"), HINT)
                };
                let url = PostgresUrl::parse(text, shown).map_err(refused)?;
                Ok(Self::Postgres(Box::new(url)))
            }
            // What stands there instead may still hold a password: it is not repeated.
            _ => Err(Refusal::new("it is no database URL of a known kind", HINT)),
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&text)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.describe())
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, Refusal> {
    let refuse = |wrong: &str| Err(Refusal::new(wrong, HINT));
    if path.is_empty() || path.ends_with('/') {
        return refuse("it names no file");
    }
    // SQLite would take these for a database that is gone with its last connection.
    if path.starts_with(":memory:") || path.starts_with("file:") {
        return refuse("an in-memory or file: database is not supported, only a plain path");
    }
    if path.contains(['?', '#']) || path.chars().any(char::is_control) {
        return refuse("the path has a question mark, a hash or a control character in it");
    }
    Ok(PathBuf::from(path))
}

/// The URL without its password and options, or `None` when it is malformed. Strict on purpose: a
/// password whose special characters are not escaped must be refused, not half-shown as a host.
fn postgres_without_secrets(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (main, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, place) = main.split_once('@').unwrap_or(("", main));
    let (hosts, name) = place.split_once('/').unwrap_or((place, ""));
    let user = credentials.split(':').next()?;

    let sound = is_percent_encoded(rest)
        && main.matches('@').count() <= 1
        && credentials.matches(':').count() <= 1
        && credentials
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/#[]".contains(&byte))
        && !(user.is_empty() && main.contains('@'))
        && hosts.split(',').all(is_host)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/#:".contains(&byte))
        && (options.is_empty() || options.split('&').all(is_option))
        && (!hosts.is_empty() || !options.is_empty());

    let at = if user.is_empty() { "" } else { "@" };
    sound.then(|| format!("postgres://{user}{at}{hosts}/{name}"))
}

/// `host`, `host:port`, `[v6]:port`, a percent-encoded socket directory, or nothing when the
/// options name the host.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => (v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'), port),
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (
                host.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._%".contains(&b)),
                port,
            )
        }
    };
    host && (port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.parse::<u16>().is_ok_and(|port| port > 0)))
}

/// Whether every percent sign is followed by two hexadecimal digits, as libpq demands.
fn is_percent_encoded(text: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut parts = text.split('%').skip(1).map(str::as_bytes);
    parts.all(|part| is_digit(part.first()) && is_digit(part.get(1)))
}

/// `key=value`.
fn is_option(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && value.bytes().all(|b| b.is_ascii_graphic())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sqlite_url_is_a_path() {
        for (url, path) in [
            ("sqlite://data/countersign.db", "data/countersign.db"),
            (
                "sqlite:///var/lib/countersign.db",
                "/var/lib/countersign.db",
            ),
            ("sqlite://Grüße und more.db", "Grüße und more.db"),
        ] {
            let parsed = DatabaseUrl::parse(url).unwrap();
            assert_eq!(parsed.describe(), url);
            assert!(matches!(parsed, DatabaseUrl::Sqlite(p) if p.as_os_str() == path));
        }
        for url in [
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://file::memory:",
            "sqlite://data/",
            "sqlite://a?mode=ro",
            "sqlite://a\0b",
            "data/countersign.db",
            "mysql://h/d",
            "",
        ] {
            assert!(DatabaseUrl::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_postgres_url_is_shown_without_password_and_options() {
        for (url, shown) in [
            (
                "postgres://ada:hunter2@db:5432/auth?sslmode=require",
                "postgres://ada@db:5432/auth",
            ),
            (
                "postgresql://ada:hunter%402@a,b:5433/auth",
                "postgres://ada@a,b:5433/auth",
            ),
            ("postgres://db/auth?password=hunter2", "postgres://db/auth"),
            (
                "postgres://ada:hunter2@[::1]:5432/auth",
                "postgres://ada@[::1]:5432/auth",
            ),
            ("postgres:///auth?host=/run/pg&user=ada", "postgres:///auth"),
            (
                "postgres://ada@%2Frun%2Fpg/auth",
                "postgres://ada@%2Frun%2Fpg/auth",
            ),
        ] {
            let parsed = DatabaseUrl::parse(url).unwrap();
            assert_eq!(parsed.describe(), shown);
            assert!(!format!("{parsed:?}").contains("hunter"));
        }
    }

    #[test]
    fn a_malformed_postgres_url_is_refused_and_never_repeated() {
        for url in [
            "postgres://",
            "postgres://ada:hun@ter2@db/auth",
            "postgres://ada:hun?ter2@db/auth",
            "postgres://ada:hun/ter2@db/auth",
            "postgres://ada:hun#ter2@db/auth",
            "postgres://ada:hunter2/auth",
            "postgres://ada:12?hunter2@db/auth",
            "postgres://ada:hun:ter2@db/auth",
            "postgres://:hunter2@db/auth",
            "postgres://db:hunter2",
            "postgres://db:99999/auth",
            "postgres://db:0/auth",
            "postgres://ada:hun%zzter2@db/auth",
            "postgres://ada:hunter2%@db/auth",
            "postgres://db/auth?password=hunter2%4",
            "postgres://db/a/b",
            "postgres://d b/auth",
        ] {
            let refusal = DatabaseUrl::parse(url).unwrap_err();
            assert!(
                !format!("{refusal:?}").contains("hun"),
                "{url}: {refusal:?}"
            );
            assert!(
                !format!("{refusal:?}").contains("ter2"),
                "{url}: {refusal:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), tail in "[a-z:@/?#%\\[\\],=&]{0,30}") {
            let _ = DatabaseUrl::parse(&text);
            let _ = DatabaseUrl::parse(&format!("sqlite://{text}"));
            let _ = DatabaseUrl::parse(&format!("postgres://{tail}"));
        }

        #[test]
        fn no_password_is_ever_shown(noise in "[a-z:@/?#%\\[\\],=&]{0,6}") {
            let url = format!("postgres://ada:{noise}HUNTER2{noise}@db:5432/auth");
            let shown = match DatabaseUrl::parse(&url) {
                Ok(parsed) => format!("{parsed:?}"),
                Err(refusal) => format!("{refusal:?}"),
            };
            prop_assert!(!shown.contains("HUNTER2"), "{url} is shown as {shown}");
        }
    }
}
