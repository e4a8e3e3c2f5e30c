//! The bound on what open files hold, over all workers of a process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bytes that open and unstored files may hold.
pub struct Memory {
    max: usize,
    writers: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// How often bytes were given back.
    freed: Mutex<u64>,
    changed: Condvar,
}

impl Memory {
    /// At most `max` bytes, for so many writers.
    #[must_use]
    pub fn new(max: usize, writers: usize) -> Arc<Self> {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { max, writers: writers.max(1), used, peak, freed: Mutex::new(0), changed: Condvar::new() })
    }

    /// Bytes held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever held.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Whether a writer that holds so much must give some back: all hold too much, and it more than its share. The others
    /// go on meanwhile; so at worst the bound is passed by their shares, until the greedy one writes next.
    #[must_use]
    pub fn presses(&self, own: usize) -> bool {
        self.used() > self.max && own > self.share()
    }

    /// Bytes that a writer may hold when all hold as many.
    #[must_use]
    pub fn share(&self) -> usize {
        self.max / self.writers
    }

    /// How often bytes were given back so far.
    #[must_use]
    pub fn freed(&self) -> u64 {
        *self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes were given back once more than `seen` times.
    pub fn wait(&self, seen: u64) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        while *freed == seen {
            freed = self.changed.wait(freed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            *self.freed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.changed.notify_all();
        }
    }
}

/// The bytes of one file; given back when it is dropped. Counted as its writer's own, too.
pub struct Charge {
    memory: Arc<Memory>,
    own: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    /// Nothing held yet, by the writer whose sum is `own`.
    #[must_use]
    pub fn new(memory: &Arc<Memory>, own: &Arc<AtomicUsize>) -> Self {
        Self { memory: Arc::clone(memory), own: Arc::clone(own), bytes: 0 }
    }

    /// The bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds so many bytes from now on.
    pub fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.own.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.memory.add(bytes - self.bytes);
        } else {
            self.own.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.memory.sub(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presses_only_who_holds_more_than_a_share() {
        let memory = Memory::new(100, 2);
        let (a, b) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (mut first, mut second) = (Charge::new(&memory, &a), Charge::new(&memory, &b));
        first.set(90);
        assert!(!memory.presses(90));
        second.set(30);
        assert!(memory.presses(a.load(Ordering::Relaxed)) && !memory.presses(b.load(Ordering::Relaxed)));
        first.set(40);
        assert!(!memory.presses(40));
        drop(first);
        drop(second);
        assert_eq!((memory.used(), memory.peak(), a.load(Ordering::Relaxed)), (0, 120, 0));
    }
}
