//! Makes a failed login cost the same for every account, whatever parameters its hash was stored with.
//!
//! Parameters change over the years, and a hash keeps its own until its user logs in again. If a failed login cost only
//! what the stored hash costs, its duration would tell a user with old parameters from an unknown address. So every
//! failed login does the work of the *most expensive parameters in use*: an unknown address computes one hash with
//! them, and a known one computes its own hash and then [`padding`] up to the same amount.
//!
//! The unit of work is one block of 1 KiB written once: memory times passes. See decision 0700. Imported hashes of other
//! functions add the most expensive work in use of *each* function, padded with the same function (decision 1200).

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
};

use super::{
    Argon2Cost,
    formats::{Effort, MostWork, Work},
    imported,
    phc::PasswordHash,
};

/// How many parameter sets are remembered that the database's list does not have yet.
const MAX_UNLISTED: usize = 64;

/// The most expensive parameters in use, and which parameters this process has seen.
pub(super) struct FailedLoginCost {
    current: Argon2Cost,
    state: RwLock<State>,
}

struct State {
    /// What a failed login has to cost.
    cost: Argon2Cost,
    /// And besides, with the functions of imported hashes.
    imported: MostWork,
    listed: BTreeSet<String>,
    /// Seen in stored hashes, and not listed.
    unlisted: BTreeSet<String>,
}

impl FailedLoginCost {
    /// Only the parameters of new hashes are known to be in use.
    pub fn new(current: Argon2Cost) -> Self {
        Self {
            current,
            state: RwLock::new(State {
                cost: current,
                imported: MostWork::default(),
                listed: BTreeSet::new(),
                unlisted: BTreeSet::new(),
            }),
        }
    }

    /// What a failed login has to do yet after `done`: hashes of Argon2, and work of other functions.
    pub fn rest_after(&self, done: Effort) -> (Vec<Argon2Cost>, Vec<Work>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let cost = state.cost;
        let (hashes, other) = match done {
            Effort::Argon2(done) => {
                let remaining = cost.work_kib().saturating_sub(done.work_kib());
                (padding(cost, remaining), None)
            }
            Effort::Other(work) => (vec![cost], Some(work)),
            Effort::None => (vec![cost], None),
        };
        (hashes, state.imported.remaining(other))
    }

    /// What a failed login costs now, but for imported hashes.
    pub fn get(&self) -> Argon2Cost {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.cost
    }

    /// Takes the list of all parameters in use, in the form of [`PasswordHash::parameters`]. What this process has seen
    /// besides keeps counting until it is listed.
    pub fn set_listed(&self, parameters: impl IntoIterator<Item = String>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.listed = parameters.into_iter().collect();
        let listed = std::mem::take(&mut state.unlisted);
        state.unlisted = listed.difference(&state.listed).cloned().collect();
        (state.cost, state.imported) = (self.current, MostWork::default());
        let in_use: Vec<Effort> = state
            .listed
            .iter()
            .chain(&state.unlisted)
            .filter_map(|parameters| effort_of(parameters))
            .collect();
        for effort in in_use {
            self.raise(&mut state, effort);
        }
    }

    /// Makes failed logins cost at least this.
    fn raise(&self, state: &mut State, effort: Effort) {
        match effort {
            Effort::Argon2(cost) if cost.is_acceptable(self.current) => {
                state.cost = state.cost.max_work(cost);
            }
            Effort::Other(work) => state.imported.note(work),
            Effort::Argon2(_) | Effort::None => {}
        }
    }

    /// Notes the parameters of a hash that was just read from the database.
    pub fn note(&self, stored: &PasswordHash) {
        let Some(parameters) = stored.parameters() else {
            return;
        };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.listed.contains(&parameters) || state.unlisted.contains(&parameters) {
            return;
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(effort) = effort_of(&parameters) {
            self.raise(&mut state, effort);
        }
        if state.unlisted.len() < MAX_UNLISTED {
            state.unlisted.insert(parameters);
        }
    }

    /// Parameters seen that the database's list does not have yet.
    pub fn unlisted(&self) -> Vec<String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.unlisted.iter().cloned().collect()
    }
}

/// Reads the cost from text of the form of [`PasswordHash::parameters`].
fn effort_of(parameters: &str) -> Option<Effort> {
    imported::effort_of_parameters(parameters)
        .or_else(|| Argon2Cost::of_parameters(parameters).map(Effort::Argon2))
}

/// The hashes that fill `remaining` KiB of work, with the memory of `like` as far as possible: an equal amount of work
/// takes an equal time only in memory of about the same size. Less than 8 KiB, which is the least that Argon2 can do,
/// is left out.
fn padding(like: Argon2Cost, remaining: u64) -> Vec<Argon2Cost> {
    let memory = u64::from(like.blocks());
    let hash = |memory_kib: u64, iterations: u64| Argon2Cost {
        memory_kib: u32::try_from(memory_kib).unwrap_or(u32::MAX),
        iterations: u32::try_from(iterations).unwrap_or(u32::MAX),
        parallelism: 1,
    };
    let mut hashes = Vec::new();
    if remaining >= memory {
        hashes.push(hash(memory, remaining / memory));
    }
    // Argon2 rounds memory down to a multiple of four blocks.
    let rest = remaining % memory / 4 * 4;
    if rest >= 8 {
        hashes.push(hash(rest, 1));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::passwords::formats::Function;

    const fn cost(memory_kib: u32, iterations: u32, parallelism: u32) -> Argon2Cost {
        Argon2Cost {
            memory_kib,
            iterations,
            parallelism,
        }
    }

    fn text(cost: Argon2Cost) -> String {
        let Argon2Cost {
            memory_kib,
            iterations,
            parallelism,
        } = cost;
        format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}")
    }

    fn stored(cost: Argon2Cost) -> PasswordHash {
        let text = text(cost) + ",keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg";
        PasswordHash::from_stored(text)
    }

    const OLD: Argon2Cost = cost(19_456, 2, 1);
    const NEW: Argon2Cost = cost(65_536, 3, 1);

    #[test]
    fn a_failed_login_costs_what_the_most_expensive_parameters_in_use_cost() {
        for (current, listed) in [(OLD, NEW), (NEW, OLD)] {
            let failed = FailedLoginCost::new(current);
            assert_eq!(failed.get(), current);
            failed.set_listed([text(listed)]);
            assert_eq!(failed.get(), NEW);
        }
        let failed = FailedLoginCost::new(OLD);
        failed.set_listed([text(NEW)]);
        failed.set_listed([text(OLD)]);
        assert_eq!(failed.get(), OLD, "nobody has the expensive ones any more");
    }

    #[test]
    fn parameters_that_another_replica_stored_count_as_soon_as_they_are_seen() {
        let failed = FailedLoginCost::new(OLD);
        failed.set_listed([text(OLD)]);
        failed.note(&stored(OLD));
        assert!(failed.unlisted().is_empty());
        failed.note(&stored(NEW));
        assert_eq!(failed.get(), NEW);
        assert_eq!(failed.unlisted(), [text(NEW)]);
        failed.set_listed([text(OLD)]);
        assert_eq!(failed.get(), NEW, "a list from before it was seen");
        failed.set_listed([text(OLD), text(NEW)]);
        assert!(failed.unlisted().is_empty());
    }

    #[test]
    fn parameters_that_would_be_refused_do_not_make_failed_logins_expensive() {
        let failed = FailedLoginCost::new(OLD);
        for refused in [cost(4_194_304, 1, 1), cost(262_144, 5, 1)] {
            failed.note(&stored(refused));
            failed.set_listed([text(refused)]);
            assert_eq!(failed.get(), OLD);
        }
    }

    #[test]
    fn unreadable_parameters_change_nothing() {
        let failed = FailedLoginCost::new(OLD);
        failed.note(&PasswordHash::from_stored("$2b$12$abc".to_owned()));
        failed.set_listed(["$2b$12".to_owned(), "nonsense".to_owned()]);
        assert_eq!(failed.get(), OLD);
        for n in 0..1_000 {
            failed.note(&stored(cost(64 + 4 * n, 1, 1)));
        }
        assert_eq!(failed.unlisted().len(), MAX_UNLISTED);
    }

    #[test]
    fn a_failed_login_does_the_work_of_every_imported_function_in_use() {
        let failed = FailedLoginCost::new(OLD);
        let bcrypt = |amount| Work {
            function: Function::Bcrypt,
            amount,
        };
        let pbkdf2 = Work {
            function: Function::Pbkdf2Sha256,
            amount: 600_000,
        };
        failed.set_listed([
            "$imported$k=bcrypt,w=1024".to_owned(),
            "$imported$k=pbkdf2-sha256,w=600000".to_owned(),
            "$imported$k=digest".to_owned(),
        ]);
        // Learnt from a stored hash, before it is listed.
        failed.note(&PasswordHash::from_stored(
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
        ));
        assert_eq!(failed.unlisted(), ["$imported$k=bcrypt,w=4096"]);
        let rest = |done| failed.rest_after(done);
        assert_eq!(rest(Effort::None), (vec![OLD], vec![bcrypt(4096), pbkdf2]));
        assert_eq!(
            rest(Effort::Other(bcrypt(1024))),
            (vec![OLD], vec![bcrypt(3072), pbkdf2])
        );
        assert_eq!(rest(Effort::Other(pbkdf2)), (vec![OLD], vec![bcrypt(4096)]));
        assert_eq!(
            rest(Effort::Argon2(OLD)),
            (vec![], vec![bcrypt(4096), pbkdf2])
        );
        failed.set_listed(["$imported$k=argon2,m=65536,t=3,p=1".to_owned()]);
        assert_eq!(failed.get(), NEW);
        failed.set_listed([]);
        assert_eq!(
            rest(Effort::None).0,
            [OLD],
            "nobody has imported hashes any more"
        );
    }

    proptest! {
        #[test]
        fn own_hash_and_padding_do_the_same_work_for_every_account(
            own in (8_u32..300_000, 1_u32..10, 1_u32..16),
            most in (8_u32..300_000, 1_u32..10, 1_u32..16),
        ) {
            let of = |(memory, passes, lanes): (u32, u32, u32)| cost(memory.max(8 * lanes), passes, lanes);
            let (a, b) = (of(own), of(most));
            let target = a.max_work(b);
            for own in [a, b] {
                let padding = padding(target, target.work_kib() - own.work_kib());
                let done = own.work_kib() + padding.iter().map(|cost| cost.work_kib()).sum::<u64>();
                prop_assert!(target.work_kib() - done < 12, "{own:?} {target:?} {padding:?}");
                prop_assert!(padding.len() <= 2);
                for hash in padding {
                    prop_assert!(hash.memory_kib >= 8 && hash.memory_kib <= target.blocks());
                }
            }
        }
    }
}
