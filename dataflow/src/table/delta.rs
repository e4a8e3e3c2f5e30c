//! One Delta table of an archive: rolled forward entry by entry, read at its newest version.
//!
//! The commits are written by us: a handful of JSON lines put if absent under the next version ([`actions`]). delta_kernel
//! opens tables, replays their logs and writes their checkpoints. Its own transactions were left aside because each needs a
//! fresh listing of the log, knows no change of a nested field's type and creates tables of reader protocol 3 only; a commit
//! here is one put and keeps the version in memory. Reader protocol 1, writer protocol 2: every reader can follow.
//!
//! An entry of the ledger is applied by *one* commit that carries the transaction `("fink", entry)`; it is put at version
//! `v + 1` only if the transaction at `v` is the entry that touched the table before. Since version `v + 1` can be put once,
//! check and commit are one step. On any error the version is read back: ours, another's, or absent.

mod actions;
mod log;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{KernelError, Snapshot};
use object_store::PutPayload;

pub use self::log::Tombstone;
pub use self::schema::{SchemaError, arrow_schema, delta_schema};
use super::engine::StoreEngine;
use super::entry::{DataFile, TableChange};
use super::fault::failpoint;
use super::store::{Archive, wait};
use crate::rules::Rule;

/// The application under which entries are counted in a table's transactions.
pub const APPLICATION: &str = "fink";
/// How often a commit and its reading back are tried before the caller is asked.
const ATTEMPTS: u32 = 5;
/// The pause after the first attempt; it doubles from there on.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a table can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Entries must be applied in their order.
    #[error("entry {entry} can't be applied to table {table}: it follows {previous:?}, but {applied:?} was applied last")]
    Order {
        /// The table.
        table: Arc<str>,
        /// The entry.
        entry: u64,
        /// The entry that it follows.
        previous: Option<u64>,
        /// The one that was applied last.
        applied: Option<u64>,
    },
    /// The change can't be made to this table.
    #[error("entry {entry} can't be applied to table {table}: {reason}")]
    Change {
        /// The table.
        table: Arc<str>,
        /// The entry.
        entry: u64,
        /// Why not.
        reason: String,
    },
    /// Another program changed what the table demands of its writers.
    #[error("table {table} demands more than fink can write: {reason}; another program changed it")]
    Protocol {
        /// The table.
        table: Arc<str>,
        /// What it demands.
        reason: String,
    },
    /// Whether a commit was made can't be told.
    #[error("whether version {version} of table {table} was written can't be told yet: the store neither took it nor said who did")]
    Unclear {
        /// The table.
        table: Arc<str>,
        /// The version.
        version: u64,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The store failed.
    #[error("can't {action} of table {table}")]
    Store {
        /// The table.
        table: Arc<str>,
        /// What was tried.
        action: &'static str,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The table's log can't be read or checkpointed.
    #[error("can't {action} of table {table}")]
    Kernel {
        /// The table.
        table: Arc<str>,
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<KernelError>,
    },
}

/// What applying an entry came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It is now applied, by this version.
    Now(u64),
    /// It was applied before, by us or by another.
    Before,
}

/// What is to be done about an entry for a table, by what is known of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Nothing: it was applied before.
    Before,
    /// It is this entry's turn: commit it as the next version.
    Now,
    /// Another entry was applied last than the one that this follows: what is known may be old.
    Stale,
}

impl Turn {
    /// Whose turn it is at a table that `exists` and has taken `applied` last, where `entry` follows `previous`.
    #[must_use]
    pub fn of(entry: u64, previous: Option<u64>, exists: bool, applied: Option<u64>) -> Self {
        if !Rule::Order.holds() {
            Self::Now
        } else if applied.is_some_and(|applied| applied >= entry) {
            Self::Before
        } else if applied != previous || (previous.is_none() && exists) {
            Self::Stale
        } else {
            Self::Now
        }
    }
}

/// A Delta table, and its newest version known. Not for asynchronous code: calls block.
pub struct Table {
    archive: Archive,
    name: Arc<str>,
    engine: Arc<StoreEngine>,
    held: Option<Held>,
}

/// What is known of the newest version.
struct Held {
    version: u64,
    applied: Option<u64>,
    metadata: actions::Metadata,
    /// The newest snapshot opened; may be older than `version`.
    snapshot: Option<SnapshotRef>,
}

impl Table {
    /// Opens the table in the folder `name` of the archive, which may not exist yet.
    ///
    /// # Errors
    /// When its log can't be read, or demands more of a writer than we can.
    pub fn open(archive: &Archive, name: &str) -> Result<Self, TableError> {
        let engine = Arc::new(StoreEngine::new(archive));
        let mut table = Self { archive: archive.clone(), name: name.into(), engine, held: None };
        table.refresh()?;
        Ok(table)
    }

    /// The table's folder.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The newest version known; `None`: the table does not exist.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.version)
    }

    /// The last entry applied at that version.
    #[must_use]
    pub fn applied(&self) -> Option<u64> {
        self.held.as_ref().and_then(|held| held.applied)
    }

    /// The schema at that version, as Delta's JSON.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.held.as_ref().map(|held| held.metadata.schema_string.as_str())
    }

    /// Looks for newer versions.
    ///
    /// # Errors
    /// When the log can't be read, or demands more of a writer than we can.
    pub fn refresh(&mut self) -> Result<(), TableError> {
        let Some(snapshot) = self.newest()? else {
            self.held = None;
            return Ok(());
        };
        let configuration = snapshot.table_configuration();
        let protocol = configuration.protocol();
        let (reader, writer) = (protocol.min_reader_version(), protocol.min_writer_version());
        if reader > actions::READER || writer > actions::WRITER {
            return Err(TableError::Protocol { table: self.name.clone(), reason: format!("its protocol is ({reader}, {writer})") });
        }
        let applied =
            snapshot.get_app_id_version(APPLICATION, self.engine.as_ref()).map_err(|e| self.kernel("read the transactions", e))?;
        let known = configuration.metadata();
        let metadata = actions::Metadata {
            id: known.id().to_owned(),
            format: actions::Format::default(),
            schema_string: known.schema_string().clone(),
            partition_columns: known.partition_columns().to_vec(),
            configuration: known.configuration().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            created_time: known.created_time(),
        };
        let applied = applied.and_then(|entry| u64::try_from(entry).ok());
        self.held = Some(Held { version: snapshot.version(), applied, metadata, snapshot: Some(snapshot) });
        Ok(())
    }

    /// Applies what `entry` does to this table, in one commit; creates the table where `change.previous` is `None`.
    ///
    /// # Errors
    /// [`TableError::Order`] when another entry than `change.previous` was applied last; [`TableError::Unclear`] when the store
    /// left open whether the commit was made: apply the same again.
    pub fn apply(&mut self, entry: u64, change: &TableChange) -> Result<Applied, TableError> {
        let mut conflicts = 0;
        loop {
            match Turn::of(entry, change.previous, self.held.is_some(), self.applied()) {
                Turn::Before => return Ok(Applied::Before),
                Turn::Now => {}
                Turn::Stale if conflicts > 0 => return Err(self.out_of_order(entry, change)),
                // Another process, or we before a failure, may have gone on.
                Turn::Stale => {
                    self.refresh()?;
                    conflicts += 1;
                    continue;
                }
            }
            let version = self.version().map_or(0, |version| version + 1);
            let commit = self.commit(entry, change)?;
            if self.put(version, &commit)? {
                failpoint("table-commit");
                let snapshot = self.held.take().and_then(|held| held.snapshot);
                self.held = Some(Held { version, applied: Some(entry), metadata: commit.metadata, snapshot });
                return Ok(Applied::Now(version));
            }
            self.refresh()?;
            conflicts += 1;
        }
    }

    fn out_of_order(&self, entry: u64, change: &TableChange) -> TableError {
        if self.applied().is_none() && self.held.is_some() {
            let reason = "a table that fink did not write is in its folder".to_owned();
            return TableError::Change { table: self.name.clone(), entry, reason };
        }
        TableError::Order { table: self.name.clone(), entry, previous: change.previous, applied: self.applied() }
    }

    fn commit(&self, entry: u64, change: &TableChange) -> Result<actions::Commit, TableError> {
        let known = self.held.as_ref().map(|held| &held.metadata);
        let now = self.time_of(change)?.timestamp_millis();
        actions::Commit::new(entry, change, known, now).map_err(|reason| TableError::Change { table: self.name.clone(), entry, reason })
    }

    /// The time that a commit tells of itself: the store's where it takes files out, since vacuum counts from there.
    fn time_of(&self, change: &TableChange) -> Result<chrono::DateTime<chrono::Utc>, TableError> {
        if change.removes.is_empty() {
            return Ok(chrono::Utc::now());
        }
        let archive = self.archive.clone();
        wait(async move { archive.clock().await }).map_err(self.store("ask the time"))
    }

    /// Puts a commit under `version`. False: another one is there.
    fn put(&self, version: u64, commit: &actions::Commit) -> Result<bool, TableError> {
        let path = self.archive.path(&format!("{}/_delta_log/{version:020}.json", self.name));
        let (archive, nonce, body) = (self.archive.clone(), commit.nonce.clone(), commit.lines.clone());
        let put = async move {
            let mut pause = PAUSE;
            for attempt in 1.. {
                let Err(failed) = archive.create(&path, PutPayload::from_bytes(body.clone())).await else { return Ok(true) };
                match archive.read(&path).await {
                    Ok(Some(there)) => return Ok(actions::nonce(&there).is_some_and(|found| found == nonce)),
                    _ if attempt == ATTEMPTS => return Err(failed),
                    _ => tracing::warn!(%path, attempt, error = %failed, "commit was not put, tried again"),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            unreachable!("the last attempt returns")
        };
        wait(put).map_err(|source| TableError::Unclear { table: self.name.clone(), version, source })
    }

    /// The newest snapshot; `None`: there is no table.
    fn newest(&self) -> Result<Option<SnapshotRef>, TableError> {
        let held = self.held.as_ref().and_then(|held| held.snapshot.clone());
        let url = self.archive.url().join(&format!("{}/", self.name)).expect("a table's folder is a relative path");
        let built = match held {
            // From scratch when that fails: files of the old snapshot's log may be cleaned.
            Some(snapshot) => Snapshot::builder_from(snapshot)
                .build(self.engine.as_ref())
                .or_else(|_| Snapshot::builder_for(url).build(self.engine.as_ref()))
                .map(Some),
            None if !self.exists()? => return Ok(None),
            None => Snapshot::builder_for(url).build(self.engine.as_ref()).map(Some),
        };
        built.map_err(|e| self.kernel("read the log", e))
    }

    fn kernel(&self, action: &'static str, source: KernelError) -> TableError {
        TableError::Kernel { table: self.name.clone(), action, source: Box::new(source) }
    }

    fn store(&self, action: &'static str) -> impl FnOnce(object_store::Error) -> TableError {
        let table = self.name.clone();
        move |source| TableError::Store { table, action, source }
    }

    /// The live files of the newest version, in order of path.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn files(&mut self) -> Result<Vec<DataFile>, TableError> {
        self.refresh()?;
        let Some(Held { snapshot: Some(snapshot), .. }) = &self.held else { return Ok(Vec::new()) };
        log::files(snapshot.clone(), self.engine.as_ref()).map_err(|e| self.kernel("list the files", e))
    }
}
