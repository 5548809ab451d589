//! How hashes are made, with the active cost and pepper, and compared, with whatever they name.

use argon2::{
    Algorithm, Argon2, KeyId, Params, ParamsBuilder, Version,
    password_hash::phc::{Output, Salt},
};
use subtle::ConstantTimeEq;

use super::{
    Argon2Cost, Pepper,
    error::HashingFault,
    memory::Memory,
    phc::{Parts, PasswordHash},
};
use crate::domain::Password;

/// The most memory a stored hash may ask for, in KiB: 256 MiB.
///
/// Little enough that a poisoned row cannot bring the machine down, and above what is usual for logins:
/// 7 to 46 MiB in the OWASP Password Storage Cheat Sheet, 64 MiB in the second recommendation of
/// RFC 9106 section 4, 256 MiB in libsodium's "moderate". The first recommendation of RFC 9106, 2 GiB,
/// is beyond it. A configured cost above it raises the bound to itself.
pub const MAX_STORED_MEMORY_KIB: u32 = 256 * 1024;

/// The most work a stored hash may ask for, in KiB written (memory times passes): 1 GiB, which
/// takes a worker about half a second. A configured cost above it raises the bound to itself.
pub const MAX_STORED_WORK_KIB: u64 = 1024 * 1024;

/// Bytes of salt (RFC 9106 section 3.1 recommends 16).
const SALT_BYTES: usize = 16;

/// Bytes of hash that we make (RFC 9106 section 4: 256 bits).
const OUTPUT_BYTES: usize = 32;

/// What comparing a password with a hash told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It is another password.
    No,
    /// It is the one.
    Yes {
        /// Whether the hash was made just as a new one would be.
        current: bool,
    },
}

/// How hashes are made and which can be read.
pub(super) struct Recipe {
    params: Params,
    /// The first is active.
    peppers: Vec<Pepper>,
}

impl Recipe {
    /// New hashes get this cost and the first pepper; the other peppers only verify.
    ///
    /// # Errors
    /// No pepper, two of one version, or a cost that Argon2 does not know.
    pub fn new(cost: Argon2Cost, peppers: Vec<Pepper>) -> Result<Self, HashingFault> {
        let doubled = |n: usize| peppers[..n].iter().any(|p| p.version == peppers[n].version);
        let (false, Some(active)) = ((0..peppers.len()).any(doubled), peppers.first()) else {
            return Err(HashingFault::BadPeppers);
        };
        let params = ParamsBuilder::new()
            .m_cost(cost.memory_kib)
            .t_cost(cost.iterations)
            .p_cost(cost.parallelism)
            .keyid(KeyId::new(&[active.version])?)
            .output_len(OUTPUT_BYTES)
            .build()?;
        Ok(Self { params, peppers })
    }

    /// How many blocks of memory a new hash takes.
    pub fn blocks(&self) -> usize {
        self.params.block_count()
    }

    /// Hashes a password under a fresh salt.
    pub fn hash(
        &self,
        password: &Password,
        memory: &mut Memory,
    ) -> Result<PasswordHash, HashingFault> {
        self.hash_salted(password, &random::<SALT_BYTES>()?, memory)
    }

    fn hash_salted(
        &self,
        password: &Password,
        salt: &[u8],
        memory: &mut Memory,
    ) -> Result<PasswordHash, HashingFault> {
        let mut output = [0; OUTPUT_BYTES];
        Argon2::new_with_secret(
            self.peppers[0].key.expose(),
            Algorithm::Argon2id,
            Version::V0x13,
            self.params.clone(),
        )?
        .hash_password_into_with_memory(
            password.expose().as_bytes(),
            salt,
            &mut output,
            memory.at_least(self.blocks())?,
        )?;
        self.compose(salt, &output)
    }

    /// A hash that costs what a new one costs to verify, and that no password matches: salt and
    /// output are random, so finding one would take a preimage of Argon2.
    pub fn decoy(&self) -> Result<PasswordHash, HashingFault> {
        self.compose(&random::<SALT_BYTES>()?, &random::<OUTPUT_BYTES>()?)
    }

    /// Compares a password with a hash, with the hash's own parameters and the pepper it names.
    ///
    /// A hash that names none was imported, and is compared without one.
    ///
    /// # Errors
    /// The hash is unreadable, too costly, or made with a pepper we do not have. None of these says
    /// anything about the password.
    pub fn verify(
        &self,
        password: &Password,
        stored: &PasswordHash,
        memory: &mut Memory,
    ) -> Result<Match, HashingFault> {
        let Parts {
            algorithm,
            version,
            params,
            salt,
            output: expected,
        } = Parts::read(stored)?;
        self.check_cost(&params)?;
        let pepper = match params.keyid() {
            [] => None,
            key_id => Some(self.pepper(key_id)?.key.expose().as_slice()),
        };
        let argon2 = match pepper {
            None => Argon2::new(algorithm, version, params.clone()),
            Some(key) => Argon2::new_with_secret(key, algorithm, version, params.clone())?,
        };
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..expected.len()];
        argon2.hash_password_into_with_memory(
            password.expose().as_bytes(),
            salt.as_ref(),
            output,
            memory.at_least(params.block_count())?,
        )?;
        if bool::from(output.ct_ne(expected.as_bytes())) {
            return Ok(Match::No);
        }
        let current =
            algorithm == Algorithm::Argon2id && version == Version::V0x13 && params == self.params;
        Ok(Match::Yes { current })
    }

    fn pepper(&self, key_id: &[u8]) -> Result<&Pepper, HashingFault> {
        self.peppers
            .iter()
            .find(|pepper| key_id == [pepper.version])
            .ok_or_else(|| HashingFault::UnknownPepper {
                key_id: key_id.to_vec(),
            })
    }

    fn check_cost(&self, stored: &Params) -> Result<(), HashingFault> {
        let work = |p: &Params| u64::from(p.m_cost()) * u64::from(p.t_cost());
        let bearable = stored.m_cost() <= self.params.m_cost().max(MAX_STORED_MEMORY_KIB)
            && work(stored) <= work(&self.params).max(MAX_STORED_WORK_KIB);
        bearable.then_some(()).ok_or(HashingFault::TooCostly {
            memory_kib: stored.m_cost(),
            iterations: stored.t_cost(),
        })
    }

    fn compose(&self, salt: &[u8], output: &[u8]) -> Result<PasswordHash, HashingFault> {
        let unwritable = |_| HashingFault::Unreadable;
        let parts = Parts {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: self.params.clone(),
            salt: Salt::new(salt).map_err(unwritable)?,
            output: Output::new(output).map_err(unwritable)?,
        };
        parts.write()
    }
}

fn random<const N: usize>() -> Result<[u8; N], HashingFault> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| HashingFault::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn recipe(peppers: &[(u8, u8)]) -> Recipe {
        let peppers = peppers.iter().map(|&(version, byte)| pepper(version, byte));
        Recipe::new(COST, peppers.collect()).unwrap()
    }

    fn horse() -> Password {
        Password::parse("password", "correct horse battery staple").unwrap()
    }

    fn verify(recipe: &Recipe, phc: &str) -> Result<Match, HashingFault> {
        let stored = PasswordHash::from_stored(phc.to_owned());
        recipe.verify(&horse(), &stored, &mut Memory::default())
    }

    fn is(recipe: &Recipe, phc: &str, current: bool) {
        assert_eq!(
            verify(recipe, phc).unwrap(),
            Match::Yes { current },
            "{phc}"
        );
    }

    #[test]
    fn agrees_with_the_reference_implementation() {
        let recipe = recipe(&[(1, 7)]);
        let hash = recipe.hash_salted(&horse(), &SALT, &mut Memory::default());
        assert_eq!(hash.unwrap().as_str(), KNOWN);
        is(&recipe, KNOWN, true);
    }

    #[test]
    fn hashes_made_otherwise_verify_and_are_to_be_replaced() {
        let recipe = recipe(&[(1, 7)]);
        is(&recipe, KNOWN_COSTLIER, false);
        is(&recipe, KNOWN_UNPEPPERED, false);
        is(&recipe, KNOWN_ARGON2I, false);
    }

    #[test]
    fn a_second_password_is_another_one_and_a_second_hash_too() {
        let recipe = recipe(&[(1, 7)]);
        // What an earlier, larger job left in the memory does not matter.
        let mut memory = Memory::default();
        memory.at_least(200).unwrap().fill_with(|| {
            let mut block = argon2::Block::new();
            block.as_mut().fill(u64::MAX);
            block
        });
        let first = recipe.hash(&horse(), &mut memory).unwrap();
        let second = recipe.hash(&horse(), &mut memory).unwrap();
        assert_ne!(first, second);
        is(&recipe, first.as_str(), true);
        let other = Password::parse("password", "correct horse battery stapler").unwrap();
        assert_eq!(
            recipe.verify(&other, &first, &mut memory).unwrap(),
            Match::No
        );
    }

    #[test]
    fn an_older_pepper_verifies_and_is_to_be_replaced() {
        is(&recipe(&[(2, 9), (1, 7)]), KNOWN, false);
        is(&recipe(&[(1, 7), (2, 9)]), KNOWN, true);
        assert_eq!(verify(&recipe(&[(1, 9)]), KNOWN).unwrap(), Match::No);
    }

    #[test]
    fn an_unknown_pepper_says_nothing_about_the_password() {
        for (phc, expected) in [
            (KNOWN.to_owned(), vec![1]),
            (KNOWN.replace("keyid=AQ", "keyid=AgI"), vec![2, 2]),
        ] {
            match verify(&recipe(&[(2, 7)]), &phc) {
                Err(HashingFault::UnknownPepper { key_id }) => assert_eq!(key_id, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_poisoned_row_cannot_take_the_machine_down() {
        let mut memory = Memory::default();
        for (m, t) in [
            (262_145, 1),
            (4_194_304, 1),
            (u32::MAX, u32::MAX),
            (262_144, 5),
            (64, 16_385),
        ] {
            let phc = KNOWN.replace("m=64,t=2", &format!("m={m},t={t}"));
            let stored = PasswordHash::from_stored(phc);
            let fault = recipe(&[(1, 7)])
                .verify(&horse(), &stored, &mut memory)
                .unwrap_err();
            assert!(matches!(fault, HashingFault::TooCostly { .. }), "{fault:?}");
        }
        assert!(!memory.is_held());
    }

    #[test]
    fn ones_own_cost_is_never_too_much() {
        let cost = Argon2Cost {
            memory_kib: 300_000,
            iterations: 9,
            parallelism: 1,
        };
        let recipe = Recipe::new(cost, vec![pepper(1, 7)]).unwrap();
        assert!(recipe.check_cost(&recipe.params).is_ok());
    }

    #[test]
    fn garbage_is_unreadable() {
        for phc in [
            "",
            "$",
            "hunter2",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$argon2id$v=19$m=64,t=2,p=1",
            "$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw",
            &KNOWN.replace("v=19", "v=20"),
            &KNOWN.replace("t=2", "t=0"),
            &KNOWN.replace("m=64", "m=7"),
            &KNOWN.replace("p=1", "p=16777215"),
            &KNOWN.replace("argon2id", "argon2x"),
            &KNOWN.replace("$MQq9", "$MQq\0"),
        ] {
            let fault = verify(&recipe(&[(1, 7)]), phc).unwrap_err();
            assert!(
                matches!(fault, HashingFault::Unreadable),
                "{phc}: {fault:?}"
            );
        }
    }

    #[test]
    fn a_decoy_costs_as_much_and_looks_the_same() {
        let recipe = recipe(&[(1, 7)]);
        let decoy = recipe.decoy().unwrap();
        let mut memory = Memory::default();
        assert_eq!(
            recipe.verify(&horse(), &decoy, &mut memory).unwrap(),
            Match::No
        );
        assert!(memory.is_held(), "Argon2 was not run");
        let read = Parts::read(&decoy).unwrap();
        assert_eq!(read.params, recipe.params);
        assert_eq!(decoy.as_str().len(), KNOWN.len());
        assert_ne!(decoy, recipe.decoy().unwrap());
    }

    #[test]
    fn peppers_must_be_there_and_differ() {
        for peppers in [vec![], vec![pepper(1, 7), pepper(2, 8), pepper(1, 9)]] {
            let fault = Recipe::new(COST, peppers).err().unwrap();
            assert!(matches!(fault, HashingFault::BadPeppers));
        }
        let cost = Argon2Cost {
            memory_kib: 8,
            parallelism: 2,
            ..COST
        };
        let fault = Recipe::new(cost, vec![pepper(1, 7)]).err().unwrap();
        assert!(matches!(fault, HashingFault::Argon2(_)));
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", pepper(1, 7)).contains('7'));
    }
}
