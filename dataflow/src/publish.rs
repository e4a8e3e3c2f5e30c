//! The end of a maintained answer: publishes its updates when they have become part of what is final.
//!
//! An update at `(e + 1, t)` may be complete long before live data has entered `e + 1`; published then, an answer would show
//! half of a batch of late data. So an update is published only when a closed *live* Moment dominates it, and the Moments
//! of what was published form a chain: answers only grow.

use std::convert::Infallible;

use differential_dataflow::consolidation::{consolidate, consolidate_updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::order::PartialOrder;

use crate::moment::Moment;

/// Updates that may wait before they are folded for the first time.
const FOLD: usize = 4_096;

/// Hands `publish` the consolidated updates of each worker as they become final, with the Moment of which the answer is
/// exact then; at the end, with `None`, what is left. The output carries nothing but the frontier of what was published.
pub fn published<'s, D: Clone + Ord + 'static>(
    updates: StreamVec<'s, Moment, (D, Moment, isize)>,
    mut publish: impl FnMut(Option<Moment>, Vec<(D, isize)>) + 'static,
) -> StreamVec<'s, Moment, Infallible> {
    updates.unary_frontier::<CapacityContainerBuilder<Vec<Infallible>>, _, _, _>(Pipeline, "published", move |capability, _info| {
        drop(capability);
        let mut waiting = Waiting::default();
        let mut over = false;
        move |(input, frontier), _output| {
            input.for_each_stamp(|_, data| data.for_each(|updates| waiting.add(updates)));
            // The order of the fields is that of epochs first: the least element is the live one.
            match frontier.frontier().iter().min() {
                Some(open) => {
                    if let Some((moment, final_now)) = waiting.closed(*open) {
                        publish(Some(moment), final_now);
                    }
                }
                None if !over => {
                    over = true;
                    publish(None, waiting.rest());
                }
                None => {}
            }
        }
    })
}

/// Updates that are not final yet.
pub struct Waiting<D> {
    updates: Vec<(D, Moment, isize)>,
    fold_at: usize,
    last: Option<Moment>,
}

impl<D> Default for Waiting<D> {
    fn default() -> Self {
        Self { updates: Vec::new(), fold_at: FOLD, last: None }
    }
}

impl<D: Clone + Ord> Waiting<D> {
    /// Adds updates, and leaves none of them.
    pub fn add(&mut self, updates: &mut Vec<(D, Moment, isize)>) {
        self.updates.append(updates);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.updates.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// The latest tick of those that are of no later epoch than this.
    #[must_use]
    pub fn last_tick(&self, epoch: u32) -> Option<u64> {
        self.updates.iter().filter(|(_, time, _)| time.epoch <= epoch).map(|(_, time, _)| time.tick).max()
    }

    /// What becomes final when live data is open at `open`, and the Moment of it; `None` where that is no news.
    pub fn closed(&mut self, open: Moment) -> Option<(Moment, Vec<(D, isize)>)> {
        let moment = Moment::new(open.epoch, open.tick.checked_sub(1)?);
        if self.last.is_some_and(|last| last == moment || !last.less_equal(&moment)) {
            return None;
        }
        self.last = Some(moment);
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.updates).into_iter().partition(|(_, time, _)| time.less_equal(&moment));
        self.updates = later;
        self.fold(moment);
        let mut now: Vec<_> = now.into_iter().map(|(data, _, change)| (data, change)).collect();
        consolidate(&mut now);
        Some((moment, now))
    }

    /// Ticks that are over tell nothing any more: a long epoch then waits as one update a row, not one a tick.
    fn fold(&mut self, moment: Moment) {
        if self.updates.len() > self.fold_at {
            self.updates.iter_mut().for_each(|(_, time, _)| time.tick = time.tick.max(moment.tick));
            consolidate_updates(&mut self.updates);
            self.fold_at = FOLD.max(2 * self.updates.len());
        }
    }

    fn rest(&mut self) -> Vec<(D, isize)> {
        let mut rest: Vec<_> = self.updates.drain(..).map(|(data, _, change)| (data, change)).collect();
        consolidate(&mut rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(updates: &[(&'static str, (u32, u64), isize)]) -> Waiting<&'static str> {
        let updates = updates.iter().map(|(data, (epoch, tick), change)| (*data, Moment::new(*epoch, *tick), *change)).collect();
        Waiting { updates, fold_at: FOLD, last: None }
    }

    #[test]
    fn late_updates_wait_until_live_data_has_entered_their_epoch() {
        let mut waiting = waiting(&[("live", (0, 3), 1), ("late", (1, 2), 1), ("live", (0, 9), 1)]);
        assert_eq!(waiting.closed(Moment::new(0, 5)), Some((Moment::new(0, 4), vec![("live", 1)])));
        assert_eq!(waiting.closed(Moment::new(0, 5)), None);
        assert_eq!(waiting.closed(Moment::new(1, 7)), Some((Moment::new(1, 6), vec![("late", 1)])));
        assert_eq!(waiting.rest(), [("live", 1)]);
    }

    #[test]
    fn an_epoch_that_is_open_for_long_waits_in_little_room() {
        let mut waiting = waiting(&[]);
        for tick in 1..2_000 {
            waiting.updates.extend((0..10).map(|_| ("row", Moment::new(1, tick), 1)));
            waiting.closed(Moment::new(0, tick + 1));
        }
        assert!(waiting.updates.len() < 2 * FOLD, "{}", waiting.updates.len());
        assert_eq!(waiting.rest(), [("row", 19_990)]);
    }
}
