//! A worker's end: takes updates where they are made, and waits for nobody.
//!
//! An operator puts what comes into its worker's slot, with the frontier that it sees, under a lock that is held for as long
//! as a vector is swapped. Since progress follows the data in timely, whatever is not after a frontier that *one* operator of
//! an output saw was put into the slots before, by whichever worker: frontiers are read first, then the slots.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use differential_dataflow::VecCollection;
use fink_dataflow::Moment;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::progress::{Antichain, Timestamp};

use super::pending::{Part, Pending};
use super::stand::Stand;
use super::table::Output;

/// What the workers and the thread share.
pub(super) struct Shared {
    pub(super) workers: usize,
    /// Updates of one output that may wait.
    pub(super) held_max: usize,
    parts: Mutex<Registered>,
    /// What the archive holds: all before it; `None`: nobody tells.
    durable: Mutex<Option<Antichain<Moment>>>,
    stand: Mutex<Stand>,
}

/// The outputs that were built.
#[derive(Default)]
struct Registered {
    known: Vec<(Arc<str>, Arc<dyn Any + Send + Sync>)>,
    /// Those that the thread does not have yet.
    fresh: Vec<Box<dyn Part>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(workers: usize, held_max: usize) -> Self {
        Self { workers, held_max, parts: Mutex::default(), durable: Mutex::default(), stand: Mutex::default() }
    }

    /// The outputs that were built since.
    pub(super) fn fresh(&self) -> Vec<Box<dyn Part>> {
        std::mem::take(&mut locked(&self.parts).fresh)
    }

    /// What the archive does not hold yet; `None`: nobody tells.
    pub(super) fn durable(&self) -> Option<Antichain<Moment>> {
        locked(&self.durable).clone()
    }

    pub(super) fn stand(&self) -> MutexGuard<'_, Stand> {
        locked(&self.stand)
    }
}

/// A worker's place at the outputs, before its graph is built.
#[derive(Clone)]
pub struct Seat {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
}

impl Seat {
    /// Keeps a collection as the table of this output. To be called once by each worker, with the same output.
    ///
    /// # Panics
    /// When two outputs of one name have rows of different types.
    pub fn table<R: Clone + Ord + Send + 'static>(&self, output: &Output<R>, rows: VecCollection<'_, Moment, R, isize>) {
        let slots = self.slots(output);
        let index = self.index;
        let name = format!("Output {}", output.name());
        rows.inner.sink(Pipeline, &name, move |(input, frontier)| {
            let mut slot = locked(&slots.each[index]);
            input.for_each_stamp(|_, data| {
                data.for_each(|updates| {
                    // Whoever lags so far is not waited for: the next start publishes the difference.
                    if slot.updates.len() + updates.len() > slots.held_max {
                        slots.lost.store(true, Ordering::Relaxed);
                    }
                    if slots.lost.load(Ordering::Relaxed) {
                        slot.updates = Vec::new();
                    } else {
                        slot.updates.append(updates);
                    }
                });
            });
            let frontier = frontier.frontier();
            if slot.open.borrow() != frontier {
                slot.open = frontier.to_owned();
            }
        });
    }

    fn slots<R: Clone + Ord + Send + 'static>(&self, output: &Output<R>) -> Arc<Slots<R>> {
        let mut parts = locked(&self.shared.parts);
        if let Some((_, known)) = parts.known.iter().find(|(name, _)| name == output.name()) {
            return Arc::clone(known).downcast().expect("an output has one type of rows");
        }
        let slots = Arc::new(Slots::new(self.shared.workers, self.shared.held_max));
        parts.known.push((Arc::clone(output.name()), slots.clone()));
        parts.fresh.push(Box::new(Pending::new(output.clone(), Arc::clone(&slots))));
        slots
    }

    /// Tells of what the archive holds, by a probe behind it: nothing is published that it does not hold. To be called before
    /// the worker's first step; the worker then calls [`Durable::note`] between two steps.
    #[must_use]
    pub fn durable(&self, probe: ProbeHandle<Moment>) -> Durable {
        let seen = Antichain::from_elem(Moment::minimum());
        locked(&self.shared.durable).get_or_insert_with(|| seen.clone());
        Durable { probe, seen, shared: Arc::clone(&self.shared) }
    }
}

/// Watches what the archive holds.
pub struct Durable {
    probe: ProbeHandle<Moment>,
    seen: Antichain<Moment>,
    shared: Arc<Shared>,
}

impl Durable {
    /// Notes how far it is.
    pub fn note(&mut self) {
        let changed = self.probe.with_frontier(|frontier| (frontier != self.seen.borrow()).then(|| frontier.to_owned()));
        if let Some(open) = changed {
            self.seen = open.clone();
            // All workers tell of the same archive; who is behind says less, and the next one more again.
            *locked(&self.shared.durable) = Some(open);
        }
    }
}

/// What the workers brought of one output.
pub(super) struct Slots<R> {
    pub(super) each: Vec<Mutex<Slot<R>>>,
    pub(super) held_max: usize,
    /// More came than could wait.
    pub(super) lost: AtomicBool,
}

/// What one worker brought.
pub(super) struct Slot<R> {
    pub(super) updates: Vec<(R, Moment, isize)>,
    /// What may still come.
    pub(super) open: Antichain<Moment>,
}

impl<R> Slots<R> {
    pub(super) fn new(workers: usize, held_max: usize) -> Self {
        let slot = || Mutex::new(Slot { updates: Vec::new(), open: Antichain::from_elem(Moment::minimum()) });
        Self { each: (0..workers).map(|_| slot()).collect(), held_max, lost: AtomicBool::new(false) }
    }
}
