//! The committer: one a process that writes an archive. A cheap handle; the work is done by threads behind it.
//!
//! | thread | does |
//! |---|---|
//! | `fink-commit` | drives the state machine of [`super::commit`], puts entries |
//! | `fink-table-…` | applies entries to one table, in order |
//! | `fink-heartbeat` | says that the writer lives, and looks whether another took over |
//! | `fink-upkeep` | checkpoints, snapshots, clean logs, vacuum |
//! | `fink-compact` | turns small files into large ones, at low priority |

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use fink_dataflow::message::Log;
use fink_dataflow::ports::{Keeper, Stored};
use fink_dataflow::table::delta::TableError;
use fink_dataflow::table::entry::{Entry, State, Writer};
use fink_dataflow::table::ledger::{LedgerError, SNAPSHOT_EVERY};
use fink_dataflow::table::store::Archive;

pub use super::commit::{Ask as Request, Edit, Shapes, TableEdit};
use super::commit::{Pending, Shape};
pub use super::compacting::{CompactionOptions, Rewrite};
use super::driver::{self, Message};
use super::fence::Held;
use super::group::{Group, GroupSink};
use super::merge::Refusal;
use super::rewrite::Rewriter;
use super::routes::Routes;
use super::start;
use super::types::TypesError;

/// How often a stop looks whether it is done.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// How an archive is written.
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// Take the archive from a writer that seems to live; that one stops by itself.
    pub take_over: bool,
    /// Commits of a table between two checkpoints of its log. Reading a table costs one file for each commit since the
    /// last; measured, a hundred halves the cost of a commit against a thousand.
    pub checkpoint_every: u64,
    /// Entries of the ledger between two snapshots of it.
    pub snapshot_every: u64,
    /// How old a file of a log must be, beyond what a checkpoint or snapshot replaces, before it is deleted. A reader that
    /// follows a table commit by commit may fall behind by this much.
    pub log_retention: Duration,
    /// How long a file stays after a compaction has replaced it, or after the writer that left it behind has ended. A query
    /// may run for this long on the snapshot that it began with. At most [`super::upkeep::FILE_RETENTION_MAX`].
    pub file_retention: Duration,
    /// How often files that nobody can need are looked for; `None`: never.
    pub vacuum_every: Option<Duration>,
    /// How small files become large ones; `None`: they stay.
    pub compaction: Option<CompactionOptions>,
    /// Who writes; `None`: this process. For tests, which play several.
    pub writer: Option<Writer>,
    /// Who hears of every entry, before anybody is told that it is durable.
    pub hears: Option<Hears>,
}

/// Hears of every entry that is put, in order; must return at once.
#[derive(Clone)]
pub struct Hears(pub Arc<dyn Fn(&Arc<Entry>) + Send + Sync>);

impl std::fmt::Debug for Hears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hears")
    }
}

impl Default for CommitOptions {
    fn default() -> Self {
        Self {
            take_over: false,
            checkpoint_every: 100,
            snapshot_every: SNAPSHOT_EVERY,
            log_retention: Duration::from_secs(3_600),
            file_retention: Duration::from_secs(6 * 3_600),
            vacuum_every: Some(Duration::from_secs(3_600)),
            compaction: Some(CompactionOptions::default()),
            writer: None,
            hears: None,
        }
    }
}

/// Why an archive can't be written, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else writes it.
    #[error(transparent)]
    Held(#[from] Held),
    /// The ledger can't be read or written.
    #[error("the ledger of {archive} can't be used")]
    Ledger {
        /// The archive.
        archive: String,
        /// Why.
        #[source]
        source: LedgerError,
    },
    /// A table can't be brought up to the ledger.
    #[error("table {table} can't be brought up to the ledger")]
    Table {
        /// The table.
        table: Arc<str>,
        /// Why.
        #[source]
        source: TableError,
    },
    /// A table and the ledger tell different stories.
    #[error("table {table} has taken entry {applied:?}, which entry {needed:?} of the ledger does not follow: {why}")]
    Astray {
        /// The table.
        table: Arc<str>,
        /// The last entry that the table has taken.
        applied: Option<u64>,
        /// The entry of the ledger that is needed next, or missing.
        needed: Option<u64>,
        /// What is wrong.
        why: &'static str,
    },
    /// The ledger holds a table schema that is none.
    #[error("the ledger holds a table that can't be understood")]
    Schema(#[from] TypesError),
    /// The process can't tell who it is, or has no thread to give.
    #[error("the committer can't start")]
    System(#[from] std::io::Error),
    /// It ended before what waited was durable.
    #[error("the committer has ended: {0}")]
    Ended(String),
}

/// What the committer asks of those who know Parquet and the surveys' schemas.
pub struct Helpers {
    /// The shapes of tables.
    pub shapes: Arc<dyn Shapes>,
    /// Merges files; `None`: nothing is compacted.
    pub rewriter: Option<Arc<dyn Rewrite>>,
}

/// What the committer is doing.
#[derive(Clone, Debug, Default)]
pub struct CommitStatus {
    /// The generation that this process writes as.
    pub generation: u64,
    /// The number of the last entry put.
    pub last_entry: Option<u64>,
    /// When it was put, in milliseconds since 1970 UTC by this host's clock.
    pub last_commit_ms: Option<i64>,
    /// Groups and requests that are not durable yet.
    pub waiting: usize,
    /// Entries that some table has yet to take.
    pub unapplied: usize,
    /// Entries put by this process.
    pub entries: u64,
    /// Rows committed by this process.
    pub rows: u64,
    /// Bytes of files committed by this process.
    pub bytes: u64,
    /// Compactions committed by this process.
    pub compactions: u64,
    /// Bytes that compactions wrote anew.
    pub compacted_bytes: u64,
    /// Live files of each night's folder that is watched for compaction, at most: the worst folder's.
    pub folder_files_max: usize,
    /// What fails and is tried again, if anything does.
    pub trouble: Option<String>,
    /// Why it ended, if it has: the process must exit.
    pub failed: Option<String>,
}

/// What the threads share.
pub(super) struct Shared {
    pub(super) archive: Archive,
    pub(super) generation: u64,
    state: Mutex<Arc<State>>,
    status: Mutex<CommitStatus>,
    /// All tables have taken all entries below this one.
    pub(super) settled: AtomicU64,
}

impl Shared {
    pub(super) fn new(archive: Archive, state: State) -> Self {
        let status = CommitStatus { generation: state.generation, last_entry: state.next.checked_sub(1), ..CommitStatus::default() };
        Self {
            archive,
            generation: state.generation,
            settled: AtomicU64::new(state.next),
            state: Mutex::new(Arc::new(state)),
            status: Mutex::new(status),
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    pub(super) fn status(&self) -> MutexGuard<'_, CommitStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tables have taken all entries below this one.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }
}

/// The handle of an archive's committer; clones are the same committer. When the last is dropped, it finishes what it was
/// given, unwatched; [`Committer::stop`] waits for that.
#[derive(Clone)]
pub struct Committer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    messages: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It has ended already if nobody takes the message.
        let _ = self.messages.send(Message::Stop);
    }
}

impl Committer {
    /// Opens the archive's ledger, takes the archive for this process, brings the tables up to the ledger, and starts.
    /// Returns the state to go on from, and the routes for the writers.
    ///
    /// # Errors
    /// When another process writes the archive ([`CommitError::Held`]), or the store can't be used.
    pub fn start(archive: Archive, options: CommitOptions) -> Result<(Self, State, Arc<Routes>), CommitError> {
        let mut made = None;
        let files = archive.clone();
        let (committer, state) = Self::start_with(archive, options, |state| {
            let routes = Arc::new(Routes::new(state)?);
            made = Some(Arc::clone(&routes));
            let rewriter = Rewriter::new(files, Arc::clone(&routes), state.generation);
            Ok(Helpers { shapes: routes, rewriter: Some(Arc::new(rewriter)) })
        })?;
        Ok((committer, state, made.expect("the helpers were made before the committer")))
    }

    /// Opens the archive's ledger, takes the archive for this process, brings the tables up to the ledger, and starts.
    /// `helpers` are made from the state that the ledger then holds, which is returned: the one to go on from.
    ///
    /// # Errors
    /// When another process writes the archive ([`CommitError::Held`]), or the store can't be used.
    pub fn start_with(
        archive: Archive,
        options: CommitOptions,
        helpers: impl FnOnce(&State) -> Result<Helpers, CommitError>,
    ) -> Result<(Self, State), CommitError> {
        let started = start::start(&archive, &options)?;
        let state = started.state.clone();
        let helpers = helpers(&state)?;
        let shared = Arc::new(Shared::new(archive, state.clone()));
        let (messages, inbox) = unbounded();
        let parts = driver::Parts { started, options, helpers, shared: Arc::clone(&shared), messages: messages.clone(), inbox };
        let thread = Mutex::new(Some(driver::spawn(parts)?));
        Ok((Self { inner: Arc::new(Inner { shared, messages, thread }) }, state))
    }

    /// Takes a group. Returns at once; the group's `done` is called when it is durable, and never if the committer ends
    /// before: its messages are then read again by the next process.
    pub fn commit(&self, group: Group) {
        // It has ended if nobody takes the message; `failed` says why.
        let _ = self.inner.messages.send(Message::Group(group));
    }

    /// All that is durable, as of the last entry put.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.inner.shared.state()
    }

    /// Asks for an entry and waits until it is durable.
    ///
    /// # Errors
    /// When it can't be granted, or the committer has ended.
    pub fn request(&self, request: Request) -> Result<(), Refusal> {
        let (answer, answered) = bounded(1);
        let sent = self.inner.messages.send(Message::Ask(request, answer));
        sent.ok().and_then(|()| answered.recv().ok()).unwrap_or_else(|| Err(Refusal::Ended(self.failed().unwrap_or_else(stopped))))
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> CommitStatus {
        self.inner.shared.status().clone()
    }

    /// Why it ended, if it was not asked to: another writer took over, or an invariant is broken. The process must exit.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.inner.shared.status().failed.clone()
    }

    /// Commits what waits, applies it to the tables, and ends. Waits for a store that is away, for as long as it takes.
    ///
    /// # Errors
    /// When it ended before that: what was not acknowledged will be read again.
    pub fn stop(self) -> Result<(), CommitError> {
        self.stop_within(Duration::MAX)
    }

    /// As [`Committer::stop`], but gives up after `patience`.
    ///
    /// # Errors
    /// As [`Committer::stop`], and when time is over. What is durable then is applied by the next process.
    pub fn stop_within(self, patience: Duration) -> Result<(), CommitError> {
        // It has ended already if nobody takes the message.
        let _ = self.inner.messages.send(Message::Stop);
        let mut thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if began.elapsed() >= patience {
                let trouble = self.status().trouble.unwrap_or_else(|| "commits are under way".to_owned());
                return Err(CommitError::Ended(format!("not all is committed after {patience:?}: {trouble}")));
            }
            std::thread::sleep(STOP_LOOK);
        }
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            return Err(CommitError::Ended("its thread panicked".to_owned()));
        }
        drop(thread);
        self.failed().map_or(Ok(()), |why| Err(CommitError::Ended(why)))
    }
}

fn stopped() -> String {
    "it was stopped".to_owned()
}

impl GroupSink for Committer {
    fn commit(&self, group: Group) {
        Committer::commit(self, group);
    }
}

impl Keeper for Committer {
    fn stored(&self, log: &Log) -> Option<Stored> {
        self.state().stored(log)
    }

    fn incarnation(&self, source: &str, topic: &str) -> Option<u32> {
        self.state().incarnation(source, topic)
    }

    fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.state().topics()
    }

    fn open(&self, origins: &[(Log, i64)]) -> Result<(), String> {
        self.request(Request::Open(origins.to_vec())).map_err(|refusal| refusal.to_string())
    }
}

impl Shapes for Routes {
    fn pending(&self, state: &State, touched: &BTreeSet<Arc<str>>) -> Pending {
        let pending = Routes::pending(self, state, touched);
        let tables = pending.schemas.into_iter();
        let tables = tables.map(|(table, (schema, partition_columns))| (table, Shape { schema, partition_columns })).collect();
        Pending { routes: pending.routes, tables }
    }

    fn schema_json(&self, fingerprint: &str) -> Option<Arc<str>> {
        self.text(fingerprint)
    }
}
