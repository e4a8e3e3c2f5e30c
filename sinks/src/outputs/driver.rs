//! The thread that keeps the tables: when what is published, and consolidated.
//!
//! It looks once a second. Frontiers are read first, then what the workers brought: so all is there that the frontiers say.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fink_dataflow::Moment;
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{DataFile, Removed};
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::store::Archive;
use timely::order::PartialOrder;
use tracing::{debug, error, info, warn};

use super::consolidate::consolidated;
use super::pending::{Changes, Part};
use super::residue::Residue;
use super::seat::{Seat, Shared, locked};
use super::stand::Stand;
use super::store::{Batches, Files, Rows, StoreError};
use super::table::{folder, with_own};
use crate::archive::committer::{Committer, Edit, Request, TableEdit};
use crate::archive::driver::chain;
use crate::archive::merge::Refusal;
use crate::archive::routes::Routes;
use crate::archive::upload::Stuck;

/// How often the end of the thread is looked for.
const STOP_LOOK: Duration = Duration::from_millis(5);
/// Rows made Arrow's at once.
const BATCH_ROWS: usize = 8_192;
/// How much less of a busy machine the thread gets than the archive.
const NICE: i32 = 10;

/// How tables of answers are kept.
#[derive(Clone, Debug)]
pub struct OutputsOptions {
    /// How often what changed is published.
    pub every: Duration,
    /// How often it is looked what has become final.
    pub look: Duration,
    /// Updates of one output that may wait. If more do, it is given up until the next start.
    pub held_max: usize,
    /// Rows of a file, at most.
    pub file_rows: usize,
    /// Rows that a table must have to be consolidated.
    pub consolidate_rows: u64,
}

impl Default for OutputsOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(30),
            look: Duration::from_secs(1),
            held_max: 20_000_000,
            file_rows: 100_000,
            consolidate_rows: 200_000,
        }
    }
}

/// Whether answers of a Moment know all that the archive held when the process started.
pub type Complete = Box<dyn Fn(Moment) -> bool + Send>;

/// What the thread needs.
pub struct OutputsParts {
    /// The archive.
    pub archive: Archive,
    /// Its committer.
    pub committer: Committer,
    /// What is known of its tables.
    pub routes: Arc<Routes>,
    /// Timely's workers.
    pub workers: usize,
    /// Whether answers are whole.
    pub complete: Complete,
}

/// The tables of a process's answers.
pub struct Outputs {
    shared: Arc<Shared>,
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Outputs {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn start(parts: OutputsParts, options: OutputsOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(parts.workers, options.held_max));
        let (stop, stopped) = bounded(1);
        let driver = Driver {
            shared: Arc::clone(&shared),
            stop: stopped,
            archive: parts.archive,
            committer: parts.committer,
            routes: parts.routes,
            complete: parts.complete,
            options,
            stuck: Stuck::default(),
            kept: Vec::new(),
            seen: None,
            closed: None,
            published: Instant::now(),
            caught_up: false,
            ended: false,
        };
        let thread = Builder::new().name("fink-outputs".to_owned()).spawn(move || driver.run())?;
        Ok(Self { shared, stop, thread: Mutex::new(Some(thread)) })
    }

    /// A worker's place.
    #[must_use]
    pub fn seat(&self, index: usize) -> Seat {
        Seat { index, shared: Arc::clone(&self.shared) }
    }

    /// How far the tables are.
    #[must_use]
    pub fn stand(&self) -> Stand {
        self.shared.stand().clone()
    }

    /// Publishes what is final, and ends; gives up after `patience`: the next start publishes it then. To be called when the
    /// workers have ended, and before the committer is stopped. Returns whether it ended.
    pub fn stop(&self, patience: Duration) -> bool {
        // It has ended if nobody takes the message.
        let _ = self.stop.try_send(());
        let mut thread = locked(&self.thread);
        let began = Instant::now();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if began.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(STOP_LOOK);
        }
        // A panic has been reported by the hook.
        thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

/// How far an output is.
enum Stage {
    /// Its table was not read yet.
    Unread,
    /// Its table was read; the answer is not whole yet.
    Behind(Files, Residue),
    /// Its table is exact at the Moment published last.
    Exact(Files),
    /// It is not written any more.
    Failed,
}

/// An output.
struct Kept {
    part: Box<dyn Part>,
    stage: Stage,
    /// Rows of its table when it was consolidated last: none of them cancelled.
    base: u64,
}

struct Driver {
    shared: Arc<Shared>,
    stop: Receiver<()>,
    archive: Archive,
    committer: Committer,
    routes: Arc<Routes>,
    complete: Complete,
    options: OutputsOptions,
    stuck: Stuck,
    kept: Vec<Kept>,
    /// What was open when a Moment was last closed.
    seen: Option<Moment>,
    /// The last Moment that was closed.
    closed: Option<Moment>,
    /// When something was published last.
    published: Instant,
    caught_up: bool,
    /// The committer has ended.
    ended: bool,
}

impl Driver {
    fn run(mut self) {
        // The archive goes first.
        if let Err(error) = rustix::process::nice(NICE) {
            debug!(%error, "tables of answers are written at the common priority");
        }
        loop {
            let stopping = !matches!(self.stop.recv_timeout(self.options.look), Err(RecvTimeoutError::Timeout));
            self.look(stopping);
            if stopping || self.ended {
                return;
            }
        }
    }

    fn look(&mut self, stopping: bool) {
        self.kept.extend(self.shared.fresh().into_iter().map(|part| Kept { part, stage: Stage::Unread, base: 0 }));
        self.begin();
        // What the answer lacked when a Moment was closed may be there without a new one.
        let again = self.closed.filter(|_| !self.caught_up);
        if let Some(moment) = self.close().or(again) {
            if !self.caught_up {
                self.absorb();
                if self.kept.iter().all(|kept| !matches!(kept.stage, Stage::Unread)) && (self.complete)(moment) {
                    self.catch_up(moment);
                    self.consolidate();
                }
            } else if stopping || self.published.elapsed() >= self.options.every {
                self.publish(moment);
                if !stopping {
                    self.consolidate();
                }
            }
        }
        let waiting = self.kept.iter().map(|kept| kept.part.due() as u64).sum();
        let trouble = locked(&self.stuck).clone();
        let mut stand = self.shared.stand();
        stand.waiting = waiting;
        if trouble.is_some() || self.kept.iter().all(|kept| !matches!(kept.stage, Stage::Unread)) {
            stand.trouble = trouble;
        }
    }

    /// Reads the tables back that were not yet.
    fn begin(&mut self) {
        for index in 0..self.kept.len() {
            if !matches!(self.kept[index].stage, Stage::Unread) {
                continue;
            }
            let name = Arc::clone(self.kept[index].part.name());
            let fields = with_own(self.kept[index].part.fields());
            let table = folder(&name);
            let columns = match self.routes.declare(&table, &fields) {
                Ok(columns) => columns,
                Err(error) => {
                    self.fail(index, &chain(&error));
                    continue;
                }
            };
            let generation = self.committer.state().generation;
            let stuck = Arc::clone(&self.stuck);
            let read = Files::new(self.archive.clone(), table, columns, generation, stuck)
                .map_err(|error| chain(&error))
                .and_then(|files| self.read_back(&files).map(|residue| (files, residue)));
            match read {
                Ok((files, residue)) => {
                    info!(table = %name, rows = residue.len(), "table of answers read back");
                    let kept = &mut self.kept[index];
                    kept.base = residue.len() as u64;
                    kept.stage = Stage::Behind(files, residue);
                }
                Err(why) => {
                    warn!(table = %name, %why, "table of answers not read back, tried again");
                    self.shared.stand().trouble = Some(format!("{name} can't be read: {why}"));
                }
            }
        }
    }

    /// What a table has, taken away from nothing.
    fn read_back(&mut self, files: &Files) -> Result<Residue, String> {
        let mut residue = Residue::new(&files.content()).map_err(|error| chain(&error))?;
        for file in self.files(files)?.0 {
            let mut take = |rows: Rows| Ok(residue.published(&rows.rows, &rows.diffs)?);
            files.read(&file, &mut take).map_err(|error| chain(&error))?;
            self.gather();
        }
        Ok(residue)
    }

    /// A table's files, and the last entry that it has taken.
    fn files(&self, files: &Files) -> Result<(Vec<DataFile>, Option<u64>), String> {
        let read = Table::open(&self.archive, files.table()).and_then(|mut table| Ok((table.files()?, table.applied())));
        read.map_err(|error| chain(&error))
    }

    fn gather(&mut self) {
        for index in 0..self.kept.len() {
            self.kept[index].part.gather();
            if self.kept[index].part.lost() && !matches!(self.kept[index].stage, Stage::Failed) {
                let most = self.options.held_max;
                self.fail(index, &format!("more than {most} updates waited; the next start publishes the difference"));
            }
        }
    }

    /// Closes the last Moment of which all is there, and the archive holds all; `None`: that is no news.
    fn close(&mut self) -> Option<Moment> {
        let mut open = self.shared.durable().unwrap_or_default();
        let working = || self.kept.iter().filter(|kept| !matches!(kept.stage, Stage::Failed));
        working().for_each(|kept| kept.part.open(&mut open));
        working().next()?;
        self.gather();
        let moment = match open.iter().min() {
            // The order of the fields is that of epochs first: the least element is the live one.
            Some(open) => {
                let moment = Moment::new(open.epoch, open.tick.checked_sub(1)?);
                let news = self.closed.is_none_or(|closed| closed != moment && closed.less_equal(&moment));
                if !news {
                    return None;
                }
                self.seen = Some(*open);
                moment
            }
            // All has ended: what is of the last epoch seen is final, whatever its tick.
            None => {
                let seen = self.seen?;
                let last = self.kept.iter().filter_map(|kept| kept.part.last_tick(seen.epoch)).max();
                Moment::new(seen.epoch, last.unwrap_or(0).max(seen.tick - 1))
            }
        };
        self.closed = Some(moment);
        let open = Moment::new(moment.epoch, moment.tick + 1);
        self.kept.iter_mut().for_each(|kept| kept.part.close(open));
        Some(moment)
    }

    /// Holds what is due against what was published.
    fn absorb(&mut self) {
        for index in 0..self.kept.len() {
            let Kept { part, stage, .. } = &mut self.kept[index];
            let Stage::Behind(files, residue) = stage else { continue };
            let outcome = due(part.as_mut(), files, |(rows, diffs)| residue.desired(&rows, &diffs));
            let most = self.options.held_max;
            let held = residue.len();
            if let Err(error) = outcome {
                self.fail(index, &chain(&error));
            } else if held > most {
                self.fail(index, &format!("its rows are more than {most}"));
            }
        }
    }

    /// Publishes desired minus published: from here on, each table is exact at a Moment.
    fn catch_up(&mut self, moment: Moment) {
        let mut tables = Vec::new();
        for index in 0..self.kept.len() {
            let Stage::Behind(..) = &self.kept[index].stage else { continue };
            let Stage::Behind(files, mut residue) = std::mem::replace(&mut self.kept[index].stage, Stage::Failed) else { continue };
            match self.correct(&files, &mut residue, moment) {
                Ok(Some(adds)) => {
                    tables.extend(edit(&files, adds));
                    self.kept[index].stage = Stage::Exact(files);
                }
                // It was told to stop meanwhile.
                Ok(None) => return,
                Err(why) => self.fail(index, &why),
            }
        }
        if self.commit(moment, tables) {
            self.caught_up = true;
        }
    }

    /// The files that make a table what it should be; `None`: it was told to stop before they were made.
    fn correct(&mut self, files: &Files, residue: &mut Residue, moment: Moment) -> Result<Option<Vec<DataFile>>, String> {
        let mut batches = Batches::new(self.options.file_rows, moment);
        while let Some(lacking) = residue.lacking(BATCH_ROWS) {
            lacking.map_err(StoreError::from).and_then(|changes| batches.add(files, changes)).map_err(|error| chain(&error))?;
            self.gather();
        }
        while residue.takes_back() {
            match self.take_back(files, residue, &mut batches) {
                Ok(()) if residue.takes_back() => return Err("its rows are not those that it was said to have".to_owned()),
                Ok(()) => {}
                Err(why) => {
                    warn!(table = %files.table(), %why, "table of answers not read, tried again");
                    self.shared.stand().trouble = Some(why);
                    self.gather();
                    if !matches!(self.stop.recv_timeout(self.options.look), Err(RecvTimeoutError::Timeout)) {
                        self.ended = true;
                        return Ok(None);
                    }
                }
            }
        }
        batches.finish(files).map(Some).map_err(|error| chain(&error))
    }

    /// Finds the rows that are to be taken back. What was found before an error is not looked for again.
    fn take_back(&mut self, files: &Files, residue: &mut Residue, batches: &mut Batches) -> Result<(), String> {
        for file in self.files(files)?.0 {
            let mut take = |rows: Rows| {
                let (indices, diffs) = residue.taken_back(&rows.rows)?;
                batches.add(files, (take_record_batch(&rows.rows, &UInt32Array::from(indices))?, diffs))
            };
            files.read(&file, &mut take).map_err(|error| chain(&error))?;
            self.gather();
            if !residue.takes_back() {
                break;
            }
        }
        Ok(())
    }

    /// Publishes what is due.
    fn publish(&mut self, moment: Moment) {
        let mut tables = Vec::new();
        for index in 0..self.kept.len() {
            let Kept { part, stage, .. } = &mut self.kept[index];
            let Stage::Exact(files) = stage else { continue };
            let mut batches = Batches::new(self.options.file_rows, moment);
            let outcome = due(part.as_mut(), files, |changes| batches.add(files, changes));
            match outcome.and_then(|()| batches.finish(files)) {
                Ok(adds) => tables.extend(edit(files, adds)),
                Err(error) => self.fail(index, &chain(&error)),
            }
        }
        self.commit(moment, tables);
    }

    /// Puts an entry, where there is something to put. Returns whether the tables are exact at `moment`.
    fn commit(&mut self, moment: Moment, tables: Vec<TableEdit>) -> bool {
        let rows: u64 = tables.iter().flat_map(|edit| &edit.adds).map(|file| file.rows).sum();
        if !tables.is_empty() {
            failpoint("output-files");
            let note = format!("services at Moment {moment}");
            match self.committer.request(Request::Edit(Edit { note, tables, moment, ..Edit::default() })) {
                Ok(()) => failpoint("output-entry"),
                Err(Refusal::Ended(_)) => {
                    self.ended = true;
                    return false;
                }
                Err(refusal) => {
                    let working = |kept: &Kept| !matches!(kept.stage, Stage::Failed);
                    let all: Vec<usize> = (0..self.kept.len()).filter(|index| working(&self.kept[*index])).collect();
                    all.into_iter().for_each(|index| self.fail(index, &refusal.to_string()));
                    return false;
                }
            }
        }
        self.published = Instant::now();
        let mut stand = self.shared.stand();
        stand.moment = Some(moment.to_string());
        stand.rows += rows;
        stand.publications += u64::from(rows > 0);
        true
    }

    fn fail(&mut self, index: usize, why: &str) {
        let kept = &mut self.kept[index];
        kept.stage = Stage::Failed;
        kept.part.abandon();
        let name = kept.part.name();
        error!(table = %name, %why, "a table of answers is not written any more; the archive goes on");
        self.shared.stand().failed.push((name.to_string(), why.to_owned()));
    }

    /// Leaves out what came and went, where that is half of a table.
    fn consolidate(&mut self) {
        for index in 0..self.kept.len() {
            let Stage::Exact(files) = &self.kept[index].stage else { continue };
            let state = self.committer.state();
            let rows = state.tables.get(files.table()).map_or(0, |table| table.rows.unsigned_abs());
            if rows < self.options.consolidate_rows.max(2 * self.kept[index].base) {
                continue;
            }
            let Stage::Exact(files) = std::mem::replace(&mut self.kept[index].stage, Stage::Failed) else { continue };
            match self.consolidate_one(&files) {
                Ok(Some(left)) => {
                    info!(table = %files.table(), rows, left, "table of answers consolidated");
                    self.kept[index].base = left;
                }
                Ok(None) => {}
                Err(why) => warn!(table = %files.table(), %why, "table of answers not consolidated, tried again later"),
            }
            self.kept[index].stage = Stage::Exact(files);
        }
    }

    /// Returns how many rows are left; `None`: a compaction was faster.
    fn consolidate_one(&mut self, files: &Files) -> Result<Option<u64>, String> {
        let (old, as_of) = self.files(files)?;
        let (most, last) = (self.options.file_rows, self.closed.unwrap_or_default());
        let adds = consolidated(files, &old, Batches::new(most, last), &mut || self.gather()).map_err(|error| chain(&error))?;
        let left = adds.iter().map(|file| file.rows).sum();
        let removes = old.into_iter().map(|file| Removed { path: file.path, rows: file.rows }).collect();
        let part = TableEdit { table: Arc::clone(files.table()), as_of, adds, removes, data_change: false };
        failpoint("consolidation");
        let note = format!("consolidation of {}", files.table());
        match self.committer.request(Request::Edit(Edit { note, tables: vec![part], ..Edit::default() })) {
            Ok(()) => Ok(Some(left)),
            Err(Refusal::Changed(_)) => Ok(None),
            Err(Refusal::Ended(_)) => {
                self.ended = true;
                Ok(None)
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }
}

/// Hands on what is due of an output, with the columns of its table.
fn due<E: From<ArrowError>>(part: &mut dyn Part, files: &Files, mut take: impl FnMut(Changes) -> Result<(), E>) -> Result<(), E> {
    part.settle();
    while let Some(taken) = part.take(BATCH_ROWS) {
        let (rows, diffs) = taken?;
        take((files.fit(&rows)?, diffs))?;
    }
    Ok(())
}

/// What new files do to a table; `None`: there are none.
fn edit(files: &Files, adds: Vec<DataFile>) -> Option<TableEdit> {
    let table = Arc::clone(files.table());
    (!adds.is_empty()).then_some(TableEdit { table, as_of: None, adds, removes: Vec::new(), data_change: true })
}
