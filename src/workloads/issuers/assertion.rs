//! Takes an assertion apart: a JWT in compact form (RFC 7515 section 7.1), read strictly. Nothing here is verified.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{key::AssertionAlgorithm, refused::RefusalCause};

/// Longest assertion, in bytes. Kubernetes' and SPIRE's have about 1 KB, those of CI services up to 3 KB.
pub const MAX_ASSERTION_LENGTH: usize = 16 * 1024;

/// Types of JWT that may be an assertion. Kubernetes writes none, SPIFFE `JWT` or `JOSE`; the last is that of
/// draft-ietf-oauth-rfc7523bis. An access token (`at+jwt`) is none.
const TYPES: &[&str] = &["JWT", "JOSE", "client-authentication+jwt"];

/// The parts of an assertion. The claims may be believed only once the signature was verified.
#[derive(Debug)]
pub(super) struct Assertion<'a> {
    pub(super) algorithm: AssertionAlgorithm,
    pub(super) kid: Option<String>,
    /// `header.payload`: what is signed.
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) claims: Claims,
}

/// The claims that are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) sub: String,
    pub(super) aud: Vec<String>,
    /// In seconds; a fraction is cut off.
    pub(super) exp: i64,
    /// The same.
    pub(super) iat: i64,
    /// The same.
    pub(super) nbf: Option<i64>,
    pub(super) jti: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "not_null")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    kid: Option<String>,
    /// Whether it is present; an `Option` would take `null` for its absence.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
struct ClaimsIn {
    #[serde(default, deserialize_with = "not_null")]
    iss: Option<String>,
    sub: String,
    aud: Audience,
    exp: NumericDate,
    iat: NumericDate,
    #[serde(default, deserialize_with = "not_null")]
    nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "not_null")]
    jti: Option<String>,
}

/// RFC 7519 section 4.1.3: one string, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// RFC 7519 section 2: a number of seconds, which may have a fraction.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl<'a> Assertion<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// It is too long, no JWT, of a wrong type, or names an algorithm that no issuer can be pinned to (`none`, `HS256`).
    pub(super) fn parse(text: &'a str) -> Result<Self, RefusalCause> {
        if text.len() > MAX_ASSERTION_LENGTH {
            return Err(RefusalCause::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(RefusalCause::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(RefusalCause::Malformed)?;
        let header: Header = object(header)?;
        let typed = header.typ.as_deref();
        if header.crit || typed.is_some_and(|typ| !is_assertion_type(typ)) {
            return Err(RefusalCause::Type);
        }
        let algorithm =
            AssertionAlgorithm::of_header(&header.alg).ok_or(RefusalCause::Algorithm)?;
        let claims: ClaimsIn = object(payload)?;
        Ok(Self {
            algorithm,
            kid: header.kid,
            message,
            signature: decode(signature)?,
            claims: claims.into(),
        })
    }
}

/// Media types are compared without regard to case, and may have the prefix `application/` (RFC 7515 section 4.1.9).
fn is_assertion_type(typ: &str) -> bool {
    let prefix = "application/";
    let short = match typ.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &typ[prefix.len()..],
        _ => typ,
    };
    TYPES.iter().any(|known| known.eq_ignore_ascii_case(short))
}

fn decode(part: &str) -> Result<Vec<u8>, RefusalCause> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| RefusalCause::Malformed)
}

/// Reads a JSON object in UTF-8 (RFC 8725 section 3.7) in which no member occurs twice: two readers could take different ones
/// (RFC 7515 section 4).
fn object<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, RefusalCause> {
    let json = decode(part)?;
    let json = str::from_utf8(&json).map_err(|_| RefusalCause::Malformed)?;
    serde_json::from_str::<UniqueMembers>(json)
        .and_then(|_| serde_json::from_str(json))
        .map_err(|_| RefusalCause::Malformed)
}

/// An object none of whose members occurs twice; the values are passed over.
struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut names = std::collections::HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    if !names.insert(name) {
                        return Err(serde::de::Error::custom("a member occurs twice"));
                    }
                }
                Ok(UniqueMembers)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl From<ClaimsIn> for Claims {
    fn from(claims: ClaimsIn) -> Self {
        Self {
            iss: claims.iss,
            sub: claims.sub,
            aud: match claims.aud {
                Audience::One(one) => vec![one],
                Audience::Many(many) => many,
            },
            exp: claims.exp.seconds(),
            iat: claims.iat.seconds(),
            nbf: claims.nbf.map(|date| date.seconds()),
            jti: claims.jti,
        }
    }
}

impl NumericDate {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction of a second is of no use, and `as` takes the nearest number for what is too large"
    )]
    fn seconds(&self) -> i64 {
        match self {
            Self::Whole(seconds) => *seconds,
            Self::Fraction(seconds) => *seconds as i64,
        }
    }
}

/// An `Option` alone would take `null` for its absence.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
#[path = "assertion_tests.rs"]
mod tests;
