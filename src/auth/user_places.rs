//! Limits on what callers hold for long: streams of `WatchRevocations`, and calls that wait for a cursor. There is a total
//! limit, and one per user, so that no user can use up the total.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::AuthError;
use crate::domain::UserId;

/// The places of this replica. Clones share them.
#[derive(Clone)]
pub(super) struct UserPlaces {
    taken: Arc<Mutex<HashMap<UserId, usize>>>,
    bounds: Bounds,
}

/// How many places there are.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// In all.
    pub(super) all: usize,
    /// For one user.
    pub(super) per_user: usize,
    /// How long a caller that found none should wait before it retries.
    pub(super) retry_after: Duration,
}

/// A place that is taken until this is dropped.
pub(super) struct UserPlace {
    places: UserPlaces,
    user: UserId,
}

impl UserPlaces {
    /// None is taken.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            taken: Arc::default(),
            bounds,
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when there is none.
    pub(super) fn take(&self, user: UserId) -> Result<UserPlace, AuthError> {
        let mut taken = self.taken();
        let all: usize = taken.values().sum();
        let own = taken.get(&user).copied().unwrap_or_default();
        let Bounds {
            all: most,
            per_user,
            retry_after,
        } = self.bounds;
        if all >= most || own >= per_user {
            return Err(AuthError::RateLimited { retry_after });
        }
        taken.insert(user, own + 1);
        Ok(UserPlace {
            places: self.clone(),
            user,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn one_user_has_a_share_and_all_together_have_no_more_than_all() {
        let places = UserPlaces::new(Bounds {
            all: 4,
            per_user: 2,
            retry_after: Duration::from_secs(1),
        });
        let [ada, bob, eve] = [1, 2, 3].map(|n| UserId::generate(Timestamp::from_seconds(n)));
        let first = places.take(ada).unwrap();
        let _second = places.take(ada).unwrap();
        assert!(places.take(ada).is_err(), "her share is taken");
        let _of_bob = [places.take(bob).unwrap(), places.take(bob).unwrap()];
        assert!(places.take(eve).is_err(), "all places are taken");
        drop(first);
        let of_eve = places.take(eve).unwrap();
        assert_eq!(places.taken().len(), 3);
        drop(of_eve);
        assert_eq!(places.taken().len(), 2);
    }
}
