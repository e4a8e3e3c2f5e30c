//! Fills a hole from elsewhere: reads the same offsets from another Kafka, and archives them as messages of the log that
//! lost them.
//!
//! Only offsets that hold a message elsewhere are filled: one that does not may have held one in the log that lost it.
//! A piece of the hole is one entry of the ledger: its rows and its coverage together, or neither.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fink_dataflow::alerts::Tally;
use fink_dataflow::budget::Budget;
use fink_dataflow::message::Mark;
use fink_dataflow::ports::{Source, SourceError, Stretch};
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::{Chunk, Coverage, Intervals, Log};
use fink_operators::decode::Decode;
use fink_sinks::archive::committer::{Committer, Edit, Request, TableEdit};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;

use super::store;
use crate::input::Library;

/// How long the other Kafka may give nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often its ends are looked at: only so is it seen that a log ends in what no consumer sees.
const LOOK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(250);

/// Another Kafka, and where in it the log's messages are.
pub struct Elsewhere {
    source: Box<dyn Source>,
    topic: Arc<str>,
    partition: i32,
}

/// What a fill did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filled {
    /// What became of the messages.
    pub tally: Tally,
    /// Offsets that are still missing.
    pub missing: Vec<Range<i64>>,
}

impl Elsewhere {
    /// A partition of a topic of another source.
    #[must_use]
    pub fn new(source: Box<dyn Source>, topic: &str, partition: i32) -> Self {
        Self { source, topic: topic.into(), partition }
    }

    /// The offsets that it holds.
    ///
    /// # Errors
    /// When it can't be reached, or has no such partition.
    pub fn extent(&mut self) -> anyhow::Result<Range<i64>> {
        let extents = patiently(|| self.source.extents())?;
        let mine = extents.into_iter().find(|extent| extent.topic == self.topic && extent.partition == self.partition);
        let mine = mine.with_context(|| format!("the other Kafka has no {}/{}", self.topic, self.partition))?;
        Ok(mine.low..mine.high)
    }

    /// Whether it holds the message that was archived last of a log at the same offset; `None`: it holds none there.
    /// Timestamps are not compared: a copy may have its own.
    ///
    /// # Errors
    /// When it can't be reached.
    pub fn agrees(&mut self, mark: &Mark) -> anyhow::Result<Option<bool>> {
        let held = patiently(|| self.source.mark(&self.topic, self.partition, mark.offset))?;
        Ok(held.map(|held| held.hash == mark.hash))
    }

    /// Reads these offsets, as far as they are there.
    fn read(&mut self, span: Range<i64>, mut take: impl FnMut(Chunk) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let log = Arc::new(Log { source: "elsewhere".into(), topic: self.topic.clone(), incarnation: 0, partition: self.partition });
        let stretch = |from| [Stretch { log: log.clone(), from, until: Some(span.end) }];
        let mut at = span.start;
        let (mut moved, mut looked) = (Instant::now(), Instant::now());
        let mut trouble = "nothing came".to_owned();
        patiently(|| self.source.read(&stretch(at)))?;
        while at < span.end {
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                patiently(|| self.source.extents())?;
            }
            match self.source.poll(POLL) {
                Ok(None) => {}
                Ok(Some(chunk)) => {
                    (at, moved) = (chunk.span.end, Instant::now());
                    take(chunk)?;
                }
                // It was deleted there too, meanwhile.
                Err(SourceError::OutOfRange { low, .. }) if at < low && low < span.end => {
                    (at, moved) = (low, Instant::now());
                    patiently(|| self.source.read(&stretch(at)))?;
                }
                Err(SourceError::OutOfRange { .. }) => break,
                Err(SourceError::Retry(reason)) => {
                    trouble = reason;
                    std::thread::sleep(POLL);
                }
                Err(error) => return Err(error.into()),
            }
            if moved.elapsed() > PATIENCE {
                bail!("the other Kafka gave nothing for {} s: {trouble}", PATIENCE.as_secs());
            }
        }
        Ok(())
    }
}

/// Asks again while the answer may still come.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, SourceError>) -> anyhow::Result<T> {
    let until = Instant::now() + PATIENCE / 2;
    loop {
        match ask() {
            Err(SourceError::Retry(_)) if Instant::now() < until => std::thread::sleep(POLL),
            answer => return answer.context("the other Kafka can't be read"),
        }
    }
}

/// Fills `span` of `log` from elsewhere; an entry of the ledger holds about `piece_bytes` at most.
///
/// # Errors
/// When the other Kafka can't be read, a schema can't be looked up, or the archive can't be written. Pieces that were
/// filled before are there, and need no filling again.
pub fn fill(
    (archive, committer, routes): (&Archive, &Committer, &Arc<Routes>),
    (log, span): (&Log, Range<i64>),
    other: &mut Elsewhere,
    library: Library,
    piece_bytes: usize,
) -> anyhow::Result<Filled> {
    let held = other.extent()?;
    let there = span.start.max(held.start)..span.end.min(held.end);
    let place = format!("{}/{}", other.topic, other.partition);
    let mut filling = Filling {
        archive,
        committer,
        routes,
        log: Arc::new(log.clone()),
        decode: Decode::new(library.book()),
        library,
        note: place,
        files: new_files(routes, committer),
        piece: Intervals::default(),
        piece_tally: Tally::default(),
        filled: Intervals::default(),
        tally: Tally::default(),
    };
    if !there.is_empty() {
        other.read(there, |chunk| {
            filling.take(chunk)?;
            if filling.files.open_bytes() >= piece_bytes { filling.commit() } else { Ok(()) }
        })?;
    }
    filling.commit()?;
    Ok(Filled { tally: filling.tally, missing: filling.filled.gaps(span) })
}

fn new_files(routes: &Arc<Routes>, committer: &Committer) -> Files {
    Files::new(Arc::clone(routes), Memory::new(usize::MAX, 1), committer.state().generation)
}

/// A hole that is being filled.
struct Filling<'a> {
    archive: &'a Archive,
    committer: &'a Committer,
    routes: &'a Arc<Routes>,
    log: Arc<Log>,
    library: Library,
    decode: Decode,
    /// Where the messages come from, for people.
    note: String,
    files: Files,
    /// What is in the files, and not committed.
    piece: Intervals,
    piece_tally: Tally,
    /// What is committed.
    filled: Intervals,
    tally: Tally,
}

impl Filling<'_> {
    fn take(&mut self, chunk: Chunk) -> anyhow::Result<()> {
        self.library.learn(&chunk)?;
        let budget = Budget::new(usize::MAX);
        let parts = runs(Chunk { log: Arc::clone(&self.log), ..chunk });
        let decoded = self.decode.decode(parts.into_iter().map(|part| (part, Arc::new(budget.take(0)))).collect());
        for batch in &decoded.alerts {
            self.files.alerts(batch)?;
        }
        self.files.rejects(&decoded.rejects)?;
        for passed in decoded.passed {
            self.piece.insert(passed.span);
            self.piece_tally += passed.tally;
        }
        Ok(())
    }

    /// Makes what was read durable: rows and coverage by one entry.
    fn commit(&mut self) -> anyhow::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let files = std::mem::replace(&mut self.files, new_files(self.routes, self.committer));
        let mut adds: BTreeMap<Arc<str>, Vec<DataFile>> = BTreeMap::new();
        for (table, file) in store(self.archive, files)? {
            adds.entry(table).or_default().push(file);
        }
        let tables = adds.into_iter().map(|(table, adds)| {
            let as_of = self.committer.state().tables.get(&table).map(|known| known.last);
            TableEdit { table, as_of, adds, removes: Vec::new(), data_change: true }
        });
        let mut covered = Coverage::default();
        self.piece.iter().for_each(|span| {
            covered.insert(&self.log, span);
        });
        let (note, tallies) = (format!("fill of {} from {}", self.log, self.note), vec![((*self.log).clone(), self.piece_tally)]);
        let edit = Edit { note, tables: tables.collect(), tallies, covered, ..Edit::default() };
        self.committer.request(Request::Edit(edit))?;
        self.tally += std::mem::take(&mut self.piece_tally);
        for span in std::mem::take(&mut self.piece).iter() {
            self.filled.insert(span);
        }
        Ok(())
    }
}

/// The runs of messages without a gap, each with exactly its span.
fn runs(chunk: Chunk) -> Vec<Chunk> {
    let mut runs: Vec<Chunk> = Vec::new();
    for message in chunk.messages {
        match runs.last_mut() {
            Some(run) if run.span.end == message.offset => {
                run.span.end += 1;
                run.messages.push(message);
            }
            _ => runs.push(Chunk {
                log: Arc::clone(&chunk.log),
                span: message.offset..message.offset + 1,
                messages: vec![message],
                received_us: chunk.received_us,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use fink_dataflow::Message;

    use super::*;

    #[test]
    fn what_holds_no_message_elsewhere_is_not_filled() {
        let messages = [3, 4, 7, 8, 9].map(|offset| Message { offset, timestamp_ms: None, key: None, payload: None });
        let chunk = Chunk { log: Arc::new(Log::new("s", "t", 0, 0)), span: 0..12, messages: messages.to_vec(), received_us: 5 };
        let runs: Vec<_> = runs(chunk).into_iter().map(|run| (run.span, run.messages.len(), run.received_us)).collect();
        assert_eq!(runs, [(3..5, 2, 5), (7..10, 3, 5)]);
    }
}
