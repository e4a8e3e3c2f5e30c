//! Upkeep, off the commit's path: checkpoints of tables, snapshots of the ledger, clean logs, vacuum.
//!
//! It follows the entries that have become visible, on a thread of its own, with views of the tables of its own. Whatever
//! fails is said and left for the next time: nothing depends on it but cost. Nothing is deleted without asking the ledger
//! first whether the archive is still ours.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use fink_dataflow::table::delta::{Table, TableError};
use fink_dataflow::table::entry::Entry;
use fink_dataflow::table::fault::{failpoint, pace};
use fink_dataflow::table::ledger::{Ledger, LedgerError};
use fink_dataflow::table::leftovers::Sweep;
use fink_dataflow::table::store::wait;
use tracing::{debug, info, warn};

use super::commit::taken_over;
use super::committer::{CommitOptions, Shared};
use super::driver::chain;
use super::vacuum::{self, By};

/// The longest [`CommitOptions::file_retention`]: table logs remember removed files for 12 hours, and vacuum takes its time.
pub const FILE_RETENTION_MAX: Duration = Duration::from_secs(11 * 3_600);
/// How many files of a log are deleted in one go, at most; the rest waits for the next time.
const CLEANINGS_MAX: usize = 20;

/// Logs are cleaned after so many checkpoints or snapshots: each cleaning lists the whole log, an hour's commits long.
const CLEAN_EVERY: u64 = 5;

/// What follows the committer and keeps its archive in order.
pub(super) struct Upkeep {
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    options: CommitOptions,
    tables: BTreeMap<Arc<str>, Kept>,
    /// Entries since the last snapshot of the ledger.
    entries: u64,
    snapshots: u64,
    last_vacuum: Instant,
}

/// A table under upkeep.
#[derive(Default)]
struct Kept {
    view: Option<Table>,
    /// Commits since the last checkpoint.
    commits: u64,
    checkpoints: u64,
    /// Files taken out since the store was last asked for the time.
    fresh: Vec<String>,
    /// When files were taken out by this process, by the store's clock.
    removed: HashMap<String, DateTime<Utc>>,
}

impl Upkeep {
    pub(super) fn new(ledger: Arc<Ledger>, shared: Arc<Shared>, mut options: CommitOptions, versions: &BTreeMap<Arc<str>, u64>) -> Self {
        if options.file_retention > FILE_RETENTION_MAX {
            warn!(asked = ?options.file_retention, used = ?FILE_RETENTION_MAX, "file retention is longer than table logs remember");
            options.file_retention = FILE_RETENTION_MAX;
        }
        options.vacuum_every = options.vacuum_every.map(|every| every.div_f64(pace()));
        // A writer that never lives for a hundred commits must not let the logs grow.
        let (every, next) = (options.checkpoint_every.max(1), shared.state().next);
        let kept = |version: u64| Kept { commits: version % every, checkpoints: version / every, ..Kept::default() };
        let tables = versions.iter().map(|(name, version)| (Arc::clone(name), kept(*version))).collect();
        let (entries, snapshots) = (next % options.snapshot_every.max(1), next / options.snapshot_every.max(1));
        Self { ledger, shared, options, tables, entries, snapshots, last_vacuum: Instant::now() }
    }

    /// Follows the committer until it is gone.
    pub(super) fn run(mut self, committer: &Receiver<Arc<Entry>>) {
        loop {
            let wait = self.options.vacuum_every.map(|every| every.saturating_sub(self.last_vacuum.elapsed()));
            match committer.recv_timeout(wait.unwrap_or(Duration::from_secs(3_600))) {
                Ok(entry) => self.follow(&entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What waits is counted first, so that a slow upkeep does not make a checkpoint of each commit.
            committer.try_iter().for_each(|entry| self.follow(&entry));
            self.checkpoints();
            self.snapshot();
            if self.options.vacuum_every.is_some_and(|every| self.last_vacuum.elapsed() >= every) {
                self.vacuum();
                self.last_vacuum = Instant::now();
            }
        }
    }

    fn follow(&mut self, entry: &Entry) {
        self.entries += 1;
        for change in &entry.tables {
            let kept = self.tables.entry(Arc::clone(&change.table)).or_default();
            kept.commits += 1;
            kept.fresh.extend(change.removes.iter().map(|removed| removed.path.clone()));
        }
    }

    fn checkpoints(&mut self) {
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        for (name, kept) in self.tables.iter_mut().filter(|(_, kept)| kept.commits >= self.options.checkpoint_every) {
            kept.commits = 0;
            let began = Instant::now();
            match checkpoint(&shared, name, &mut kept.view) {
                Ok(version) => debug!(table = %name, version, took = ?began.elapsed(), "checkpoint"),
                Err(error) => {
                    kept.view = None;
                    warn!(table = %name, error = %chain(&error), "no checkpoint");
                    continue;
                }
            }
            failpoint("checkpoint");
            kept.checkpoints += 1;
            if !kept.checkpoints.is_multiple_of(CLEAN_EVERY) {
                continue;
            }
            let Some(view) = &mut kept.view else { continue };
            for _ in 0..CLEANINGS_MAX {
                if !still_ours(&ledger, &shared) {
                    return;
                }
                match view.clean_log(self.options.log_retention) {
                    Ok(0) => break,
                    Ok(files) => debug!(table = %name, files, "log cleaned"),
                    Err(error) => {
                        warn!(table = %name, error = %chain(&error), "log not cleaned");
                        break;
                    }
                }
            }
        }
    }

    fn snapshot(&mut self) {
        if self.entries < self.options.snapshot_every {
            return;
        }
        self.entries = 0;
        self.snapshots += 1;
        let cleanings = if self.snapshots.is_multiple_of(CLEAN_EVERY) { CLEANINGS_MAX } else { 0 };
        let (ledger, shared, older_than) = (Arc::clone(&self.ledger), Arc::clone(&self.shared), self.options.log_retention);
        // Entries that a table lacks are what its rolling forward needs.
        let (state, settled) = (shared.state(), shared.settled());
        let result = wait(async move {
            ledger.snapshot(&state).await?;
            let mut cleaned = 0;
            for _ in 0..cleanings {
                if overtaken_long_ago(&ledger, &shared).await? {
                    break;
                }
                match ledger.clean(settled.min(state.next), older_than).await? {
                    0 => break,
                    some => cleaned += some,
                }
            }
            Ok::<_, LedgerError>((state.next, cleaned))
        });
        match result {
            Ok((next, cleaned)) => debug!(next, cleaned, "ledger snapshot"),
            Err(error) => warn!(error = %chain(&error), "no snapshot of the ledger"),
        }
    }

    /// Takes away what killed processes left in the archive and no table shows.
    fn sweep(&self, sweep: Sweep) {
        if !still_ours(&self.ledger, &self.shared) {
            return;
        }
        let archive = self.shared.archive.clone();
        match wait(async move { sweep.sweep(&archive).await }) {
            Ok(0) => {}
            Ok(files) => info!(files, "leftovers of killed processes swept"),
            Err(error) => warn!(error = %chain(&error), "leftovers not swept"),
        }
    }

    fn vacuum(&mut self) {
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        let archive = shared.archive.clone();
        let now = match wait(async move { archive.clock().await }) {
            Ok(now) => now,
            Err(error) => return warn!(error = %chain(&error), "no vacuum: the store does not tell the time"),
        };
        let by = By { generation: shared.generation, now, retention: self.options.file_retention };
        let names: Vec<Arc<str>> = shared.state().tables.keys().cloned().collect();
        for name in names {
            let kept = self.tables.entry(Arc::clone(&name)).or_default();
            // Stamped late rather than early.
            kept.removed.extend(kept.fresh.drain(..).map(|path| (path, now)));
            match vacuum::vacuum(&shared.archive, &name, &by, &kept.removed, || still_ours(&ledger, &shared)) {
                Ok(deleted) if deleted.is_empty() => {}
                Ok(deleted) => info!(table = %name, files = deleted.len(), "vacuum"),
                Err(error) => warn!(table = %name, error = %chain(&error), "vacuum not finished"),
            }
            // By then they have gone, or are in no listing.
            let forget = TimeDelta::from_std(self.options.file_retention * 2).unwrap_or(TimeDelta::MAX);
            kept.removed.retain(|_, removed| now - *removed <= forget);
        }
        self.sweep(Sweep { generation: by.generation, now, retention: by.retention });
    }
}

fn checkpoint(shared: &Shared, name: &str, view: &mut Option<Table>) -> Result<Option<u64>, TableError> {
    let table = match view {
        Some(table) => table,
        None => view.insert(Table::open(&shared.archive, name)?),
    };
    table.checkpoint()
}

/// Whether the archive is still ours, as far as the ledger can be asked; what can't be told counts as no.
fn still_ours(ledger: &Arc<Ledger>, shared: &Arc<Shared>) -> bool {
    let (asked, view) = (Arc::clone(ledger), Arc::clone(shared));
    match wait(async move { overtaken_long_ago(&asked, &view).await }) {
        Ok(overtaken) => !overtaken,
        Err(error) => {
            warn!(error = %chain(&error), "nothing is deleted: the ledger can't be asked whose the archive is");
            false
        }
    }
}

/// Whether another generation has taken over, however long ago: entries may have been cleaned since.
pub(super) async fn overtaken_long_ago(ledger: &Ledger, shared: &Shared) -> Result<bool, LedgerError> {
    Ok(ledger.read().await?.generation != shared.generation)
}

/// Whether another generation's entry follows ours, and what it says of itself. One read, as a rule.
pub(super) async fn overtaken(ledger: &Ledger, shared: &Shared) -> Result<Option<String>, LedgerError> {
    for number in shared.state().next.. {
        match ledger.entry(number).await? {
            None => break,
            Some(entry) if entry.generation != shared.generation => return Ok(Some(taken_over(&entry))),
            // Put, and not yet told to us.
            Some(_) => {}
        }
    }
    Ok(None)
}
