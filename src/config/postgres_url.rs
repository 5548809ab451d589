//! A `postgres://` URL: every parameter is honoured or refused by name, so that `config check` and `serve` agree.
//!
//! Parameters mean what they mean to libpq (PostgreSQL manual, "Parameter Key Words"). The user, the password, the
//! hosts and the name of the database are read by tokio-postgres; what it does not know is read here.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use percent_encoding::NON_ALPHANUMERIC;
use tokio_postgres::{Config, config::Host};
use zeroize::Zeroizing;

use super::{
    postgres_parameters::{Parameters, Wrong, choice, number},
    postgres_tls::{PostgresTls, TlsMode, TlsReader},
};

/// Where a PostgreSQL server is and how to reach it. `Debug` never shows the password.
#[derive(Clone)]
pub struct PostgresUrl {
    /// User, password, database, start-up options and channel binding. The hosts are in `hosts`.
    pub credentials: Config,
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<PostgresHost>,
    /// How the connection is encrypted.
    pub tls: PostgresTls,
    /// What a server has to be (`target_session_attrs`).
    pub target: TargetServer,
    /// Whether the servers are tried in random order (`load_balance_hosts=random`).
    pub is_shuffled: bool,
    /// The longest time that connecting may take (`connect_timeout`); `None` leaves it to the caller.
    pub connect_timeout: Option<Duration>,
    /// The name in the server's list of connections (`application_name`).
    pub application_name: String,
    /// How a connection whose peer has gone is noticed.
    pub keepalive: Keepalive,
    shown: String,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresHost {
    /// What the certificate has to name; empty for a socket.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// The TCP port, or the number in the name of the socket.
    pub port: u16,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address, given as it is or as `hostaddr`.
    Address(IpAddr),
    /// A name that is looked up for each connection.
    Name(String),
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// What a server has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetServer {
    /// Anything.
    Any,
    /// One that accepts writes.
    ReadWrite,
    /// One that is not a standby.
    Primary,
}

/// TCP keepalive and `TCP_USER_TIMEOUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether probes are sent.
    pub is_on: bool,
    /// Quiet time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up.
    pub retries: u32,
    /// How long sent data may wait for its acknowledgement.
    pub user_timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            is_on: true,
            idle: Duration::from_secs(15),
            interval: Duration::from_secs(5),
            retries: 3,
            user_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PostgresUrl {
    /// The URL without password and parameters.
    pub fn describe(&self) -> &str {
        &self.shown
    }

    /// Whether every server is this machine: a socket, `localhost` or a loopback address.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| match &host.place {
            Place::Socket(_) => true,
            Place::Address(address) => address.is_loopback(),
            Place::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        })
    }

    /// Whether the server has to prove who it is.
    pub fn is_verified(&self) -> bool {
        self.tls.mode >= TlsMode::VerifyCa
    }

    /// Reads a URL whose form has been checked; `shown` is what of it may be printed.
    pub(super) fn parse(url: &str, shown: String) -> Result<Self, Wrong> {
        let (main, query) = url.split_once('?').unwrap_or((url, ""));
        let parameters = Parameters::read(query)?;
        let mut url = Zeroizing::new(format!("{main}?"));
        let mut read = Reader::default();
        for (key, encoded, value) in &parameters.0 {
            if key == "host" {
                // tokio-postgres takes the whole text for one host.
                for host in value.split(',') {
                    let host = percent_encoding::utf8_percent_encode(host, NON_ALPHANUMERIC);
                    pass_on(&mut url, key, &host.to_string());
                }
            } else if PASSED_ON.contains(&key.as_str()) {
                pass_on(&mut url, key, encoded);
            } else {
                read.parameter(key, value)?;
            }
        }
        let parsed = url.trim_end_matches('?').parse::<Config>();
        let config = parsed.map_err(|_| "user, hosts, ports or name cannot be read".to_owned())?;
        let hosts = hosts(&config)?;
        let only_sockets = hosts
            .iter()
            .all(|host| matches!(host.place, Place::Socket(_)));
        let application_name = read.application_name.or(read.fallback_application_name);
        Ok(Self {
            credentials: credentials(&config),
            tls: read.tls.finish(only_sockets)?,
            hosts,
            target: read.target.unwrap_or(TargetServer::Any),
            is_shuffled: read.is_shuffled,
            connect_timeout: read.connect_timeout,
            application_name: application_name.unwrap_or_else(|| "countersign".to_owned()),
            keepalive: read.keepalive,
            shown,
        })
    }
}

fn pass_on(url: &mut String, key: &str, encoded: &str) {
    if !url.ends_with('?') {
        url.push('&');
    }
    for part in [key, "=", encoded] {
        url.push_str(part);
    }
}

/// Parameters that tokio-postgres reads as libpq does.
const PASSED_ON: [&str; 7] = [
    "user",
    "password",
    "dbname",
    "hostaddr",
    "port",
    "options",
    "channel_binding",
];

/// What the parameters say that tokio-postgres does not read.
#[derive(Default)]
struct Reader {
    tls: TlsReader,
    target: Option<TargetServer>,
    is_shuffled: bool,
    connect_timeout: Option<Duration>,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    keepalive: Keepalive,
}

impl Reader {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        let seconds = || number(key, value).map(Duration::from_secs);
        match key {
            "target_session_attrs" => {
                self.target = Some(choice(
                    key,
                    value,
                    &[
                        ("any", TargetServer::Any),
                        ("read-write", TargetServer::ReadWrite),
                        ("primary", TargetServer::Primary),
                    ],
                )?);
            }
            "load_balance_hosts" => {
                self.is_shuffled = choice(key, value, &[("disable", false), ("random", true)])?;
            }
            // As to libpq, zero is no limit.
            "connect_timeout" => self.connect_timeout = Some(seconds()?).filter(|t| !t.is_zero()),
            "application_name" => self.application_name = Some(value.to_owned()),
            "fallback_application_name" => {
                self.fallback_application_name = Some(value.to_owned());
            }
            "keepalives" => {
                self.keepalive.is_on = choice(key, value, &[("0", false), ("1", true)])?;
            }
            "keepalives_idle" => self.keepalive.idle = seconds()?,
            "keepalives_interval" => self.keepalive.interval = seconds()?,
            "keepalives_count" => {
                let count = number(key, value)?;
                self.keepalive.retries = u32::try_from(count).unwrap_or(u32::MAX);
            }
            // In milliseconds, as to libpq.
            "tcp_user_timeout" => {
                self.keepalive.user_timeout = Duration::from_millis(number(key, value)?);
            }
            // GSSAPI is not spoken, which these values allow.
            "gssencmode" => choice(key, value, &[("disable", ()), ("prefer", ())])?,
            "client_encoding" => {
                choice(
                    key,
                    value,
                    &[("UTF8", ()), ("utf8", ()), ("UTF-8", ()), ("auto", ())],
                )?;
            }
            _ => self.tls.parameter(key, value)?,
        }
        Ok(())
    }
}

/// The servers, paired with addresses and ports as tokio-postgres pairs them.
fn hosts(config: &Config) -> Result<Vec<PostgresHost>, Wrong> {
    let (names, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let count = names.len().max(addresses.len());
    if count == 0 {
        return Err("it names no host".to_owned());
    }
    let is_empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    if names.iter().any(is_empty) {
        return Err("one of its hosts has no name".to_owned());
    }
    if ports.contains(&0) {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err("hostaddr has not as many addresses as there are hosts".to_owned());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("there are not as many ports as hosts".to_owned());
    }
    let host = |index: usize| {
        let place = match (addresses.get(index), names.get(index)) {
            (Some(address), _) => Place::Address(*address),
            (None, Some(Host::Tcp(name))) => name
                .parse()
                .map_or_else(|_| Place::Name(name.clone()), Place::Address),
            (None, Some(Host::Unix(folder))) => Place::Socket(folder.clone()),
            (None, None) => return None,
        };
        let name = match names.get(index) {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(_)) => String::new(),
            None => addresses
                .get(index)
                .map(ToString::to_string)
                .unwrap_or_default(),
        };
        let port = ports.get(index).or_else(|| ports.first());
        let port = port.copied().unwrap_or(5432);
        Some(PostgresHost { name, place, port })
    };
    Ok((0..count).filter_map(host).collect())
}

/// A configuration without hosts, for each of which a stream is opened here.
fn credentials(config: &Config) -> Config {
    let mut credentials = Config::new();
    if let Some(user) = config.get_user() {
        credentials.user(user);
    }
    if let Some(password) = config.get_password() {
        credentials.password(password);
    }
    if let Some(name) = config.get_dbname() {
        credentials.dbname(name);
    }
    if let Some(options) = config.get_options() {
        credentials.options(options);
    }
    credentials.channel_binding(config.get_channel_binding());
    credentials
}
