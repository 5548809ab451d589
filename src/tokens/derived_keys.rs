//! Derives the working keys of the service from its master keys (RFC 5869).

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    clock::Timestamp,
    config::MasterKey,
    domain::{DeviceId, Email, FactorId, SessionId, UserId},
    secret::Secret,
};

/// The keys derived from one master key by HKDF-SHA-256 (RFC 5869), each under its own label, so that
/// one reveals nothing about another.
pub struct KeySet {
    /// The version that tokens, hashes and sealed keys name.
    pub version: u8,
    /// Authenticates refresh tokens.
    pub(super) refresh: hmac::Key,
    /// Seals signing keys at rest.
    pub(super) sealing: LessSafeKey,
    /// Authenticates device tokens.
    pub(super) device: hmac::Key,
    /// Authenticates service keys.
    pub(crate) service_key: hmac::Key,
    /// Authenticates one-time tokens.
    pub(super) one_time: hmac::Key,
    /// Authenticates page tokens.
    pub(super) page: hmac::Key,
    /// Authenticates challenges.
    pub(super) challenge: hmac::Key,
    /// Stands for recovery codes in the database.
    pub(crate) recovery_code: hmac::Key,
    /// Names the counters of failed logins.
    account: hmac::Key,
    /// Identifies this master key, and reveals nothing about it.
    pub(super) fingerprint: String,
    /// Argon2's secret input.
    pub pepper: Secret<[u8; 32]>,
}

/// The derived keys of every configured master key: those of the first make new tokens and seal, all verify and open.
pub struct DerivedKeys {
    sets: Vec<KeySet>,
    /// A bit for each version that seals a live signing key: other replicas work with that master key.
    in_use: [AtomicU64; 4],
}

impl DerivedKeys {
    /// Derives the working keys.
    ///
    /// # Panics
    /// When `keys` is empty: configuration refuses that.
    pub fn derive<'a>(keys: impl IntoIterator<Item = &'a MasterKey>) -> Self {
        let sets: Vec<_> = keys.into_iter().map(KeySet::derive).collect();
        assert!(!sets.is_empty(), "configuration ensures one master key");
        Self {
            sets,
            in_use: Default::default(),
        }
    }

    /// Notes by which versions the live signing keys are sealed.
    pub(super) fn note_in_use(&self, versions: impl Iterator<Item = u8>) {
        let mut bits = [0_u64; 4];
        for version in versions {
            bits[usize::from(version / 64)] |= 1 << (version % 64);
        }
        for (known, bits) in self.in_use.iter().zip(bits) {
            known.store(bits, Ordering::Relaxed);
        }
    }

    /// The version of the master key by which a token of ours names it was made, if other replicas use that key and this one
    /// was not given it: such a token is unknown here, and must not be called invalid.
    pub fn lacks_key_of(&self, token: &str) -> Option<u8> {
        let (_, encoded) = token.strip_prefix("cs")?.split_once('_')?;
        let first = URL_SAFE_NO_PAD.decode(encoded.get(..4)?).ok()?;
        let version = *first.first()?;
        self.lacks(version).then_some(version)
    }

    /// Whether other replicas use the master key of that version, and this one was not given it.
    pub fn lacks(&self, version: u8) -> bool {
        let bits = self.in_use[usize::from(version / 64)].load(Ordering::Relaxed);
        bits & (1 << (version % 64)) != 0 && self.of_version(version).is_none()
    }

    /// The set that new tokens, hashes and sealed keys use.
    pub fn active(&self) -> &KeySet {
        &self.sets[0]
    }

    /// The set of that version.
    pub fn of_version(&self, version: u8) -> Option<&KeySet> {
        self.sets.iter().find(|set| set.version == version)
    }

    /// The name under which failed logins of an account are counted: a MAC of the address. Addresses that nobody
    /// registered are counted too, so that answers do not reveal who has an account, and a leaked database does not
    /// reveal the addresses.
    pub fn account_counter(&self, email: &Email) -> String {
        self.active().account_counter(email)
    }

    /// The names of an account's counter under every known key: before a change of the master key, failures were
    /// counted under another name.
    pub fn account_counters(&self, email: &Email) -> Vec<String> {
        let names = self.sets.iter().map(|set| set.account_counter(email));
        names.collect()
    }

    /// The name under which mails of a kind to one address are limited: within each span of `seconds` there is one name.
    pub fn mail_slot(&self, kind: &str, email: &Email, now: Timestamp, seconds: i64) -> String {
        let span = now.seconds().div_euclid(seconds);
        format!("{kind} {span} {}", self.account_counter(email))
    }

    /// The name under which mails of a kind to one address about one client are limited: one name within a day, by UTC, for
    /// each client address and program.
    pub fn client_mail_slot(
        &self,
        kind: &str,
        email: &Email,
        client: [&str; 2],
        now: Timestamp,
    ) -> String {
        let day = now.seconds().div_euclid(24 * 3600);
        let mut context = hmac::Context::with_key(&self.active().account);
        for part in [kind, &email.key(), client[0], client[1]] {
            // The length first, so that no two clients have one text.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        format!("{kind} {day} {}", URL_SAFE_NO_PAD.encode(context.sign()))
    }

    /// The name under which failed logins from one known device are counted.
    pub fn device_counter(&self, user: UserId, device: DeviceId) -> String {
        self.active().counter(b"device", user, device.as_bytes())
    }

    /// The name under which wrong passwords given within one session are counted.
    pub fn session_counter(&self, user: UserId, session: SessionId) -> String {
        self.active().counter(b"session", user, session.as_bytes())
    }

    /// The name under which wrong second factors are counted that a user gives within sessions, in all of them together.
    pub fn step_up_counter(&self, user: UserId) -> String {
        self.active().counter(b"step-up", user, user.as_bytes())
    }

    /// The name under which wrong answers of one passkey are counted, where it logs in alone.
    pub fn passkey_counter(&self, user: UserId, passkey: FactorId) -> String {
        self.active().counter(b"passkey", user, passkey.as_bytes())
    }

    /// All sets, the active one first.
    pub fn all(&self) -> impl Iterator<Item = &KeySet> {
        self.sets.iter()
    }
}

impl KeySet {
    fn account_counter(&self, email: &Email) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.account, email.key().as_bytes()))
    }

    /// No e-mail address holds a NUL, so no counter of an account has the name of another kind.
    fn counter(&self, kind: &[u8], user: UserId, of: &[u8; 16]) -> String {
        let mut context = hmac::Context::with_key(&self.account);
        for part in [b"\0", kind, user.as_bytes(), of] {
            context.update(part);
        }
        URL_SAFE_NO_PAD.encode(context.sign())
    }

    fn derive(master: &MasterKey) -> Self {
        let expand = |label: &str| expand(master.key.expose(), label);
        let sealing = UnboundKey::new(&AES_256_GCM, expand("signing-key sealing").as_ref())
            .expect("the key has the length AES-256 needs");
        Self {
            version: master.version,
            refresh: hmac::Key::new(hmac::HMAC_SHA256, expand("refresh-token mac").as_ref()),
            sealing: LessSafeKey::new(sealing),
            device: hmac::Key::new(hmac::HMAC_SHA256, expand("device-token mac").as_ref()),
            service_key: hmac::Key::new(hmac::HMAC_SHA256, expand("service-key mac").as_ref()),
            one_time: hmac::Key::new(hmac::HMAC_SHA256, expand("one-time-token mac").as_ref()),
            page: hmac::Key::new(hmac::HMAC_SHA256, expand("page-token mac").as_ref()),
            challenge: hmac::Key::new(hmac::HMAC_SHA256, expand("challenge mac").as_ref()),
            recovery_code: hmac::Key::new(hmac::HMAC_SHA256, expand("recovery-code mac").as_ref()),
            account: hmac::Key::new(hmac::HMAC_SHA256, expand("login-failure account").as_ref()),
            fingerprint: URL_SAFE_NO_PAD.encode(&expand("fingerprint")[..16]),
            pepper: Secret::new(*expand("password pepper")),
        }
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF with no salt: the master key is uniformly random already (RFC 5869 section 3.1).
fn expand(master: &[u8; 32], label: &str) -> Zeroizing<[u8; 32]> {
    let info = [b"countersign v1 ".as_slice(), label.as_bytes()];
    let mut derived = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, &[])
        .extract(master)
        .expand(&info, Bytes32)
        .and_then(|okm| okm.fill(derived.as_mut()))
        .expect("32 bytes are within HKDF's bounds");
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(version: u8, byte: u8) -> MasterKey {
        MasterKey {
            version,
            key: Secret::new([byte; 32]),
        }
    }

    #[test]
    fn one_account_has_one_counter_whatever_the_case_and_no_master_key_shares_it() {
        let name = |byte, text| {
            let email = Email::parse("email", text).unwrap();
            DerivedKeys::derive(&[master(1, byte)]).account_counter(&email)
        };
        let ada = name(1, "ada@example.org");
        assert_eq!(ada, name(1, "Ada@Example.ORG"));
        assert_ne!(ada, name(1, "bob@example.org"));
        assert_ne!(ada, name(2, "ada@example.org"));
    }

    #[test]
    fn each_device_session_and_passkey_of_each_user_has_a_counter_of_its_own() {
        let keys = DerivedKeys::derive(&[master(1, 1)]);
        let user = |byte| UserId::from_bytes([byte; 16]);
        let device = |byte| DeviceId::from_bytes([byte; 16]);
        let names = [
            keys.device_counter(user(1), device(1)),
            keys.device_counter(user(1), device(2)),
            keys.device_counter(user(2), device(1)),
            keys.session_counter(user(1), SessionId::from_bytes([1; 16])),
            keys.passkey_counter(user(1), FactorId::from_bytes([1; 16])),
            keys.step_up_counter(user(1)),
            keys.step_up_counter(user(2)),
        ];
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn an_account_s_counters_are_found_under_every_known_key() {
        let email = Email::parse("email", "ada@example.org").unwrap();
        let before = DerivedKeys::derive(&[master(1, 1)]).account_counter(&email);
        let keys = DerivedKeys::derive(&[master(2, 2), master(1, 1)]);
        let names = keys.account_counters(&email);
        assert_eq!(names, [keys.account_counter(&email), before]);
    }

    #[test]
    fn labels_and_masters_separate_keys() {
        let one = expand(&[1; 32], "refresh-token mac");
        assert_ne!(*one, *expand(&[1; 32], "password pepper"));
        assert_ne!(*one, *expand(&[2; 32], "refresh-token mac"));
        assert_eq!(*one, *expand(&[1; 32], "refresh-token mac"));
    }
}
