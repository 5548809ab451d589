//! Remembers the `jti` of single-use assertions for as long as their signature is accepted.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Mutex,
};

use aws_lc_rs::digest::{Context, SHA256};

use super::refused::RefusalCause;
use crate::clock::Timestamp;

/// How many are remembered; with some 150 bytes each this stays below 10 MB. Only assertions that are good in all else get
/// here, so nobody but a trusted issuer's own services can fill it.
const CAPACITY: usize = 65_536;

type Fingerprint = [u8; 32];

/// The assertions that were used. It outlives a reload of the file.
#[derive(Debug, Default)]
pub(super) struct UsedAssertions(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<Fingerprint>,
    by_end: BTreeSet<(Timestamp, Fingerprint)>,
}

impl UsedAssertions {
    /// Takes the `jti` of an assertion of this issuer; it is forgotten at `end`, when the assertion is no longer accepted
    /// anyway.
    ///
    /// # Errors
    /// It was taken before, or there is no room: then it must not be accepted, because it could be used again.
    pub(super) fn take(
        &self,
        issuer: &str,
        jti: &str,
        end: Timestamp,
        now: Timestamp,
    ) -> Result<(), RefusalCause> {
        let fingerprint = fingerprint(issuer, jti);
        let Ok(mut memory) = self.0.lock() else {
            return Err(RefusalCause::ReplayMemoryFull);
        };
        memory.forget_until(now);
        if memory.known.contains(&fingerprint) {
            return Err(RefusalCause::Replayed);
        }
        if memory.known.len() >= CAPACITY {
            return Err(RefusalCause::ReplayMemoryFull);
        }
        memory.known.insert(fingerprint);
        memory.by_end.insert((end, fingerprint));
        Ok(())
    }
}

impl Memory {
    fn forget_until(&mut self, now: Timestamp) {
        while let Some(first) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.by_end.remove(&first);
            self.known.remove(&first.1);
        }
    }
}

/// NUL occurs in no issuer's name.
fn fingerprint(issuer: &str, jti: &str) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    context.update(issuer.as_bytes());
    context.update(&[0]);
    context.update(jti.as_bytes());
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const END: Timestamp = Timestamp::from_seconds(1_060);

    #[test]
    fn a_jti_is_taken_once_by_each_issuer_until_its_end() {
        let used = UsedAssertions::default();
        assert_eq!(used.take("ci", "1", END, NOW), Ok(()));
        assert_eq!(used.take("ci", "1", END, NOW), Err(RefusalCause::Replayed));
        assert_eq!(used.take("mesh", "1", END, NOW), Ok(()));
        let last = Timestamp::from_micros(END.micros() - 1);
        assert_eq!(used.take("ci", "1", END, last), Err(RefusalCause::Replayed));
        assert_eq!(used.take("ci", "1", END, END), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_new_ones_and_keeps_the_old() {
        let used = UsedAssertions::default();
        for jti in 0..CAPACITY {
            assert_eq!(used.take("ci", &jti.to_string(), END, NOW), Ok(()));
        }
        let full = Err(RefusalCause::ReplayMemoryFull);
        assert_eq!(used.take("ci", "another", END, NOW), full);
        assert_eq!(used.take("ci", "0", END, NOW), Err(RefusalCause::Replayed));
        assert_eq!(used.take("ci", "another", END, END), Ok(()));
    }
}
