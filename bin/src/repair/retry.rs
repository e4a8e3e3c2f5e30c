//! Decodes rejects again, with today's schemas, and moves those that now can be decoded to the alerts.
//!
//! A file of rejects at a time: what can be decoded becomes files of alerts, what remains a new file of rejects, and the
//! old file goes; all by one entry of the ledger, so that a message is at every moment either a reject or an alert.
//! It is read and decoded in pieces: a file may hold more than memory does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fink_dataflow::alerts::{Decoded, Reject, Tally};
use fink_dataflow::budget::Budget;
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::{DataFile, Removed};
use fink_dataflow::{Chunk, Log};
use fink_operators::decode::Decode;
use fink_sinks::archive::committer::{Committer, Edit, Request, TableEdit};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;

use super::rejects::{self, Rejected, TABLE, Which};
use super::store;
use crate::input::Library;

/// What a retry did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retried {
    /// Rejects tried.
    pub tried: u64,
    /// Of these, now archived, or found to be empty.
    pub moved: u64,
    /// Rejects left out, because they crashed the decoder and were not named.
    pub spared: u64,
}

/// What a retry works with.
pub struct Retry<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Its only writer.
    pub committer: &'a Committer,
    /// Which table a schema's alerts go to.
    pub routes: &'a Arc<Routes>,
    /// Where schemas come from.
    pub library: Library,
    /// How many bytes of payload are decoded at a time, about.
    pub piece_bytes: usize,
}

/// What became of a piece of a file.
struct Piece {
    decoded: Decoded,
    others: Vec<Rejected>,
    moved: BTreeMap<Log, Tally>,
}

impl Retry<'_> {
    /// Tries all rejects that are meant; what crashed the decoder only where it is named.
    ///
    /// # Errors
    /// When the archive can't be read or written, or schemas can't be looked up.
    pub fn run(&mut self, which: &Which) -> anyhow::Result<Retried> {
        let mut done = Retried::default();
        for file in rejects::files(self.archive)? {
            // The light columns say whether the heavy ones are worth reading.
            let light = rejects::read(self.archive, &file, false)?;
            let spared = light.iter().filter(|reject| which.spares(reject)).count() as u64;
            let tried = light.iter().filter(|reject| which.holds(reject)).count() as u64 - spared;
            (done.tried, done.spared) = (done.tried + tried, done.spared + spared);
            if tried > 0 && self.any_moves(&file, which)? {
                done.moved += self.rewrite(&file, which)?;
            }
        }
        Ok(done)
    }

    /// Whether anything of a file can be decoded now: else it stays as it is.
    fn any_moves(&mut self, file: &DataFile, which: &Which) -> anyhow::Result<bool> {
        for piece in rejects::pieces(self.archive, file, self.piece_bytes)? {
            if !self.decode(piece?, which)?.moved.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn decode(&mut self, piece: Vec<Rejected>, which: &Which) -> anyhow::Result<Piece> {
        let (meant, others): (Vec<_>, Vec<_>) = piece.into_iter().partition(|reject| which.holds(reject) && !which.spares(reject));
        let chunks: Vec<Chunk> = meant.iter().map(chunk).collect();
        chunks.iter().try_for_each(|chunk| self.library.learn(chunk))?;
        let budget = Budget::new(usize::MAX);
        let decoded = Decode::new(self.library.book()).decode(chunks.into_iter().map(|chunk| (chunk, Arc::new(budget.take(0)))).collect());
        let mut moved: BTreeMap<Log, Tally> = BTreeMap::new();
        for passed in decoded.passed.iter().filter(|passed| passed.tally.rejected == 0) {
            // The message and its bytes are counted already; what became of it changes.
            *moved.entry((*passed.log).clone()).or_default() += Tally { bytes: 0, ..passed.tally };
        }
        Ok(Piece { decoded, others, moved })
    }

    /// Writes a file's rejects anew, those that decode as alerts, piece by piece, and commits all at once.
    fn rewrite(&mut self, file: &DataFile, which: &Which) -> anyhow::Result<u64> {
        let mut moved: BTreeMap<Log, Tally> = BTreeMap::new();
        let mut adds: BTreeMap<Arc<str>, Vec<DataFile>> = BTreeMap::from([(TABLE.into(), Vec::new())]);
        for piece in rejects::pieces(self.archive, file, self.piece_bytes)? {
            let piece = self.decode(piece?, which)?;
            let mut files = Files::new(Arc::clone(self.routes), Memory::new(usize::MAX, 1), self.committer.state().generation);
            for batch in &piece.decoded.alerts {
                files.alerts(batch)?;
            }
            let mut remain: Vec<Reject> = piece.others.into_iter().map(again).collect();
            remain.extend(piece.decoded.rejects);
            files.rejects(&remain)?;
            for (table, file) in store(self.archive, files)? {
                adds.entry(table).or_default().push(file);
            }
            for (log, tally) in piece.moved {
                *moved.entry(log).or_default() += tally;
            }
        }
        let count = moved.values().map(|tally| tally.messages).sum();
        let state = self.committer.state();
        let tables = adds.into_iter().map(|(table, adds)| TableEdit {
            as_of: state.tables.get(&table).map(|known| known.last),
            removes: if *table == *TABLE { vec![Removed { path: file.path.clone(), rows: file.rows }] } else { Vec::new() },
            table,
            adds,
            data_change: true,
        });
        let note = format!("retry of {count} rejects");
        let edit = Edit { note, tables: tables.collect(), moved: moved.into_iter().collect(), ..Edit::default() };
        self.committer.request(Request::Edit(edit))?;
        Ok(count)
    }
}

fn chunk(reject: &Rejected) -> Chunk {
    let (message, received_us) = (reject.message.clone(), reject.received_us);
    Chunk { log: Arc::new(reject.log.clone()), span: message.offset..message.offset + 1, messages: vec![message], received_us }
}

/// A reject that stays one, as it was.
fn again(reject: Rejected) -> Reject {
    let Rejected { log, message, received_us, fault, reason } = reject;
    Reject { log: Arc::new(log), message, received_us, fault: word(&fault), reason }
}

/// The fault's word, which lives as long as the process: there are few of them.
fn word(fault: &str) -> &'static str {
    use std::sync::{Mutex, PoisonError};
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(fault) {
        return known;
    }
    let new: &'static str = fault.to_owned().leak();
    words.insert(new);
    new
}
