//! The thread that drives a [`Source`] through its [`Lanes`]: it looks, plans, opens logs in the ledger, reads, and sends
//! chunks to the workers through a bounded [`queue`](crate::queue).
//!
//! - Nothing is read before its log is open in the ledger, and the last message stored of it has been read again.
//! - Every few seconds it looks again: new topics and partitions are taken up while it reads.
//! - What may pass (a broker that is away) is tried again, and said once; what needs a person stops it, with a reason.
//! - A log whose next messages name a schema that is not known yet waits, and keeps its chunks; the others go on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fink_dataflow::message::{Chunk, Log};
use fink_dataflow::ports::{Keeper, Source, SourceError, Stretch};
use tracing::{error, info, warn};

use crate::lanes::{Answer, Ask, Lane, Lanes, Plan, Rules, Sight};
use crate::progress::{Progress, ReaderState};
use crate::queue::{Bounds, Inlet, Outlet, queue};
use crate::schemas::{Ensured, Schemas, ids};

/// How a reader reads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origin, lanes, and what to do about a changed topic.
    pub rules: Rules,
    /// The bounds of its queue.
    pub bounds: Bounds,
    /// How often it looks for new logs and asks how far all reach.
    pub refresh: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rules: Rules::default(), bounds: Bounds::default(), refresh: Duration::from_secs(3) }
    }
}

/// A running reader. Dropping it stops it.
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    progress: Mutex<Progress>,
}

impl Reader {
    /// Starts reading. The queue ends when the reader does.
    ///
    /// # Errors
    /// When no thread can be had; all else is told by [`Reader::progress`].
    pub fn start(
        source: Box<dyn Source>,
        keeper: Arc<dyn Keeper>,
        schemas: Arc<dyn Schemas>,
        settings: Settings,
    ) -> std::io::Result<(Self, Inlet)> {
        let (outlet, inlet) = queue(settings.bounds);
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), progress: Mutex::default() });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let mut run = Run::new(source, keeper, schemas, settings, outlet, theirs);
            let state = match run.run() {
                Ok(()) => ReaderState::Ended,
                Err(reason) => {
                    error!(reason, "reading stopped");
                    ReaderState::Stopped(reason)
                }
            };
            run.shared.progress().state = state;
        })?;
        Ok((Self { shared, thread: Some(thread) }, inlet))
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

    /// Tells it to stop; it does so within a moment, and its queue ends.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Stops it, and waits until its thread is gone.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
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

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The thread's own state.
struct Run {
    source: Box<dyn Source>,
    keeper: Arc<dyn Keeper>,
    schemas: Arc<dyn Schemas>,
    settings: Settings,
    outlet: Outlet,
    shared: Arc<Shared>,
    lanes: Option<Lanes>,
    /// Stretches that the source has not taken yet.
    pending: Vec<Stretch>,
    /// Chunks that wait for a schema, and why.
    held: BTreeMap<Arc<Log>, (VecDeque<Chunk>, String)>,
    trouble: Trouble,
    looked: Instant,
    measured: Instant,
}

/// What it tries again for.
#[derive(Default)]
struct Trouble {
    reason: Option<String>,
    tries: u32,
}

/// The one lane that this thread drives.
const LANE: Lane = Lane::Live;
/// How long it sleeps in the source: a bound on how long a stop takes.
const POLL: Duration = Duration::from_millis(250);
/// The same while chunks wait for a schema.
const POLL_HELD: Duration = Duration::from_millis(25);
/// The first pause before trying again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

impl Run {
    fn new(
        source: Box<dyn Source>,
        keeper: Arc<dyn Keeper>,
        schemas: Arc<dyn Schemas>,
        settings: Settings,
        outlet: Outlet,
        shared: Arc<Shared>,
    ) -> Self {
        let now = Instant::now();
        Self {
            source,
            keeper,
            schemas,
            settings,
            outlet,
            shared,
            lanes: None,
            pending: Vec::new(),
            held: BTreeMap::new(),
            trouble: Trouble::default(),
            looked: now,
            measured: now,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut begun = false;
        while !self.shared.stopping() {
            let step = if begun { self.step() } else { self.look() };
            match step {
                Ok(()) => {
                    begun = true;
                    self.recovered();
                }
                Err(SourceError::Retry(reason)) => self.back_off(reason),
                Err(SourceError::Stop(reason)) => return Err(reason),
                Err(SourceError::OutOfRange { topic, partition, offset, low, high }) => {
                    self.out_of_range(&topic, partition, offset, low..high).map_err(|refusal| refusal.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// One round of reading.
    fn step(&mut self) -> Result<(), SourceError> {
        if self.looked.elapsed() >= self.settings.refresh {
            // Before the look, so that one that fails does not keep messages from being read.
            self.looked = Instant::now();
            self.look()?;
            self.tell_durable();
        }
        if !self.pending.is_empty() {
            self.source.read(&self.pending)?;
            self.pending.clear();
        }
        self.release_held()?;
        let timeout = if self.held.is_empty() { POLL } else { POLL_HELD };
        if let Some(chunk) = self.source.poll(timeout)? {
            self.take(chunk)?;
        }
        self.measure();
        Ok(())
    }

    /// Looks how far the logs reach now, and takes up those that are new.
    fn look(&mut self) -> Result<(), SourceError> {
        let lanes = match &mut self.lanes {
            Some(lanes) => lanes,
            none => {
                let identity = self.source.identity()?;
                self.shared.progress().source = Some(identity.clone());
                none.insert(Lanes::new(identity, self.settings.rules.clone(), &self.keeper.topics()))
            }
        };
        let sights: Vec<Sight> = self.source.extents()?.into_iter().map(|extent| sight(&*self.keeper, lanes.source(), extent)).collect();
        let answers = answer(&mut *self.source, lanes.asks(&sights))?;
        let plan = lanes.plan(&sights, &answers).map_err(|refusal| SourceError::Stop(refusal.to_string()))?;
        self.carry_out(plan)?;
        self.note_extents(&sights);
        Ok(())
    }

    fn carry_out(&mut self, plan: Plan) -> Result<(), SourceError> {
        for notice in &plan.notices {
            warn!("{notice}");
        }
        if !plan.opens.is_empty() {
            self.keeper.open(&plan.opens).map_err(SourceError::Stop)?;
            plan.opens.iter().for_each(|(log, origin)| info!(%log, origin, "log opened"));
        }
        {
            let mut progress = self.shared.progress();
            for (lane, stretch) in &plan.reads {
                debug_assert_eq!(*lane, LANE, "this thread drives one lane");
                progress.logs.entry(stretch.log.clone()).or_default().position = stretch.from;
            }
            progress.goals.get_or_insert_with(|| plan.goals.iter().map(|(log, high)| ((**log).clone(), *high)).collect());
            if progress.state == ReaderState::Starting {
                progress.state = ReaderState::Reading;
            }
        }
        for (log, hole) in plan.holes {
            self.note_hole(&log, hole);
        }
        self.pending.extend(plan.reads.into_iter().map(|(_, stretch)| stretch));
        Ok(())
    }

    /// Sends a chunk on, or holds it back until its schemas are known.
    fn take(&mut self, chunk: Chunk) -> Result<(), SourceError> {
        if let Some((chunks, _)) = self.held.get_mut(&chunk.log) {
            chunks.push_back(chunk);
            return Ok(());
        }
        if let Some(reason) = self.waits_for(&chunk) {
            let log = chunk.log.clone();
            self.source.pause(&log, true)?;
            self.set_waits(&log, Some(reason.clone()));
            self.held.insert(log, (VecDeque::from([chunk]), reason));
            return Ok(());
        }
        self.send(chunk);
        Ok(())
    }

    /// Sends on what was held back, where its schemas are known by now.
    fn release_held(&mut self) -> Result<(), SourceError> {
        let logs: Vec<Arc<Log>> = self.held.keys().cloned().collect();
        for log in logs {
            let Some((mut chunks, said)) = self.held.remove(&log) else { continue };
            let reason = loop {
                let Some(chunk) = chunks.front() else { break None };
                if let Some(reason) = self.waits_for(chunk) {
                    break Some(reason);
                }
                chunks.pop_front().into_iter().for_each(|chunk| self.send(chunk));
            };
            match reason {
                Some(reason) => {
                    if reason != said {
                        warn!(%log, reason, "log waits for a schema");
                        self.set_waits(&log, Some(reason.clone()));
                    }
                    self.held.insert(log, (chunks, reason));
                }
                None => {
                    self.set_waits(&log, None);
                    self.source.pause(&log, false)?;
                }
            }
        }
        Ok(())
    }

    /// Why a chunk can't be sent on yet.
    fn waits_for(&self, chunk: &Chunk) -> Option<String> {
        let mut reasons = ids(chunk).into_iter().map(|id| self.schemas.ensure(&chunk.log.topic, id));
        reasons.find_map(|ensured| if let Ensured::Later(reason) = ensured { Some(reason) } else { None })
    }

    /// Sends a chunk, waiting for room; gives it up only when told to stop (it is not covered then, and read again).
    fn send(&mut self, chunk: Chunk) {
        let (log, span) = (chunk.log.clone(), chunk.span.clone());
        let (messages, bytes) = (chunk.messages.len() as u64, chunk.bytes() as u64);
        let mut back = Some(chunk);
        while let Some(chunk) = back.take() {
            if self.shared.stopping() {
                return;
            }
            back = self.outlet.send(chunk, POLL).err();
            self.measure();
        }
        self.shared.progress().sent(&log, &span, messages, bytes);
        self.after(&log, span.end);
    }

    /// A log was sent on up to `position`: what follows from it.
    fn after(&mut self, log: &Arc<Log>, position: i64) {
        let Some(lanes) = &mut self.lanes else { return };
        if lanes.ends(LANE, log) == Some(position) {
            self.pending.extend(lanes.finished(LANE, log));
        }
        self.note_caught_up();
    }

    /// Sees whether all that the logs held at the start has been sent on.
    fn note_caught_up(&self) {
        let mut progress = self.shared.progress();
        let Some(lanes) = self.lanes.as_ref().filter(|_| !progress.caught_up) else { return };
        let done = progress.goals.as_ref().is_some_and(|goals| {
            goals.iter().all(|(log, high)| lanes.follows_end(log) && progress.logs.get(log).is_some_and(|p| p.position >= *high))
        });
        progress.caught_up = done;
    }

    /// The source holds an offset no more, or not at all.
    fn out_of_range(&mut self, topic: &str, partition: i32, at: i64, held: std::ops::Range<i64>) -> Result<(), crate::lanes::Refusal> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        let Some(log) = lanes.logs().find(|log| &*log.topic == topic && log.partition == partition).cloned() else { return Ok(()) };
        let (hole, next) = lanes.out_of_range(LANE, &log, at, held)?;
        if let Some(stretch) = &next {
            self.shared.progress().logs.entry(log.clone()).or_default().position = stretch.from;
        }
        self.note_hole(&log, hole);
        self.pending.extend(next);
        self.note_caught_up();
        Ok(())
    }

    fn note_hole(&self, log: &Arc<Log>, hole: std::ops::Range<i64>) {
        if hole.is_empty() {
            return;
        }
        error!(%log, from = hole.start, to = hole.end, "hole: the source no longer holds these offsets");
        self.shared.progress().logs.entry(log.clone()).or_default().holes.insert(hole);
    }

    fn note_extents(&self, sights: &[Sight]) {
        let mut progress = self.shared.progress();
        let known: Vec<Arc<Log>> = progress.logs.keys().cloned().collect();
        for log in known {
            let Some(sight) = sights.iter().find(|s| s.extent.topic == log.topic && s.extent.partition == log.partition) else { continue };
            let entry = progress.logs.entry(log).or_default();
            entry.low = sight.extent.low;
            entry.high = sight.extent.high.max(entry.position);
        }
        drop(progress);
        self.note_caught_up();
    }

    fn set_waits(&self, log: &Arc<Log>, reason: Option<String>) {
        self.shared.progress().logs.entry(log.clone()).or_default().waits = reason;
    }

    /// Tells the source what is durable: the end of what is covered without a gap from the origin on.
    fn tell_durable(&mut self) {
        let Some(lanes) = &self.lanes else { return };
        for log in lanes.logs() {
            let Some(stored) = self.keeper.stored(log) else { continue };
            let end = stored.covered.end().unwrap_or(stored.origin);
            let first_missing = stored.missing(end).first().map_or(end, |gap| gap.start);
            self.source.durable(log, first_missing);
        }
    }

    fn measure(&mut self) {
        let elapsed = self.measured.elapsed();
        if elapsed >= Duration::from_secs(1) {
            self.measured = Instant::now();
            self.shared.progress().measure(elapsed.as_secs_f64());
        }
    }

    /// Says once what keeps it from going on, and waits a little.
    fn back_off(&mut self, reason: String) {
        if self.trouble.reason.as_ref() != Some(&reason) {
            warn!(reason, "source can't be read, trying again");
            self.shared.progress().state = ReaderState::Retrying(reason.clone());
            self.trouble.reason = Some(reason);
        }
        let pause = BACKOFF.1.min(BACKOFF.0 * 2u32.saturating_pow(self.trouble.tries));
        self.trouble.tries += 1;
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.shared.stopping() {
            std::thread::sleep(POLL_HELD.min(pause));
        }
    }

    fn recovered(&mut self) {
        if self.trouble.reason.is_some() {
            info!("source can be read again");
            self.trouble = Trouble::default();
            self.shared.progress().state = ReaderState::Reading;
        }
    }
}

fn sight(keeper: &dyn Keeper, source: &Arc<str>, extent: fink_dataflow::ports::Extent) -> Sight {
    let incarnation = keeper.incarnation(source, &extent.topic);
    let stored = incarnation.and_then(|incarnation| {
        keeper.stored(&Log { source: source.clone(), topic: extent.topic.clone(), incarnation, partition: extent.partition })
    });
    Sight { extent, incarnation, stored }
}

/// Asks the source; all marks at once, since each costs it a seek.
fn answer(source: &mut dyn Source, asks: Vec<Ask>) -> Result<BTreeMap<Ask, Answer>, SourceError> {
    let mut answers = BTreeMap::new();
    let mut marks = Vec::new();
    for ask in asks {
        match &ask {
            Ask::Mark(topic, partition, offset) => marks.push((topic.clone(), *partition, *offset)),
            Ask::OffsetAt(topic, partition, time) => {
                let offset = source.offset_at(topic, *partition, *time)?;
                answers.insert(ask, Answer::Offset(offset));
            }
        }
    }
    if !marks.is_empty() {
        let read = source.marks(&marks)?;
        for ((topic, partition, offset), mark) in marks.into_iter().zip(read) {
            answers.insert(Ask::Mark(topic, partition, offset), Answer::Mark(mark));
        }
    }
    Ok(answers)
}
