//! Strings with a scheme in braces: LDAP servers' `userPassword` (RFC 2307) and Spring Security's delegating encoder.
//!
//! The two share names: `{MD5}` is Base64 with LDAP, and hexadecimal with Spring Security.

use super::{
    Refusal, RefusalKind,
    application_secret::Secret,
    argon2::Argon2Hash,
    bcrypt::Bcrypt,
    digests::{Digest, Digested, Order},
    foreign::Foreign,
    pbkdf2::{self, Pbkdf2},
    scrypt::Scrypt,
    sha_crypt::ShaCrypt,
    text::{bounded, fields, hex, parameters},
    yescrypt::Yescrypt,
};

/// What our own form of Spring Security's PBKDF2 without `{id}` begins with.
pub(super) const SPRING_PBKDF2: &str = "$spring-pbkdf2$";

/// Reads a hash that begins with a brace.
pub(super) fn parse(text: &str) -> Result<Foreign, Refusal> {
    let (scheme, rest) = scheme(text)?;
    match scheme {
        "ldap" => parse_ldap(rest),
        "bcrypt" => Bcrypt::parse(rest, None).map(Foreign::Bcrypt),
        "argon2" | "argon2@SpringSecurity_v5_8" => {
            Argon2Hash::parse(rest, None).map(Foreign::Argon2)
        }
        "scrypt" | "scrypt@SpringSecurity_v5_8" => Scrypt::parse_spring(rest).map(Foreign::Scrypt),
        // The defaults of the encoder that each id stands for.
        "pbkdf2" => spring_pbkdf2(pbkdf2::Digest::Sha1, 185_000, 8, rest, None),
        "pbkdf2@SpringSecurity_v5_8" => {
            spring_pbkdf2(pbkdf2::Digest::Sha256, 310_000, 16, rest, None)
        }
        "sha256" => {
            let mut bytes = hex(rest).ok_or_else(malformed)?;
            let hash = bytes.split_off(8.min(bytes.len()));
            Digested::new(Digest::Sha256, Order::Spring, bytes, Some(hash)).map(Foreign::Digested)
        }
        "SHA-1" => spring_digest(Digest::Sha1, rest),
        "SHA-256" => spring_digest(Digest::Sha256, rest),
        "MD5" if rest.starts_with('{') || rest.len() == 32 => spring_digest(Digest::Md5, rest),
        "noop" => {
            let reason = "a plain-text password ({noop}): it is never stored";
            Err(Refusal::new(RefusalKind::PlainText, reason))
        }
        _ => parse_ldap(text),
    }
}

/// Reads a hash of an LDAP server.
pub(super) fn parse_ldap(text: &str) -> Result<Foreign, Refusal> {
    let (scheme, rest) = scheme(text)?;
    let digest = |digest, salted| Digested::parse_ldap(digest, salted, rest).map(Foreign::Digested);
    let pbkdf2 = |digest| Pbkdf2::parse_ldap(digest, rest).map(Foreign::Pbkdf2);
    match scheme {
        "MD5" => digest(Digest::Md5, false),
        "SMD5" => digest(Digest::Md5, true),
        "SHA" => digest(Digest::Sha1, false),
        "SSHA" => digest(Digest::Sha1, true),
        "SHA256" => digest(Digest::Sha256, false),
        "SSHA256" => digest(Digest::Sha256, true),
        "SHA512" => digest(Digest::Sha512, false),
        "SSHA512" => digest(Digest::Sha512, true),
        "PBKDF2" | "PBKDF2-SHA1" => pbkdf2(pbkdf2::Digest::Sha1),
        "PBKDF2-SHA256" => pbkdf2(pbkdf2::Digest::Sha256),
        "PBKDF2-SHA512" => pbkdf2(pbkdf2::Digest::Sha512),
        "PKCS5S2" => Pbkdf2::parse_atlassian(rest).map(Foreign::Pbkdf2),
        "ARGON2" => Argon2Hash::parse(rest, None).map(Foreign::Argon2),
        "CRYPT" => crypt(rest),
        _ => Err(Refusal::unknown("an unknown scheme in braces")),
    }
}

/// Spring Security's PBKDF2 without `{id}`: `$spring-pbkdf2$h=sha256,i=310000,s=16$<hexadecimal>`.
pub(super) fn parse_spring_pbkdf2(text: &str, secret: Option<&Secret>) -> Result<Foreign, Refusal> {
    let rest = text.strip_prefix(SPRING_PBKDF2).ok_or_else(malformed)?;
    let [settings, encoded] = fields(rest, '$').ok_or_else(malformed)?;
    let [digest, iterations, salt] = parameters(settings, ["h", "i", "s"]).ok_or_else(malformed)?;
    let iterations = bounded(iterations, "the iterations of pbkdf2", 1, 10_000_000)?;
    let salt = bounded(salt, "the bytes of salt", 1, 64)?;
    spring_pbkdf2(
        pbkdf2::Digest::of_name(digest)?,
        iterations,
        salt as usize,
        encoded,
        secret,
    )
}

/// Hexadecimal of the salt and the hash. A secret is appended to the salt.
fn spring_pbkdf2(
    digest: pbkdf2::Digest,
    iterations: u32,
    salt_bytes: usize,
    text: &str,
    secret: Option<&Secret>,
) -> Result<Foreign, Refusal> {
    let mut salt = hex(text).ok_or_else(malformed)?;
    let hash = salt.split_off(salt_bytes.min(salt.len()));
    if hash.len() != 32 {
        return Err(malformed());
    }
    if let Some(secret) = secret {
        salt.extend_from_slice(secret.expose());
    }
    Pbkdf2::new(digest, iterations, salt, hash).map(Foreign::Pbkdf2)
}

/// `{salt}` and hexadecimal; the braces are part of what is hashed.
fn spring_digest(digest: Digest, rest: &str) -> Result<Foreign, Refusal> {
    let (salt, hash) = match rest.find('}') {
        Some(end) if rest.starts_with('{') => rest.split_at(end + 1),
        _ => ("", rest),
    };
    let salt = salt.as_bytes().to_vec();
    Digested::new(digest, Order::PasswordSalt, salt, hex(hash)).map(Foreign::Digested)
}

fn crypt(text: &str) -> Result<Foreign, Refusal> {
    match text.split('$').nth(1) {
        Some("2a" | "2b" | "2x" | "2y") => Bcrypt::parse(text, None).map(Foreign::Bcrypt),
        Some("5" | "6") => ShaCrypt::parse(text).map(Foreign::ShaCrypt),
        Some("y") => Yescrypt::parse(text).map(Foreign::Yescrypt),
        Some("7") => Scrypt::parse_crypt(text).map(Foreign::Scrypt),
        _ => Err(Refusal::not_supported(
            "{CRYPT} with a method that is not supported",
        )),
    }
}

fn scheme(text: &str) -> Result<(&str, &str), Refusal> {
    let inner = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    inner.ok_or_else(|| Refusal::malformed("the brace is not closed"))
}

fn malformed() -> Refusal {
    Refusal::malformed("spring security: the hash is cut, too long or garbled")
}
