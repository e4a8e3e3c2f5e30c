//! Rolls what is archived into the table of light rows, from which a later start reads its history.
//!
//! ```text
//!  alerts that the table lacks ─► light rows ─► by night, by object ─► files ─► one entry of the ledger: files, and of which
//!  (light columns)                              (points once)                    messages they hold the rows
//! ```
//!
//! It runs beside the archive on a thread of low priority, when enough alerts wait or the last roll is long ago. Nothing waits for
//! it: what is not rolled yet is read from the alerts. A process that is killed in a roll leaves files that no entry names, and
//! the next rolls the same again. When it rolls is a matter of the clock, what the answers are is not.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use fink_dataflow::Coverage;
use fink_dataflow::alerts::WriterSchema;
use fink_dataflow::table::entry::{DataFile, State};
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::{Archive, Table, light};
use fink_operators::surveys::stored::{self, Stored};
use fink_sinks::archive::committer::{Committer, Edit, Request, TableEdit};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;
use fink_sources::archive::{Replay, Selection, Wanted, unrolled};

use super::desk::Reader;
use crate::repair::store;

/// Light rows that are brought into order at once, at most; with their histories, some 200 MB.
const ROWS_MAX: usize = 200_000;
/// Points of their histories, at most.
const POINTS_MAX: usize = 2_000_000;
/// Rows that are turned into columns at once.
const BATCH_ROWS: usize = 4_096;
/// How often it looks whether enough alerts wait.
const LOOK: Duration = Duration::from_secs(2);
/// After so long, few are enough.
const LONG: Duration = Duration::from_secs(3_600);
/// The pause after a roll that failed.
const REST: Duration = Duration::from_secs(60);

/// What rolls.
pub struct Roller {
    /// The archive.
    pub archive: Archive,
    /// Its only writer.
    pub committer: Committer,
    /// What its tables are made of.
    pub routes: Arc<Routes>,
}

impl Roller {
    /// Rolls all that the table of light rows lacks. Returns how many rows; `None` where it can't be done now, since tables have
    /// yet to take entries, or was stopped.
    ///
    /// # Errors
    /// When the archive can't be read or written.
    pub fn roll(&self, stop: &AtomicBool) -> anyhow::Result<Option<u64>> {
        // Read before the tables: they hold what this state says, and perhaps more.
        let state = self.committer.state();
        if !self.are_forward(&state)? {
            return Ok(None);
        }
        let lacking = unrolled(&self.archive, &state)?;
        let selection = Selection { within: Some(Arc::new(lacking.clone())), ..Selection::default() };
        let replay = Replay::open(&self.archive, selection, Wanted::Light)?;
        let mut rows = Rows::new(&self.archive, &self.routes, state.generation)?;
        let mut failed = None;
        replay.run(1, |batch| match rows.add(batch.nights.first().copied().flatten(), stored::rows(&batch)) {
            Ok(()) if stop.load(Ordering::Relaxed) => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let adds = rows.finish()?;
        failpoint("light-rows");
        let count = adds.iter().map(|file| file.rows).sum();
        self.committer.request(Request::Edit(edit(adds, lacking)))?;
        failpoint("light-rolled");
        Ok(Some(count))
    }

    /// Whether the tables have taken all entries of a state.
    fn are_forward(&self, state: &State) -> anyhow::Result<bool> {
        for (name, known) in &state.tables {
            if Table::open(&self.archive, name)?.applied() < Some(known.last) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rolls from now on, whenever `every` alerts or more wait; not before `reader` knows the history.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(self, every: u64, reader: Reader) -> std::io::Result<Rolling> {
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("light-rows".into()).spawn(move || self.run(every, &reader, &own))?;
        Ok(Rolling { stop, thread })
    }

    fn run(&self, every: u64, reader: &Reader, stop: &AtomicBool) {
        // On Linux a thread's own; those that it starts inherit it.
        if let Err(error) = rustix::process::nice(15) {
            tracing::debug!(%error, "light rows are rolled at the common priority");
        }
        let (mut last, mut pause) = (Instant::now(), LOOK);
        while rested(pause, stop) {
            pause = LOOK;
            let waiting = light::rows_lacking(&self.committer.state());
            let enough = if last.elapsed() >= LONG { 1 } else { every.max(1) };
            if waiting < enough || !reader.stand().complete {
                continue;
            }
            let began = Instant::now();
            match self.roll(stop) {
                Ok(Some(rows)) => {
                    last = Instant::now();
                    tracing::info!(rows, took = ?began.elapsed(), "light rows rolled");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("light rows could not be rolled, tried again later: {error:#}");
                    pause = REST;
                }
            }
        }
    }
}

/// An entry that adds files of light rows, which are those of these messages.
#[must_use]
pub fn edit(adds: Vec<DataFile>, light: Coverage) -> Edit {
    let rows: u64 = adds.iter().map(|file| file.rows).sum();
    let note = format!("{rows} light rows");
    let table = TableEdit { table: light::TABLE.into(), as_of: None, adds, removes: Vec::new(), data_change: true };
    let tables = if rows > 0 { vec![table] } else { Vec::new() };
    Edit { note, tables, light, ..Edit::default() }
}

/// Rolls that go on until they are stopped.
pub struct Rolling {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Rolling {
    /// Ends it: a roll under way is given up.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A panic has been reported by the hook.
        let _ = self.thread.join();
    }
}

/// Rests so long; `false` where it is time to end. Who says so unparks this thread.
fn rested(pause: Duration, stop: &AtomicBool) -> bool {
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // It may wake early, for nothing.
        let Some(left) = pause.checked_sub(began.elapsed()) else { return true };
        std::thread::park_timeout(left);
    }
    false
}

/// Files of light rows in the making: each of one night, its rows by object.
pub struct Rows {
    archive: Archive,
    files: Box<dyn Fn() -> Files + Send>,
    schema: Arc<WriterSchema>,
    night: Option<i32>,
    waiting: Vec<Stored>,
    points: usize,
    adds: Vec<DataFile>,
}

impl Rows {
    /// None yet. `generation` begins the files' names.
    ///
    /// # Errors
    /// When the archive's table has other columns.
    pub fn new(archive: &Archive, routes: &Arc<Routes>, generation: u64) -> anyhow::Result<Self> {
        let schema = stored::schema();
        routes.keep(light::TABLE, &schema, stored::OBJECT)?;
        let routes = Arc::clone(routes);
        let files = Box::new(move || Files::new(Arc::clone(&routes), Memory::new(usize::MAX, 1), generation));
        Ok(Self { archive: archive.clone(), files, schema, night: None, waiting: Vec::new(), points: 0, adds: Vec::new() })
    }

    /// Adds rows of a night.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn add(&mut self, night: Option<i32>, rows: Vec<Stored>) -> anyhow::Result<()> {
        if night != self.night || self.waiting.len() + rows.len() > ROWS_MAX || self.points > POINTS_MAX {
            self.close()?;
        }
        self.night = night;
        self.points += rows.iter().filter_map(|stored| stored.row.as_ref().ok()).map(|alert| alert.history.len()).sum::<usize>();
        self.waiting.extend(rows);
        Ok(())
    }

    /// Ends the file that is open, if one is.
    fn close(&mut self) -> anyhow::Result<()> {
        let mut rows = std::mem::take(&mut self.waiting);
        self.points = 0;
        if rows.is_empty() {
            return Ok(());
        }
        stored::thin(&mut rows);
        let mut files = (self.files)();
        for rows in rows.chunks(BATCH_ROWS) {
            files.alerts(&stored::store(&self.schema, rows, self.night)?)?;
        }
        drop(rows);
        self.adds.extend(store(&self.archive, files).context("light rows can't be stored")?.into_iter().map(|(_, file)| file));
        Ok(())
    }

    /// The files, stored.
    ///
    /// # Errors
    /// When the last can't be written.
    pub fn finish(mut self) -> anyhow::Result<Vec<DataFile>> {
        self.close()?;
        Ok(self.adds)
    }
}
