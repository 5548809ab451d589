//! Tests of the keyring without a database.

use jsonwebtoken::jwk::JwkSet;

use super::*;
use crate::{
    config::{MasterKey, SigningAlgorithm},
    secret::Secret,
};

const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

const POLICY: SigningPolicy = SigningPolicy {
    algorithm: SigningAlgorithm::Es256,
    rotation: Duration::from_secs(24 * 3600),
    lead: Duration::from_secs(300),
    jwks_max_age: Duration::from_secs(300),
    poll_interval: Duration::from_secs(5),
    token_life: Duration::from_secs(1_860),
};

impl Keyring {
    /// A keyring with one fresh ES256 key, for tests that need no database.
    pub(crate) fn for_tests() -> Self {
        Self::for_tests_with(&[SigningAlgorithm::Es256])
    }

    /// A keyring that could not read its keys yet.
    pub(crate) fn never_read() -> Self {
        Self::empty(POLICY)
    }

    /// A keyring with a fresh key of each algorithm, all accepted; the last one signs.
    pub(crate) fn for_tests_with(algorithms: &[SigningAlgorithm]) -> Self {
        let ring = Self::empty(POLICY);
        let master_keys = master_keys(&[1]);
        // All become active at the same moment, so that none has retired yet.
        let rows: Vec<_> = (1..)
            .zip(algorithms)
            .map(|(ordinal, algorithm)| row(&master_keys, *algorithm, ordinal, START))
            .collect();
        install(&ring, &rows, &master_keys, START).unwrap();
        ring
    }
}

fn master_keys(versions: &[u8]) -> DerivedKeys {
    let masters: Vec<_> = versions
        .iter()
        .map(|&version| MasterKey {
            version,
            key: Secret::new([version; 32]),
        })
        .collect();
    DerivedKeys::derive(&masters)
}

fn row(
    keys: &DerivedKeys,
    algorithm: SigningAlgorithm,
    ordinal: i32,
    activates_at: Timestamp,
) -> StoredSigningKey {
    let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
    StoredSigningKey {
        kid: key.kid().to_owned(),
        ordinal,
        algorithm: key.algorithm_name().to_owned(),
        sealed_private_key: keys.active().seal(key.kid(), &pkcs8),
        sealed_by: keys.active().version,
        created_at: START,
        activates_at,
        revoked_at: None,
    }
}

fn install(
    ring: &Keyring,
    rows: &[StoredSigningKey],
    keys: &DerivedKeys,
    now: Timestamp,
) -> Result<(), KeyringError> {
    ring.install(rows, keys, now, monotonic_now())
}

/// Three keys: one signs until `START + HOUR`, the next until `START + 2 * HOUR`.
fn three_keys(keys: &DerivedKeys) -> Vec<StoredSigningKey> {
    (1..)
        .zip([START, START + HOUR, START + HOUR * 2])
        .map(|(ordinal, activates_at)| row(keys, SigningAlgorithm::EdDsa, ordinal, activates_at))
        .collect()
}

fn kids(document: &JwksDocument) -> Vec<String> {
    let set: JwkSet = serde_json::from_str(&document.json).unwrap();
    set.keys
        .into_iter()
        .map(|jwk| jwk.common.key_id.unwrap())
        .collect()
}

#[test]
fn the_signing_key_comes_first_in_the_jwks_and_the_entity_tag_changes_with_it() {
    let keys = master_keys(&[1]);
    let rows = three_keys(&keys);
    let ring = Keyring::empty(POLICY);
    install(&ring, &rows, &keys, START).unwrap();
    let kid = |index: usize| rows[index].kid.clone();
    let expected = [
        (START, vec![kid(0), kid(1), kid(2)]),
        (START + HOUR, vec![kid(1), kid(2), kid(0)]),
        (START + HOUR + POLICY.token_life, vec![kid(1), kid(2)]),
        (START + HOUR * 2, vec![kid(2), kid(1)]),
        (START + HOUR * 5, vec![kid(2)]),
    ];
    let mut tags = Vec::new();
    for (now, kids_then) in expected {
        let document = ring.jwks(now);
        assert_eq!(kids(&document), kids_then);
        assert_eq!(ring.signer(now).unwrap().kid(), kids_then[0]);
        assert_eq!(ring.jwks(now), document);
        assert!(document.etag.starts_with('"') && document.etag.ends_with('"'));
        tags.push(document.etag);
        for kid in rows.iter().map(|row| &row.kid) {
            assert_eq!(ring.find(kid, now).is_some(), kids_then.contains(kid));
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 5);
    assert!(ring.find("' OR 1=1 --", START).is_none());
}

#[test]
fn a_revoked_key_neither_signs_nor_verifies_whatever_the_clock_says() {
    let keys = master_keys(&[1]);
    let mut rows = three_keys(&keys);
    let ring = Keyring::empty(POLICY);
    install(&ring, &rows, &keys, START).unwrap();
    let epoch = ring.epoch();
    install(&ring, &rows, &keys, START + HOUR * 5).unwrap();
    assert_eq!(
        ring.epoch(),
        epoch,
        "keys that no longer verify do not change the epoch"
    );

    let emergency = START + HOUR + Duration::from_secs(60);
    for row in &mut rows {
        row.revoked_at = Some(emergency);
        row.sealed_private_key.clear();
    }
    rows.push(row(&keys, SigningAlgorithm::EdDsa, 4, emergency));
    install(&ring, &rows, &keys, emergency).unwrap();
    assert_eq!(ring.epoch(), epoch + 1);
    for now in [START - HOUR, START, emergency, emergency + HOUR * 9] {
        assert_eq!(ring.signer(now).unwrap().kid(), rows[3].kid);
        assert_eq!(kids(&ring.jwks(now)), [rows[3].kid.clone()]);
        assert!(ring.find(&rows[0].kid, now).is_none());
    }
    install(&ring, &rows[3..], &keys, emergency).unwrap();
    assert_eq!(
        ring.epoch(),
        epoch + 1,
        "deleting revoked keys does not change the epoch"
    );
    install(&ring, &[], &keys, emergency).unwrap();
    assert_eq!(
        ring.epoch(),
        epoch + 2,
        "a key whose row is missing counts as revoked"
    );
    assert!(ring.signer(emergency).is_none());
}

#[test]
fn a_key_that_cannot_be_opened_does_not_affect_the_others() {
    let (old, new) = (master_keys(&[1]), master_keys(&[2, 1]));
    let mut rows = vec![row(&old, SigningAlgorithm::EdDsa, 1, START)];
    let ring = Keyring::empty(POLICY);
    install(&ring, &rows, &old, START).unwrap();
    rows.push(row(&new, SigningAlgorithm::EdDsa, 2, START + HOUR));
    let fault = install(&ring, &rows, &old, START).unwrap_err();
    assert!(
        fault.to_string().contains("sealed by master key v2"),
        "{fault}"
    );
    assert_eq!(ring.signer(START).unwrap().kid(), rows[0].kid);
    // Its predecessor signs as long as it is accepted everywhere, and no longer.
    let switch = START + HOUR;
    assert_eq!(ring.signer(switch).unwrap().kid(), rows[0].kid);
    assert!(ring.signer(switch + POLICY.token_life).is_none());
    install(&ring, &rows, &new, switch).unwrap();
    assert_eq!(ring.signer(switch).unwrap().kid(), rows[1].kid);
    // Under the same version, but with another key.
    rows[0].sealed_private_key[20] ^= 1;
    let fault = install(&Keyring::empty(POLICY), &rows, &new, START).unwrap_err();
    assert!(
        fault.to_string().contains("not the one it was sealed with"),
        "{fault}"
    );
    // A key that is gone need not be opened: its master key may have been removed.
    let long_after = switch + HOUR * 9;
    install(
        &Keyring::empty(POLICY),
        &rows,
        &master_keys(&[2]),
        long_after,
    )
    .unwrap();
}

#[test]
fn a_keyring_that_was_not_read_for_long_may_lack_keys_and_shortens_the_age_of_its_jwks() {
    let keys = master_keys(&[1]);
    let rows = three_keys(&keys);
    let ring = Keyring::empty(POLICY);
    assert!(ring.may_lack_keys());
    assert_eq!(ring.max_age(), Duration::ZERO);
    install(&ring, &rows, &keys, START).unwrap();
    assert!(!ring.may_lack_keys());
    assert_eq!(ring.max_age(), POLICY.jwks_max_age);
}

#[test]
fn an_error_does_not_contain_the_private_key() {
    let fault = SigningKey::from_pkcs8("EdDSA", &zeroize::Zeroizing::new(vec![7; 48]));
    let fault = fault.err().unwrap().to_string();
    assert!(!fault.contains("7, 7"), "{fault}");
}
