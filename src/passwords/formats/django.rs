//! Django's strings: `algorithm$…`, with salts that are text.

use super::{
    Refusal,
    argon2::Argon2Hash,
    bcrypt::Bcrypt,
    digests::{Digest, Digested, Order},
    foreign::Foreign,
    pbkdf2::{self, Pbkdf2},
    scrypt::{Cost, Form, Scrypt},
    text::{base64_padded, fields, hex},
};

/// Reads a hash if its algorithm is one of Django's.
pub(super) fn parse(text: &str) -> Option<Result<Foreign, Refusal>> {
    let (algorithm, rest) = text.split_once('$')?;
    Some(match algorithm {
        "pbkdf2_sha256" => pbkdf2(pbkdf2::Digest::Sha256, rest),
        "pbkdf2_sha1" => pbkdf2(pbkdf2::Digest::Sha1, rest),
        // The rest is a PHC string without its first `$`.
        "argon2" => Argon2Hash::parse(&format!("${rest}"), None).map(Foreign::Argon2),
        "bcrypt" => Bcrypt::parse(rest, None).map(Foreign::Bcrypt),
        "bcrypt_sha256" => Bcrypt::parse_django_sha256(text).map(Foreign::Bcrypt),
        "scrypt" => scrypt(rest),
        "sha1" => digest(Digest::Sha1, rest),
        "md5" => digest(Digest::Md5, rest),
        _ => return None,
    })
}

fn malformed() -> Refusal {
    Refusal::malformed("django: a field is missing, empty or too many")
}

fn salted(salt: &str) -> Option<Vec<u8>> {
    (!salt.is_empty()).then(|| salt.as_bytes().to_vec())
}

fn pbkdf2(digest: pbkdf2::Digest, rest: &str) -> Result<Foreign, Refusal> {
    let [iterations, salt, hash] = fields(rest, '$').ok_or_else(malformed)?;
    Pbkdf2::exact(digest, iterations, salted(salt), base64_padded(hash)).map(Foreign::Pbkdf2)
}

fn scrypt(rest: &str) -> Result<Foreign, Refusal> {
    let [n, salt, r, p, hash] = fields(rest, '$').ok_or_else(malformed)?;
    let cost = Cost::of_text(n, r, p)?;
    Scrypt::new(Form::Plain, cost, salted(salt), base64_padded(hash), 64).map(Foreign::Scrypt)
}

fn digest(digest: Digest, rest: &str) -> Result<Foreign, Refusal> {
    let [salt, hash] = fields(rest, '$').ok_or_else(malformed)?;
    let salt = salted(salt).ok_or_else(malformed)?;
    Digested::new(digest, Order::SaltPassword, salt, hex(hash)).map(Foreign::Digested)
}
