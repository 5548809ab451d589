//! How many connections of a port one peer address may hold, so that one peer does not take the places of all.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
};

use ipnet::IpNet;

use super::ClientAddress;
use crate::telemetry::LogLimit;

/// A share is at least this many places.
const LEAST_SHARE: usize = 16;

/// The places for the connections of a port. Clones share them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_peer: Option<usize>,
    unlimited: Vec<IpNet>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    peers: HashMap<IpAddr, Peer>,
    refusals: LogLimit,
}

#[derive(Debug, Default)]
struct Peer {
    places: usize,
    request_bytes: Arc<AtomicUsize>,
}

impl Places {
    /// Each peer address gets `per_peer` places; addresses in `unlimited`, trusted proxies, stand for many clients and get as
    /// many as there are. With `None` every address does.
    pub fn new(per_peer: Option<usize>, unlimited: Vec<IpNet>) -> Self {
        Self(Arc::new(Shared {
            per_peer,
            unlimited,
            taken: Mutex::default(),
        }))
    }

    /// The share of one address: as configured, otherwise a quarter of `all` places. `None` where one may hold all: then
    /// addresses do not tell callers apart, as behind a mesh whose sidecar has one address for all of them.
    pub fn share_of(all: usize, configured: Option<NonZeroUsize>) -> Option<usize> {
        match configured.map(NonZeroUsize::get) {
            None => Some((all / 4).max(LEAST_SHARE)),
            configured => configured.filter(|share| *share < all),
        }
    }

    /// A place for a connection from `peer`; `None` when its address holds its whole share, which is logged.
    pub fn take(&self, peer: SocketAddr) -> Option<Place> {
        let address = ClientAddress::from(peer.ip());
        let is_unlimited = |network: &IpNet| network.contains(&address.ip());
        let unlimited = self.0.unlimited.iter().any(is_unlimited);
        let Some(per_peer) = self.0.per_peer.filter(|_| !unlimited) else {
            return Some(Place { peer, share: None });
        };
        let key = address.rate_key();
        let mut taken = self.0.lock();
        let entry = taken.peers.entry(key).or_default();
        if entry.places >= per_peer {
            if taken.refusals.permits() {
                tracing::warn!(
                    peer = %address.ip(), limit = per_peer,
                    "one address has reached its limit of connections: new ones are closed at once"
                );
            }
            return None;
        }
        entry.places += 1;
        let share = PeerShare {
            request_bytes: Arc::clone(&entry.request_bytes),
            places: self.clone(),
            key,
        };
        let share = Some(share);
        Some(Place { peer, share })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    /// Where the connection comes from.
    pub peer: SocketAddr,
    share: Option<PeerShare>,
}

impl Place {
    /// Counts bytes of the requests that are arriving from the same address; `None` where it has no share of its own.
    pub fn request_bytes(&self) -> Option<Arc<AtomicUsize>> {
        let share = self.share.as_ref()?;
        Some(Arc::clone(&share.request_bytes))
    }
}

#[derive(Debug)]
struct PeerShare {
    places: Places,
    key: IpAddr,
    request_bytes: Arc<AtomicUsize>,
}

impl Drop for PeerShare {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        if let Some(peer) = taken.peers.get_mut(&self.key) {
            peer.places -= 1;
            if peer.places == 0 {
                taken.peers.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 4711)
    }

    #[test]
    fn each_address_gets_its_share_and_gives_it_back() {
        let places = Places::new(Some(2), Vec::new());
        let first = places.take(peer("192.0.2.1")).unwrap();
        let _second = places.take(peer("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(peer("192.0.2.1")).is_none());
        let _other = places.take(peer("192.0.2.2")).unwrap();
        drop(first);
        let again = places.take(peer("192.0.2.1"));
        assert!(again.is_some() && places.take(peer("192.0.2.1")).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let places = Places::new(Some(1), Vec::new());
        let _place = places.take(peer("2001:db8:1:2::1")).unwrap();
        assert!(places.take(peer("2001:db8:1:2:3::9")).is_none());
        assert!(places.take(peer("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn trusted_proxies_have_no_share() {
        let places = Places::new(Some(1), vec!["10.0.0.0/8".parse().unwrap()]);
        let held: Vec<_> = (0..5)
            .filter_map(|_| places.take(peer("10.1.2.3")))
            .collect();
        assert_eq!(held.len(), 5);
        assert!(held[0].request_bytes().is_none());
    }

    #[test]
    fn a_share_of_the_limit_or_more_is_no_limit_per_address() {
        let configured = |share| Places::share_of(100, NonZeroUsize::new(share));
        assert_eq!(configured(99), Some(99));
        assert_eq!([configured(100), configured(1_000_000)], [None, None]);
        assert_eq!(Places::share_of(100, None), Some(25));
        // Not below the limit either, but nobody asked for it: the memory of requests stays shared.
        assert_eq!(Places::share_of(8, None), Some(16));
        let places = Places::new(None, Vec::new());
        let held: Vec<_> = (0..5)
            .filter_map(|_| places.take(peer("127.0.0.6")))
            .collect();
        assert_eq!(held.len(), 5);
        assert!(held[0].request_bytes().is_none());
    }

    #[test]
    fn peers_without_connections_are_removed() {
        let places = Places::new(Some(1), Vec::new());
        for last in 0..=255 {
            let place = places.take(peer(&format!("192.0.2.{last}"))).unwrap();
            assert!(place.request_bytes().is_some());
        }
        assert!(places.0.lock().peers.is_empty());
    }
}
