//! The bounded queue between a thread that reads and the workers that draw chunks from it.
//!
//! It is bounded in chunks and in bytes; a chunk larger than the whole bound still passes, alone. A quiet stream is drawn
//! by one worker only (files are written by worker, and one file a second is better than one a worker a second): the others
//! are woken, and draw, only when the queue grows deeper than the first can empty.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::message::Chunk;
use fink_dataflow::ports::{Drawn, Inlet as Draw, Load};
use timely::scheduling::SyncActivator;

/// How much a queue may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Chunks.
    pub chunks_max: usize,
    /// Bytes of keys and payloads.
    pub bytes_max: usize,
    /// For every so many chunks that wait, one more worker is woken.
    pub chunks_per_worker: usize,
    /// For every so many bytes that wait, one more worker is woken.
    pub bytes_per_worker: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { chunks_max: 256, bytes_max: 32 << 20, chunks_per_worker: 16, bytes_per_worker: 4 << 20 }
    }
}

/// A queue of these bounds: the reader's end and the workers' end.
#[must_use]
pub fn queue<C>(bounds: Bounds) -> (Outlet<C>, Inlet<C>) {
    let shared = Arc::new(Shared { bounds, room: Condvar::new(), state: Mutex::new(State::new()) });
    (Outlet { shared: shared.clone() }, Inlet { shared })
}

/// The reader's end. Dropping it ends the queue: what is in it can still be drawn.
pub struct Outlet<C = Chunk> {
    shared: Arc<Shared<C>>,
}

/// The workers' end; cheap to clone.
pub struct Inlet<C = Chunk> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Inlet<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<C> {
    bounds: Bounds,
    room: Condvar,
    state: Mutex<State<C>>,
}

struct State<C> {
    chunks: VecDeque<(C, usize)>,
    bytes: usize,
    wakers: Vec<Option<SyncActivator>>,
    ended: bool,
}

impl<C> State<C> {
    fn new() -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, wakers: Vec::new(), ended: false }
    }
}

impl<C: Load> Outlet<C> {
    /// Puts a chunk in, and wakes who should draw it. Gives it back when there was no room for it within `patience`.
    ///
    /// # Errors
    /// The chunk itself.
    #[expect(clippy::result_large_err, reason = "the chunk is handed back to be sent again")]
    pub fn send(&self, chunk: C, patience: Duration) -> Result<(), C> {
        let bytes = chunk.bytes();
        let bounds = &self.shared.bounds;
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        while !state.chunks.is_empty() && (state.chunks.len() >= bounds.chunks_max || state.bytes + bytes > bounds.bytes_max) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(chunk);
            }
            state = self.shared.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.chunks.push_back((chunk, bytes));
        state.bytes += bytes;
        let workers = bounds.workers(&state);
        for waker in state.wakers.iter().take(workers).flatten() {
            // A worker that is gone needs no waking.
            let _ = waker.activate();
        }
        Ok(())
    }
}

impl<C> Drop for Outlet<C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        for waker in state.wakers.iter().flatten() {
            let _ = waker.activate();
        }
    }
}

impl<C> Inlet<C> {
    /// Chunks and bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.chunks.len(), state.bytes)
    }
}

impl<C: Load + Send> Draw<C> for Inlet<C> {
    fn register(&self, index: usize, waker: SyncActivator) {
        let mut state = self.shared.lock();
        if state.wakers.len() <= index {
            state.wakers.resize_with(index + 1, || None);
        }
        if !state.chunks.is_empty() || state.ended {
            let _ = waker.activate();
        }
        state.wakers[index] = Some(waker);
    }

    fn draw(&self, index: usize) -> Drawn<C> {
        let mut state = self.shared.lock();
        if !state.ended && index >= self.shared.bounds.workers(&state) {
            return Drawn::Nothing;
        }
        match state.chunks.pop_front() {
            Some((chunk, bytes)) => {
                state.bytes -= bytes;
                self.shared.room.notify_one();
                Drawn::Chunk(chunk)
            }
            None if state.ended => Drawn::Ended,
            None => Drawn::Nothing,
        }
    }
}

impl<C> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds {
    /// Half of it, where two queues share it.
    #[must_use]
    pub fn half(self) -> Self {
        Self { chunks_max: (self.chunks_max / 2).max(1), bytes_max: self.bytes_max / 2, ..self }
    }

    /// How many workers should draw from a queue this deep.
    fn workers<C>(&self, state: &State<C>) -> usize {
        if state.chunks.is_empty() { 1 } else { 1 + (state.chunks.len() / self.chunks_per_worker).max(state.bytes / self.bytes_per_worker) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fink_dataflow::message::{Log, Message};

    use super::*;

    fn chunk(offset: i64, bytes: usize) -> Chunk {
        let message = Message { offset, timestamp_ms: None, key: None, payload: Some(Bytes::from(vec![0; bytes])) };
        Chunk { log: Arc::new(Log::new("s", "t", 0, 0)), span: offset..offset + 1, messages: vec![message], received_us: 0 }
    }

    fn draw(inlet: &Inlet, worker: usize) -> Option<i64> {
        match inlet.draw(worker) {
            Drawn::Chunk(chunk) => Some(chunk.span.start),
            _ => None,
        }
    }

    #[test]
    fn is_bounded_in_chunks_and_bytes() {
        let bounds = Bounds { chunks_max: 2, bytes_max: 10, chunks_per_worker: 8, bytes_per_worker: 8 };
        let (outlet, inlet) = queue(bounds);
        outlet.send(chunk(0, 100), Duration::ZERO).expect("a large chunk passes alone");
        assert!(outlet.send(chunk(1, 1), Duration::ZERO).is_err());
        assert_eq!(draw(&inlet, 0), Some(0));
        outlet.send(chunk(1, 1), Duration::ZERO).expect("room");
        outlet.send(chunk(2, 1), Duration::ZERO).expect("room");
        assert_eq!(outlet.send(chunk(3, 1), Duration::ZERO).expect_err("full").span.start, 3);
        assert_eq!(inlet.waiting(), (2, 2));
    }

    #[test]
    fn a_shallow_queue_is_the_first_workers_and_an_ended_one_everybodys() {
        let bounds = Bounds { chunks_max: 100, bytes_max: 1000, chunks_per_worker: 2, bytes_per_worker: 1000 };
        let (outlet, inlet) = queue(bounds);
        outlet.send(chunk(0, 1), Duration::ZERO).expect("room");
        assert_eq!((draw(&inlet, 1), draw(&inlet, 0)), (None, Some(0)));
        for offset in 1..=4 {
            outlet.send(chunk(offset, 1), Duration::ZERO).expect("room");
        }
        assert_eq!((draw(&inlet, 3), draw(&inlet, 2), draw(&inlet, 1)), (None, Some(1), Some(2)));
        drop(outlet);
        assert_eq!((draw(&inlet, 7), draw(&inlet, 7)), (Some(3), Some(4)));
        assert!(matches!(inlet.draw(0), Drawn::Ended));
    }

    #[test]
    fn a_send_waits_for_room() {
        let (outlet, inlet) = queue(Bounds { chunks_max: 1, ..Bounds::default() });
        outlet.send(chunk(0, 1), Duration::ZERO).expect("room");
        let sender = std::thread::spawn(move || outlet.send(chunk(1, 1), Duration::from_secs(60)).is_ok());
        while draw(&inlet, 0).is_none() {
            std::thread::yield_now();
        }
        assert!(sender.join().expect("sender"));
        assert_eq!(draw(&inlet, 0), Some(1));
    }
}
