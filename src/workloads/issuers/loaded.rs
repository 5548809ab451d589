//! What one reading of the files makes: issuers with their keys and bindings, and how they judge an assertion.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use super::{
    assertion::{Assertion, Claims},
    file::{
        IssuerIdentity, IssuerSettings, IssuersFile, KeyLocation, MAX_FILE_LENGTH,
        is_kubernetes_default, trust_domain,
    },
    judgement::{accepted_until, judge},
    jwks::{KeySet, MAX_JWKS_LENGTH},
    refused::RefusalCause,
    remote_keys::{RemoteKeys, rules},
    single_use::UsedAssertions,
};
use crate::{
    clock::{Clock, Timestamp},
    config::{open_regular, read_up_to},
};

/// The service account that an assertion stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSubject {
    /// The name of the service account.
    pub service_account: String,
    /// The same for every assertion of this subject of this issuer; becomes the claim `sid` of the tokens.
    pub binding_id: Uuid,
}

/// Why the files cannot be used: under the name of the variable, one line for each problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct IssuersError(Vec<String>);

/// The contents of the files. Public keys and names only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    files: BTreeMap<PathBuf, Vec<u8>>,
    read: IssuersFile,
}

/// The issuers that are trusted.
pub(super) struct Loaded {
    pub(super) issuers: Vec<Issuer>,
    by_name: HashMap<String, usize>,
    by_trust_domain: HashMap<String, usize>,
}

/// One issuer.
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    pub(super) keys: Keys,
    bindings: HashMap<String, BoundSubject>,
}

/// Where the keys of an issuer are held.
pub(super) enum Keys {
    File(Arc<KeySet>),
    Remote(Arc<RemoteKeys>),
}

impl IssuersError {
    fn of(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self(vec![line(path, problem)])
    }
}

fn line(path: &Path, problem: impl std::fmt::Display) -> String {
    format!(
        "COUNTERSIGN_TRUSTED_ISSUERS_FILE: {} {problem}",
        path.display()
    )
}

impl Contents {
    /// Reads the file and those that it names. It blocks.
    ///
    /// # Errors
    /// A file cannot be read, or the first one breaks a rule.
    pub(super) fn read(path: &Path) -> Result<Self, IssuersError> {
        let bytes = read_file(path, MAX_FILE_LENGTH)?;
        let text = String::from_utf8(bytes).map_err(|_| IssuersError::of(path, "is not UTF-8"))?;
        let read = IssuersFile::parse(&text).map_err(|problems| {
            IssuersError(problems.iter().map(|problem| line(path, problem)).collect())
        })?;
        let mut files = BTreeMap::new();
        for issuer in &read.issuers {
            let named = match &issuer.keys {
                KeyLocation::File(file) => Some(file),
                KeyLocation::Url(url) => url.ca_file.as_ref(),
            };
            if let Some(file) = named {
                files.insert(file.clone(), read_file(file, MAX_JWKS_LENGTH)?);
            }
        }
        Ok(Self { files, read })
    }

    /// How many issuers and bindings there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.read.issuers.len(), self.read.bindings.len())
    }
}

/// Reads a regular file of at most `limit` bytes.
fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, IssuersError> {
    let read = open_regular(path).and_then(|file| read_up_to(file, limit));
    read.map_err(|error| IssuersError::of(path, format_args!("cannot be read: {error}")))
}

impl Loaded {
    /// No issuer.
    pub(super) fn none() -> Self {
        Self {
            issuers: Vec::new(),
            by_name: HashMap::new(),
            by_trust_domain: HashMap::new(),
        }
    }

    /// Makes the issuers. Keys that were fetched for an issuer whose settings stay are taken over from `before`.
    ///
    /// # Errors
    /// A JWKS file holds no key of use, or a `ca_file` no certificate.
    pub(super) fn new(
        contents: &Contents,
        before: &Self,
        clock: &Clock,
    ) -> Result<Self, IssuersError> {
        let mut loaded = Self::none();
        let mut problems = Vec::new();
        for settings in &contents.read.issuers {
            match keys(settings, contents, before, clock) {
                Ok(keys) => loaded.add(settings.clone(), keys, contents),
                Err(problem) => problems.push(problem),
            }
        }
        match problems.is_empty() {
            true => Ok(loaded),
            false => Err(IssuersError(problems)),
        }
    }

    fn add(&mut self, settings: IssuerSettings, keys: Keys, contents: &Contents) {
        let index = self.issuers.len();
        match &settings.identity {
            IssuerIdentity::Issuer(name) => self.by_name.insert(name.clone(), index),
            IssuerIdentity::SpiffeTrustDomain(name) => {
                self.by_trust_domain.insert(name.clone(), index)
            }
        };
        let own = contents.read.bindings.iter();
        let own = own.filter(|binding| binding.issuer == settings.name);
        let bindings = own.map(|binding| {
            let bound = BoundSubject {
                service_account: binding.service_account.clone(),
                binding_id: binding_id(&settings.name, &binding.subject),
            };
            (binding.subject.clone(), bound)
        });
        let bindings = bindings.collect();
        self.issuers.push(Issuer {
            settings,
            keys,
            bindings,
        });
    }

    /// The issuer whose keys must verify an assertion with these claims, which are not verified yet. A trust domain counts
    /// only where `iss` names no issuer: SPIRE writes an `iss` that nobody has to know.
    pub(super) fn issuer_of(&self, claims: &Claims) -> Result<&Issuer, RefusalCause> {
        let by_name = claims.iss.as_ref().and_then(|iss| self.by_name.get(iss));
        let by_domain = || self.by_trust_domain.get(trust_domain(&claims.sub)?);
        let index = by_name.or_else(by_domain);
        let index = index.ok_or(RefusalCause::UnknownIssuer)?;
        Ok(&self.issuers[*index])
    }
}

fn keys(
    settings: &IssuerSettings,
    contents: &Contents,
    before: &Loaded,
    clock: &Clock,
) -> Result<Keys, String> {
    let content = |file: &PathBuf| contents.files.get(file).cloned().unwrap_or_default();
    match &settings.keys {
        KeyLocation::File(file) => KeySet::read(&content(file), rules(settings))
            .map(|keys| Keys::File(Arc::new(keys)))
            .map_err(|problem| line(file, problem)),
        KeyLocation::Url(url) => {
            let authorities = url.ca_file.as_ref().map(content);
            let known = before.issuers.iter().find_map(|issuer| match &issuer.keys {
                Keys::Remote(keys) if keys.have_settings(settings, authorities.as_deref()) => {
                    Some(keys)
                }
                _ => None,
            });
            if let Some(known) = known {
                return Ok(Keys::Remote(Arc::clone(known)));
            }
            let file = url.ca_file.clone().unwrap_or_default();
            RemoteKeys::new(settings.clone(), url.clone(), authorities, clock.clone())
                .map(|keys| Keys::Remote(Arc::new(keys)))
                .map_err(|problem| line(&file, problem))
        }
    }
}

impl Issuer {
    /// The service account that the assertion stands for.
    ///
    /// # Errors
    /// The assertion is not accepted.
    pub(super) async fn judge(
        &self,
        assertion: &Assertion<'_>,
        used: &UsedAssertions,
        now: Timestamp,
    ) -> Result<BoundSubject, RefusalCause> {
        let settings = &self.settings;
        if !settings.algorithms.contains(&assertion.algorithm) {
            return Err(RefusalCause::Algorithm);
        }
        self.verify(assertion).await?;
        let claims = &assertion.claims;
        judge(claims, &settings.audience, now)?;
        if is_kubernetes_default(&claims.sub) {
            return Err(RefusalCause::DefaultAccount);
        }
        let bound = self
            .bindings
            .get(&claims.sub)
            .ok_or(RefusalCause::Unbound)?;
        if settings.single_use {
            let jti = claims.jti.as_deref().filter(|jti| !jti.is_empty());
            let jti = jti.ok_or(RefusalCause::NoTokenId)?;
            used.take(&settings.name, jti, accepted_until(claims), now)?;
        }
        Ok(bound.clone())
    }

    async fn verify(&self, assertion: &Assertion<'_>) -> Result<(), RefusalCause> {
        let kid = assertion.kid.as_deref();
        let algorithm = assertion.algorithm;
        let keys = match &self.keys {
            Keys::File(keys) => Arc::clone(keys),
            Keys::Remote(keys) => {
                keys.with(|keys| keys.candidates(algorithm, kid).next().is_some())
                    .await
            }
        };
        let mut candidates = keys.candidates(algorithm, kid).peekable();
        if candidates.peek().is_none() {
            return Err(RefusalCause::UnknownKey);
        }
        let message = assertion.message.as_bytes();
        match candidates.any(|key| key.verifies(message, &assertion.signature)) {
            true => Ok(()),
            false => Err(RefusalCause::Signature),
        }
    }
}

/// SHA-256 of the issuer's name, NUL and the subject, as a UUID of version 8 (RFC 9562 section 5.8). NUL occurs in no name.
fn binding_id(issuer: &str, subject: &str) -> Uuid {
    let mut context = Context::new(&SHA256);
    context.update(issuer.as_bytes());
    context.update(&[0]);
    context.update(subject.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
