//! The stored form of imported hashes: encrypted, so that a stolen database alone allows no guessing, not even of MD5.
//!
//! `$imported$k=bcrypt,w=4096,keyid=AQ$<Base64 of nonce, ciphertext and tag>`: AES-256-GCM of the canonical text (`formats`)
//! under a key derived from the pepper that `keyid` names. What stands before the last `$` is authenticated; it says what a
//! verification costs, so that the parameters in use can be listed without a key. This is the pepper after hashing of the
//! OWASP Password Storage Cheat Sheet. Decision 1200.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    Argon2Cost,
    error::HashingError,
    formats::{self, Effort, Function, StoredHash, Work},
    pepper::Pepper,
};
use crate::secret::Secret;

const PREFIX: &str = "$imported$";

/// Separates this use of the pepper from its use by Argon2.
const LABEL: &[u8] = b"countersign imported password hash, AES-256-GCM, version 1";

/// Encrypts a hash.
///
/// # Errors
/// [`HashingError::NoRandomness`].
pub(super) fn seal(hash: &StoredHash, pepper: &Pepper) -> Result<String, HashingError> {
    let key_id = STANDARD_NO_PAD.encode([pepper.version]);
    let head = format!("{},keyid={key_id}", parameters_of(hash.effort()));
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| HashingError::NoRandomness)?;
    let mut bytes = hash.canonical().expose().as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut sealed = nonce.as_ref().to_vec();
    key(pepper)?
        .seal_in_place_append_tag(nonce, Aad::from(head.as_bytes()), &mut bytes)
        .map_err(|_| HashingError::Unreadable)?;
    sealed.extend(bytes);
    let body = STANDARD_NO_PAD.encode(sealed);
    Ok(format!("{head}${body}"))
}

/// The key id in an encrypted hash; `None` when the text is none.
pub(super) fn key_id(text: &str) -> Option<Vec<u8>> {
    let (head, _) = split(text)?;
    let (_, key_id) = head.split_once(",keyid=")?;
    STANDARD_NO_PAD.decode(key_id).ok()
}

/// Decrypts a hash to its canonical text.
///
/// # Errors
/// [`HashingError::Unreadable`]: it was manipulated, or the pepper is another than its version says.
pub(super) fn open(text: &str, pepper: &Pepper) -> Result<Secret<String>, HashingError> {
    let unreadable = || HashingError::Unreadable;
    let (head, body) = split(text).ok_or_else(unreadable)?;
    let mut bytes = STANDARD_NO_PAD.decode(body).map_err(|_| unreadable())?;
    let (nonce, sealed) = bytes
        .split_at_mut_checked(NONCE_LEN)
        .ok_or_else(unreadable)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable())?;
    let opened = key(pepper)?
        .open_in_place(nonce, Aad::from(head.as_bytes()), sealed)
        .map_err(|_| unreadable())?;
    let opened = std::str::from_utf8(opened).map_err(|_| unreadable())?;
    Ok(Secret::new(opened.to_owned()))
}

/// The parameters of an imported hash: those that it begins with, or those with which it would begin if it were encrypted.
pub(super) fn parameters(text: &str) -> Option<String> {
    match split(text) {
        Some((head, _)) => {
            let (parameters, _) = head.split_once(",keyid=")?;
            effort_of_parameters(parameters)?;
            Some(parameters.to_owned())
        }
        None => formats::accept(text)
            .ok()
            .map(|hash| parameters_of(hash.effort())),
    }
}

/// Reads what [`parameters`] gives.
pub(super) fn effort_of_parameters(parameters: &str) -> Option<Effort> {
    let fields: Vec<&str> = parameters.strip_prefix(PREFIX)?.split(',').collect();
    let number = |field: &str, name: &str| field.strip_prefix(name)?.parse::<u32>().ok();
    match fields[..] {
        ["k=digest"] => Some(Effort::None),
        ["k=argon2", memory, iterations, parallelism] => {
            let cost = Argon2Cost {
                memory_kib: number(memory, "m=")?,
                iterations: number(iterations, "t=")?,
                parallelism: number(parallelism, "p=")?,
            };
            // A builder accepts what Argon2 does.
            cost.builder().build().ok()?;
            Some(Effort::Argon2(cost))
        }
        [function, amount] => Some(Effort::Other(Work {
            function: Function::of_name(function.strip_prefix("k=")?)?,
            amount: amount.strip_prefix("w=")?.parse().ok()?,
        })),
        _ => None,
    }
}

fn parameters_of(effort: Effort) -> String {
    match effort {
        Effort::None => format!("{PREFIX}k=digest"),
        Effort::Argon2(cost) => {
            let Argon2Cost {
                memory_kib,
                iterations,
                parallelism,
            } = cost;
            format!("{PREFIX}k=argon2,m={memory_kib},t={iterations},p={parallelism}")
        }
        Effort::Other(Work { function, amount }) => {
            format!("{PREFIX}k={},w={amount}", function.name())
        }
    }
}

/// The head and the body of an encrypted hash.
fn split(text: &str) -> Option<(&str, &str)> {
    text.starts_with(PREFIX).then(|| text.rsplit_once('$'))?
}

fn key(pepper: &Pepper) -> Result<LessSafeKey, HashingError> {
    let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper.key.expose());
    let key = hmac::sign(&pepper, LABEL);
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref());
    Ok(LessSafeKey::new(key.map_err(|_| HashingError::Unreadable)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passwords::PasswordHash;

    const BCRYPT: &str = "$2b$04$k53lZqEDFgctLxUgSv4o7egyQSus8aoKpJkLslcuup6TAcQc99/fS";

    fn pepper(version: u8) -> Pepper {
        let key = Secret::new([version; 32]);
        Pepper { version, key }
    }

    fn sealed(text: &str) -> String {
        let hash = formats::accept(text).unwrap();
        seal(&hash, &pepper(1)).unwrap()
    }

    #[test]
    fn an_encrypted_hash_opens_to_its_canonical_text_and_shows_only_its_cost() {
        for (text, parameters_expected) in [
            (BCRYPT, "$imported$k=bcrypt,w=16"),
            (
                "$argon2id$v=19$m=64,t=3,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MlR1nPUKwuK/Ge/AJ5foY5tuf4IVss//yLEuQVcPQXw",
                "$imported$k=argon2,m=64,t=3,p=1",
            ),
            (
                "$cs-digest$h=md5,o=ps$$AAAAAAAAAAAAAAAAAAAAAA",
                "$imported$k=digest",
            ),
        ] {
            let stored = sealed(text);
            assert!(stored.starts_with(&format!("{parameters_expected},keyid=AQ$")));
            assert!(stored.contains(&PasswordHash::mark_of_pepper(Some(1))));
            assert!(!stored.contains(&text[text.len() - 20..]));
            assert_eq!(parameters(&stored).as_deref(), Some(parameters_expected));
            assert_eq!(key_id(&stored), Some(vec![1]));
            assert_eq!(open(&stored, &pepper(1)).unwrap().expose(), text);
            assert_ne!(sealed(text), stored, "a fresh nonce");
        }
    }

    #[test]
    fn a_manipulated_hash_or_another_pepper_does_not_open() {
        let stored = sealed(BCRYPT);
        let cheaper = stored.replace("w=16", "w=17");
        let (rest, cut) = stored.split_at(stored.len() - 4);
        assert!(!cut.is_empty());
        for text in [
            &cheaper,
            rest,
            "$imported$k=bcrypt,w=16,keyid=AQ$AAAA",
            "$imported$",
        ] {
            assert!(matches!(
                open(text, &pepper(1)),
                Err(HashingError::Unreadable)
            ));
        }
        assert!(open(&stored, &pepper(2)).is_err());
    }

    #[test]
    fn only_known_parameters_are_read() {
        for text in [
            "$imported$",
            "$imported$k=rot13,w=1",
            "$imported$k=bcrypt",
            "$imported$k=bcrypt,w=-1",
            "$imported$k=argon2,m=1,t=1,p=1",
            "$imported$k=digest,w=1",
            "$argon2id$v=19$m=64,t=1,p=1",
        ] {
            assert_eq!(effort_of_parameters(text), None, "{text}");
        }
    }
}
