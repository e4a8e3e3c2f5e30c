//! Workers of a real timely process, which take turns: each has its thread, and only the one that holds the baton runs.

use std::sync::{Arc, Condvar, Mutex};

/// Who runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// Whoever hands out turns.
    Conductor,
    /// A worker: it takes a step, and gives the baton back.
    Step(usize),
    /// All leave.
    Over,
}

/// What is handed round.
#[derive(Clone)]
pub struct Baton(Arc<(Mutex<Turn>, Condvar)>);

impl Baton {
    pub fn new() -> Self {
        Self(Arc::new((Mutex::new(Turn::Conductor), Condvar::new())))
    }

    /// Lets a worker take a step, and waits until it has.
    pub fn step(&self, worker: usize) {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().expect("a worker panicked");
        *state = Turn::Step(worker);
        changed.notify_all();
        while *state != Turn::Conductor {
            state = changed.wait(state).expect("a worker panicked");
        }
    }

    /// Ends it.
    pub fn over(&self) {
        *self.0.0.lock().expect("a worker panicked") = Turn::Over;
        self.0.1.notify_all();
    }

    /// A worker's part: `act` at each of its turns, until it is over.
    pub fn play(&self, worker: usize, mut act: impl FnMut()) {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().expect("a worker panicked");
        loop {
            match *state {
                Turn::Over => return,
                // The others wait for the lock, or for their turn: this one runs alone.
                Turn::Step(whose) if whose == worker => {
                    act();
                    *state = Turn::Conductor;
                    changed.notify_all();
                }
                _ => state = changed.wait(state).expect("a worker panicked"),
            }
        }
    }
}
