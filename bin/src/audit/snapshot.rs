//! The ledger and the tables at one moment, though a writer goes on.

use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::table::entry::{DataFile, State};
use fink_dataflow::table::store::wait;
use fink_dataflow::table::{Archive, Ledger, Table};

/// How often a moving archive is looked at again.
const TRIES: u32 = 40;

/// An archive at one moment.
pub struct Snapshot {
    /// What the ledger adds up to.
    pub state: State,
    /// The tables that it names.
    pub tables: Vec<TableFiles>,
}

/// A table's live files.
pub struct TableFiles {
    /// Its folder.
    pub name: Arc<str>,
    /// Its version; `None`: it is not there yet.
    pub version: Option<u64>,
    /// Its schema, as Delta's JSON.
    pub schema: String,
    /// Its files.
    pub files: Vec<DataFile>,
    /// The rows that the ledger counts.
    pub ledger_rows: i64,
    /// The entry applied last, and the one that should be, where they differ.
    pub lags: Option<(Option<u64>, u64)>,
}

/// The state of an archive's ledger.
///
/// # Errors
/// When it can't be read, or there is none.
pub fn state(archive: &Archive) -> anyhow::Result<State> {
    let there = archive.clone();
    let (_, state) = wait(async move { Ledger::open(&there).await })?;
    anyhow::ensure!(state.next > 0, "there is no archive at {}", archive.place());
    Ok(state)
}

/// Reads ledger and tables until both tell of the same entry. Where a table stays behind, no writer is there to roll it
/// forward, and it is told as it is.
///
/// # Errors
/// When the archive can't be read, or there is none.
pub fn take(archive: &Archive) -> anyhow::Result<Snapshot> {
    let mut tables: Vec<Table> = Vec::new();
    for tried in 1.. {
        // Tables first: a ledger read after them holds every entry that they have.
        for table in &mut tables {
            table.refresh()?;
        }
        let mut listed = Vec::new();
        for table in &mut tables {
            let files = table.files()?;
            listed.push((table.name().clone(), table.version(), table.applied(), table.schema().unwrap_or_default().to_owned(), files));
        }
        let state = state(archive)?;
        let found: Vec<TableFiles> = listed
            .into_iter()
            .filter_map(|(name, version, applied, schema, files)| {
                let known = state.tables.get(&name)?;
                let lags = (applied != Some(known.last)).then_some((applied, known.last));
                Some(TableFiles { name, version, schema, files, ledger_rows: known.rows, lags })
            })
            .collect();
        let whole = found.len() == state.tables.len() && found.iter().all(|table| table.lags.is_none());
        if whole || tried == TRIES {
            return Ok(Snapshot { state, tables: found });
        }
        let missing: Vec<_> = state.tables.keys().filter(|name| tables.iter().all(|table| table.name() != *name)).cloned().collect();
        if missing.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
        for name in missing {
            tables.push(Table::open(archive, &name)?);
        }
    }
    unreachable!("the last try returns")
}
