//! Writes batches of prepared records, and keeps count.

use std::{collections::BTreeSet, time::Duration};

use tokio::time;

use super::{Prepared, Reason};
use crate::{
    clock::{Clock, monotonic_now},
    store::{AuditEvent, Import, Store, StoreError},
};

/// Records in a batch: enough that the commit costs little, few enough that others wait milliseconds for a connection.
const BATCH_RECORDS: usize = 1_000;

/// Bytes in a batch: what an import holds in memory at once.
const BATCH_BYTES: usize = 1 << 20;

/// What a row costs in memory besides its texts, and each text or role in a list besides its bytes.
const ROW_BYTES: usize = 600;
const TEXT_BYTES: usize = 32;

/// Different parameters of hashes that one import lists. Those beyond are listed at the first login, as for a hash that was put
/// in by SQL; without a bound, a file could make every failed login read a list of any length.
const MAX_PARAMETERS: usize = 256;

/// The waits before a batch is tried again: the first, and the longest.
const RETRIES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Records to be written together.
#[derive(Default)]
pub struct Batch {
    entries: Vec<(u64, Prepared)>,
    bytes: usize,
}

impl Batch {
    /// Adds a record with the number of its line.
    pub fn push(&mut self, line: u64, prepared: Prepared) {
        let row = &prepared.row;
        let user = &row.user;
        // As a list, as they are stored, and in an audit event.
        let roles = user.roles.names().map(|name| TEXT_BYTES + 3 * name.len());
        let marks = row.marks.iter().map(|mark| TEXT_BYTES + mark.len());
        self.bytes += ROW_BYTES
            + 3 * user.email.as_str().len()
            + user.display_name.as_str().len()
            + row.password_hash.len()
            + prepared.parameters.as_ref().map_or(0, String::len)
            + roles.chain(marks).sum::<usize>();
        self.entries.push((line, prepared));
    }

    /// Whether it should be written before more is added.
    pub const fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// How many records were imported, and what became of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users created.
    pub imported: u64,
    /// Records whose user was created by an earlier run, or by an equal record.
    pub skipped: u64,
    /// Users created without a password.
    pub without_password: u64,
    /// Users created with a hash that could be guessed at billions of passwords a second if it leaked with the keys.
    pub weak: u64,
}

/// A record that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of its line, message or entry, from 1.
    pub line: u64,
    /// Why.
    pub reason: Reason,
}

/// Writes batches.
pub struct Importer {
    store: Store,
    clock: Clock,
    event: AuditEvent,
    patience: Duration,
    listed: BTreeSet<String>,
    counts: Counts,
}

impl Importer {
    /// `event` is what is recorded for each batch that creates users; its time is set again. A batch that fails for a
    /// passing reason is tried again for as long as `patience`.
    pub fn new(store: Store, clock: Clock, event: AuditEvent, patience: Duration) -> Self {
        Self {
            store,
            clock,
            event,
            patience,
            listed: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// What has been done so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Writes a batch in one transaction, and returns the records whose address is taken.
    ///
    /// # Errors
    /// The database fails, for longer than the patience. What earlier batches wrote stays.
    pub async fn write(&mut self, batch: Batch) -> Result<Vec<Refused>, StoreError> {
        let Batch { entries, .. } = batch;
        self.list_parameters(&entries).await?;
        let (mut lines, mut rows, mut facts) = (Vec::new(), Vec::new(), Vec::new());
        for (line, prepared) in entries {
            lines.push(line);
            facts.push((prepared.parameters.is_some(), prepared.is_weak));
            rows.push(prepared.row);
        }
        self.event.at = self.clock.now();
        let mut tries = Attempts::new(self.patience);
        let (results, took) = loop {
            let began = monotonic_now();
            match self.store.import_users(&rows, &self.event).await {
                Ok(results) => {
                    let took = monotonic_now().saturating_duration_since(began);
                    break (results, took);
                }
                Err(error) => tries.after(error, &self.store).await?,
            }
        };
        let mut refused = Vec::new();
        for ((line, result), (has_password, is_weak)) in lines.into_iter().zip(results).zip(facts) {
            match result {
                Import::Imported => {
                    self.counts.imported += 1;
                    self.counts.without_password += u64::from(!has_password);
                    self.counts.weak += u64::from(is_weak);
                }
                Import::Before => self.counts.skipped += 1,
                Import::EmailTaken => {
                    let reason = Reason::EmailTaken;
                    refused.push(Refused { line, reason });
                }
            }
        }
        self.pause_for_other_callers(took).await;
        Ok(refused)
    }

    /// Lists the parameters of the hashes before the hashes are there, so that failed logins cost the same for every account.
    async fn list_parameters(&mut self, entries: &[(u64, Prepared)]) -> Result<(), StoreError> {
        let parameters = entries
            .iter()
            .filter_map(|(_, prepared)| prepared.parameters.as_ref());
        let mut new: BTreeSet<&String> = BTreeSet::new();
        for parameters in parameters.filter(|parameters| !self.listed.contains(*parameters)) {
            if self.listed.len() + new.len() < MAX_PARAMETERS {
                new.insert(parameters);
            }
        }
        let new: Vec<String> = new.into_iter().cloned().collect();
        let mut tries = Attempts::new(self.patience);
        loop {
            let now = self.clock.now();
            match self.store.record_password_parameters(&new, now).await {
                Ok(()) => break,
                Err(error) => tries.after(error, &self.store).await?,
            }
        }
        self.listed.extend(new);
        Ok(())
    }

    /// Pauses once, for as long as the batch took, if others wait for a connection of this process now. Nobody does in a command,
    /// which has its connections for itself.
    async fn pause_for_other_callers(&self, took: Duration) {
        let loads = self.store.pool_loads();
        if loads.iter().any(|load| load.waiting > 0) {
            time::sleep(took).await;
        }
    }
}

/// The tries of one operation.
struct Attempts {
    left: Duration,
    wait: Duration,
}

impl Attempts {
    const fn new(patience: Duration) -> Self {
        Self {
            left: patience,
            wait: RETRIES.0,
        }
    }

    /// Waits before the next try, or gives the error back.
    async fn after(&mut self, error: StoreError, store: &Store) -> Result<(), StoreError> {
        if !error.is_passing() || self.left.is_zero() {
            return Err(error);
        }
        tracing::warn!(%error, "retrying a batch of an import");
        let wait = self.wait.min(self.left);
        time::sleep(wait).await;
        self.left -= wait;
        self.wait = (2 * self.wait).min(RETRIES.1);
        if !store.is_available() {
            // A command has no background task that closes the circuit.
            let _ = store.ping().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        domain::{DisplayName, Email, Roles, User, UserId},
        store::ImportedUser,
    };

    /// How many such users fill a batch, and the bytes of their texts.
    fn filled(roles: &Roles, password_hash: &str) -> (usize, usize) {
        let now = Timestamp::from_seconds(1_795_478_400);
        let mut batch = Batch::default();
        let mut bytes = 0;
        while !batch.is_full() {
            let user = User {
                id: UserId::generate(now),
                email: Email::parse("email", "ada@example.org").unwrap(),
                display_name: DisplayName::parse("display_name", "Ada").unwrap(),
                email_verified_at: None,
                roles: roles.clone(),
                created_at: now,
                updated_at: now,
                disabled_at: None,
            };
            bytes += roles.to_stored().len() + password_hash.len();
            let row = ImportedUser {
                user,
                password_hash: password_hash.to_owned(),
                marks: Vec::new(),
            };
            let prepared = Prepared {
                row,
                parameters: None,
                is_weak: false,
            };
            batch.push(1, prepared);
        }
        (batch.entries.len(), bytes)
    }

    #[test]
    fn a_batch_is_full_by_its_records_and_by_the_bytes_of_everything_in_them() {
        assert_eq!(filled(&Roles::default(), "hash").0, BATCH_RECORDS);
        let names: Vec<_> = (0..64).map(|n| format!("{n:0>64}")).collect();
        let roles = Roles::parse("roles", &names).unwrap();
        for (roles, hash) in [
            (&roles, ""),
            (&Roles::default(), "x".repeat(9_000).as_str()),
        ] {
            let (records, bytes) = filled(roles, hash);
            assert!(
                records < BATCH_RECORDS && bytes < 2 * BATCH_BYTES,
                "{records} {bytes}"
            );
        }
    }
}
