//! What a source must offer, and what it may ask of the keeper of the ledger.
//!
//! A source is a set of logs with offsets; it can say how far each reaches, and read any of them from here to there.
//! Everything else (what is covered, what is a hole, what comes first) is decided outside of it, once for all sources.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use timely::scheduling::SyncActivator;

use crate::alerts::AlertBatch;
use crate::coverage::Intervals;
use crate::message::{Chunk, Log, Mark};

/// Why a source could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It may work if tried again: a broker that is away, slow or restarting, a registry that is down.
    #[error("{0}")]
    Retry(String),
    /// Offsets that were asked for are not there: the log begins later, or ends earlier.
    #[error("{topic}/{partition}: offset {offset} is not in the log, which holds {low} to {high}")]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
        /// The first offset that the log holds.
        low: i64,
        /// The offset after its last.
        high: i64,
    },
    /// It will not work until a person changes something: a wrong password, a topic that was recreated.
    #[error("{0}")]
    Stop(String),
}

/// How far a log reaches now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extent {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that the log still holds.
    pub low: i64,
    /// The offset after the last that a consumer may read now.
    pub high: i64,
}

/// What to read of a log: from `from`, up to `until` (excluded), or for ever.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// The log.
    pub log: Arc<Log>,
    /// The first offset to read.
    pub from: i64,
    /// The offset to stop before; `None`: follow the log.
    pub until: Option<i64>,
}

/// A set of logs that can be read from any offset, again and again.
pub trait Source: Send {
    /// Who this source is, the same at every start: `kafka:<cluster id>`.
    ///
    /// # Errors
    /// When the source can't be reached ([`SourceError::Retry`]) or will never let us in ([`SourceError::Stop`]).
    fn identity(&mut self) -> Result<Arc<str>, SourceError>;

    /// The logs that the configuration names, as they are now; asked again and again to find new ones.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn extents(&mut self) -> Result<Vec<Extent>, SourceError>;

    /// The logs that the last look at [`Source::extents`] left out although they are there: nobody leads them now. They are
    /// read when they come back.
    fn away(&self) -> Vec<(Arc<str>, i32)> {
        Vec::new()
    }

    /// What the configuration names and the last look at [`Source::extents`] did not find: topics that are yet to be born.
    fn absent(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// Whether, since this was asked last, something was seen that a log shows which is not the one it was: then all are
    /// compared again with what is stored of them.
    fn suspects(&mut self) -> bool {
        false
    }

    /// The first offset at or after a time (milliseconds since 1970 UTC); the log's end where there is none.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn offset_at(&mut self, topic: &str, partition: i32, time_ms: i64) -> Result<i64, SourceError>;

    /// The mark of the message at `offset`, read again; `None` where the log no longer, or not yet, holds it.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn mark(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Option<Mark>, SourceError>;

    /// The marks of many messages, in the order asked; a source that can ask for all at once does.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn marks(&mut self, of: &[(Arc<str>, i32, i64)]) -> Result<Vec<Option<Mark>>, SourceError> {
        of.iter().map(|(topic, partition, offset)| self.mark(topic, *partition, *offset)).collect()
    }

    /// Reads these stretches too, besides those that it reads already; at most one a log: a new stretch of a log takes the place of the one before, and its chunks begin at `from`.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn read(&mut self, stretches: &[Stretch]) -> Result<(), SourceError>;

    /// Pauses or resumes reading a log.
    ///
    /// # Errors
    /// As [`Source::identity`].
    fn pause(&mut self, log: &Log, paused: bool) -> Result<(), SourceError>;

    /// The next chunk of any log that is read, or `None` when `timeout` passes without one. Chunks of a log come in
    /// order, and their spans follow one another without a gap; a stretch that reached its `until` is read no more.
    ///
    /// # Errors
    /// As [`Source::identity`]; after [`SourceError::Retry`] call again: nothing was lost.
    fn poll(&mut self, timeout: Duration) -> Result<Option<Chunk>, SourceError>;

    /// Tells the source what is durable, for monitors that look there; nothing depends on it.
    fn durable(&mut self, _log: &Log, _offset: i64) {}
}

/// What an inlet hands over: [`Chunk`]s of messages, or batches of what was decoded before.
pub trait Load: Clone + 'static {
    /// Messages in it, or rows.
    fn count(&self) -> usize;

    /// How many bytes it keeps in memory.
    fn bytes(&self) -> usize;

    /// Whether it belongs with what comes before or after it.
    fn part(&self) -> Part {
        Part::Alone
    }
}

/// Whether what an inlet hands over belongs together with more, so that a late source has all of it in one epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It stands alone.
    Alone,
    /// More of the same comes: its epoch stays open until the last of it.
    More,
    /// The last of it: the epoch may close, and is asked to.
    Last,
}

impl Load for Chunk {
    fn count(&self) -> usize {
        self.messages.len()
    }
    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

impl Load for AlertBatch {
    fn count(&self) -> usize {
        self.rows.num_rows()
    }
    fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
    }
}

/// What an [`Inlet`] gave.
#[derive(Debug)]
pub enum Drawn<C = Chunk> {
    /// A chunk.
    Chunk(C),
    /// Nothing for this worker now; it is woken when there is.
    Nothing,
    /// Nothing ever again.
    Ended,
}

/// Where the workers of a process draw chunks: the other end of what a source's thread fills.
pub trait Inlet<C = Chunk>: Clone + Send {
    /// Has worker `index` of this process (from 0) woken when there is something for it to draw.
    fn register(&self, index: usize, waker: SyncActivator);

    /// The next chunk for worker `index`.
    fn draw(&self, index: usize) -> Drawn<C>;
}

/// What the ledger knows of a log.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Where reading of it began; offsets below are not asked for.
    pub origin: i64,
    /// What is covered.
    pub covered: Intervals,
    /// Holes that a person accepted.
    pub accepted: Intervals,
    /// The last covered message seen.
    pub mark: Option<Mark>,
}

impl Stored {
    /// The offsets from the origin up to `end` that are neither covered nor accepted as lost.
    #[must_use]
    pub fn missing(&self, end: i64) -> Vec<Range<i64>> {
        let mut known = self.covered.clone();
        self.accepted.iter().for_each(|span| {
            known.insert(span);
        });
        known.gaps(self.origin..end)
    }

    /// The first of them; `end` where there is none.
    #[must_use]
    pub fn first_missing(&self, end: i64) -> i64 {
        self.missing(end).first().map_or(end, |gap| gap.start)
    }
}

/// The keeper of the ledger, as a source sees it.
pub trait Keeper: Send + Sync {
    /// What is stored of a log; `None` for one that was never opened.
    fn stored(&self, log: &Log) -> Option<Stored>;

    /// The newest incarnation of a source's topic that is stored.
    fn incarnation(&self, source: &str, topic: &str) -> Option<u32>;

    /// Every source and topic that was ever opened, of whatever incarnation and partition.
    fn topics(&self) -> Vec<(Arc<str>, Arc<str>)>;

    /// Opens logs at these origins, and returns when that is durable.
    ///
    /// # Errors
    /// A text for a person, when the ledger could not take them.
    fn open(&self, origins: &[(Log, i64)]) -> Result<(), String>;
}
