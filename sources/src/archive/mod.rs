//! What an archive holds, read again as decoded alerts: for services that need history, and for people.
//!
//! A [`Replay`] reads the tables at the versions that they had when it was opened, whatever is committed meanwhile. Rows
//! come as [`AlertBatch`]es, as the decoder gives them, but for columns that hold bytes: cutouts are nine tenths of an
//! archive, and are read only where they are asked for ([`Wanted::All`]).
//!
//! | file | what it is |
//! |---|---|
//! | [`select`] | which rows, and which columns |
//! | `sought` | rows of some objects only, from where these stand in order |
//! | [`passes`] | the same history, object after object, in several passes |
//! | `rows` | a file's batches as alert batches |
//! | [`rejected`] | which messages are rejects now |
//! | [`digest`] | whether two sets of rows are the same, in any order |
//! | [`history`] | a replay as a source of late data |
//! | [`follow`] | and what is committed after it, entry by entry |

pub mod digest;
pub mod follow;
pub mod history;
pub mod passes;
pub mod rejected;
mod rows;
pub mod select;
mod sought;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use arrow::error::ArrowError;
use fink_dataflow::Coverage;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::table::entry::{DataFile, Route, State};
use fink_dataflow::table::light;
use fink_dataflow::table::marks::REJECTS;
use fink_dataflow::table::object::Object;
use fink_dataflow::table::store::{runtime, wait};
use fink_dataflow::table::{Archive, Ledger, LedgerError, Table, TableError};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use rows::{Layout, Shelf};
pub use select::{Selection, Wanted};

/// How often it is tried to read ledger and tables while nobody commits; commits are a second apart.
const SETTLES: usize = 5;
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

/// A file to read, its table, and what of it.
struct Job {
    layout: Arc<Layout>,
    file: DataFile,
    selection: Arc<Selection>,
}

/// An archive's rows, as they were at one moment.
pub struct Replay {
    archive: Archive,
    ledger: Arc<Ledger>,
    wanted: Wanted,
    routes: BTreeMap<Arc<str>, Route>,
    versions: Vec<(Arc<str>, u64)>,
    /// The last entry that was applied to each.
    applied: BTreeMap<Arc<str>, u64>,
    /// Whether each is what the ledger said when it was read, and no later.
    settled: bool,
    /// The messages whose rows come from the table of light rows, if any do.
    light: Option<Arc<Coverage>>,
    stop: Option<Arc<AtomicBool>>,
    files: VecDeque<Job>,
}

impl Replay {
    /// Opens an archive's alert tables at their newest versions.
    ///
    /// # Errors
    /// When there is no archive, or it can't be read.
    pub fn open(archive: &Archive, selection: Selection, wanted: Wanted) -> Result<Self, ReplayError> {
        let (ledger, state) = read(archive)?;
        let mut replay = Self::none(archive, ledger, state.routes, wanted);
        let tables: BTreeSet<Arc<str>> = replay.routes.values().map(|route| route.table.clone()).collect();
        for table in tables {
            replay.add(Table::open(archive, &table)?, selection.clone())?;
        }
        Ok(replay)
    }

    /// Opens what services need to know of an archive: its table of light rows, and without cutouts those alerts of which it
    /// has none yet, each row once.
    ///
    /// # Errors
    /// As [`Replay::open`].
    pub fn history(archive: &Archive) -> Result<Self, ReplayError> {
        Self::history_of(archive, Selection::default())
    }

    /// As [`Replay::history`], of some objects and nights. Of alerts that have no light row yet, those of other objects come too.
    ///
    /// # Errors
    /// As [`Replay::open`].
    pub fn history_of(archive: &Archive, all: Selection) -> Result<Self, ReplayError> {
        let (ledger, state) = read(archive)?;
        // A table that has yet to take an entry lacks what the ledger says that it holds: then alerts are read alone.
        let known = state.tables.get(light::TABLE).map(|known| known.last);
        let held = known.map(|last| Ok::<_, ReplayError>((Table::open(archive, light::TABLE)?, last))).transpose()?;
        let held = held.filter(|(table, last)| table.applied() >= Some(*last));
        let lacking = if held.is_some() { Some(Arc::new(unrolled(archive, &state)?)) } else { None };
        let lacking = Selection { within: lacking, ..all.clone() };
        // Both tables may be ahead of this state when others write: what counts is what it says.
        let light = Selection { within: Some(Arc::new(state.light.clone())), ..all.clone() };
        let mut replay = Self::none(archive, ledger, state.routes, Wanted::Light);
        let tables: BTreeSet<Arc<str>> = replay.routes.values().map(|route| route.table.clone()).collect();
        if let Some((table, last)) = held {
            replay.light = light.within.clone();
            let selection = if table.applied() == Some(last) { all } else { light };
            replay.add(table, selection)?;
        }
        for table in tables {
            replay.add(Table::open(archive, &table)?, lacking.clone())?;
        }
        let said = state.tables.iter().filter(|(name, _)| replay.applied.contains_key(*name));
        replay.settled =
            said.clone().count() == replay.applied.len() && said.into_iter().all(|(name, known)| replay.applied[name] == known.last);
        Ok(replay)
    }

    /// As [`Replay::history`], at versions that who follows the archive goes on from: where it is written to all the time, from its
    /// alerts alone.
    ///
    /// # Errors
    /// As [`Replay::open`].
    pub fn to_follow(archive: &Archive) -> Result<Self, ReplayError> {
        for _ in 0..SETTLES {
            let history = Self::history(archive)?;
            if history.settled {
                return Ok(history);
            }
        }
        Self::open(archive, Selection::default(), Wanted::Light)
    }

    fn none(archive: &Archive, ledger: Arc<Ledger>, routes: BTreeMap<Arc<str>, Route>, wanted: Wanted) -> Self {
        Self {
            archive: archive.clone(),
            ledger,
            wanted,
            routes,
            versions: Vec::new(),
            applied: BTreeMap::new(),
            settled: false,
            light: None,
            stop: None,
            files: VecDeque::new(),
        }
    }

    /// Adds what is selected of a table.
    fn add(&mut self, mut table: Table, selection: Selection) -> Result<(), ReplayError> {
        let Some(version) = table.version() else { return Ok(()) };
        let (name, selection) = (&table.name().clone(), Arc::new(selection));
        let schema = table.schema().unwrap_or_default();
        let layout = Arc::new(Layout::of(name, schema).ok_or_else(|| ReplayError::Foreign(name.clone()))?);
        let is_light = **name == *light::TABLE;
        let is_in = |file: &DataFile| {
            selection.nights_of(layout.night(file))
                && selection.may_be_in(&file.stats, layout.bounded())
                && (!is_light || selection.objects.may_be_in(&file.stats))
        };
        let mut chosen: Vec<_> = table.files()?.into_iter().filter(is_in).collect();
        // Night by night, as they came.
        chosen.sort_by_cached_key(|file| (layout.night(file), file.path.clone()));
        self.files.extend(chosen.into_iter().map(|file| Job { layout: layout.clone(), file, selection: selection.clone() }));
        self.applied.extend(table.applied().map(|entry| (name.clone(), entry)));
        self.versions.push((name.clone(), version));
        Ok(())
    }

    /// The tables and the versions that are read.
    #[must_use]
    pub fn versions(&self) -> &[(Arc<str>, u64)] {
        &self.versions
    }

    /// The messages whose rows come from the table of light rows; those of others come from the alerts.
    #[must_use]
    pub fn light(&self) -> Option<&Arc<Coverage>> {
        self.light.as_ref()
    }

    /// Ends when this is set, between two files.
    #[must_use]
    pub fn ends_with(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Rows of the files to be read; more than will come where topics or offsets are selected.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|job| job.file.rows).sum()
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
            let (archive, wanted, stop) = (self.archive.clone(), self.wanted, self.stop.clone());
            let reader = std::thread::Builder::new().name(format!("replay-{index}")).spawn(move || {
                let goes_on = || stop.as_ref().is_none_or(|stop| !stop.load(Ordering::Relaxed));
                while let Some(job) = next(&files).filter(|_| goes_on()) {
                    let reader = FileReader { archive: &archive, selection: &job.selection, wanted };
                    let take = |alerts| !over.load(Ordering::Relaxed) && give.send(Ok(alerts)).is_ok();
                    let read = reader.read(&job.layout, &job.file, &mut shelf, take);
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

/// The messages whose alerts have yet to be rolled into the table of light rows. To be read before the alerts: what is moved
/// from the rejects to them meanwhile is left to the next roll.
///
/// # Errors
/// When the rejects can't be read.
pub fn unrolled(archive: &Archive, state: &State) -> Result<Coverage, ReplayError> {
    let lacking = light::lacking(state);
    if state.tables.contains_key(REJECTS) { Ok(lacking.without(&rejected::rejected(archive)?)) } else { Ok(lacking) }
}

fn read(archive: &Archive) -> Result<(Arc<Ledger>, State), ReplayError> {
    let there = archive.clone();
    let (ledger, state) = wait(async move { Ledger::open(&there).await })?;
    if state.next == 0 { Err(ReplayError::None(archive.place())) } else { Ok((Arc::new(ledger), state)) }
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
        let mut builder = runtime().block_on(ParquetRecordBatchStreamBuilder::new(object)).map_err(failed)?;
        if *layout.table == *light::TABLE {
            builder = runtime().block_on(self.selection.objects.narrow(builder)).map_err(failed)?;
        }
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
