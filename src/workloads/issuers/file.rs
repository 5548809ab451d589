//! The file of trusted issuers: TOML, read strictly. Every problem is reported with its line.

use std::{collections::HashSet, ops::Range, path::PathBuf};

use http::Uri;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::key::AssertionAlgorithm;

/// Longest file, in bytes.
pub const MAX_FILE_LENGTH: usize = 1024 * 1024;
const MAX_ISSUERS: usize = 64;
const MAX_BINDINGS: usize = 10_000;
const MAX_TEXT_LENGTH: usize = 1024;

/// What the file says, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuersFile {
    /// Whom it trusts.
    pub issuers: Vec<IssuerSettings>,
    /// Which subject is which service account.
    pub bindings: Vec<Binding>,
}

/// One trusted issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its name in this file, in logs and in metrics.
    pub name: String,
    /// How its assertions are recognised.
    pub identity: IssuerIdentity,
    /// What `aud` of an assertion must hold.
    pub audience: String,
    /// Where its keys are.
    pub keys: KeyLocation,
    /// What it may sign with.
    pub algorithms: Vec<AssertionAlgorithm>,
    /// Whether a `jti` is demanded and accepted once.
    pub single_use: bool,
}

/// How an issuer's assertions are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerIdentity {
    /// By the claim `iss`, to the letter.
    Issuer(String),
    /// By the trust domain of the SPIFFE ID in `sub`: a JWT-SVID need not have `iss`.
    SpiffeTrustDomain(String),
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocation {
    /// A JWKS file.
    File(PathBuf),
    /// A JWKS at a URL.
    Url(KeyUrl),
}

/// A JWKS at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    /// `https`, or `http` with a loopback address as its host.
    pub url: Uri,
    /// Networks besides the public ones that its host may be in.
    pub allow_networks: Vec<IpNet>,
    /// The authorities that sign its certificate, in PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// One subject of one issuer is one service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The issuer's name in this file.
    pub issuer: String,
    /// The claim `sub`, to the letter.
    pub subject: String,
    /// The name of the service account.
    pub service_account: String,
}

/// What is wrong in the file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FileProblem {
    /// From 1.
    pub line: usize,
    /// What is wrong, in one line.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIn {
    #[serde(default)]
    issuer: Vec<Spanned<IssuerIn>>,
    #[serde(default)]
    binding: Vec<Spanned<BindingIn>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerIn {
    name: String,
    issuer: Option<String>,
    spiffe_trust_domain: Option<String>,
    audience: String,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    algorithms: Vec<AssertionAlgorithm>,
    allow_networks: Option<Vec<String>>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    single_use: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingIn {
    issuer: String,
    subject: String,
    service_account: String,
}

impl IssuersFile {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// It is no TOML, has members that are not known, or values that cannot hold. All such values are reported at once.
    pub fn parse(text: &str) -> Result<Self, Vec<FileProblem>> {
        let mut problems = Problems::of(text);
        let read: FileIn = match toml::from_str(text) {
            Ok(read) => read,
            Err(error) => {
                problems.add(&error.span().unwrap_or(0..0), one_line(error.message()));
                return Err(problems.found);
            }
        };
        let mut file = Self::default();
        for issuer in read.issuer {
            file.add_issuer(issuer, &mut problems);
        }
        for binding in read.binding {
            file.add_binding(binding, &mut problems);
        }
        if file.issuers.len() > MAX_ISSUERS || file.bindings.len() > MAX_BINDINGS {
            problems.add(&(0..0), "there are more than 64 issuers or 10000 bindings");
        }
        match problems.found.is_empty() {
            true => Ok(file),
            false => Err(problems.found),
        }
    }

    fn add_issuer(&mut self, issuer: Spanned<IssuerIn>, problems: &mut Problems<'_>) {
        let span = issuer.span();
        let issuer = issuer.into_inner();
        let name = issuer.name.clone();
        match checked_issuer(issuer) {
            Ok(settings) if self.issuers.iter().any(|other| other.name == name) => {
                problems.add(
                    &span,
                    format!("a second issuer is named \"{}\"", settings.name),
                );
            }
            Ok(settings)
                if self
                    .issuers
                    .iter()
                    .any(|other| other.identity == settings.identity) =>
            {
                problems.add(
                    &span,
                    "a second issuer has this issuer or spiffe_trust_domain",
                );
            }
            Ok(settings) => self.issuers.push(settings),
            Err(problem) => problems.add(&span, problem),
        }
    }

    fn add_binding(&mut self, binding: Spanned<BindingIn>, problems: &mut Problems<'_>) {
        let span = binding.span();
        let BindingIn {
            issuer,
            subject,
            service_account,
        } = binding.into_inner();
        let of = self.issuers.iter().find(|known| known.name == issuer);
        let repeated = |known: &Binding| known.issuer == issuer && known.subject == subject;
        let problem = match of {
            // The issuer may be there and have a problem of its own; then that is what has to be mended first.
            None => Some("issuer is not the name of an issuer of this file"),
            Some(_) if !is_name(&service_account) => {
                Some("service_account is no name of a service account ([a-z][a-z0-9-]{0,62})")
            }
            Some(_) if subject.is_empty() || subject.len() > MAX_TEXT_LENGTH => {
                Some("subject must have 1 to 1024 bytes")
            }
            Some(_) if is_kubernetes_default(&subject) => Some(
                "subject is the service account \"default\" of a namespace, which every pod has: use one of its own",
            ),
            Some(issuer) if !issuer.identity.may_have(&subject) => Some(
                "subject is no SPIFFE ID of the issuer's trust domain (spiffe://TRUST_DOMAIN/PATH)",
            ),
            Some(_) if self.bindings.iter().any(repeated) => {
                Some("an earlier binding has the same issuer and subject")
            }
            Some(_) => None,
        };
        match problem {
            Some(problem) => problems.add(&span, problem),
            None => self.bindings.push(Binding {
                issuer,
                subject,
                service_account,
            }),
        }
    }
}

impl IssuerIdentity {
    /// Whether it may sign for this subject.
    pub(super) fn may_have(&self, subject: &str) -> bool {
        match self {
            Self::Issuer(_) => true,
            Self::SpiffeTrustDomain(domain) => trust_domain(subject) == Some(domain),
        }
    }
}

/// The trust domain of a SPIFFE ID with a path (SPIFFE ID specification, section 2).
pub(super) fn trust_domain(subject: &str) -> Option<&str> {
    let (domain, path) = subject.strip_prefix("spiffe://")?.split_once('/')?;
    (!domain.is_empty() && !path.is_empty()).then_some(domain)
}

/// Whether it is the account that Kubernetes gives to every pod of a namespace.
pub(super) fn is_kubernetes_default(subject: &str) -> bool {
    let account = subject.strip_prefix("system:serviceaccount:");
    account.is_some_and(|account| account.rsplit(':').next() == Some("default"))
}

fn checked_issuer(issuer: IssuerIn) -> Result<IssuerSettings, String> {
    if !is_name(&issuer.name) {
        return Err("name must fit [a-z][a-z0-9-]{0,62}".to_owned());
    }
    if !is_claim_text(&issuer.audience) {
        return Err("audience must have 1 to 1024 visible ASCII characters".to_owned());
    }
    if issuer.algorithms.is_empty() || repeats(&issuer.algorithms) {
        return Err("algorithms must name RS256, PS256, ES256 or EdDSA, each once".to_owned());
    }
    let identity = match (issuer.issuer, issuer.spiffe_trust_domain) {
        (Some(name), None) if is_claim_text(&name) => IssuerIdentity::Issuer(name),
        (Some(_), None) => {
            return Err("issuer must have 1 to 1024 visible ASCII characters".to_owned());
        }
        (None, Some(domain)) if is_trust_domain(&domain) => {
            IssuerIdentity::SpiffeTrustDomain(domain)
        }
        (None, Some(_)) => {
            return Err("spiffe_trust_domain must be a name such as example.org".to_owned());
        }
        _ => return Err("one of issuer and spiffe_trust_domain must be given".to_owned()),
    };
    let url_only = issuer.allow_networks.is_some() || issuer.ca_file.is_some();
    let keys = match (issuer.jwks_file, issuer.jwks_url) {
        (Some(_), None) if url_only => {
            return Err("allow_networks and ca_file belong to jwks_url".to_owned());
        }
        (Some(file), None) => KeyLocation::File(file),
        (None, Some(url)) => KeyLocation::Url(KeyUrl {
            url: checked_url(&url, issuer.ca_file.is_some())?,
            allow_networks: networks(&issuer.allow_networks.unwrap_or_default())?,
            ca_file: issuer.ca_file,
        }),
        _ => return Err("one of jwks_url and jwks_file must be given".to_owned()),
    };
    Ok(IssuerSettings {
        name: issuer.name,
        identity,
        audience: issuer.audience,
        keys,
        algorithms: issuer.algorithms,
        single_use: issuer.single_use,
    })
}

/// Plain HTTP is only for a helper in the same pod: whoever answers the URL decides who is whom.
fn checked_url(text: &str, has_ca: bool) -> Result<Uri, String> {
    let url: Uri = Some(text)
        .filter(|text| text.len() <= MAX_TEXT_LENGTH && !text.contains(['@', '#']))
        .and_then(|text| text.parse().ok())
        .ok_or("jwks_url is not a URL without user and fragment")?;
    let host = url.host().filter(|host| !host.is_empty());
    let host = host.ok_or("jwks_url has no host")?;
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if has_ca => Err("ca_file needs a jwks_url with https".to_owned()),
        Some("http") if is_loopback(host) => Ok(url),
        _ => Err(
            "jwks_url must be an https URL (http only with a loopback address as host)".to_owned(),
        ),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parsed: Option<Vec<IpNet>> = texts.iter().map(|text| text.parse().ok()).collect();
    parsed.ok_or_else(|| "allow_networks must hold networks such as 10.0.0.0/8".to_owned())
}

/// A name as service accounts have, too.
fn is_name(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    first && text.len() <= 63 && text.bytes().all(rest)
}

fn is_claim_text(text: &str) -> bool {
    (1..=MAX_TEXT_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_trust_domain(text: &str) -> bool {
    let belongs = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    (1..=255).contains(&text.len()) && text.bytes().all(belongs)
}

fn repeats<T: PartialEq>(list: &[T]) -> bool {
    (1..list.len()).any(|at| list[..at].contains(&list[at]))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The problems of one text. Each place has one at most: the first.
struct Problems<'a> {
    text: &'a str,
    lines: HashSet<usize>,
    found: Vec<FileProblem>,
}

impl<'a> Problems<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            lines: HashSet::new(),
            found: Vec::new(),
        }
    }

    fn add(&mut self, span: &Range<usize>, problem: impl Into<String>) {
        let before = self.text.as_bytes().get(..span.start);
        let line = before.map_or(1, |before| {
            1 + before.split(|byte| *byte == b'\n').skip(1).count()
        });
        if self.lines.insert(line) {
            self.found.push(FileProblem {
                line,
                problem: problem.into(),
            });
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
