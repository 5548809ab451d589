//! The claims of a verified access token.

use std::time::SystemTime;

use crate::{clock::UnixMillis, id::Id};

/// The claims of an access token (RFC 9068 section 2.2) that was verified.
///
/// `Debug` shows them all; none is a secret, but ids and roles may not belong into every log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// `iss`: who issued it.
    pub issuer: String,
    /// `sub`: the user, or the service account.
    pub subject: Id,
    /// `sid`: the session, or the service key. One revocation ends all its tokens.
    pub session_id: Id,
    /// `jti`: this token. A UUIDv7: it holds the time by which revocations of the subject go, for a user's login or refresh the millisecond
    /// of issue.
    pub token_id: Id,
    /// `aud`: the services that may accept it.
    pub audiences: Vec<String>,
    /// `roles`, as they were when the token was signed.
    pub roles: Vec<String>,
    /// `client_id`: the client that asked for it; for a service account its name.
    pub client_id: String,
    /// `acr`: how strong the login was; absent from tokens of older servers.
    pub acr: Option<String>,
    /// `amr`: how the subject proved itself (RFC 8176).
    pub amr: Vec<String>,
    /// `principal_type`: what `subject` names.
    pub principal_type: PrincipalType,
    /// `act`: the service that acts for the subject (RFC 8693 section 4.1).
    pub actor: Option<Actor>,
    /// `cnf.x5t#S256`: the SHA-256 of the only client certificate that it is good with (RFC 8705 section 3.1).
    pub certificate_sha256: Option<[u8; 32]>,
    /// Header `kid`: the key that signed it.
    pub key_id: String,
    pub(crate) issued_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    pub(crate) authenticated_at: Option<UnixMillis>,
}

/// What the subject of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrincipalType {
    /// A user.
    User,
    /// A service account.
    Service,
}

/// A service that acts for the subject of a token, and for whom it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Actor {
    /// `sub`: the service account.
    pub subject: String,
    /// `sid`: its key or binding.
    pub session_id: Option<Id>,
    /// `jti`: the token of its own that it exchanged.
    pub token_id: Option<Id>,
    /// `client_id`, where given.
    pub client_id: Option<String>,
    /// Who acted before it.
    pub actor: Option<Box<Self>>,
}

impl Actor {
    /// This actor and those before it.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |actor| actor.actor.as_deref())
    }
}

impl Claims {
    /// `exp`: when the token ends.
    pub fn expire_time(&self) -> SystemTime {
        self.expires_at.to_system_time()
    }

    /// `iat`: a few seconds before the token was issued, in whole seconds.
    pub fn issue_time(&self) -> SystemTime {
        self.issued_at.to_system_time()
    }

    /// `auth_time`: when the subject last proved who it is; absent from tokens of older servers.
    pub fn auth_time(&self) -> Option<SystemTime> {
        self.authenticated_at.map(UnixMillis::to_system_time)
    }

    /// Whether the token holds that role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}
