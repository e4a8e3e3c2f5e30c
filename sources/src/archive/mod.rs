//! What an archive holds, read again as decoded alerts: for services that need history, and for people.
//!
//! A [`Replay`] reads the tables at the versions that they had when it was opened, whatever is committed meanwhile. Rows
//! come as [`AlertBatch`]es, as the decoder gives them, but for columns that hold bytes: cutouts are nine tenths of an
//! archive, and are read only where they are asked for ([`Wanted::All`]).
//!
//! | file | what it is |
//! |---|---|
//! | [`select`] | which rows, and which columns |
//! | `rows` | a file's batches as alert batches |
//! | [`digest`] | whether two sets of rows are the same, in any order |
//! | [`history`] | a replay as a source of late data |
//! | [`follow`] | and what is committed after it, entry by entry |

pub mod digest;
pub mod follow;
pub mod history;
mod rows;
pub mod select;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use arrow::error::ArrowError;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::table::entry::{DataFile, Route};
use fink_dataflow::table::object::Object;
use fink_dataflow::table::store::{runtime, wait};
use fink_dataflow::table::{Archive, Ledger, LedgerError, Table, TableError};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use rows::{Layout, Shelf};
pub use select::{Selection, Wanted};

/// Rows of a batch, at most.
const ROWS: usize = 1_024;
/// Batches that wait for whoever takes them; beyond, the readers wait.
const WAITING: usize = 8;

/// Why an archive can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none.
    #[error("there is no archive at {0}")]
    None(String),
    /// The ledger can't be read.
    #[error("the ledger can't be read")]
    Ledger(#[from] LedgerError),
    /// A table can't be read.
    #[error("a table can't be read")]
    Table(#[from] TableError),
    /// A table is none of ours.
    #[error("table {0} does not mark its columns as fink does")]
    Foreign(Arc<str>),
    /// A file can't be read.
    #[error("{path} can't be read")]
    File {
        /// The file, below the archive.
        path: String,
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// A file's rows are not what they should be.
    #[error("{path} holds rows that can't be understood")]
    Rows {
        /// The file, below the archive.
        path: String,
        /// Why.
        #[source]
        source: ArrowError,
    },
    /// No thread can be had.
    #[error("no thread can be had")]
    Thread(#[from] std::io::Error),
}

/// A file to read, and its table.
type Job = (Arc<Layout>, DataFile);

/// An archive's rows, as they were at one moment.
pub struct Replay {
    archive: Archive,
    ledger: Arc<Ledger>,
    selection: Selection,
    wanted: Wanted,
    routes: BTreeMap<Arc<str>, Route>,
    versions: Vec<(Arc<str>, u64)>,
    /// The last entry that was applied to each.
    applied: BTreeMap<Arc<str>, u64>,
    files: VecDeque<Job>,
}

impl Replay {
    /// Opens an archive's alert tables at their newest versions.
    ///
    /// # Errors
    /// When there is no archive, or it can't be read.
    pub fn open(archive: &Archive, selection: Selection, wanted: Wanted) -> Result<Self, ReplayError> {
        let there = archive.clone();
        let (ledger, state) = wait(async move { Ledger::open(&there).await })?;
        if state.next == 0 {
            return Err(ReplayError::None(archive.place()));
        }
        let (mut versions, mut applied, mut files) = (Vec::new(), BTreeMap::new(), VecDeque::new());
        let tables: std::collections::BTreeSet<Arc<str>> = state.routes.values().map(|route| route.table.clone()).collect();
        for name in tables {
            let mut table = Table::open(archive, &name)?;
            let Some(version) = table.version() else { continue };
            let schema = table.schema().unwrap_or_default();
            let layout = Arc::new(Layout::of(&name, schema).ok_or_else(|| ReplayError::Foreign(name.clone()))?);
            let mut chosen: Vec<_> = table.files()?.into_iter().filter(|file| selection.nights_of(layout.night(file))).collect();
            // Night by night, as they came.
            chosen.sort_by_cached_key(|file| (layout.night(file), file.path.clone()));
            files.extend(chosen.into_iter().map(|file| (layout.clone(), file)));
            applied.extend(table.applied().map(|entry| (name.clone(), entry)));
            versions.push((name, version));
        }
        let (archive, ledger, routes) = (archive.clone(), Arc::new(ledger), state.routes);
        Ok(Self { archive, ledger, selection, wanted, routes, versions, applied, files })
    }

    /// The tables and the versions that are read.
    #[must_use]
    pub fn versions(&self) -> &[(Arc<str>, u64)] {
        &self.versions
    }

    /// Rows of the files to be read; more than will come where topics or offsets are selected.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.rows).sum()
    }

    /// Reads on so many threads, and hands each batch to `take` on this one, until that breaks. Batches come in no order.
    ///
    /// # Errors
    /// When a file can't be read; what came before is as it should be.
    pub fn run(self, threads: usize, mut take: impl FnMut(AlertBatch) -> ControlFlow<()>) -> Result<(), ReplayError> {
        let (give, batches) = mpsc::sync_channel(WAITING);
        let files = Arc::new(Mutex::new(self.files));
        let over = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for index in 0..threads.max(1) {
            let mut shelf = Shelf::new(self.ledger.clone(), self.routes.clone());
            let (files, over, give) = (files.clone(), over.clone(), give.clone());
            let (archive, selection, wanted) = (self.archive.clone(), self.selection.clone(), self.wanted);
            let reader = std::thread::Builder::new().name(format!("replay-{index}")).spawn(move || {
                let reader = FileReader { archive: &archive, selection: &selection, wanted };
                while let Some((layout, file)) = next(&files) {
                    let read =
                        reader.read(&layout, &file, &mut shelf, |alerts| !over.load(Ordering::Relaxed) && give.send(Ok(alerts)).is_ok());
                    match read {
                        Ok(()) if !over.load(Ordering::Relaxed) => {}
                        Ok(()) => return,
                        Err(error) => {
                            // Nobody takes it where the replay was broken off.
                            let _ = give.send(Err(error));
                            return;
                        }
                    }
                }
            })?;
            readers.push(reader);
        }
        drop(give);
        let mut result = Ok(());
        for batch in &batches {
            match batch.map(&mut take) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        // Readers that wait for room see that nobody takes any more.
        drop(batches);
        for reader in readers {
            if let Err(panic) = reader.join() {
                std::panic::resume_unwind(panic);
            }
        }
        result
    }
}

fn next(files: &Mutex<VecDeque<Job>>) -> Option<Job> {
    files.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// Reads files.
struct FileReader<'r> {
    archive: &'r Archive,
    selection: &'r Selection,
    wanted: Wanted,
}

impl FileReader<'_> {
    /// Hands a file's batches to `take`, until that wants no more.
    fn read(
        &self,
        layout: &Layout,
        file: &DataFile,
        shelf: &mut Shelf,
        mut take: impl FnMut(AlertBatch) -> bool,
    ) -> Result<(), ReplayError> {
        let path = format!("{}/{}", layout.table, file.path);
        let failed = |source: ParquetError| ReplayError::File { path: path.clone(), source };
        let object = Object::new(self.archive, &layout.table, file);
        // Decoding runs on this thread; only I/O is the runtime's.
        let builder = runtime().block_on(ParquetRecordBatchStreamBuilder::new(object)).map_err(failed)?;
        let columns = layout.columns(builder.schema(), self.wanted);
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let mut batches = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(failed)?;
        while let Some(batch) = runtime().block_on(batches.try_next()).map_err(failed)? {
            let understood = layout.alerts(&batch, file, self.selection, shelf);
            for alerts in understood.map_err(|source| ReplayError::Rows { path: path.clone(), source })? {
                if !take(alerts) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
