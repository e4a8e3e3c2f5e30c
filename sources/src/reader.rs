//! The threads that drive a [`Source`] through its [`Lanes`](crate::lanes::Lanes): they look, plan, open logs in the ledger,
//! read, and send chunks to the workers through bounded [`queue`](crate::queue)s.
//!
//! | file | what it is |
//! |---|---|
//! | `live` | the live lane's thread, which also looks and plans |
//! | `backlog` | the backlog lane's, with a client of its own |
//! | `lane` | what both do: read, hold back, send, try again |
//! | `shared` | what they share |
//!
//! - Nothing is read before its log is open in the ledger, and the last message stored of it has been read again.
//! - Every few seconds it looks again: new topics and partitions are taken up while it reads.
//! - What may pass (a broker that is away) is tried again, and said once; what needs a person stops it, with a reason.
//! - A log whose next messages name a schema that is not known yet waits, and keeps its chunks; the others go on.
//! - With two lanes, live data never queues behind the backlog: each has its client, its thread and its queue.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fink_dataflow::message::Log;
use fink_dataflow::ports::{Keeper, Source, SourceError};

use crate::lanes::{Lane, LaneCount, Rules};
use crate::progress::{Progress, ReaderState};
use crate::queue::{Bounds, Inlet, queue};
use crate::schemas::Schemas;

mod backlog;
mod lane;
mod live;
mod shared;

use backlog::Backlog;
use lane::LaneRun;
use live::Live;
use shared::Shared;

/// How a reader reads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origin, lanes, and what to do about a changed topic.
    pub rules: Rules,
    /// The bounds of its queue; two lanes have half of it each.
    pub bounds: Bounds,
    /// How often it looks for new logs and asks how far all reach.
    pub refresh: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rules: Rules::default(), bounds: Bounds::default(), refresh: Duration::from_secs(3) }
    }
}

/// Opens another client of a source.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn Source>, SourceError> + Send>;

/// Offsets that live data may be behind, all logs together, at the start: a fraction of a second's work. Beyond, they are
/// the backlog's.
pub const NEAR: i64 = 2_000;

/// A running reader. Dropping it stops it.
pub struct Reader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Reader {
    /// Starts reading in one lane: all that is missing, in order. The queue ends when the reader does.
    ///
    /// # Errors
    /// When no thread can be had; all else is told by [`Reader::progress`].
    pub fn start(
        source: Box<dyn Source>,
        keeper: Arc<dyn Keeper>,
        schemas: Arc<dyn Schemas>,
        mut settings: Settings,
    ) -> std::io::Result<(Self, Inlet)> {
        settings.rules.lanes = LaneCount::One;
        let shared = Arc::new(Shared::default());
        let (thread, inlet) = live(&shared, source, keeper, schemas, settings)?;
        Ok((Self { shared, threads: vec![thread] }, inlet))
    }

    /// Starts reading in two lanes, live and backlog; each has an inlet, which ends when the reader does. The backlog's
    /// client comes from `open` when there is a backlog.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub fn start_two(
        source: Box<dyn Source>,
        open: Opener,
        keeper: Arc<dyn Keeper>,
        schemas: Arc<dyn Schemas>,
        mut settings: Settings,
    ) -> std::io::Result<(Self, Inlet, Inlet)> {
        settings.rules.lanes = LaneCount::Two { near: NEAR };
        settings.bounds = settings.bounds.half();
        let shared = Arc::new(Shared::default());
        let (outlet, late) = queue(settings.bounds);
        let run = LaneRun::new(Lane::Backlog, shared.clone(), schemas.clone(), outlet);
        let mut backlog = Backlog { open, settings: settings.clone(), run };
        let theirs = shared.clone();
        let backlog = std::thread::Builder::new().name("backlog".into()).spawn(move || theirs.ended(backlog.run()))?;
        // Dropped on an error, it ends the other thread.
        let mut reader = Self { shared: shared.clone(), threads: vec![backlog] };
        let (thread, inlet) = live(&shared, source, keeper, schemas, settings)?;
        reader.threads.push(thread);
        Ok((reader, inlet, late))
    }

    /// How it stands.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress().clone()
    }

    /// The reason, if it gave up.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        match &self.shared.progress().state {
            ReaderState::Stopped(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// How far all logs reached at the start, once all of that has been sent on: wait for it to be durable.
    #[must_use]
    pub fn caught_up_to(&self) -> Option<Vec<(Log, i64)>> {
        let progress = self.shared.progress();
        progress.goals.clone().filter(|_| progress.caught_up)
    }

    /// Tells it to stop; it does so within a moment, and its queues end.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Stops it, and waits until its threads are gone.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // A panic has been reported by the hook, and the queue has ended.
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the live lane, or the only one.
fn live(
    shared: &Arc<Shared>,
    source: Box<dyn Source>,
    keeper: Arc<dyn Keeper>,
    schemas: Arc<dyn Schemas>,
    settings: Settings,
) -> std::io::Result<(JoinHandle<()>, Inlet)> {
    let (outlet, inlet) = queue(settings.bounds);
    let run = LaneRun::new(Lane::Live, shared.clone(), schemas, outlet);
    let mut live = Live { source, keeper, settings, run };
    let theirs = shared.clone();
    let thread = std::thread::Builder::new().name("reader".into()).spawn(move || theirs.ended(live.run()))?;
    Ok((thread, inlet))
}
