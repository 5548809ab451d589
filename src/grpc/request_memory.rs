//! Bounds the memory of large requests that are still arriving, over all connections.
//!
//! The size of a message, the streams of a connection and the connections are bounded each, but their product is not: a
//! few connections whose messages never end would take all memory. The first bytes of a request are not counted, so that
//! large requests of one caller do not cause refusals of the ordinary ones of others.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of each request that are not counted: one DATA frame of the size that HTTP/2 allows at first (RFC 9113 section
/// 6.5.2). Ordinary requests are smaller.
const UNCOUNTED: usize = 16 * 1024;

/// The memory that requests which are still arriving may take. Clones share it.
#[derive(Clone, Debug)]
pub struct RequestMemory(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl RequestMemory {
    /// At most `max` bytes, besides the first 16 KiB of each request.
    pub fn new(max: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self(Arc::new(Budget { used, max }))
    }

    /// The share of a request that begins.
    pub(super) fn share(&self) -> MemoryShare {
        MemoryShare {
            budget: Arc::clone(&self.0),
            arrived: 0,
            counted: 0,
        }
    }
}

/// What one request takes of the memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare {
    budget: Arc<Budget>,
    arrived: usize,
    counted: usize,
}

impl MemoryShare {
    /// Counts bytes that have arrived. `false` when there is no memory for them: the request has to be refused.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.arrived = self.arrived.saturating_add(bytes);
        let more = self.arrived.saturating_sub(UNCOUNTED) - self.counted;
        if more == 0 {
            return true;
        }
        self.counted += more;
        let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
        before.saturating_add(more) <= self.budget.max
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.budget.used.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_first_bytes_is_counted_until_the_request_is_dropped() {
        let memory = RequestMemory::new(1_000);
        let mut large = memory.share();
        assert!(large.add(UNCOUNTED));
        assert!(large.add(600));
        let mut other = memory.share();
        assert!(other.add(UNCOUNTED + 400));
        assert!(!other.add(1));
        let mut small = memory.share();
        assert!(small.add(UNCOUNTED), "a small request is refused");
        drop(other);
        assert!(large.add(400));
        assert!(!large.add(1));
        drop(large);
        assert_eq!(memory.0.used.load(Ordering::Relaxed), 0);
    }
}
