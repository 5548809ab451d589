//! The state of a signing key as a pure function of rows and time: which key signs, which ones verify,
//! and when a successor is due. Every replica computes the same from the same rows, so no leader is needed.

use std::time::Duration;

use crate::{clock::Timestamp, config::SigningAlgorithm, store::StoredSigningKey};

/// How far replicas' clocks may differ, and how long an insert may take, beyond the lead and the poll interval.
const PUBLISHING_SLACK: Duration = Duration::from_secs(15);

/// Keys that no longer verify are deleted this much later, so that a replica whose clock is ahead does not delete
/// what the others still verify with.
const DELETION_DELAY: Duration = Duration::from_secs(24 * 3600);

/// The most keys in the JWKS. Verifiers keep few: jwks-rsa five by default, and with one more in use it fetches the set for
/// every token.
const MOST_KEYS: usize = 5;

/// The rules of rotation.
#[derive(Clone, Copy, Debug)]
pub struct SigningPolicy {
    /// What new keys sign with.
    pub algorithm: SigningAlgorithm,
    /// How long a key signs before its successor does.
    pub rotation: Duration,
    /// How long every replica publishes a key before it signs.
    pub lead: Duration,
    /// How long verifiers may keep the JWKS; at most the lead.
    pub jwks_max_age: Duration,
    /// How often a replica reads the database without a notification.
    pub poll_interval: Duration,
    /// The longest that a token is accepted after it was signed, by whatever clock.
    pub token_life: Duration,
}

impl SigningPolicy {
    /// How long before it signs a key is written: the lead, and time enough for every replica to have read it twice.
    pub fn publish_ahead(&self) -> Duration {
        self.lead + self.poll_interval * 2 + PUBLISHING_SLACK
    }
}

/// What the state of a key follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// The number of the key in the order of keys.
    pub ordinal: i32,
    /// From when it signs, unless a later key does by then.
    pub activates_at: Timestamp,
    /// When an emergency rotation revoked it: for good, whatever the clock says now.
    pub revoked_at: Option<Timestamp>,
}

impl From<&StoredSigningKey> for KeyTimes {
    fn from(row: &StoredSigningKey) -> Self {
        Self {
            ordinal: row.ordinal,
            activates_at: row.activates_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// In the JWKS, not signing yet.
    Published,
    /// Signs. There is exactly one as long as a key is not revoked.
    Active,
    /// Its successor signs; it verifies until its last token has expired.
    Retiring {
        /// From when it no longer verifies.
        until: Timestamp,
    },
    /// No token of it is accepted.
    Gone,
}

impl KeyState {
    /// The name of the state in tables and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Active => "active",
            Self::Retiring { .. } => "retiring",
            Self::Gone => "gone",
        }
    }

    /// Whether tokens of the key are accepted.
    pub const fn verifies(self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// Which of `keys` signs at `now`: the newest one that has become active. When the clock was set back before all of them,
/// the one that becomes active first: there is always a signer.
pub fn active(keys: &[KeyTimes], now: Timestamp) -> Option<usize> {
    let live = || {
        keys.iter()
            .enumerate()
            .filter(|(_, key)| key.revoked_at.is_none())
    };
    live()
        .filter(|(_, key)| key.activates_at <= now)
        .max_by_key(|(_, key)| key.ordinal)
        .or_else(|| live().min_by_key(|(_, key)| (key.activates_at, key.ordinal)))
        .map(|(index, _)| index)
}

/// Until when the key at `index` verifies; `None` while no successor is known.
pub fn verifies_until(
    keys: &[KeyTimes],
    index: usize,
    policy: &SigningPolicy,
) -> Option<Timestamp> {
    keys.iter()
        .filter(|key| key.revoked_at.is_none() && key.ordinal > keys[index].ordinal)
        .map(|key| key.activates_at)
        .min()
        .map(|superseded_at| superseded_at + policy.token_life)
}

/// The state of the key at `index` at `now`.
pub fn state(keys: &[KeyTimes], index: usize, policy: &SigningPolicy, now: Timestamp) -> KeyState {
    let key = keys[index];
    if key.revoked_at.is_some() {
        return KeyState::Gone;
    }
    if active(keys, now) == Some(index) {
        return KeyState::Active;
    }
    match verifies_until(keys, index, policy) {
        Some(until) if until <= now => KeyState::Gone,
        // A replica whose clock is ahead may sign with it: it verifies already.
        _ if key.activates_at > now => KeyState::Published,
        Some(until) => KeyState::Retiring { until },
        // Not active although it has begun and nothing follows it: impossible.
        None => KeyState::Published,
    }
}

/// A key that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its ordinal: the first replica to insert it wins.
    pub ordinal: i32,
    /// From when it signs.
    pub activates_at: Timestamp,
}

/// The successor that is to be published at `now`, if it is time.
pub fn due_successor(
    keys: &[KeyTimes],
    policy: &SigningPolicy,
    now: Timestamp,
) -> Option<Successor> {
    let ordinal = next_ordinal(keys);
    let Some(active) = active(keys, now).map(|index| keys[index]) else {
        // There is no key to supersede, and no other that verifiers could have.
        return Some(Successor {
            ordinal,
            activates_at: now,
        });
    };
    if is_full(keys, policy, now) {
        return None;
    }
    let ahead = policy.publish_ahead();
    let due = active.activates_at + policy.rotation;
    if now + ahead < due {
        return None;
    }
    let activates_at = due.max(now + ahead);
    let planned = keys.iter().any(|key| {
        key.revoked_at.is_none()
            && key.ordinal > active.ordinal
            && !is_far(key, policy, activates_at - ahead)
    });
    (!planned).then_some(Successor {
        ordinal,
        activates_at,
    })
}

/// Whether a key activates so much later than one that is published at `now` that a clock far ahead must have planned it: it
/// counts as if it were not there. A successor that is published meanwhile takes its place.
fn is_far(key: &KeyTimes, policy: &SigningPolicy, now: Timestamp) -> bool {
    key.activates_at > now + policy.publish_ahead() * 2
}

/// The key that is published already and signs next, if any.
pub fn pending(keys: &[KeyTimes], policy: &SigningPolicy, now: Timestamp) -> Option<usize> {
    let is_pending = |index: &usize| {
        state(keys, *index, policy, now) == KeyState::Published
            && !is_far(&keys[*index], policy, now)
    };
    (0..keys.len()).rev().find(is_pending)
}

/// The successor of a rotation that is asked for at `now`; `None` while the JWKS has no room for it.
pub fn successor_now(
    keys: &[KeyTimes],
    policy: &SigningPolicy,
    now: Timestamp,
) -> Option<Successor> {
    (!is_full(keys, policy, now)).then(|| Successor {
        ordinal: next_ordinal(keys),
        activates_at: now + policy.publish_ahead(),
    })
}

/// Whether the JWKS has as many keys as it may have.
fn is_full(keys: &[KeyTimes], policy: &SigningPolicy, now: Timestamp) -> bool {
    let verifies = |index: &usize| {
        state(keys, *index, policy, now).verifies() && !is_far(&keys[*index], policy, now)
    };
    (0..keys.len()).filter(verifies).count() >= MOST_KEYS
}

/// When the next key leaves the JWKS, if that is known.
pub fn next_room(keys: &[KeyTimes], policy: &SigningPolicy, now: Timestamp) -> Option<Timestamp> {
    let until = |index| match state(keys, index, policy, now) {
        KeyState::Retiring { until } => Some(until),
        _ => None,
    };
    (0..keys.len()).filter_map(until).min()
}

/// The ordinal after all others, revoked ones included.
pub fn next_ordinal(keys: &[KeyTimes]) -> i32 {
    let greatest = keys.iter().map(|key| key.ordinal).max().unwrap_or(0);
    greatest.saturating_add(1)
}

/// Whether the row of the key at `index` is needed no longer at `now`.
pub fn is_deletable(
    keys: &[KeyTimes],
    index: usize,
    policy: &SigningPolicy,
    now: Timestamp,
) -> bool {
    let gone_since = match keys[index].revoked_at {
        Some(revoked_at) => Some(revoked_at),
        None if active(keys, now) == Some(index) => None,
        None => verifies_until(keys, index, policy),
    };
    gone_since.is_some_and(|since| since + DELETION_DELAY <= now)
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
