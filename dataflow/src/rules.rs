//! The rules that keep an archive whole, each of which a test may switch off to see that it would find out.
//!
//! A test that never fails proves nothing: so those that play random schedules against the spine are also run with one rule
//! broken, and must find the fault. The switch is the calling thread's own, and exists in builds with debug assertions only:
//! in a released program [`Rule::holds`] is `true`, always.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// A rule of the spine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Nothing is covered twice.
    Coverage,
    /// After a generation has taken over, no older one's entry fits.
    Fence,
    /// A table takes an entry only when it has taken the entry before it, and not this one.
    Order,
    /// A writer that put nothing for long looks whether the ledger went on without it.
    Sleep,
    /// Live data enters the next epoch when all late sources have left it.
    Roll,
    /// What is asked of a Moment is answered when it is closed.
    Closed,
}

#[cfg(debug_assertions)]
thread_local! {
    static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
}

impl Rule {
    /// Whether the rule holds on this thread.
    #[must_use]
    #[inline]
    pub fn holds(self) -> bool {
        #[cfg(debug_assertions)]
        return BROKEN.get() != Some(self);
        #[cfg(not(debug_assertions))]
        true
    }

    /// Breaks this rule, and no other, on this thread; `None` mends all.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn switch_off(rule: Option<Self>) {
        BROKEN.set(rule);
    }
}
