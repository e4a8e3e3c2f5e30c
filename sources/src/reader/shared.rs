//! What the threads of a reader share.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::message::Log;
use fink_dataflow::ports::Stretch;
use tracing::error;

use crate::lanes::{Lane, Lanes};
use crate::progress::{Progress, ReaderState};

/// Locks are taken in the order of the fields.
pub(super) struct Shared {
    /// Which stretches there are; `None` until the source has been seen.
    lanes: Mutex<Option<Lanes>>,
    /// Stretches that wait for the backlog lane.
    backlog: Mutex<Vec<Stretch>>,
    more: Condvar,
    progress: Mutex<Progress>,
    measured: Mutex<Instant>,
    stop: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        let (lanes, backlog, progress) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { lanes, backlog, more: Condvar::new(), progress, measured: Mutex::new(Instant::now()), stop: AtomicBool::new(false) }
    }
}

impl Shared {
    pub(super) fn lanes(&self) -> MutexGuard<'_, Option<Lanes>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.more.notify_all();
    }

    /// Gives the backlog lane something to read.
    pub(super) fn hand(&self, stretches: Vec<Stretch>) {
        if !stretches.is_empty() {
            self.backlog.lock().unwrap_or_else(PoisonError::into_inner).extend(stretches);
            self.more.notify_all();
        }
    }

    /// What was given to the backlog lane; waits for something at most so long.
    pub(super) fn handed(&self, patience: Duration) -> Vec<Stretch> {
        let mut waiting = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() && !patience.is_zero() && !self.stopping() {
            waiting = self.more.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut waiting)
    }

    /// A lane has sent on a log up to `position`: what it reads next of it, if its stretch has ended.
    pub(super) fn after(&self, lane: Lane, log: &Arc<Log>, position: i64) -> Option<Stretch> {
        let mut lanes = self.lanes();
        let lanes = lanes.as_mut()?;
        let next = if lanes.ends(lane, log) == Some(position) { lanes.finished(lane, log) } else { None };
        let mut progress = self.progress();
        if lane == Lane::Backlog {
            progress.logs.entry(log.clone()).or_default().backlog = lanes.left(log, position);
        }
        note_caught_up(lanes, &mut progress);
        next
    }

    /// Notes that the source holds these offsets of a log no more.
    pub(super) fn note_hole(&self, log: &Arc<Log>, hole: Range<i64>) {
        if hole.is_empty() {
            return;
        }
        error!(%log, from = hole.start, to = hole.end, "hole: the source no longer holds these offsets");
        self.progress().logs.entry(log.clone()).or_default().holes.insert(hole);
    }

    /// Takes what was counted into the rates, about every second; called by whoever reads.
    pub(super) fn measure(&self) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = measured.elapsed();
        if elapsed >= Duration::from_secs(1) {
            *measured = Instant::now();
            drop(measured);
            self.progress().measure(elapsed.as_secs_f64());
        }
    }

    /// A thread ends: the first reason to give up is the one that counts, and ends the others.
    pub(super) fn ended(&self, how: Result<(), String>) {
        let mut progress = self.progress();
        match how {
            Err(reason) if !matches!(progress.state, ReaderState::Stopped(_)) => {
                error!(reason, "reading stopped");
                progress.state = ReaderState::Stopped(reason);
            }
            Ok(()) if !matches!(progress.state, ReaderState::Stopped(_)) => progress.state = ReaderState::Ended,
            _ => {}
        }
        drop(progress);
        self.stop();
    }
}

/// Sees whether all that the logs held at the start has been sent on.
pub(super) fn note_caught_up(lanes: &Lanes, progress: &mut Progress) {
    if progress.caught_up {
        return;
    }
    progress.caught_up = !lanes.awaits()
        && progress.goals.as_ref().is_some_and(|goals| {
            goals.iter().all(|(log, high)| lanes.follows_end(log) && progress.logs.get(log).is_some_and(|p| p.position >= *high))
        });
}
