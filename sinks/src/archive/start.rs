//! How a writer begins: it reads the ledger, takes the archive, and brings the tables up to the ledger.
//!
//! In this order: a table read before the ledger could lack an entry that the reader then takes for the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{Entry, State, Writer};
use fink_dataflow::table::ledger::{Ledger, LedgerError};
use fink_dataflow::table::store::{Archive, wait};
use tracing::{info, warn};

use super::committer::{CommitError, CommitOptions};
use super::fence::{self, Held, Hold, Holder, Signs};
use super::opening::{After, Astray, FenceEnd, Lacking, Taking};

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
    let (ledger, state) = wait(async move { Ledger::open(&opened).await }).map_err(failed)?;
    let ledger = Arc::new(ledger);
    if !options.take_over {
        judge(archive, &ledger, &state, &me)?;
    }
    let (state, hold) = take(archive, &ledger, state, &me)?;
    let generation = state.generation;
    let beating = Arc::clone(&ledger);
    if let Err(error) = wait(async move { beating.heartbeat(generation).await }) {
        // The next comes in a few seconds; until then only a process on another host could push us aside, by the fence.
        warn!(%error, "no heartbeat yet");
    }
    info!(archive = %archive, generation, next = state.next, "archive taken");
    let tables = forward(archive, &ledger, &state).map_err(|error| overtaken(archive, &ledger, &state, error))?;
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

/// Puts the fence, until the archive is ours.
fn take(archive: &Archive, ledger: &Arc<Ledger>, state: State, me: &Writer) -> Result<(State, Hold), CommitError> {
    let failed = |source| CommitError::Ledger { archive: archive.place(), source };
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let mut taking = Taking::new(state, me.clone(), nonce, chrono::Utc::now().timestamp_millis());
    loop {
        let (putting, fence) = (Arc::clone(ledger), taking.entry());
        let put = wait(async move { putting.put(&fence).await });
        let mut unclear = None;
        let end = match put {
            Ok(put) => FenceEnd::Told(put),
            Err(LedgerError::Unclear { number, source }) => {
                warn!(number, error = %source, "the fence was not put, tried again");
                unclear = Some(LedgerError::Unclear { number, source });
                FenceEnd::Unclear
            }
            Err(error) => return Err(failed(error)),
        };
        let mut after = taking.step(end).map_err(LedgerError::from).map_err(failed)?;
        if matches!(after, After::Reread) {
            let reading = Arc::clone(ledger);
            after = taking.reread(wait(async move { reading.read().await }).map_err(failed)?);
        }
        match after {
            After::Ours(state) => {
                let hold = Hold::new(archive.url().as_str(), state.generation);
                return Ok((*state, hold));
            }
            After::Again | After::Reread => {}
            After::Lost(other) => {
                let holder = Holder(other.unwrap_or_else(|| me.clone()));
                return Err(Held { archive: archive.place(), holder, since: "it was faster just now".to_owned() }.into());
            }
            After::GivenUp => return Err(failed(unclear.expect("it is given up after a put that was unclear"))),
        }
    }
}

/// What an error of [`forward`] means: a table that seems astray may have been taken further by who took the archive from us
/// meanwhile.
pub(super) fn overtaken(archive: &Archive, ledger: &Arc<Ledger>, state: &State, error: CommitError) -> CommitError {
    if !matches!(error, CommitError::Astray { .. }) {
        return error;
    }
    let reading = Arc::clone(ledger);
    match wait(async move { reading.read().await }) {
        Ok(State { generation, writer: Some(writer), .. }) if generation != state.generation => {
            Held { archive: archive.place(), holder: Holder(writer), since: "it has taken the archive over just now".to_owned() }.into()
        }
        _ => error,
    }
}

/// Applies to each table the entries that it lacks, strictly in order.
pub(super) fn forward(archive: &Archive, ledger: &Arc<Ledger>, state: &State) -> Result<BTreeMap<Arc<str>, Table>, CommitError> {
    let mut tables = BTreeMap::new();
    for (name, known) in &state.tables {
        let failed = |source| CommitError::Table { table: Arc::clone(name), source };
        let mut table = Table::open(archive, name).map_err(failed)?;
        for entry in lacking(archive, ledger, name, known.last, table.applied())? {
            let change = entry.tables.iter().find(|change| change.table == *name);
            let change = change.expect("`lacking` takes only entries that touch the table");
            table.apply(entry.number, change).map_err(failed)?;
            info!(table = %name, entry = entry.number, "table rolled forward");
        }
        tables.insert(Arc::clone(name), table);
    }
    Ok(tables)
}

/// The entries that touched table `name` after `applied`, up to `last`.
fn lacking(archive: &Archive, ledger: &Arc<Ledger>, name: &Arc<str>, last: u64, applied: Option<u64>) -> Result<Vec<Entry>, CommitError> {
    let astray = |Astray { needed, why }| CommitError::Astray { table: Arc::clone(name), applied, needed, why };
    let mut lacking = Lacking::new(Arc::clone(name), last, applied);
    while let Some(number) = lacking.next().map_err(astray)? {
        let reading = Arc::clone(ledger);
        let entry = wait(async move { reading.entry(number).await });
        let entry = entry.map_err(|source| CommitError::Ledger { archive: archive.place(), source })?;
        lacking.take(entry).map_err(astray)?;
    }
    Ok(lacking.found())
}
