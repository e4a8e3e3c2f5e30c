//! The bound on bytes in flight between the sources and the durable end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use timely::scheduling::SyncActivator;

/// A bound on bytes in flight, shared by all workers and threads of a process.
///
/// A source operator draws a chunk only while the budget is [`open`](Budget::open) and [`take`](Budget::take)s its bytes;
/// whoever makes the bytes durable, or has no more need of them, drops the [`Claim`]s. The last chunk may overshoot, so a
/// single message larger than the whole budget still passes.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    max: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    waiting: Mutex<Vec<SyncActivator>>,
}

impl Budget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { inner: Arc::new(Inner { max, used: AtomicUsize::new(0), peak: AtomicUsize::new(0), waiting: Mutex::new(Vec::new()) }) }
    }

    /// Whether something may be drawn now.
    #[must_use]
    pub fn open(&self) -> bool {
        self.used() < self.inner.max
    }

    /// Whether late data may be drawn now: a quarter is left to live data, so that it never waits for the other.
    #[must_use]
    pub fn open_to_late(&self) -> bool {
        self.used() < self.inner.max - self.inner.max / 4
    }

    /// Bytes in flight.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever in flight.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.inner.peak.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, whatever is in flight already.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Claim {
        let used = self.inner.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.inner.peak.fetch_max(used, Ordering::Relaxed);
        Claim { budget: self.clone(), bytes }
    }

    /// Has `activator` woken once, when bytes come back.
    pub fn wake(&self, activator: SyncActivator) {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(activator);
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
pub struct Claim {
    budget: Budget,
    bytes: usize,
}

impl Claim {
    /// The bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        inner.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.budget.open() {
            let waiting = std::mem::take(&mut *inner.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for activator in waiting {
                // A worker that is gone needs no waking.
                let _ = activator.activate();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_when_full_and_opens_as_claims_are_dropped() {
        let budget = Budget::new(100);
        let (a, b) = (budget.take(60), budget.take(70));
        assert!(!budget.open());
        assert_eq!((budget.used(), budget.peak()), (130, 130));
        drop(a);
        assert!(budget.open() && budget.open_to_late());
        let more = budget.take(5);
        assert!(budget.open() && !budget.open_to_late());
        drop(more);
        drop(b);
        assert_eq!((budget.used(), budget.peak()), (0, 130));
    }
}
