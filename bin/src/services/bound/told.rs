//! What the workers, and who reads the history, tell the thread that has light curves leave; and what it tells them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use fink_dataflow::Moment;
use fink_dataflow::detection::ObjectId;
use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;

use super::super::catalogues::feed::Piece;
use super::super::fetch::Known;
use super::Moved;

/// What a piece is about, as its job: objects that come back, or that leave.
pub(super) const COMES_BACK: usize = 0;
pub(super) const LEAVES: usize = 1;

/// What the workers tell the thread. Clones are the same.
#[derive(Clone)]
pub struct Told {
    wanted: Sender<(ObjectId, Known)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Pieces with what leaves that were handed over, and those of them that came in, the last before or at this Moment.
    given: u64,
    entered: u64,
    until: Moment,
    /// The pass of the history that has been handed over, by its number and the rows up to its end; and those after which all that
    /// may leave has left.
    pass: (u64, u64),
    passed: u64,
    over: bool,
    stand: AwayStand,
}

/// How many light curves are not in memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct AwayStand {
    /// So many nights' objects stay.
    pub nights: u64,
    /// Objects whose light curves are in the archive alone.
    pub objects: u64,
    /// Objects whose light curves came back since the start.
    pub back: u64,
}

impl Told {
    /// Who tells a thread that keeps so many nights' objects what is wanted.
    pub(super) fn new(wanted: Sender<(ObjectId, Known)>, nights: usize) -> Self {
        let told = Self { wanted, shared: Arc::default() };
        told.state().stand.nights = nights as u64;
        told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More came of an object that is away.
    pub fn wanted(&self, object: ObjectId, known: Known) {
        // The thread may have ended.
        let _ = self.wanted.send((object, known));
    }

    /// Pieces came in at a Moment.
    pub fn entered<'p>(&self, pieces: impl Iterator<Item = &'p Piece<Moved>>, moment: Moment) {
        use differential_dataflow::lattice::Lattice;
        let leaving = pieces.filter(|piece| piece.job == LEAVES).count() as u64;
        if leaving == 0 {
            return;
        }
        let mut state = self.state();
        state.entered += leaving;
        state.until = state.until.join(&moment);
    }

    /// So many rows of the history were handed over, and another pass follows. Returns when what may leave has left; `false`:
    /// nothing does any more.
    #[must_use]
    pub fn pass(&self, rows: u64) -> bool {
        let mut state = self.state();
        state.pass = (state.pass.0 + 1, rows);
        let due = state.pass.0;
        while state.passed < due && !state.over {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.over
    }

    /// How many light curves are away.
    #[must_use]
    pub fn stand(&self) -> AwayStand {
        self.state().stand
    }

    /// The pass after which nothing has left yet, by its number, and the rows up to its end.
    pub(super) fn due(&self) -> Option<(u64, u64)> {
        let state = self.state();
        Some(state.pass).filter(|(number, _)| *number > state.passed)
    }

    /// What may leave after this pass has left.
    pub(super) fn passed(&self, number: u64) {
        self.state().passed = number;
        self.shared.changed.notify_all();
    }

    /// A piece with what leaves is about to be handed over.
    pub(super) fn give(&self) {
        self.state().given += 1;
    }

    /// So many light curves leave.
    pub(super) fn left(&self, objects: usize) {
        self.state().stand.objects += objects as u64;
    }

    /// So many come back.
    pub(super) fn came_back(&self, objects: usize) {
        let stand = &mut self.state().stand;
        stand.objects = stand.objects.saturating_sub(objects as u64);
        stand.back += objects as u64;
    }

    /// Whether all that leaves and was handed over has left the answers of a Moment.
    pub(super) fn settled(&self, closed: Option<Moment>) -> bool {
        let state = self.state();
        state.entered == state.given && (state.given == 0 || closed.is_some_and(|closed| state.until.less_equal(&closed)))
    }
}

/// However the thread ends, nobody is to wait for it then.
pub(super) struct Over(pub(super) Told);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.shared.changed.notify_all();
    }
}
