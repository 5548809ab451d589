//! Strings without any mark: ASP.NET Identity's Base64, better-auth's two hexadecimal fields, LDIF's second Base64.

use super::{
    Refusal, RefusalKind, braces,
    foreign::Foreign,
    pbkdf2::{Digest, Pbkdf2},
    scrypt::Scrypt,
    text::{base64_padded, hex},
};

/// Bytes before the salt of an Identity V3 hash.
const V3_HEADER: usize = 13;

/// A salt of Identity has at least 128 bits.
const LEAST_V3_SALT: usize = 16;

/// One byte of zero, 16 of salt, 32 of hash.
const V2_BYTES: usize = 49;

/// Reads a hash without a prefix, whose format is recognised by its structure.
pub(super) fn parse(text: &str) -> Result<Foreign, Refusal> {
    if let Some((salt, hash)) = text.split_once(':') {
        return Scrypt::parse_better_auth(salt, hash).map(Foreign::Scrypt);
    }
    if hex(text).is_some_and(|bytes| !bytes.is_empty()) {
        let reason = "hexadecimal without a prefix: add the prefix of its function, for example `$md5-hex$…`";
        return Err(Refusal::unknown(reason));
    }
    match base64_padded(text).as_deref() {
        Some([b'{', ..]) => ldif(text),
        Some([1, rest @ ..]) => identity_v3(rest),
        Some([0, rest @ ..]) if rest.len() + 1 == V2_BYTES => identity_v2(rest),
        _ if text.bytes().all(|byte| b"*xX".contains(&byte)) => {
            let reason = "a mask or a lock in place of a hash";
            Err(Refusal::new(RefusalKind::NoPassword, reason))
        }
        _ => Err(Refusal::unknown("no known format of a password hash")),
    }
}

/// `userPassword::` of LDIF: Base64 around the whole value.
fn ldif(text: &str) -> Result<Foreign, Refusal> {
    let inner = base64_padded(text).and_then(|bytes| String::from_utf8(bytes).ok());
    let inner = inner.filter(|inner| inner.is_ascii());
    braces::parse_ldap(&inner.ok_or_else(|| Refusal::malformed("LDIF: not text inside Base64"))?)
}

/// ASP.NET Core Identity: PRF, iterations and length of the salt as big-endian numbers of 32 bits, salt, hash. The version
/// byte is gone already.
fn identity_v3(rest: &[u8]) -> Result<Foreign, Refusal> {
    let malformed = |reason| Refusal::malformed(format!("identity V3: {reason}"));
    let (header, rest) = rest
        .split_at_checked(V3_HEADER - 1)
        .ok_or_else(|| malformed("the header is cut"))?;
    let (numbers, _) = header.as_chunks::<4>();
    let [prf, iterations, salt_bytes] = [0, 1, 2].map(|n| u32::from_be_bytes(numbers[n]));
    let digest = match prf {
        0 => Digest::Sha1,
        1 => Digest::Sha256,
        2 => Digest::Sha512,
        _ => return Err(malformed("an unknown PRF")),
    };
    let salt_bytes = usize::try_from(salt_bytes).unwrap_or(usize::MAX);
    let parts = rest.split_at_checked(salt_bytes);
    let parts = parts.filter(|(salt, _)| salt.len() >= LEAST_V3_SALT);
    let (salt, hash) = parts.ok_or_else(|| malformed("the length of the salt does not fit"))?;
    Pbkdf2::new(digest, iterations, salt.to_vec(), hash.to_vec()).map(Foreign::Pbkdf2)
}

/// ASP.NET Identity: HMAC-SHA-1, 1,000 iterations.
fn identity_v2(rest: &[u8]) -> Result<Foreign, Refusal> {
    let (salt, hash) = rest.split_at(16);
    Pbkdf2::new(Digest::Sha1, 1_000, salt.to_vec(), hash.to_vec()).map(Foreign::Pbkdf2)
}
