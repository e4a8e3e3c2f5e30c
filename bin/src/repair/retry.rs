//! Decodes rejects again, with today's schemas, and moves those that now can be decoded to the alerts.
//!
//! A file of rejects at a time: what can be decoded becomes files of alerts, what remains a new file of rejects, and the
//! old file goes; all by one entry of the ledger, so that a message is at every moment either a reject or an alert.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fink_dataflow::alerts::{Reject, Tally};
use fink_dataflow::budget::Budget;
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::{DataFile, Removed};
use fink_dataflow::{Chunk, Log};
use fink_operators::decode::Decode;
use fink_sinks::archive::committer::{Committer, Edit, Request, TableEdit};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;
use fink_sources::schemas::ids;

use super::rejects::{self, Rejected, TABLE, Which};
use super::store;
use crate::input::Library;
use crate::settings::Schemas;

/// What a retry did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retried {
    /// Rejects tried.
    pub tried: u64,
    /// Of these, now archived, or found to be empty.
    pub moved: u64,
}

/// Tries all rejects that are meant.
///
/// # Errors
/// When the archive can't be read or written, or schemas can't be looked up.
pub fn retry(archive: &Archive, committer: &Committer, routes: &Arc<Routes>, schemas: &Schemas, which: &Which) -> anyhow::Result<Retried> {
    let mut done = Retried::default();
    for file in rejects::files(archive)? {
        let all = rejects::read(archive, &file, true)?;
        let (meant, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|reject| which.holds(reject));
        if meant.is_empty() {
            continue;
        }
        done.tried += meant.len() as u64;
        done.moved += retry_file(archive, committer, routes, schemas, &file, (meant, others))?;
    }
    Ok(done)
}

fn retry_file(
    archive: &Archive,
    committer: &Committer,
    routes: &Arc<Routes>,
    schemas: &Schemas,
    file: &DataFile,
    (meant, others): (Vec<Rejected>, Vec<Rejected>),
) -> anyhow::Result<u64> {
    let chunks: Vec<Chunk> = meant.iter().map(chunk).collect();
    let mut library = Library::open(schemas)?;
    library.learn(chunks.iter().flat_map(ids))?;
    let budget = Budget::new(usize::MAX);
    let decoded = Decode::new(library.book()).decode(chunks.into_iter().map(|chunk| (chunk, Arc::new(budget.take(0)))).collect());
    let mut moved: BTreeMap<Log, Tally> = BTreeMap::new();
    for passed in decoded.passed.iter().filter(|passed| passed.tally.rejected == 0) {
        // The message and its bytes are counted already; what became of it changes.
        *moved.entry((*passed.log).clone()).or_default() += Tally { bytes: 0, ..passed.tally };
    }
    let count = moved.values().map(|tally| tally.messages).sum();
    if count == 0 {
        return Ok(0);
    }
    let mut files = Files::new(Arc::clone(routes), Memory::new(usize::MAX, 1), committer.state().generation);
    for batch in &decoded.alerts {
        files.alerts(batch)?;
    }
    let mut remain: Vec<Reject> = others.into_iter().map(again).collect();
    remain.extend(decoded.rejects);
    files.rejects(&remain)?;
    let mut adds: BTreeMap<Arc<str>, Vec<DataFile>> = BTreeMap::from([(TABLE.into(), Vec::new())]);
    for (table, file) in store(archive, files)? {
        adds.entry(table).or_default().push(file);
    }
    let state = committer.state();
    let tables = adds.into_iter().map(|(table, adds)| TableEdit {
        as_of: state.tables.get(&table).map(|known| known.last),
        removes: if *table == *TABLE { vec![Removed { path: file.path.clone(), rows: file.rows }] } else { Vec::new() },
        table,
        adds,
        data_change: true,
    });
    let edit =
        Edit { note: format!("retry of {count} rejects"), tables: tables.collect(), moved: moved.into_iter().collect(), ..Edit::default() };
    committer.request(Request::Edit(edit))?;
    Ok(count)
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
