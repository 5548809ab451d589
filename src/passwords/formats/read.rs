//! Finds out which format a text is and hands it to the reader of that format.

use super::{
    Refusal, RefusalKind,
    application_secret::{self, Secret, WITH_SECRET},
    argon2::Argon2Hash,
    bare,
    bcrypt::Bcrypt,
    braces,
    digests::{self, Digested},
    django, firebase,
    foreign::Foreign,
    keycloak,
    pbkdf2::{self, Pbkdf2},
    phpass::Phpass,
    scrypt::{self, Scrypt},
    sha_crypt::ShaCrypt,
    text, werkzeug,
    yescrypt::Yescrypt,
};

/// The longest text that is read; Keycloak's JSON has about 500 bytes.
const MAX_TEXT: usize = 4096;

/// Reads any supported spelling.
pub(super) fn foreign_hash(text: &str) -> Result<Foreign, Refusal> {
    if text.len() > MAX_TEXT {
        return Err(Refusal::malformed("longer than any hash"));
    }
    if text.starts_with('{') && text[1..].trim_start().starts_with('"') {
        return keycloak::parse(text);
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        let reason = "a character that no hash has: a line break, a control character or a letter beyond ASCII";
        return Err(Refusal::malformed(reason));
    }
    match text.as_bytes() {
        [] => Err(Refusal::new(
            RefusalKind::NoPassword,
            "an empty text is no hash",
        )),
        [b'!', ..] | [b'*'] => {
            let reason = "`!` or `*`: the account has no password, or is locked";
            Err(Refusal::new(RefusalKind::NoPassword, reason))
        }
        [b'{', ..] => braces::parse(text),
        [b'$', ..] => match text.strip_prefix(WITH_SECRET) {
            None => named(text, None),
            Some(rest) => {
                let (secret, hash) = application_secret::split(rest)?;
                named(hash, Some(secret))
            }
        },
        [b'U', b'$', b'S', b'$', ..] => Phpass::parse(text).map(Foreign::Phpass),
        _ if !text.contains('$') => bare::parse(text),
        _ => django::parse(text)
            .or_else(|| werkzeug::parse(text))
            .unwrap_or_else(|| Err(Refusal::unknown("no known format of a password hash"))),
    }
}

/// Reads `$name$…`.
fn named(text: &str, secret: Option<Secret>) -> Result<Foreign, Refusal> {
    let name = text.split('$').nth(1).unwrap_or_default();
    match (name, &secret) {
        ("2a" | "2b" | "2x" | "2y", _) => return Bcrypt::parse(text, secret).map(Foreign::Bcrypt),
        (_, _) if name.starts_with("argon2") => {
            return Argon2Hash::parse(text, secret).map(Foreign::Argon2);
        }
        ("f_scrypt", _) => {
            return firebase::parse_supertokens(text, secret.as_ref()).map(Foreign::Scrypt);
        }
        ("spring-pbkdf2", _) => return braces::parse_spring_pbkdf2(text, secret.as_ref()),
        (_, Some(_)) => {
            return Err(Refusal::not_supported(
                "a secret beside a format that takes none",
            ));
        }
        (_, None) => {}
    }
    match name {
        "wp" => Bcrypt::parse_wordpress(text).map(Foreign::Bcrypt),
        "bcrypt-sha256" => Bcrypt::parse_passlib(text).map(Foreign::Bcrypt),
        "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512" => {
            Pbkdf2::parse_passlib(text).map(Foreign::Pbkdf2)
        }
        "scrypt" => Scrypt::parse_passlib(text).map(Foreign::Scrypt),
        "7" => Scrypt::parse_crypt(text).map(Foreign::Scrypt),
        "fbscrypt" => firebase::parse_supabase(text).map(Foreign::Scrypt),
        "5" | "6" => ShaCrypt::parse(text).map(Foreign::ShaCrypt),
        "y" => Yescrypt::parse(text).map(Foreign::Yescrypt),
        "P" | "H" | "S" => Phpass::parse(text).map(Foreign::Phpass),
        _ if text.starts_with(pbkdf2::CANONICAL) => {
            Pbkdf2::parse_canonical(text).map(Foreign::Pbkdf2)
        }
        _ if scrypt::CANONICAL
            .iter()
            .any(|start| text.starts_with(start)) =>
        {
            Scrypt::parse_canonical(text).map(Foreign::Scrypt)
        }
        _ if text.starts_with(digests::CANONICAL) => {
            Digested::parse_canonical(text).map(Foreign::Digested)
        }
        "md5-hex" | "sha1-hex" | "sha256-hex" | "sha512-hex" => {
            let (digest, _) = name.split_at(name.len() - "-hex".len());
            // There may be no second `$`.
            let hash = text.splitn(3, '$').nth(2).unwrap_or_default();
            Digested::parse_hex(digest, hash).map(Foreign::Digested)
        }
        "1" | "gy" | "sm3" | "sm3y" | "md5" | "sha1" => Err(Refusal::not_supported(
            "a format of crypt(3) that is left out",
        )),
        _ if name.starts_with("md5,") => Err(Refusal::not_supported(
            "a format of crypt(3) that is left out",
        )),
        _ if name.len() >= 5 && text::hex(&format!("{name:0>8}")).is_some() => {
            Scrypt::parse_spring(text).map(Foreign::Scrypt)
        }
        _ => Err(Refusal::unknown(
            "an unknown name between the first two `$`",
        )),
    }
}
