//! What is read from a table's log, and its upkeep: live files, files taken out, checkpoints, clean-up.

use std::collections::BTreeMap;
use std::time::Duration;

use delta_kernel::arrow::array::{Array, AsArray, Int64Array, MapArray, RecordBatch, StructArray};
use delta_kernel::arrow::compute::filter_record_batch;
use delta_kernel::arrow::datatypes::Int64Type;
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::scan::StatsOptions;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, KernelError, KernelResult};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::{Held, Table, TableError};
use crate::table::entry::DataFile;
use crate::table::store::wait;

/// How many files of the log one cleaning deletes at most.
const CLEANED_AT_ONCE: usize = 500;

/// A file that was taken out of the table, and still lies in its folder for readers of older versions.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tombstone {
    /// Its path below the table's folder.
    pub path: String,
    /// When it was taken out, in milliseconds since 1970 UTC by the store's clock.
    pub deleted_ms: i64,
}

impl Table {
    /// The files taken out that the log remembers: those of the last 12 hours. Vacuum more often, or they become orphans.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn removed(&mut self) -> Result<Vec<Tombstone>, TableError> {
        self.refresh()?;
        let Some(Held { snapshot: Some(snapshot), .. }) = &self.held else { return Ok(Vec::new()) };
        tombstones(snapshot.clone(), self.engine.as_ref()).map_err(|e| self.kernel("list the removed files", e))
    }

    /// Writes a checkpoint of the newest version, unless there is one. Returns the version.
    ///
    /// # Errors
    /// When the log can't be read or the checkpoint written; the table is as good as before.
    pub fn checkpoint(&mut self) -> Result<Option<u64>, TableError> {
        self.refresh()?;
        let Some(snapshot) = self.held.as_ref().and_then(|held| held.snapshot.clone()) else { return Ok(None) };
        let (_, snapshot) = snapshot.checkpoint(self.engine.as_ref(), None).map_err(|e| self.kernel("write a checkpoint", e))?;
        let version = snapshot.version();
        if let Some(held) = &mut self.held {
            held.snapshot = Some(snapshot);
        }
        Ok(Some(version))
    }

    /// Deletes files of the log that no version needs which was the newest within `older_than` (by the store's clock): from the
    /// oldest upwards, at most a few hundred at a time. Returns how many; 500: call again.
    ///
    /// # Errors
    /// When the store fails; what was deleted is deleted.
    pub fn clean_log(&mut self, older_than: Duration) -> Result<usize, TableError> {
        let Some(hint) = self.last_checkpoint()? else { return Ok(0) };
        let (archive, folder) = (self.archive.clone(), self.log_folder());
        let listed = wait(async move {
            let now = archive.clock().await?;
            let listing = archive.within(archive.store().list(Some(&folder)).try_collect::<Vec<_>>()).await?;
            Ok((now, listing))
        });
        let (now, listing) = listed.map_err(self.store("list the log"))?;
        let age = chrono::TimeDelta::from_std(older_than).unwrap_or(chrono::TimeDelta::MAX);
        let Some(cutoff) = now.checked_sub_signed(age) else { return Ok(0) };
        let doomed = doomed(listing, hint, cutoff);
        let (archive, count) = (self.archive.clone(), doomed.len());
        wait(async move {
            for path in doomed {
                match archive.within(archive.store().delete(&path)).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .map_err(self.store("clean the log"))?;
        Ok(count)
    }

    /// Whether the table's log holds anything.
    pub(super) fn exists(&self) -> Result<bool, TableError> {
        let (archive, folder) = (self.archive.clone(), self.log_folder());
        let first = wait(async move { archive.within(archive.store().list(Some(&folder)).try_next()).await });
        Ok(first.map_err(self.store("list the log"))?.is_some())
    }

    fn log_folder(&self) -> Path {
        self.archive.path(&format!("{}/_delta_log", self.name))
    }

    /// The version of the checkpoint that readers are pointed to.
    fn last_checkpoint(&self) -> Result<Option<u64>, TableError> {
        #[derive(Deserialize)]
        struct Hint {
            version: u64,
        }
        let (archive, path) = (self.archive.clone(), self.log_folder().join("_last_checkpoint"));
        let bytes = wait(async move { archive.read(&path).await }).map_err(self.store("read the last checkpoint"))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice::<Hint>(&bytes).ok()).map(|hint| hint.version))
    }
}

/// The files of a log that may go, oldest first. Some version was the newest at `cutoff`; whoever opened it then starts from the
/// last checkpoint at or before it, so all below that checkpoint may go, if it is old itself. The checkpoint that readers are
/// pointed to stays, and everything from there on.
fn doomed(listing: Vec<ObjectMeta>, hint: u64, cutoff: chrono::DateTime<chrono::Utc>) -> Vec<Path> {
    let split = |meta: &ObjectMeta| {
        let (version, rest) = meta.location.filename()?.split_once('.')?;
        (version.len() == 20).then_some(())?;
        Some((version.parse::<u64>().ok()?, rest.to_owned()))
    };
    let mut files: Vec<_> = listing.into_iter().filter_map(|meta| split(&meta).map(|(version, rest)| (version, rest, meta))).collect();
    files.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let newest_then =
        files.iter().filter(|(_, rest, meta)| rest == "json" && meta.last_modified <= cutoff).map(|(version, ..)| *version).max();
    let Some(newest_then) = newest_then else { return Vec::new() };
    let checkpoints = files.iter().filter(|(_, rest, _)| rest == "checkpoint.parquet").map(|(version, ..)| *version);
    let checkpoints: Vec<u64> = checkpoints.collect();
    if !checkpoints.contains(&hint) {
        return Vec::new();
    }
    let Some(floor) = checkpoints.into_iter().filter(|version| *version <= newest_then.min(hint)).max() else { return Vec::new() };
    let old = |(version, _, meta): &(u64, String, ObjectMeta)| *version < floor && meta.last_modified <= cutoff;
    // A gap must not open below files that stay.
    files.into_iter().take_while(old).map(|(_, _, meta)| meta.location).take(CLEANED_AT_ONCE).collect()
}

/// The live files of a snapshot, in order of path.
pub(super) fn files(snapshot: SnapshotRef, engine: &dyn Engine) -> KernelResult<Vec<DataFile>> {
    let columns = snapshot.table_configuration().metadata().partition_columns().to_vec();
    let scan = snapshot.scan_builder().with_stats(StatsOptions::json_only()).build()?;
    let mut files = Vec::new();
    for metadata in scan.scan_metadata(engine)? {
        let (data, mut selected) = metadata?.scan_files.into_parts();
        let batch = data.try_into_record_batch()?;
        selected.resize(batch.num_rows(), true);
        live(&filter_record_batch(&batch, &selected.into())?, &columns, &mut files)?;
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn live(batch: &RecordBatch, columns: &[String], files: &mut Vec<DataFile>) -> KernelResult<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: u64,
    }
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
    let (path, stats) = (column("path")?.as_string::<i32>(), column("stats")?.as_string::<i32>());
    let (size, modified): (&Int64Array, &Int64Array) = (column("size")?.as_primitive(), column("modificationTime")?.as_primitive());
    let constants: &StructArray = column("fileConstantValues")?.as_struct();
    let partitions: &MapArray = constants.column_by_name("partitionValues").ok_or_else(|| missing("partitionValues"))?.as_map();
    for row in 0..batch.num_rows() {
        let entries = partitions.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let value = |i: usize| (!values.is_null(i)).then(|| values.value(i).to_owned());
        let known: BTreeMap<&str, Option<String>> = (0..entries.len()).map(|i| (keys.value(i), value(i))).collect();
        let stats = if stats.is_null(row) { "" } else { stats.value(row) };
        files.push(DataFile {
            path: path.value(row).to_owned(),
            size: size.value(row).unsigned_abs(),
            modified_ms: modified.value(row),
            partition: columns.iter().map(|name| (name.clone(), known.get(name.as_str()).cloned().flatten())).collect(),
            rows: serde_json::from_str::<Rows>(stats).map_or(0, |rows| rows.num_records),
            stats: stats.to_owned(),
        });
    }
    Ok(())
}

/// The files that a snapshot remembers as taken out, as a checkpoint would.
fn tombstones(snapshot: SnapshotRef, engine: &dyn Engine) -> KernelResult<Vec<Tombstone>> {
    let writer = snapshot.create_checkpoint_writer(engine)?;
    let mut found = Vec::new();
    for batch in writer.checkpoint_data(engine)? {
        let batch = batch?.apply_selection_vector()?.try_into_record_batch()?;
        let removes: &StructArray = batch.column_by_name("remove").ok_or_else(|| missing("remove"))?.as_struct();
        let path = removes.column_by_name("path").ok_or_else(|| missing("remove.path"))?.as_string::<i32>();
        let deleted = removes.column_by_name("deletionTimestamp").ok_or_else(|| missing("remove.deletionTimestamp"))?;
        let deleted = deleted.as_primitive::<Int64Type>();
        let here = (0..batch.num_rows()).filter(|row| !removes.is_null(*row) && !path.is_null(*row));
        found.extend(here.map(|row| Tombstone { path: path.value(row).to_owned(), deleted_ms: deleted.value(row) }));
    }
    found.sort_unstable();
    Ok(found)
}

fn missing(column: &str) -> KernelError {
    KernelError::generic(format!("the log's rows have no column {column}"))
}
