//! An output's updates on their way from the workers to its table: what is final, as rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use differential_dataflow::consolidation::consolidate;
use fink_dataflow::Moment;
use fink_dataflow::publish::Waiting;
use timely::progress::Antichain;

use super::seat::{Slots, locked};
use super::table::Output;

/// Rows and how often each came or went.
pub type Changes = (RecordBatch, Vec<i64>);

/// An output, whatever its rows.
pub(super) trait Part: Send {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// Its columns.
    fn fields(&self) -> &Fields;

    /// Adds what may still come to what may still come of others.
    fn open(&self, open: &mut Antichain<Moment>);

    /// Takes what the workers have brought.
    fn gather(&mut self);

    /// What waits becomes due where it is final when live data is open at `open`.
    fn close(&mut self, open: Moment);

    /// The latest tick of updates of no later epoch.
    fn last_tick(&self, epoch: u32) -> Option<u64>;

    /// Updates that are final, and not taken.
    fn due(&self) -> usize;

    /// Leaves out what cancels, of what is due.
    fn settle(&mut self);

    /// At most so many rows of what is due; `None`: nothing is.
    fn take(&mut self, most: usize) -> Option<Result<Changes, ArrowError>>;

    /// Whether more came than could wait.
    fn lost(&self) -> bool;

    /// Lets go of all that waits and that will come.
    fn abandon(&mut self);
}

/// An output with rows of one type.
pub(super) struct Pending<R> {
    output: Output<R>,
    slots: Arc<Slots<R>>,
    waiting: Waiting<R>,
    due: Vec<(R, isize)>,
    /// So many may be due before they are folded.
    fold_at: usize,
}

/// Updates that are due before they are folded for the first time.
const FOLD: usize = 65_536;

impl<R: Clone + Ord> Pending<R> {
    pub(super) fn new(output: Output<R>, slots: Arc<Slots<R>>) -> Self {
        Self { output, slots, waiting: Waiting::default(), due: Vec::new(), fold_at: FOLD }
    }
}

impl<R: Clone + Ord + Send + 'static> Part for Pending<R> {
    fn name(&self) -> &Arc<str> {
        self.output.name()
    }

    fn fields(&self) -> &Fields {
        self.output.fields()
    }

    fn open(&self, open: &mut Antichain<Moment>) {
        for slot in &self.slots.each {
            open.extend(locked(slot).open.iter().copied());
        }
    }

    fn gather(&mut self) {
        for slot in &self.slots.each {
            let mut brought = std::mem::take(&mut locked(slot).updates);
            self.waiting.add(&mut brought);
        }
        if self.waiting.len() + self.due.len() > self.slots.held_max {
            self.slots.lost.store(true, Ordering::Relaxed);
        }
        if self.lost() {
            (self.waiting, self.due) = (Waiting::default(), Vec::new());
        }
    }

    fn abandon(&mut self) {
        self.slots.lost.store(true, Ordering::Relaxed);
        self.gather();
    }

    fn close(&mut self, open: Moment) {
        let Some((_, now_final)) = self.waiting.closed(open) else { return };
        self.due.extend(now_final);
        // An answer that changes at every tick is due once a publication.
        if self.due.len() > self.fold_at {
            self.settle();
            self.fold_at = FOLD.max(2 * self.due.len());
        }
    }

    fn last_tick(&self, epoch: u32) -> Option<u64> {
        self.waiting.last_tick(epoch)
    }

    fn due(&self) -> usize {
        self.due.len()
    }

    fn settle(&mut self) {
        consolidate(&mut self.due);
    }

    fn take(&mut self, most: usize) -> Option<Result<Changes, ArrowError>> {
        if self.due.is_empty() {
            return None;
        }
        let from = self.due.len().saturating_sub(most);
        let (rows, diffs): (Vec<R>, Vec<i64>) = self.due.drain(from..).map(|(row, diff)| (row, diff as i64)).unzip();
        Some(self.output.batch(&rows).map(|batch| (batch, diffs)))
    }

    fn lost(&self) -> bool {
        self.slots.lost.load(Ordering::Relaxed)
    }
}
