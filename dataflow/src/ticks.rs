//! Where the ticks of live time come from: the wall clock, or a hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use timely::scheduling::SyncActivator;

/// Where ticks come from.
#[derive(Clone)]
pub enum Ticks {
    /// The wall clock: a tick each so long.
    Every(Duration),
    /// A hand: for whoever drives a graph step by step, without any clock.
    ByHand(Hand),
}

/// Ticks by hand; clones are the same hand.
#[derive(Clone, Default)]
pub struct Hand {
    due: Arc<AtomicU64>,
    sleepers: Arc<Mutex<Vec<SyncActivator>>>,
}

impl Hand {
    /// Lets so many tick periods go by.
    pub fn tick(&self, periods: u64) {
        self.due.fetch_add(periods, Ordering::AcqRel);
        for sleeper in self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A worker that is gone needs no waking.
            let _ = sleeper.activate();
        }
    }
}

/// Counts tick periods.
pub(crate) struct Metronome {
    ticks: Ticks,
    /// When the next period ends, by the wall clock.
    next: Instant,
}

impl Metronome {
    /// Begins to count; `sleeper` is woken by a hand.
    pub(crate) fn new(ticks: Ticks, sleeper: SyncActivator) -> Self {
        if let Ticks::ByHand(hand) = &ticks {
            hand.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper);
        }
        Self { ticks, next: Instant::now() }
    }

    /// The periods that went by since the last call, and how long the present one lasts yet.
    pub(crate) fn periods(&mut self) -> (u64, Option<Duration>) {
        match &self.ticks {
            Ticks::Every(period) => {
                let now = Instant::now();
                let late = now.checked_duration_since(self.next);
                let periods = late.map_or(0, |late| 1 + u64::try_from(late.as_nanos() / period.as_nanos()).unwrap_or(0));
                self.next += *period * u32::try_from(periods).unwrap_or(u32::MAX);
                (periods, Some(self.next.saturating_duration_since(now)))
            }
            Ticks::ByHand(hand) => (hand.due.swap(0, Ordering::AcqRel), None),
        }
    }
}
