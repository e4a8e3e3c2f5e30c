//! One lane: a source's client, what it has yet to read, and the queue that it fills.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_dataflow::message::{Chunk, Log};
use fink_dataflow::ports::{Source, SourceError, Stretch};
use tracing::{info, warn};

use super::shared::Shared;
use crate::lanes::{Lane, Refusal};
use crate::queue::Outlet;
use crate::schemas::{Ensured, Schemas, ids};

/// How long it sleeps in the source: a bound on how long a stop takes.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// The same while chunks wait for a schema.
const POLL_HELD: Duration = Duration::from_millis(25);
/// The first pause before trying again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// A lane as its thread sees it.
pub(super) struct LaneRun {
    pub(super) lane: Lane,
    pub(super) shared: Arc<Shared>,
    schemas: Arc<dyn Schemas>,
    outlet: Outlet,
    /// Stretches that the source has not taken yet.
    pub(super) pending: Vec<Stretch>,
    /// Chunks that wait for a schema, and why.
    held: BTreeMap<Arc<Log>, (VecDeque<Chunk>, String)>,
    /// What it tries again for, and how often it did.
    trouble: Option<String>,
    tries: u32,
}

impl LaneRun {
    pub(super) fn new(lane: Lane, shared: Arc<Shared>, schemas: Arc<dyn Schemas>, outlet: Outlet) -> Self {
        Self { lane, shared, schemas, outlet, pending: Vec::new(), held: BTreeMap::new(), trouble: None, tries: 0 }
    }

    /// One round of reading.
    pub(super) fn read(&mut self, source: &mut dyn Source) -> Result<(), SourceError> {
        if !self.pending.is_empty() {
            source.read(&self.pending)?;
            self.pending.clear();
        }
        self.release_held(source)?;
        let timeout = if self.held.is_empty() { POLL } else { POLL_HELD };
        if let Some(chunk) = source.poll(timeout)? {
            self.take(source, chunk)?;
        }
        self.shared.measure();
        Ok(())
    }

    /// Whether all that was read has been sent on.
    pub(super) fn is_through(&self) -> bool {
        self.pending.is_empty() && self.held.is_empty()
    }

    /// What became of a round: goes on, waits a little and tries again, or gives up with a reason.
    pub(super) fn settle(&mut self, round: Result<(), SourceError>) -> Result<(), String> {
        match round {
            Ok(()) => self.recovered(),
            Err(SourceError::Retry(reason)) => self.back_off(reason),
            Err(SourceError::Stop(reason)) => return Err(reason),
            Err(SourceError::OutOfRange { topic, partition, offset, low, high }) => {
                self.out_of_range(&topic, partition, offset, low..high).map_err(|refusal| refusal.to_string())?;
            }
        }
        Ok(())
    }

    /// Sends a chunk on, or holds it back until its schemas are known.
    fn take(&mut self, source: &mut dyn Source, chunk: Chunk) -> Result<(), SourceError> {
        if let Some((chunks, _)) = self.held.get_mut(&chunk.log) {
            chunks.push_back(chunk);
            return Ok(());
        }
        if let Some(reason) = self.waits_for(&chunk) {
            let log = chunk.log.clone();
            self.set_waits(&log, Some(reason.clone()));
            // Held before anything can fail: what follows it would be sent on without it.
            self.held.insert(log.clone(), (VecDeque::from([chunk]), reason));
            return source.pause(&log, true);
        }
        self.send(chunk);
        Ok(())
    }

    /// Sends on what was held back, where its schemas are known by now.
    fn release_held(&mut self, source: &mut dyn Source) -> Result<(), SourceError> {
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
                    if let Err(error) = source.pause(&log, false) {
                        // It stays paused: asked for again in the next round.
                        self.held.insert(log, (chunks, said));
                        return Err(error);
                    }
                    self.set_waits(&log, None);
                }
            }
        }
        Ok(())
    }

    /// Why a chunk can't be sent on yet.
    fn waits_for(&self, chunk: &Chunk) -> Option<String> {
        let later = |id| match self.schemas.ensure(&chunk.log.topic, id) {
            Ensured::Later(reason) => Some(reason),
            Ensured::Known | Ensured::Unknown => None,
        };
        // All are asked for at once: an id that nobody knows takes its time.
        ids(chunk).into_iter().filter_map(later).fold(None, |first, reason| first.or(Some(reason)))
    }

    /// Sends a chunk, waiting for room; gives it up only when told to stop (it is not covered then, and read again).
    fn send(&mut self, chunk: Chunk) {
        self.schemas.screen(&chunk);
        let (log, span) = (chunk.log.clone(), chunk.span.clone());
        let time_ms = chunk.messages.last().and_then(|message| message.timestamp_ms);
        let counts = (chunk.messages.len() as u64, chunk.bytes() as u64);
        let mut back = Some(chunk);
        while let Some(chunk) = back.take() {
            if self.shared.stopping() {
                return;
            }
            back = self.outlet.send(chunk, POLL).err();
            self.shared.measure();
        }
        self.shared.progress().sent(self.lane, &log, &span, counts, time_ms);
        self.pending.extend(self.shared.after(self.lane, &log, span.end));
    }

    /// The source holds an offset no more, or not at all.
    fn out_of_range(&mut self, topic: &str, partition: i32, at: i64, held: Range<i64>) -> Result<(), Refusal> {
        let mut guard = self.shared.lanes();
        let Some(lanes) = guard.as_mut() else { return Ok(()) };
        let Some(log) = lanes.logs().find(|log| &*log.topic == topic && log.partition == partition).cloned() else { return Ok(()) };
        let (hole, next) = lanes.out_of_range(self.lane, &log, at, held)?;
        {
            let mut progress = self.shared.progress();
            let entry = progress.logs.entry(log.clone()).or_default();
            match (self.lane, &next) {
                (Lane::Live, Some(stretch)) => entry.position = stretch.from,
                (Lane::Live, None) => {}
                (Lane::Backlog, _) => entry.backlog = lanes.left(&log, hole.end),
            }
            super::shared::note_caught_up(lanes, &mut progress);
        }
        drop(guard);
        self.shared.note_hole(&log, hole);
        self.pending.extend(next);
        Ok(())
    }

    fn set_waits(&self, log: &Arc<Log>, reason: Option<String>) {
        self.shared.progress().logs.entry(log.clone()).or_default().waits = reason;
    }

    /// Says once what keeps it from going on, and waits a little.
    fn back_off(&mut self, reason: String) {
        if self.trouble.as_ref() != Some(&reason) {
            warn!(reason, "source can't be read, trying again");
            self.shared.progress().trouble(self.lane, Some(reason.clone()));
            self.trouble = Some(reason);
        }
        let pause = BACKOFF.1.min(BACKOFF.0 * 2u32.saturating_pow(self.tries));
        self.tries += 1;
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.shared.stopping() {
            std::thread::sleep(POLL_HELD.min(pause));
        }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            info!("source can be read again");
            self.tries = 0;
            self.shared.progress().trouble(self.lane, None);
        }
    }
}
