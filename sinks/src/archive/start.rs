//! How a writer begins: it reads the ledger, takes the archive, and brings the tables up to the ledger.
//!
//! In this order: a table read before the ledger could lack an entry that the reader then takes for the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use fink_dataflow::Coverage;
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{Entry, FORMAT, State, Writer};
use fink_dataflow::table::ledger::{Ledger, LedgerError, Put};
use fink_dataflow::table::store::{Archive, wait};
use tracing::{info, warn};

use super::committer::{CommitError, CommitOptions};
use super::fence::{self, Held, Hold, Holder, Signs};

/// How often the fence is put before the store is given up.
const FENCE_ATTEMPTS: u32 = 20;

/// An archive that is ours, all its tables having taken all entries.
pub(super) struct Started {
    pub(super) ledger: Arc<Ledger>,
    pub(super) state: State,
    pub(super) tables: BTreeMap<Arc<str>, Table>,
    pub(super) hold: Hold,
}

/// Takes the archive.
pub(super) fn start(archive: &Archive, options: &CommitOptions) -> Result<Started, CommitError> {
    let failed = |source| CommitError::Ledger { archive: archive.place(), source };
    let me = options.writer.clone().map_or_else(fence::this_process, Ok)?;
    let opened = archive.clone();
    let (ledger, mut state) = wait(async move { Ledger::open(&opened).await }).map_err(failed)?;
    let ledger = Arc::new(ledger);
    if !options.take_over {
        judge(archive, &ledger, &state, &me)?;
    }
    let hold = take(archive, &ledger, &mut state, &me)?;
    let generation = state.generation;
    let beating = Arc::clone(&ledger);
    if let Err(error) = wait(async move { beating.heartbeat(generation).await }) {
        // The next comes in a few seconds; until then only a process on another host could push us aside, by the fence.
        warn!(%error, "no heartbeat yet");
    }
    info!(archive = %archive, generation, next = state.next, "archive taken");
    let tables = forward(archive, &ledger, &state)?;
    Ok(Started { ledger, state, tables, hold })
}

fn judge(archive: &Archive, ledger: &Arc<Ledger>, state: &State, me: &Writer) -> Result<(), CommitError> {
    let Some(holder) = &state.writer else { return Ok(()) };
    let beating = Arc::clone(ledger);
    let silent = wait(async move { beating.heartbeat_age().await });
    let silent = silent.map_err(|source| CommitError::Ledger { archive: archive.place(), source })?;
    let signs = Signs { lives: fence::lives(holder), ours: Hold::exists(archive.url().as_str(), state.generation), silent };
    Ok(fence::judge(&archive.place(), Some(holder), me, signs)?)
}

/// Puts the fence: the entry from which on no older generation's fits.
fn take(archive: &Archive, ledger: &Arc<Ledger>, state: &mut State, me: &Writer) -> Result<Hold, CommitError> {
    let failed = |source| CommitError::Ledger { archive: archive.place(), source };
    let before = state.generation;
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    for attempt in 1.. {
        let entry = fence_entry(state, me, format!("{nonce}-{}", state.next));
        let (putting, put) = (Arc::clone(ledger), entry.clone());
        match wait(async move { putting.put(&put).await }) {
            Ok(Put::Done) => {
                state.apply(&entry).map_err(LedgerError::from).map_err(failed)?;
                return Ok(Hold::new(archive.url().as_str(), state.generation));
            }
            // The writer before us is at work still; it is about to stop. What it put in our place comes first.
            Ok(Put::Taken(other)) if other.fence.is_none() && other.generation == before => {
                state.apply(&other).map_err(LedgerError::from).map_err(failed)?;
            }
            Ok(Put::Taken(other)) => {
                let holder = Holder(other.fence.unwrap_or_else(|| me.clone()));
                return Err(Held { archive: archive.place(), holder, since: "it was faster just now".to_owned() }.into());
            }
            Ok(Put::Passed(_)) => {
                let reading = Arc::clone(ledger);
                *state = wait(async move { reading.read().await }).map_err(failed)?;
            }
            Err(LedgerError::Unclear { number, source }) if attempt < FENCE_ATTEMPTS => {
                warn!(number, error = %source, "the fence was not put, tried again");
            }
            Err(error) => return Err(failed(error)),
        }
    }
    unreachable!("the last attempt returns")
}

fn fence_entry(state: &State, me: &Writer, nonce: String) -> Entry {
    Entry {
        format: FORMAT,
        number: state.next,
        nonce,
        generation: state.generation + 1,
        moment: state.moment,
        written_ms: chrono::Utc::now().timestamp_millis(),
        fence: Some(me.clone()),
        origins: Vec::new(),
        covered: Coverage::default(),
        tallies: Vec::new(),
        moved: Vec::new(),
        marks: Vec::new(),
        accepted: Coverage::default(),
        routes: Vec::new(),
        tables: Vec::new(),
        note: "start".to_owned(),
    }
}

/// Applies to each table the entries that it lacks, strictly in order.
fn forward(archive: &Archive, ledger: &Arc<Ledger>, state: &State) -> Result<BTreeMap<Arc<str>, Table>, CommitError> {
    let mut tables = BTreeMap::new();
    for (name, known) in &state.tables {
        let failed = |source| CommitError::Table { table: Arc::clone(name), source };
        let mut table = Table::open(archive, name).map_err(failed)?;
        for entry in lacking(archive, ledger, name, known.last, table.applied())?.into_iter().rev() {
            let change = entry.tables.iter().find(|change| change.table == *name);
            let change = change.expect("`lacking` takes only entries that touch the table");
            table.apply(entry.number, change).map_err(failed)?;
            info!(table = %name, entry = entry.number, "table rolled forward");
        }
        tables.insert(Arc::clone(name), table);
    }
    Ok(tables)
}

/// The entries that touched table `name` after `applied`, from `last` down.
fn lacking(archive: &Archive, ledger: &Arc<Ledger>, name: &Arc<str>, last: u64, applied: Option<u64>) -> Result<Vec<Entry>, CommitError> {
    let astray = |needed, why| CommitError::Astray { table: Arc::clone(name), applied, needed, why };
    let mut lacking = Vec::new();
    let mut at = Some(last);
    while at != applied {
        let Some(number) = at else { return Err(astray(None, "the ledger knows no such entry of this table")) };
        if applied.is_some_and(|applied| applied > number) {
            return Err(astray(Some(number), "the table is ahead of the ledger: was the ledger put back from a copy?"));
        }
        let reading = Arc::clone(ledger);
        let entry = wait(async move { reading.entry(number).await });
        let entry = entry.map_err(|source| CommitError::Ledger { archive: archive.place(), source })?;
        let Some(entry) = entry else {
            return Err(astray(Some(number), "that entry is gone: was the table put back from a copy?"));
        };
        let Some(change) = entry.tables.iter().find(|change| change.table == *name) else {
            return Err(astray(Some(number), "that entry does not touch the table"));
        };
        at = change.previous;
        lacking.push(entry);
    }
    Ok(lacking)
}
