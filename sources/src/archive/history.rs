//! A replay as a source of late data: what services know of the time before they began.
//!
//! A thread of its own reads, and waits where the workers do not draw. What it reads is fixed when the replay is opened: opened
//! after the archive's fence is taken and before anything new is read, it is exactly what this process will not see itself.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fink_dataflow::alerts::AlertBatch;

use super::{Replay, ReplayError};
use crate::queue::{Bounds, Inlet, Outlet, queue};

/// Batches (of 1,024 rows at most) and bytes that wait for the workers.
const BOUNDS: Bounds = Bounds { chunks_max: 16, bytes_max: 32 << 20, chunks_per_worker: 1, bytes_per_worker: 4 << 20 };
/// How often a reader that waits for room looks whether it was told to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// How far a history is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Reading {
    /// It is being read.
    #[default]
    Going,
    /// All of it was handed over.
    Done,
    /// It was told to stop.
    Stopped,
    /// It can't be read, for this reason.
    Failed(String),
}

/// A history that is being read. Clones are the same.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    rows: AtomicU64,
    total: u64,
    /// Rows a second at most.
    rate: Option<f64>,
    reading: Mutex<Reading>,
}

impl History {
    /// Reads a replay on so many threads, at so many rows a second at most, and hands its batches to whoever draws them.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(replay: Replay, threads: usize, rate: Option<f64>) -> std::io::Result<(Self, Inlet<AlertBatch>, JoinHandle<()>)> {
        let total = replay.rows();
        Self::start_in_passes(move || Ok(vec![replay]), total, threads, rate, |_| true)
    }

    /// As [`History::start`], pass by pass: `between` is called after each that another follows, with the rows handed over so far,
    /// and says whether to go on. What the passes are is found out on the thread that reads.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start_in_passes(
        passes: impl FnOnce() -> Result<Vec<Replay>, ReplayError> + Send + 'static,
        total: u64,
        threads: usize,
        rate: Option<f64>,
        between: impl FnMut(u64) -> bool + Send + 'static,
    ) -> std::io::Result<(Self, Inlet<AlertBatch>, JoinHandle<()>)> {
        let (outlet, inlet) = queue(BOUNDS);
        let shared = Shared { stop: AtomicBool::new(false), rows: AtomicU64::new(0), total, rate, reading: Mutex::default() };
        let history = Self { shared: Arc::new(shared) };
        let own = history.clone();
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || own.read(passes, between, threads, outlet))?;
        Ok((history, inlet, thread))
    }

    /// One that others read: so far is it.
    #[must_use]
    pub fn elsewhere(reading: Reading, rows: u64) -> Self {
        let shared =
            Shared { stop: AtomicBool::new(false), rows: AtomicU64::new(rows), total: rows, rate: None, reading: Mutex::new(reading) };
        Self { shared: Arc::new(shared) }
    }

    fn read(
        &self,
        passes: impl FnOnce() -> Result<Vec<Replay>, ReplayError>,
        mut between: impl FnMut(u64) -> bool,
        threads: usize,
        outlet: Outlet<AlertBatch>,
    ) {
        let began = Instant::now();
        let read = passes().and_then(|passes| {
            for (index, pass) in passes.into_iter().enumerate() {
                if index > 0 && !between(self.shared.rows.load(Ordering::Relaxed)) {
                    self.stop();
                }
                if self.stopped() {
                    break;
                }
                pass.run(threads, |batch| self.hand(batch, began, &outlet))?;
            }
            Ok(())
        });
        let reading = match read {
            Err(error) => Reading::Failed(chain(&error)),
            Ok(()) if self.stopped() => Reading::Stopped,
            Ok(()) => Reading::Done,
        };
        // Before the outlet is dropped: who sees the end sees what end it is.
        *self.shared.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    /// Hands a batch over, when there is room.
    fn hand(&self, batch: AlertBatch, began: Instant, outlet: &Outlet<AlertBatch>) -> ControlFlow<()> {
        let rows = batch.places.len() as u64;
        self.pace(began);
        let mut waiting = batch;
        while !self.stopped() {
            match outlet.send(waiting, PATIENCE) {
                Ok(()) => {
                    self.shared.rows.fetch_add(rows, Ordering::Relaxed);
                    return ControlFlow::Continue(());
                }
                Err(back) => waiting = back,
            }
        }
        ControlFlow::Break(())
    }

    /// Waits until the rate has room for what comes next.
    fn pace(&self, began: Instant) {
        let Some(rate) = self.shared.rate else { return };
        let due = Duration::try_from_secs_f64(self.shared.rows.load(Ordering::Relaxed) as f64 / rate).unwrap_or(Duration::MAX);
        while !self.stopped() && began.elapsed() < due {
            std::thread::sleep(PATIENCE.min(due.saturating_sub(began.elapsed())));
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Reads no more; what was handed over can still be drawn.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it is still being read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.shared.reading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rows handed over so far, and those that there are.
    #[must_use]
    pub fn rows(&self) -> (u64, u64) {
        (self.shared.rows.load(Ordering::Relaxed), self.shared.total)
    }
}

/// An error with all that caused it.
pub(super) fn chain(error: &ReplayError) -> String {
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(error));
    while let Some(deeper) = cause {
        text += &format!(": {deeper}");
        cause = deeper.source();
    }
    text
}
