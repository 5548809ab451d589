//! How long the active key has been signing: what an operator watches to see that rotation goes on.

use super::{Keyring, lifecycle};
use crate::clock::Timestamp;

impl Keyring {
    /// Since when the key that signs at `now` has been doing so, on every replica.
    pub fn signing_since(&self, now: Timestamp) -> Option<Timestamp> {
        let snapshot = self.snapshot();
        let active = lifecycle::active(&snapshot.times, now)?;
        Some(snapshot.times[active].activates_at)
    }
}
