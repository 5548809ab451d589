//! Hashes checked against the reference implementation, and stored hashes that must be refused.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{super::argon2id::HashingBackend, *};
use crate::secret::Secret;

const COST: Argon2Cost = Argon2Cost {
    memory_kib: 64,
    iterations: 2,
    parallelism: 1,
};
const SALT: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

// The expected hashes below were made with the reference C implementation, through argon2-cffi
// 25.1.0: `argon2.low_level.core` on an `argon2_context` with `secret` set to 32 bytes of 7. The
// same script gives 0d640df5…6b01e659 for the input of RFC 9106 section 5.3, as printed there.
const KNOWN: &str = "$argon2id$v=19$m=64,t=2,p=1,keyid=AQ\
    $AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHn9CfcFHu7E9C4fhlV6RvZY";
const KNOWN_COSTLIER: &str = "$argon2id$v=19$m=64,t=3,p=2,keyid=AQ\
    $AAECAwQFBgcICQoLDA0ODw$Xe61OHtrvbZ2VrDBMjCo/GqmiqKgki/KYxuG0SaBDdA";
const KNOWN_UNPEPPERED: &str = "$argon2id$v=19$m=64,t=2,p=1\
    $AAECAwQFBgcICQoLDA0ODw$LfR+3mNY7Repl21PztuJehADbUMqSs7xfSY7/Ji9IKw";
const KNOWN_ARGON2I: &str = "$argon2i$v=19$m=64,t=2,p=1\
    $AAECAwQFBgcICQoLDA0ODw$LhHRz4t6ELVYGt19AvAYa7aN/3sMrww/m0fJJIW52fY";

fn pepper(version: u8, byte: u8) -> Pepper {
    Pepper {
        version,
        key: Secret::new([byte; 32]),
    }
}

fn hasher(peppers: &[(u8, u8)]) -> PasswordHasher {
    let peppers = peppers.iter().map(|&(version, byte)| pepper(version, byte));
    PasswordHasher::new(COST, peppers.collect()).unwrap()
}

fn memory() -> HashingMemory {
    HashingMemory::new(HashingBackend::detect())
}

fn horse() -> Password {
    Password::parse("password", "correct horse battery staple").unwrap()
}

fn verify(hasher: &PasswordHasher, phc: &str) -> Result<Comparison, HashingError> {
    let stored = PasswordHash::from_stored(phc.to_owned());
    hasher.verify(&horse(), &stored, &mut memory())
}

fn verifies(hasher: &PasswordHasher, phc: &str, current: bool) {
    let compared = verify(hasher, phc).unwrap();
    assert_eq!((compared.equal, compared.current), (true, current), "{phc}");
}

#[test]
fn agrees_with_the_reference_implementation() {
    let hasher = hasher(&[(1, 7)]);
    let hash = hasher.hash_salted(&horse(), &SALT, &mut memory());
    assert_eq!(hash.unwrap().as_str(), KNOWN);
    verifies(&hasher, KNOWN, true);
}

#[test]
fn hashes_of_other_parameters_verify_and_are_not_current() {
    let hasher = hasher(&[(1, 7)]);
    verifies(&hasher, KNOWN_COSTLIER, false);
    verifies(&hasher, KNOWN_UNPEPPERED, false);
    verifies(&hasher, KNOWN_ARGON2I, false);
}

#[test]
fn each_hash_has_its_own_salt_and_only_the_right_password_verifies() {
    let hasher = hasher(&[(1, 7)]);
    let mut memory = memory();
    let first = hasher.hash(&horse(), &mut memory).unwrap();
    let second = hasher.hash(&horse(), &mut memory).unwrap();
    assert_ne!(first, second);
    verifies(&hasher, first.as_str(), true);
    let other = Password::parse("password", "correct horse battery stapler").unwrap();
    let compared = hasher.verify(&other, &first, &mut memory).unwrap();
    assert!(!compared.equal);
    assert_eq!(compared.effort, Effort::Argon2(COST));
}

#[test]
fn a_hash_with_an_older_pepper_verifies_and_is_not_current() {
    verifies(&hasher(&[(2, 9), (1, 7)]), KNOWN, false);
    verifies(&hasher(&[(1, 7), (2, 9)]), KNOWN, true);
    assert!(!verify(&hasher(&[(1, 9)]), KNOWN).unwrap().equal);
}

#[test]
fn a_hash_with_an_unknown_pepper_is_neither_right_nor_wrong() {
    for (phc, expected) in [
        (KNOWN.to_owned(), vec![1]),
        (KNOWN.replace("keyid=AQ", "keyid=AgI"), vec![2, 2]),
    ] {
        match verify(&hasher(&[(2, 7)]), &phc) {
            Err(HashingError::UnknownPepper { key_id }) => assert_eq!(key_id, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stored_hash_above_the_bounds_is_refused_before_memory_is_taken() {
    let mut memory = memory();
    for (m, t) in [
        (262_145, 1),
        (4_194_304, 1),
        (u32::MAX, u32::MAX),
        (262_144, 5),
        (64, 16_385),
    ] {
        let phc = KNOWN.replace("m=64,t=2", &format!("m={m},t={t}"));
        let stored = PasswordHash::from_stored(phc);
        let error = hasher(&[(1, 7)])
            .verify(&horse(), &stored, &mut memory)
            .unwrap_err();
        assert!(matches!(error, HashingError::TooCostly { .. }), "{error:?}");
    }
    assert_eq!(memory.held_kib(), 0);
}

#[test]
fn the_configured_cost_is_accepted_above_the_bounds() {
    let cost = Argon2Cost {
        memory_kib: 300_000,
        iterations: 9,
        parallelism: 1,
    };
    assert!(cost.is_acceptable(cost));
    assert!(!cost.is_acceptable(COST));
}

#[test]
fn a_hash_begins_with_the_parameters_that_are_announced() {
    let hasher = hasher(&[(1, 7)]);
    let hash = hasher.hash(&horse(), &mut memory()).unwrap();
    assert_eq!(hash.parameters(), Some(hasher.parameters()));
}

#[test]
fn a_stored_text_that_is_no_hash_is_unreadable() {
    for phc in [
        "",
        "$",
        "hunter2",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9",
        "$imported$k=bcrypt,w=16",
        "$argon2id$v=19$m=64,t=2,p=1",
        "$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw",
        &KNOWN.replace("v=19", "v=20"),
        &KNOWN.replace("t=2", "t=0"),
        &KNOWN.replace("m=64", "m=7"),
        &KNOWN.replace("p=1", "p=16777215"),
        &KNOWN.replace("argon2id", "argon2x"),
        &KNOWN.replace("$MQq9", "$MQq\0"),
    ] {
        let error = verify(&hasher(&[(1, 7)]), phc).unwrap_err();
        assert!(
            matches!(error, HashingError::Unreadable),
            "{phc}: {error:?}"
        );
    }
}

#[test]
fn a_discarded_hash_does_the_work_of_its_cost() {
    let mut memory = memory();
    let cost = Argon2Cost {
        memory_kib: 100,
        iterations: 3,
        parallelism: 1,
    };
    let hasher = hasher(&[(1, 7)]);
    hasher.discard(cost, &horse(), &mut memory).unwrap();
    assert_eq!(memory.take_work_kib(), 300);
    assert_eq!(memory.take_work_kib(), 0);
    assert!(memory.held_kib() >= 100, "Argon2 was not run");
}

#[test]
fn no_pepper_two_of_one_version_and_bad_costs_are_refused() {
    for peppers in [vec![], vec![pepper(1, 7), pepper(2, 8), pepper(1, 9)]] {
        let error = PasswordHasher::new(COST, peppers).err().unwrap();
        assert!(matches!(error, HashingError::BadPeppers));
    }
    let cost = Argon2Cost {
        memory_kib: 8,
        parallelism: 2,
        ..COST
    };
    let error = PasswordHasher::new(cost, vec![pepper(1, 7)]).err().unwrap();
    assert!(matches!(error, HashingError::Argon2(_)));
}

#[test]
fn debug_shows_no_key() {
    assert!(!format!("{:?}", pepper(1, 7)).contains('7'));
}

#[test]
fn an_imported_hash_verifies_in_the_clear_and_encrypted_and_is_never_current() {
    const BCRYPT: &str = "$2b$04$9NKIZ4axYpeEiq3o56T8hehibNiGT.b/n618oAW4HPZfQE9eojp9u";
    let before = hasher(&[(1, 7)]);
    let sealed = before
        .sealer()
        .unwrap()
        .seal(&formats::accept(BCRYPT).unwrap())
        .unwrap();
    // The pepper was rotated since.
    let now = hasher(&[(2, 8), (1, 7)]);
    for stored in [BCRYPT, sealed.as_str()] {
        verifies(&now, stored, false);
        let stored = PasswordHash::from_stored(stored.to_owned());
        let other = Password::parse("password", "correct horse battery stable").unwrap();
        let compared = now.verify(&other, &stored, &mut memory()).unwrap();
        assert!(!compared.equal);
        let parameters = stored.parameters();
        assert_eq!(parameters.as_deref(), Some("$imported$k=bcrypt,w=16"));
    }
    let error = verify(&hasher(&[(2, 8)]), sealed.as_str()).unwrap_err();
    assert!(matches!(error, HashingError::UnknownPepper { key_id } if key_id == [1]));
}

#[test]
fn an_imported_hash_is_compared_with_the_password_as_it_was_typed() {
    const TYPED: &str = "cafe\u{301} au lait du matin";
    let params = Params::new(64, 1, 1, Some(32)).unwrap();
    let hasher = hasher(&[(1, 7)]);
    let input = |password: &'static str| Argon2Input {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        params: &params,
        password: password.as_bytes(),
        salt: &SALT,
        secret: &[],
    };
    let mut output = [0; 32];
    memory().hash(input(TYPED), &mut output).unwrap();
    let [salt, hash] = [&SALT[..], &output].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    let stored = PasswordHash::from_stored(format!("$argon2id$v=19$m=64,t=1,p=1${salt}${hash}"));
    for (typed, equal) in [(TYPED, true), ("caf\u{e9} au lait du matin", false)] {
        let password = Password::parse("password", typed).unwrap();
        let compared = hasher.verify(&password, &stored, &mut memory()).unwrap();
        assert_eq!(compared.equal, equal);
    }
}
