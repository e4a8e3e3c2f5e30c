//! A small store of what was computed last, bounded by weight, shared by clones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was last asked for, up to a weight.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    /// Last used last.
    kept: Mutex<Vec<(K, usize, Arc<V>)>>,
    weight_max: usize,
}

impl<K: Copy + Eq, V> Cache<K, V> {
    /// A store that holds values of a weight in sum; the last one in any case.
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { kept: Mutex::new(Vec::new()), weight_max }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(K, usize, Arc<V>)>> {
        // Values are whole whenever the lock is free, also after a panic elsewhere.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key; made, outside of the lock, if it is not there. `weigh` says how much it takes.
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> V, weigh: impl FnOnce(&V) -> usize) -> Arc<V> {
        {
            let mut kept = self.lock();
            if let Some(at) = kept.iter().rposition(|(other, ..)| *other == key) {
                let found = kept.remove(at);
                let value = found.2.clone();
                kept.push(found);
                return value;
            }
        }
        let value = Arc::new(make());
        let weight = weigh(&value);
        let mut kept = self.lock();
        kept.retain(|(other, ..)| *other != key);
        kept.push((key, weight, value.clone()));
        let mut sum: usize = kept.iter().map(|(_, weight, _)| weight).sum();
        let mut gone = 0;
        while sum > self.weight_max && gone + 1 < kept.len() {
            sum -= kept[gone].1;
            gone += 1;
        }
        kept.drain(..gone);
        value
    }

    /// The weight of all that is kept.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> usize {
        self.lock().iter().map(|(_, weight, _)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_weight() {
        let cache = Cache::new(10);
        let get = |key: u32| *cache.get(key, || key * 2, |_| 3);
        assert_eq!([get(1), get(2), get(3)], [2, 4, 6]);
        get(1);
        get(4);
        assert_eq!(cache.weight(), 9);
        // 2 went, 1 was used since.
        let made = std::cell::Cell::new(0);
        let count = |key: u32| {
            cache.get(
                key,
                || {
                    made.set(made.get() + 1);
                    key * 2
                },
                |_| 3,
            );
        };
        count(1);
        assert_eq!(made.get(), 0);
        count(2);
        assert_eq!(made.get(), 1);
        assert_eq!(*cache.get(9, || 0, |_| 100), 0);
        assert_eq!(cache.weight(), 100);
    }
}
