//! The claims of an access token, as they are written and read.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::confirmation::{ConfirmationIn, ConfirmationOut};
use crate::{
    clock::Timestamp,
    config::ENROLLMENT_AUDIENCE,
    domain::{SessionId, TokenId, UserId},
};

/// How many services may act in a chain of exchanges.
pub const MAX_ACTORS: usize = 4;

/// Claim `principal_type` of a service account's token.
pub(super) const SERVICE: &str = "service";

/// What the subject of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalType {
    /// A user.
    User,
    /// A service account.
    Service,
}

/// A service that acts for the subject of a token, named as its own token did when it was exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Claim `sub`: the service account.
    pub subject: UserId,
    /// Claim `sid`: its key or binding.
    pub session_id: SessionId,
    /// Claim `jti`.
    pub token_id: TokenId,
}

/// The claims of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Claim `sub`.
    pub user_id: UserId,
    /// Claim `sid`.
    pub session_id: SessionId,
    /// Claim `jti`.
    pub token_id: TokenId,
    /// Claim `roles`.
    pub roles: Vec<String>,
    /// Claim `aud`.
    pub audiences: Vec<String>,
    /// Claim `iat`, some seconds before the token was issued. `token_id` has the time of issue.
    pub issued_at: Timestamp,
    /// Claim `exp`.
    pub expires_at: Timestamp,
    /// Claim `auth_time`: when the user was authenticated. `None` in tokens of the previous version.
    pub authenticated_at: Option<Timestamp>,
    /// Claim `amr`: how. Empty in tokens of the previous version.
    pub methods: Vec<String>,
    /// Claim `acr`: how much that is worth. Empty in tokens of the previous version.
    pub acr: String,
    /// Claim `client_id`.
    pub client_id: String,
    /// Claim `principal_type`: what `user_id` names.
    pub principal: PrincipalType,
    /// Claim `act` (RFC 8693 section 4.1): who acts for the subject, the present actor first. Empty: nobody does.
    pub actors: Vec<Actor>,
    /// Claim `cnf`: the SHA-256 of the only client certificate with which the token is good (RFC 8705 section 3.1).
    pub certificate_sha256: Option<[u8; 32]>,
    /// Header `kid`: the key that signed it.
    pub kid: String,
}

impl AccessClaims {
    /// Whether the token is good for enrolling a second factor, and for nothing else.
    pub fn is_for_enrollment(&self) -> bool {
        self.audiences == [ENROLLMENT_AUDIENCE]
    }
}

/// Members that are `None` are left out.
#[derive(Serialize)]
pub(super) struct ClaimsOut<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: String,
    pub(super) aud: &'a [String],
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) jti: String,
    pub(super) sid: String,
    pub(super) roles: Vec<&'a str>,
    pub(super) client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amr: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) act: Option<Box<ActorOut>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cnf: Option<ConfirmationOut>,
}

/// Claim `act`: names the actor as its own token did, so that a revocation of that token's subject or session concerns
/// this one as well.
#[derive(Serialize)]
pub(super) struct ActorOut {
    sub: String,
    sid: String,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Self>>,
}

impl ActorOut {
    /// The nested claim of these actors, the present one first; `None` when there are none.
    pub(super) fn nest<'a>(
        actors: impl DoubleEndedIterator<Item = &'a Actor>,
    ) -> Option<Box<Self>> {
        actors.rev().fold(None, |act, actor| {
            Some(Box::new(Self {
                sub: actor.subject.to_string(),
                sid: actor.session_id.to_string(),
                jti: actor.token_id.to_string(),
                act,
            }))
        })
    }
}

/// One `act` of a token. It is owned text: few tokens have it.
#[derive(Deserialize)]
struct ActorIn {
    sub: String,
    sid: String,
    jti: String,
    #[serde(default, deserialize_with = "boxed_object")]
    act: Option<Box<Self>>,
}

impl ActorIn {
    /// The actors, the present one first. `None` when there are too many, or one is not named as we do.
    fn flatten(self) -> Option<Vec<Actor>> {
        let mut actors = Vec::with_capacity(1);
        let mut next = Some(Box::new(self));
        while let Some(actor) = next {
            if actors.len() == MAX_ACTORS {
                return None;
            }
            actors.push(Actor {
                subject: actor.sub.parse().ok()?,
                session_id: actor.sid.parse().ok()?,
                token_id: actor.jti.parse().ok()?,
            });
            next = actor.act;
        }
        Some(actors)
    }
}

/// What is only compared is borrowed from the text of the token.
#[derive(Deserialize)]
pub(super) struct ClaimsIn<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) sub: Cow<'a, str>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) aud: Vec<String>,
    pub(super) exp: i64,
    pub(super) iat: i64,
    #[serde(borrow)]
    pub(super) jti: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) sid: Cow<'a, str>,
    pub(super) roles: Vec<String>,
    /// It must be present (RFC 9068 section 2.2), with any value.
    #[serde(borrow)]
    pub(super) client_id: Cow<'a, str>,
    /// Not in tokens of the previous version, nor are the next two.
    #[serde(default, deserialize_with = "not_null")]
    pub(super) auth_time: Option<i64>,
    #[serde(default)]
    pub(super) amr: Vec<String>,
    #[serde(borrow, default)]
    pub(super) acr: Cow<'a, str>,
    /// Absent for users.
    #[serde(default, deserialize_with = "not_null")]
    principal_type: Option<String>,
    #[serde(default, deserialize_with = "boxed_object")]
    act: Option<Box<ActorIn>>,
    #[serde(default, deserialize_with = "boxed_object")]
    cnf: Option<Box<ConfirmationIn>>,
}

impl ClaimsIn<'_> {
    /// The claims of a token that the key `kid` signed. `None` when one has not the form that we give it.
    pub(super) fn read(self, kid: &str) -> Option<AccessClaims> {
        Some(AccessClaims {
            user_id: self.sub.parse().ok()?,
            session_id: self.sid.parse().ok()?,
            token_id: self.jti.parse().ok()?,
            roles: self.roles,
            audiences: self.aud,
            issued_at: Timestamp::from_seconds(self.iat),
            expires_at: Timestamp::from_seconds(self.exp),
            authenticated_at: self.auth_time.map(Timestamp::from_seconds),
            methods: self.amr,
            acr: self.acr.into_owned(),
            client_id: self.client_id.into_owned(),
            principal: match self.principal_type.as_deref() {
                None => PrincipalType::User,
                Some(SERVICE) => PrincipalType::Service,
                Some(_) => return None,
            },
            actors: match self.act {
                None => Vec::new(),
                Some(act) => act.flatten()?,
            },
            certificate_sha256: match self.cnf {
                None => None,
                Some(confirmation) => Some(confirmation.sha256()?),
            },
            kid: kid.to_owned(),
        })
    }
}

/// RFC 7519 section 4.1.3 allows one audience to stand without its array.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Audiences;

    impl<'de> Visitor<'de> for Audiences {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Self::Value, A::Error> {
            let mut audiences = Vec::with_capacity(1);
            while let Some(audience) = many.next_element()? {
                audiences.push(audience);
            }
            Ok(audiences)
        }
    }

    deserializer.deserialize_any(Audiences)
}

/// Reads a JSON object. serde alone would take an array of the members' values for one, too. Members that are not read must be UTF-8 as well
/// (RFC 8725 section 3.7): `from_slice` would skip their bytes.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let json = std::str::from_utf8(json).ok()?;
    if !json.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// An `Option` alone would take `null` for its absence.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The same for an object, for which an array of the members' values does not pass.
fn boxed_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Box<T>>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<Box<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
            let object = T::deserialize(MapAccessDeserializer::new(members))?;
            Ok(Some(Box::new(object)))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
