//! Bounds the memory of requests that are still arriving: over all connections, and for each peer address.
//!
//! The size of a message, the headers, the streams of a connection and the connections are bounded each, but their product
//! is not: some connections whose requests never end would take all memory. So headers and bodies count from their first
//! byte until the body is read. A peer address gets a share, so that one peer does not cause refusals of others, and
//! large requests leave a part to ordinary ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes up to which a request, headers included, is an ordinary one: as many as a DATA frame may have at first (RFC 9113
/// section 6.5.2).
const ORDINARY: usize = 16 * 1024;

/// One peer address may take this part of the memory.
const PEER_PART: usize = 4;

/// The memory that requests which are still arriving may take. Clones share it.
#[derive(Clone, Debug)]
pub struct RequestMemory(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    used: AtomicUsize,
    max: usize,
}

impl RequestMemory {
    /// At most `max` bytes.
    pub fn new(max: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self(Arc::new(Whole { used, max }))
    }

    /// The part of it that a connection uses. `peer` counts the bytes of all connections of its peer address; `None` for a
    /// peer without a share of its own, such as a trusted proxy with many clients.
    pub fn of_peer(&self, peer: Option<Arc<AtomicUsize>>) -> PeerMemory {
        let whole = Arc::clone(&self.0);
        PeerMemory(Arc::new(Peer { whole, used: peer }))
    }
}

/// What the requests of one connection use. Clones share it.
#[derive(Clone, Debug)]
pub struct PeerMemory(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    whole: Arc<Whole>,
    used: Option<Arc<AtomicUsize>>,
}

impl PeerMemory {
    /// The share of a request that begins.
    pub(super) fn share(&self) -> MemoryShare {
        MemoryShare {
            memory: self.clone(),
            held: 0,
        }
    }
}

impl Peer {
    /// Counts bytes. `false` when they are more than there is room for.
    fn take(&self, bytes: usize, is_large: bool) -> bool {
        let fits = |used: &AtomicUsize, max: usize| {
            let before = used.fetch_add(bytes, Ordering::Relaxed);
            let max = if is_large { max / 4 * 3 } else { max };
            before.saturating_add(bytes) <= max
        };
        let max = self.whole.max;
        let whole = fits(&self.whole.used, max);
        let own = self.used.as_deref();
        whole & own.is_none_or(|used| fits(used, max / PEER_PART))
    }

    fn give_back(&self, bytes: usize) {
        for used in [Some(&self.whole.used), self.used.as_deref()] {
            used.map(|used| used.fetch_sub(bytes, Ordering::Relaxed));
        }
    }
}

/// What one request takes of the memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare {
    memory: PeerMemory,
    held: usize,
}

impl MemoryShare {
    /// Counts bytes that have arrived. `false` when there is no memory for them: the request has to be refused.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.held = self.held.saturating_add(bytes);
        self.memory.0.take(bytes, self.held > ORDINARY)
    }

    /// Gives back what exceeds `held` bytes.
    pub(super) fn shrink_to(&mut self, held: usize) {
        if held < self.held {
            self.memory.0.give_back(self.held - held);
            self.held = held;
        }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 16 * ORDINARY;

    #[test]
    fn every_byte_is_counted_until_the_request_is_dropped() {
        let memory = RequestMemory::new(MAX);
        let unshared = memory.of_peer(None);
        let mut shares = Vec::new();
        for _ in 0..16 {
            let mut share = unshared.share();
            assert!(share.add(ORDINARY));
            shares.push(share);
        }
        let mut refused = unshared.share();
        assert!(!refused.add(1));
        drop(refused);
        shares[0].shrink_to(10);
        assert!(unshared.share().add(ORDINARY - 10));
        drop(shares);
        assert_eq!(memory.0.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn large_requests_leave_room_for_ordinary_ones() {
        let unshared = RequestMemory::new(MAX).of_peer(None);
        let mut large = unshared.share();
        assert!(large.add(12 * ORDINARY));
        assert!(!large.add(1));
        assert!(unshared.share().add(ORDINARY));
    }

    #[test]
    fn one_peer_address_leaves_room_for_others() {
        let memory = RequestMemory::new(MAX);
        let peer = Arc::<AtomicUsize>::default();
        let connections = [(); 2].map(|()| memory.of_peer(Some(Arc::clone(&peer))));
        let mut shares = Vec::new();
        for connection in connections.iter().cycle().take(4) {
            let mut share = connection.share();
            assert!(share.add(ORDINARY));
            shares.push(share);
        }
        let mut refused = connections[0].share();
        assert!(!refused.add(1));
        assert!(memory.of_peer(Some(Arc::default())).share().add(ORDINARY));
        assert!(memory.of_peer(None).share().add(5 * ORDINARY));
        drop((refused, shares));
        assert_eq!(peer.load(Ordering::Relaxed), 0);
    }
}
