//! Since when the active key has been signing: a metric by which operators see that keys are rotated.

use super::{Keyring, lifecycle};
use crate::clock::Timestamp;

impl Keyring {
    /// Since when the key that signs at `now` has been signing.
    pub fn signing_since(&self, now: Timestamp) -> Option<Timestamp> {
        let snapshot = self.snapshot();
        let active = lifecycle::active(&snapshot.times, now)?;
        Some(snapshot.times[active].activates_at)
    }
}
