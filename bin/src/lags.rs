//! How far reading is behind, for those who act on it: writers, compaction, and the late lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fink_sinks::archive::writer::Backlog;
use fink_sources::progress::{LogProgress, Progress};
use fink_sources::queue::Inlet;
use fink_sources::reader::NEAR;

use crate::settings::Lanes;

/// Live chunks that wait for a worker before late data lets them go first. At a steady rate none waits.
const LIVE_WAITS: usize = 2;

/// What those who act on it see. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Lags {
    /// For writers of live data, or of all where there is one lane.
    pub live: Backlog,
    /// For writers of late data.
    pub late: Backlog,
    /// For compaction.
    pub all: Backlog,
    live_lags: Arc<AtomicBool>,
}

impl Lags {
    /// Notes how the reader stands, and how far other processes are behind for which this one merges files.
    pub(crate) fn note(&self, progress: &Progress, lanes: Lanes, others: u64) {
        let (all, live) = (progress.lag().unsigned_abs(), progress.live_lag().unsigned_abs());
        self.all.note(all + others);
        self.live.note(if lanes == Lanes::One { all } else { live });
        self.late.note(all.saturating_sub(live));
        self.live_lags.store(lags(progress), Ordering::Relaxed);
    }

    /// Whether late data must let live data go first: chunks of it wait for a worker, or its reader is behind.
    pub(crate) fn yields(&self, live: Inlet) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let live_lags = self.live_lags.clone();
        Arc::new(move || live.waiting().0 > LIVE_WAITS || live_lags.load(Ordering::Relaxed))
    }
}

/// Whether the live lane is behind and at work. A log that stands still (its broker is away, its schema unknown) holds up
/// nobody else.
fn lags(progress: &Progress) -> bool {
    let moves = |log: &&LogProgress| log.waits.is_none() && log.messages_per_s >= 1.0;
    progress.logs.values().filter(moves).map(LogProgress::live_lag).sum::<i64>() > NEAR
}

#[cfg(test)]
mod tests {
    use fink_dataflow::Log;

    use super::*;

    #[test]
    fn live_data_that_stands_still_does_not_hold_up_the_backlog() {
        let mut progress = Progress::default();
        let mut log = LogProgress::default();
        (log.high, log.messages_per_s, log.backlog) = (10_000, 50.0, 7_000);
        progress.logs.insert(Arc::new(Log::new("s", "t", 0, 0)), log);
        assert!(lags(&progress));
        let log = progress.logs.values_mut().next().expect("one log");
        log.messages_per_s = 0.1;
        assert!(!lags(&progress));
        let log = progress.logs.values_mut().next().expect("one log");
        (log.messages_per_s, log.position) = (50.0, 9_000);
        assert!(!lags(&progress));
        assert_eq!((progress.lag(), progress.live_lag()), (8_000, 1_000));
    }
}
