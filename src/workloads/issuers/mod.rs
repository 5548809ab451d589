//! Trusted issuers: services authenticate with a token of their platform, and need no secret.
//!
//! A file names issuers, where their keys are, and the service account of each subject (contract section 11).
//! An assertion is a JWT of such an issuer (RFC 7523 section 2.2): a Kubernetes projected token, a SPIFFE JWT-SVID, a token
//! of any OpenID Connect issuer.
//!
//! - `file` reads the TOML file, `loaded` makes issuers of it, `reload` follows its changes.
//! - `assertion` takes an assertion apart, `judgement` checks its claims, `single_use` remembers what was used.
//! - `jwks` and `key` read public keys; `remote_keys` keeps those behind a URL, `fetch` and `networks` get them.

mod assertion;
mod fetch;
mod file;
mod judgement;
mod jwks;
mod key;
mod loaded;
mod networks;
mod refused;
mod reload;
mod remote_keys;
mod single_use;
mod trusted;

pub use assertion::MAX_ASSERTION_LENGTH;
pub use file::{
    Binding, FileProblem, IssuerIdentity, IssuerSettings, IssuersFile, KeyLocation, KeyUrl,
};
pub use judgement::{LEEWAY, LONGEST_LIFE};
pub use jwks::JwksError;
pub use key::AssertionAlgorithm;
pub use loaded::{BoundSubject, IssuersError};
pub use refused::{AssertionRefused, RefusalCause};
pub use reload::IssuersReloader;
pub use trusted::{IssuerStatus, TrustedIssuers};
