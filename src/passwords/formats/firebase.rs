//! Firebase Authentication's scrypt, in the strings of Supabase and SuperTokens, with the parameters of the project.
//!
//! A hash of Firebase is the project's signer key, encrypted under scrypt's output; see
//! [`Form::Firebase`](super::scrypt::Form). The signer key is not part of what is stored.

use super::{
    Refusal,
    application_secret::Secret,
    scrypt::{Cost, Form, Scrypt},
    text::{base64_padded, bounded, fields, parameters},
};

/// Signer keys, and so hashes, have 64 bytes.
const HASH_BYTES: usize = 64;

/// Supabase: `$fbscrypt$v=1,n=14,r=8,p=1,ss=<separator>,sk=<signer key>$<salt>$<hash>`, all in Base64 with padding.
pub(super) fn parse_supabase(text: &str) -> Result<Scrypt, Refusal> {
    let malformed = || Refusal::malformed("fbscrypt: not Supabase's form");
    let [_, _, project, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
    let names = ["v", "n", "r", "p", "ss", "sk"];
    let [version, log_n, r, p, separator, signer_key] =
        parameters(project, names).ok_or_else(malformed)?;
    if version != "1" {
        return Err(malformed());
    }
    let signer_key = base64_padded(signer_key).ok_or_else(malformed)?;
    assemble([log_n, r, p], salt, separator, hash, &signer_key)
}

/// SuperTokens: `$f_scrypt$<hash>$<salt>$m=14$r=8$s=<separator>`; the signer key stands in its configuration.
pub(super) fn parse_supertokens(
    text: &str,
    signer_key: Option<&Secret>,
) -> Result<Scrypt, Refusal> {
    let malformed = || Refusal::malformed("f_scrypt: not SuperTokens' form");
    let signer_key = signer_key.ok_or_else(|| {
        Refusal::malformed("f_scrypt: the project's signer key is missing (`$with-secret$`)")
    })?;
    let [_, _, hash, salt, log_n, r, separator] = fields(text, '$').ok_or_else(malformed)?;
    let [log_n] = parameters(log_n, ["m"]).ok_or_else(malformed)?;
    let [r] = parameters(r, ["r"]).ok_or_else(malformed)?;
    let [separator] = parameters(separator, ["s"]).ok_or_else(malformed)?;
    assemble([log_n, r, "1"], salt, separator, hash, signer_key.expose())
}

fn assemble(
    [log_n, r, p]: [&str; 3],
    salt: &str,
    separator: &str,
    hash: &str,
    signer_key: &[u8],
) -> Result<Scrypt, Refusal> {
    let malformed = || Refusal::malformed("firebase: a part is not Base64 with padding");
    let cost = Cost::new(
        bounded(log_n, "the memory cost of firebase", 1, 17)?,
        bounded(r, "the rounds of firebase", 1, 16)?,
        bounded(p, "p of firebase", 1, 10)?,
    )?;
    let mut salt = base64_padded(salt).ok_or_else(malformed)?;
    salt.extend(base64_padded(separator).ok_or_else(malformed)?);
    let mut key_stream = base64_padded(hash).ok_or_else(malformed)?;
    if signer_key.len() != HASH_BYTES || key_stream.len() != HASH_BYTES {
        return Err(Refusal::malformed(
            "firebase: hash and signer key must have 64 bytes",
        ));
    }
    for (byte, key) in key_stream.iter_mut().zip(signer_key) {
        *byte ^= key;
    }
    Scrypt::new(
        Form::Firebase,
        cost,
        Some(salt),
        Some(key_stream),
        HASH_BYTES,
    )
}
