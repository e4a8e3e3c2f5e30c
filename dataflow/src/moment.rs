//! The timestamp of the graph, in two dimensions: live time, and the batches of late data merged so far.

use std::fmt;

use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;
use timely::progress::timestamp::Refines;
use timely::progress::{PathSummary, Timestamp};

/// A point of the graph's time: `epoch` counts the batches of late data merged so far, `tick` is live time.
///
/// Ordered coordinate by coordinate, which is a partial order: `(0, 7)` and `(1, 3)` are not comparable, so an answer
/// at a live time never waits for late data of the next epoch. The derived `Ord` (lexicographic) extends that order, as
/// differential dataflow requires of it.
///
/// `timely::order::Product` can't stand at the root of a dataflow (it refines its outer time, not `()`), hence our own.
#[derive(Copy, Clone, Hash, Default, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
pub struct Moment {
    /// How many batches of late data the answers of this Moment include.
    pub epoch: u32,
    /// Live time in ticks; monotone over restarts.
    pub tick: u64,
}

impl Moment {
    /// The Moment of `epoch` and `tick`.
    #[must_use]
    pub fn new(epoch: u32, tick: u64) -> Self {
        Self { epoch, tick }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.epoch, self.tick)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.tick)
    }
}

impl PartialOrder for Moment {
    #[inline]
    fn less_equal(&self, other: &Self) -> bool {
        self.epoch <= other.epoch && self.tick <= other.tick
    }
}

/// Paths never advance a Moment: only iterative scopes, which wrap it in a product of their own, advance anything.
impl PathSummary<Moment> for () {
    #[inline]
    fn results_in(&self, source: &Moment) -> Option<Moment> {
        Some(*source)
    }
    fn followed_by(&self, _other: &()) -> Option<()> {
        Some(())
    }
}

impl Timestamp for Moment {
    type Summary = ();
    fn minimum() -> Self {
        Self::new(0, 0)
    }
}

impl Refines<()> for Moment {
    fn to_inner(_: ()) -> Self {
        Self::minimum()
    }
    fn to_outer(self) {}
    fn summarize(_: ()) {}
}

impl Lattice for Moment {
    #[inline]
    fn join(&self, other: &Self) -> Self {
        Self::new(self.epoch.max(other.epoch), self.tick.max(other.tick))
    }
    #[inline]
    fn meet(&self, other: &Self) -> Self {
        Self::new(self.epoch.min(other.epoch), self.tick.min(other.tick))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment() -> impl Strategy<Value = Moment> {
        (0u32..5, 0u64..5).prop_map(|(epoch, tick)| Moment::new(epoch, tick))
    }

    proptest! {
        #[test]
        fn is_a_partial_order(a in moment(), b in moment(), c in moment()) {
            prop_assert!(a.less_equal(&a));
            prop_assert!(!(a.less_equal(&b) && b.less_equal(&a)) || a == b);
            prop_assert!(!(a.less_equal(&b) && b.less_equal(&c)) || a.less_equal(&c));
        }

        #[test]
        fn the_derived_order_extends_it(a in moment(), b in moment()) {
            prop_assert!(!a.less_equal(&b) || a <= b);
        }

        #[test]
        fn join_is_the_least_upper_and_meet_the_greatest_lower_bound(a in moment(), b in moment(), c in moment()) {
            let (join, meet) = (a.join(&b), a.meet(&b));
            prop_assert!(a.less_equal(&join) && b.less_equal(&join));
            prop_assert!(meet.less_equal(&a) && meet.less_equal(&b));
            prop_assert_eq!(a.less_equal(&c) && b.less_equal(&c), join.less_equal(&c));
            prop_assert_eq!(c.less_equal(&a) && c.less_equal(&b), c.less_equal(&meet));
        }

        #[test]
        fn nothing_lies_below_the_minimum(a in moment()) {
            prop_assert!(Moment::minimum().less_equal(&a));
            prop_assert_eq!(().results_in(&a), Some(a));
        }
    }
}
