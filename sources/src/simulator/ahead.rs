//! Makes messages ahead of their turn, on threads, and gives them in order: in the pause before a visit the visit is
//! prepared. Whatever the number of threads, what is given is the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// So many messages are made in one go, by one thread: a visit's alerts are cheaper one after another.
const BLOCK: u64 = 64;

/// Messages that are made ahead.
pub(super) struct Ahead<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<thread::JoinHandle<()>>,
    /// What is left of the block that is given now.
    now: std::vec::IntoIter<T>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// At most so many bytes lie ready.
    bytes_max: usize,
}

struct State<T> {
    /// The next block that no thread has taken.
    take: u64,
    /// The next block that is given.
    give: u64,
    ready: BTreeMap<u64, Vec<T>>,
    bytes: usize,
    blocks: u64,
    stopped: bool,
}

/// What has a size.
pub(super) trait Sized64 {
    /// Bytes that it holds, about.
    fn bytes(&self) -> usize;
}

impl<T: Send + Sized64 + 'static> Ahead<T> {
    /// Makes items 0 to `count`, on so many threads, each with a maker of its own; at most `bytes_max` lie ready.
    pub(super) fn start<M>(count: u64, threads: usize, bytes_max: usize, maker: impl Fn() -> M) -> std::io::Result<Self>
    where
        M: FnMut(u64) -> T + Send + 'static,
    {
        let state = State { take: 0, give: 0, ready: BTreeMap::new(), bytes: 0, blocks: count.div_ceil(BLOCK), stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), bytes_max });
        let start = |index: usize| {
            let (shared, mut make) = (shared.clone(), maker());
            thread::Builder::new().name(format!("simulator {index}")).spawn(move || shared.work(count, &mut make))
        };
        let threads = (0..threads.max(1)).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { shared, threads, now: Vec::new().into_iter() })
    }

    /// Waits until the next item is made, or there is none.
    pub(super) fn ready(&self) {
        let mut state = self.shared.lock();
        while state.give < state.blocks
            && !state.ready.contains_key(&state.give)
            && !self.threads.iter().all(thread::JoinHandle::is_finished)
        {
            state = self.shared.wait(state);
        }
    }

    /// The next item, made if need be; `None` after the last.
    pub(super) fn next(&mut self) -> Option<T> {
        if let Some(item) = self.now.next() {
            return Some(item);
        }
        let mut state = self.shared.lock();
        loop {
            let give = state.give;
            if let Some(block) = state.ready.remove(&give) {
                state.give += 1;
                state.bytes -= block.iter().map(Sized64::bytes).sum::<usize>();
                self.shared.changed.notify_all();
                self.now = block.into_iter();
                return self.now.next();
            }
            // A thread that panicked gives nothing more.
            if give >= state.blocks || self.threads.iter().all(thread::JoinHandle::is_finished) && !state.ready.contains_key(&give) {
                return None;
            }
            state = self.shared.wait(state);
        }
    }
}

impl<T: Sized64> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        // Now and then, in case that a thread died without a word.
        self.changed.wait_timeout(state, std::time::Duration::from_millis(500)).unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self, count: u64, make: &mut impl FnMut(u64) -> T) {
        loop {
            let mut state = self.lock();
            // The block that is given next may always be made, however full it is.
            while !state.stopped && state.take < state.blocks && state.bytes > self.bytes_max && state.take > state.give {
                state = self.wait(state);
            }
            if state.stopped || state.take >= state.blocks {
                return;
            }
            let block = state.take;
            state.take += 1;
            drop(state);
            let items: Vec<T> = (block * BLOCK..count.min((block + 1) * BLOCK)).map(&mut *make).collect();
            let mut state = self.lock();
            state.bytes += items.iter().map(Sized64::bytes).sum::<usize>();
            state.ready.insert(block, items);
            self.changed.notify_all();
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.shared.changed.notify_all();
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sized64 for u64 {
        fn bytes(&self) -> usize {
            1000
        }
    }

    #[test]
    fn all_come_in_order_whatever_the_threads() {
        for (count, threads, bytes_max) in [(0, 1, 0), (1, 3, 0), (1000, 1, 0), (1000, 3, 200_000), (5000, 2, 1)] {
            let mut ahead = Ahead::start(count, threads, bytes_max, || |index: u64| index * 3).unwrap();
            let given: Vec<u64> = std::iter::from_fn(|| ahead.next()).collect();
            assert!(given.iter().copied().eq((0..count).map(|index| index * 3)), "{count} {threads} {bytes_max}");
        }
    }

    #[test]
    fn it_can_be_dropped_at_any_time() {
        let mut ahead = Ahead::start(u64::MAX, 2, 100_000, || |index: u64| index).unwrap();
        assert_eq!(ahead.next(), Some(0));
    }
}
