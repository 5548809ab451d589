//! Keycloak's credentials: the JSON of a realm export, whose two members are JSON in strings.

use serde::Deserialize;

use super::{
    Refusal,
    argon2::{Argon2Hash, Fields},
    foreign::Foreign,
    pbkdf2::{Digest, Pbkdf2},
    text::{base64_padded, number},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    r#type: String,
    secret_data: String,
    #[serde(rename = "credentialData")]
    parameters: String,
}

#[derive(Deserialize)]
struct SecretData {
    value: String,
    salt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialData {
    hash_iterations: u32,
    algorithm: String,
    #[serde(default)]
    additional_parameters: Additional,
}

/// Each is a list of one text.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Additional {
    hash_length: Vec<String>,
    memory: Vec<String>,
    r#type: Vec<String>,
    version: Vec<String>,
    parallelism: Vec<String>,
}

/// Reads one credential.
pub(super) fn parse(text: &str) -> Result<Foreign, Refusal> {
    let malformed = |_| Refusal::malformed("keycloak: not the JSON of a credential");
    let credential: Credential = serde_json::from_str(text).map_err(malformed)?;
    if credential.r#type != "password" {
        return Err(Refusal::not_supported(
            "keycloak: a credential that is not a password",
        ));
    }
    let secret: SecretData = serde_json::from_str(&credential.secret_data).map_err(malformed)?;
    let data: CredentialData = serde_json::from_str(&credential.parameters).map_err(malformed)?;
    let (salt, hash) = (base64_padded(&secret.salt), base64_padded(&secret.value));
    let digest = match data.algorithm.as_str() {
        "pbkdf2" => Digest::Sha1,
        "pbkdf2-sha256" => Digest::Sha256,
        "pbkdf2-sha512" => Digest::Sha512,
        "argon2" => return argon2(data, salt, hash),
        _ => {
            return Err(Refusal::not_supported(
                "keycloak: an algorithm that is not its own",
            ));
        }
    };
    let (Some(salt), Some(hash)) = (salt, hash) else {
        return Err(Refusal::malformed(
            "keycloak: the salt or the hash is not Base64",
        ));
    };
    // Older versions derived 512 bits whatever the digest, newer ones as many as the digest has.
    if hash.len() != 64 && hash.len() != digest.bytes() {
        return Err(Refusal::malformed("keycloak: a hash of an unusual length"));
    }
    Pbkdf2::new(digest, data.hash_iterations, salt, hash).map(Foreign::Pbkdf2)
}

fn argon2(
    data: CredentialData,
    salt: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
) -> Result<Foreign, Refusal> {
    let malformed = || Refusal::malformed("keycloak: a parameter of argon2 is missing or garbled");
    let Additional {
        hash_length,
        memory,
        r#type,
        version,
        parallelism,
    } = data.additional_parameters;
    let one = |values: &[String]| match values {
        [value] => Some(value.clone()),
        _ => None,
    };
    let whole = |values: &[String]| number(&one(values)?);
    let hash_length = whole(&hash_length).ok_or_else(malformed)?;
    let hash = hash.filter(|hash| u32::try_from(hash.len()) == Ok(hash_length));
    let fields = Fields {
        variant: format!("argon2{}", one(&r#type).ok_or_else(malformed)?),
        version: match one(&version).ok_or_else(malformed)?.as_str() {
            "1.0" => 16,
            "1.3" => 19,
            _ => return Err(malformed()),
        },
        memory_kib: whole(&memory).ok_or_else(malformed)?,
        iterations: data.hash_iterations,
        parallelism: whole(&parallelism).ok_or_else(malformed)?,
        data: Vec::new(),
        salt,
        hash,
    };
    Argon2Hash::new(fields, None).map(Foreign::Argon2)
}
