//! The clock: the one state machine that issues Moments, and alone decides when late data rolls in.
//!
//! ```text
//!            due: (e, t) ─► (e, t + n)                 late sources enter at (e + 1, now)
//!   ┌──────┐ ─────────────────────────► ┌──────┐
//!   │ open │   ask(e + 1): close         │closed│ ── due, once all late sources have left e + 1: (e, t) ─► (e + 1, t + n)
//!   └──────┘ ◄───────────────────────── └──────┘
//! ```
//!
//! It has no clock of its own: how many tick periods went by, how far the graph has closed, and whether late sources have
//! left an epoch all come in as arguments, so that any schedule can drive it.

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::rules::Rule;

/// How far ticks may run ahead of the last closed one before the clock waits for the graph.
pub const TICKS_AHEAD_MAX: u64 = 32;

/// What the clock tells every source: the Moment that live data enters at, and whether late sources must leave their epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Live data enters here from now on.
    pub now: Moment,
    /// All late sources leave epoch `now.epoch + 1`.
    pub close: bool,
}

/// Issues Moments, each later than all before it.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Moment,
    closing: bool,
    /// The tick that this run began at: before its first beat nothing is closed, nor can be.
    first: u64,
}

impl Clock {
    /// A clock that goes on after `last`, the latest Moment that an earlier run made durable.
    ///
    /// Epochs count within a run: what was late in an earlier one is history now, so `epoch` starts again at 0.
    #[must_use]
    pub fn after(last: Moment) -> Self {
        Self { now: Moment::new(0, last.tick + 1), closing: false, first: last.tick + 1 }
    }

    /// The Moment that live data enters at.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Whether late sources were told to leave their epoch and live data has not entered it yet.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// A late source asks that `epoch` be closed. Stale and double asks are ignored.
    pub fn ask(&mut self, epoch: u32) -> Option<Beat> {
        if epoch != self.now.epoch + 1 || self.closing {
            return None;
        }
        self.closing = true;
        Some(self.beat())
    }

    /// `periods` tick periods went by since the last call that beat; the graph has closed all ticks below `closed`;
    /// `left(e)` tells whether all late sources have left epoch `e`. No beat while the graph lags too far behind: the
    /// periods are then skipped, not queued.
    pub fn due(&mut self, periods: u64, closed: u64, left: impl FnOnce(u32) -> bool) -> Option<Beat> {
        if periods == 0 || closed.max(self.first) + TICKS_AHEAD_MAX < self.now.tick {
            return None;
        }
        if self.closing && Rule::Roll.holds() && left(self.now.epoch + 1) {
            self.now.epoch += 1;
            self.closing = false;
        }
        self.now.tick += periods;
        Some(self.beat())
    }

    fn beat(&self) -> Beat {
        Beat { now: self.now, close: self.closing }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timely::order::PartialOrder;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u32),
        Due { periods: u64, lag: u64, left: bool },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ask = (0u32..4).prop_map(Step::Ask);
        let due = (0u64..4, 0u64..64, any::<bool>()).prop_map(|(periods, lag, left)| Step::Due { periods, lag, left });
        prop::collection::vec(prop_oneof![ask, due], 0..200)
    }

    proptest! {
        #[test]
        fn moments_are_a_chain_and_epochs_roll_only_when_left(steps in steps()) {
            let mut clock = Clock::after(Moment::new(7, 41));
            let mut last = clock.now();
            prop_assert_eq!(last, Moment::new(0, 42));
            for step in steps {
                let (was_closing, before) = (clock.closing(), clock.now());
                let (beat, may_roll) = match step {
                    Step::Ask(relative) => (clock.ask((before.epoch + relative).saturating_sub(1)), false),
                    Step::Due { periods, lag, left } => {
                        let beat = clock.due(periods, before.tick.saturating_sub(lag), |_| left);
                        let lag = lag.min(before.tick - 42);
                        prop_assert_eq!(beat.is_some(), periods > 0 && lag <= TICKS_AHEAD_MAX);
                        (beat, left)
                    }
                };
                let Some(beat) = beat else {
                    prop_assert_eq!(clock.now(), before);
                    continue;
                };
                prop_assert!(last.less_equal(&beat.now));
                prop_assert_eq!(beat.now.epoch > before.epoch, was_closing && may_roll);
                prop_assert!(beat.now.epoch <= before.epoch + 1);
                prop_assert!(beat.now.epoch == before.epoch || beat.now.tick > before.tick, "a roll is at a fresh tick");
                last = beat.now;
            }
        }
    }

    #[test]
    fn the_first_beats_do_not_wait_for_a_graph_that_has_not_begun() {
        let mut clock = Clock::after(Moment::new(0, 1_000));
        assert_eq!(clock.due(1, 0, |_| false).map(|beat| beat.now.tick), Some(1_002));
    }

    #[test]
    fn asks_twice_or_of_another_epoch_change_nothing() {
        let mut clock = Clock::after(Moment::new(0, 0));
        assert_eq!(clock.ask(0), None);
        assert_eq!(clock.ask(2), None);
        assert_eq!(clock.ask(1), Some(Beat { now: Moment::new(0, 1), close: true }));
        assert_eq!(clock.ask(1), None);
        assert_eq!(clock.due(1, 1, |_| false), Some(Beat { now: Moment::new(0, 2), close: true }));
        assert_eq!(clock.due(1, 1, |epoch| epoch == 1), Some(Beat { now: Moment::new(1, 3), close: false }));
        assert_eq!(clock.ask(1), None, "epoch 1 is live's own by now");
    }
}
