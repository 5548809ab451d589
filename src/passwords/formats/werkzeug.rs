//! Werkzeug's strings (Flask): `scrypt:32768:8:1$<salt as text>$<hexadecimal>` and `pbkdf2:sha256:1000000$…`.

use super::{
    Refusal,
    foreign::Foreign,
    pbkdf2::{Digest, Pbkdf2},
    scrypt::{Cost, Form, Scrypt},
    text::{fields, hex},
};

/// Reads a hash if it looks like one of Werkzeug's.
pub(super) fn parse(text: &str) -> Option<Result<Foreign, Refusal>> {
    let method = text.split('$').next()?;
    match method.split(':').next()? {
        "scrypt" | "pbkdf2" => Some(read(text)),
        "sha1" | "sha256" | "sha512" | "md5" | "plain" if text.contains('$') => {
            let reason = "werkzeug: a method that Werkzeug 3 removed";
            Some(Err(Refusal::not_supported(reason)))
        }
        _ => None,
    }
}

fn read(text: &str) -> Result<Foreign, Refusal> {
    let malformed = || Refusal::malformed("werkzeug: a field is missing, empty or too many");
    let [method, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
    if salt.is_empty() {
        return Err(malformed());
    }
    let (salt, hash) = (Some(salt.as_bytes().to_vec()), hex(hash));
    if let Some(["pbkdf2", digest, iterations]) = fields(method, ':') {
        let digest = Digest::of_name(digest)?;
        return Pbkdf2::exact(digest, iterations, salt, hash).map(Foreign::Pbkdf2);
    }
    let Some(["scrypt", n, r, p]) = fields(method, ':') else {
        return Err(malformed());
    };
    let cost = Cost::of_text(n, r, p)?;
    Scrypt::new(Form::Plain, cost, salt, hash, 64).map(Foreign::Scrypt)
}
