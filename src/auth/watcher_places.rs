//! How many streams of `WatchRevocations` there may be at once: each costs a task, a queue and its share of every change.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::AuthError;
use crate::domain::UserId;

/// When a watcher that found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The places of this replica. Clones share them.
#[derive(Clone)]
pub(super) struct WatcherPlaces {
    watchers: Arc<Mutex<HashMap<UserId, usize>>>,
    most: usize,
}

/// A place that is taken until this is dropped.
pub(super) struct WatcherPlace {
    places: WatcherPlaces,
    user: UserId,
}

impl WatcherPlaces {
    /// `most` in all, half of them (at least one) for one user: no verifier can shut all others out.
    pub(super) fn new(most: NonZeroU32) -> Self {
        Self {
            watchers: Arc::default(),
            most: usize::try_from(most.get()).unwrap_or(usize::MAX),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when there is none.
    pub(super) fn take(&self, user: UserId) -> Result<WatcherPlace, AuthError> {
        let mut watchers = self.watchers();
        let all: usize = watchers.values().sum();
        let own = watchers.get(&user).copied().unwrap_or_default();
        if all >= self.most || own >= (self.most / 2).max(1) {
            return Err(AuthError::RateLimited {
                retry_after: RETRY_AFTER,
            });
        }
        watchers.insert(user, own + 1);
        Ok(WatcherPlace {
            places: self.clone(),
            user,
        })
    }

    fn watchers(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WatcherPlace {
    fn drop(&mut self) {
        let mut watchers = self.places.watchers();
        if let Some(own) = watchers.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                watchers.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn one_user_has_half_of_the_places_and_all_together_have_no_more_than_all() {
        let places = WatcherPlaces::new(NonZeroU32::new(4).unwrap());
        let [ada, bob, eve] = [1, 2, 3].map(|n| UserId::generate(Timestamp::from_seconds(n)));
        let first = places.take(ada).unwrap();
        let _second = places.take(ada).unwrap();
        assert!(places.take(ada).is_err(), "half of the places are hers");
        let _of_bob = [places.take(bob).unwrap(), places.take(bob).unwrap()];
        assert!(places.take(eve).is_err(), "all places are taken");
        drop(first);
        let of_eve = places.take(eve).unwrap();
        assert_eq!(places.watchers().len(), 3);
        drop(of_eve);
        assert_eq!(places.watchers().len(), 2);
    }
}
