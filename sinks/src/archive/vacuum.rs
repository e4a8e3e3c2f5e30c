//! Which files nobody can need any more.
//!
//! Files are deleted for one of two reasons only, and always by the store's clock:
//!
//! 1. A compaction (or a retry) took them out of their table longer ago than the retention: readers that began with an
//!    older snapshot have ended by then.
//! 2. They belong to no snapshot, are older than the retention, and their name begins with an *older* generation: their
//!    writer died, or was taken over, between closing and committing them. Files of our own generation may still be committed.
//!
//! What is neither Parquet nor named by a writer of ours is nobody's business.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fink_dataflow::table::delta::{Table, TableError};
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::store::{Archive, wait};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// How many files are deleted before it is asked again whether the archive is still ours.
const DELETED_AT_ONCE: usize = 100;

/// A table's folder as vacuum sees it.
#[derive(Debug)]
pub struct Folder<'a> {
    /// The table's live files.
    pub live: &'a HashSet<Path>,
    /// When files were taken out of the table.
    pub removed: &'a HashMap<Path, DateTime<Utc>>,
    /// The generation that writes.
    pub generation: u64,
    /// The store's time.
    pub now: DateTime<Utc>,
    /// How long a file stays that might be needed.
    pub retention: Duration,
}

impl Folder<'_> {
    /// Whether a file of the folder may be deleted.
    #[must_use]
    pub fn dooms(&self, file: &ObjectMeta) -> bool {
        if !file.location.as_ref().ends_with(".parquet")
            || file.location.as_ref().contains("/_delta_log/")
            || self.live.contains(&file.location)
        {
            return false;
        }
        let Some(generation) = generation(&file.location) else { return false };
        match self.removed.get(&file.location) {
            // A clock that went wrong can't make a removal older than the file.
            Some(removed) => self.is_old((*removed).max(file.last_modified)),
            None => generation < self.generation && self.is_old(file.last_modified),
        }
    }

    fn is_old(&self, time: DateTime<Utc>) -> bool {
        TimeDelta::from_std(self.retention).is_ok_and(|retention| self.now - time > retention)
    }
}

/// The generation of the writer that named a file.
fn generation(file: &Path) -> Option<u64> {
    file.filename()?.split_once('-')?.0.parse().ok()
}

/// Deletes what may be deleted of a table. `removed` says when files were taken out of it by this process; of others the
/// table's log tells. `still_ours` is asked before each batch: the first `false` ends it. Returns how many files went.
///
/// # Errors
/// When the table can't be read or the store fails; what was deleted is deleted.
pub(super) fn vacuum(
    archive: &Archive,
    table: &str,
    by: &By,
    removed: &HashMap<String, DateTime<Utc>>,
    mut still_ours: impl FnMut() -> bool,
) -> Result<Vec<Path>, VacuumError> {
    let place = |file: &str| archive.path(&format!("{table}/{file}"));
    // Listed first: a file that is committed after the listing is in the snapshot read next, or of our own generation.
    let (listing, folder) = (archive.clone(), archive.path(table));
    let listed = wait(async move { listing.store().list(Some(&folder)).try_collect::<Vec<_>>().await })?;
    let mut opened = Table::open(archive, table)?;
    let live: HashSet<Path> = opened.files()?.iter().map(|file| place(&file.path)).collect();
    let tombstones =
        opened.removed()?.into_iter().filter_map(|stone| Some((place(&stone.path), DateTime::from_timestamp_millis(stone.deleted_ms)?)));
    let mut removals: HashMap<Path, DateTime<Utc>> = tombstones.collect();
    removals.extend(removed.iter().map(|(file, time)| (place(file), *time)));
    let folder = Folder { live: &live, removed: &removals, generation: by.generation, now: by.now, retention: by.retention };
    let doomed: Vec<Path> = listed.iter().filter(|file| folder.dooms(file)).map(|file| file.location.clone()).collect();
    let mut deleted = Vec::new();
    for batch in doomed.chunks(DELETED_AT_ONCE) {
        failpoint("vacuum");
        if !still_ours() {
            break;
        }
        let (store, paths) = (Arc::clone(archive.store()), batch.to_vec());
        wait(async move {
            for path in paths {
                match store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        deleted.extend_from_slice(batch);
    }
    Ok(deleted)
}

/// On whose behalf, and when, files are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    pub(super) generation: u64,
    pub(super) now: DateTime<Utc>,
    pub(super) retention: Duration,
}

/// Why files could not be deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum VacuumError {
    /// The table can't be read.
    #[error("the table can't be read")]
    Table(#[from] TableError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] object_store::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).expect("small")
    }

    fn file(name: &str, modified_ms: i64) -> ObjectMeta {
        ObjectMeta { location: Path::from(format!("a/alerts/{name}")), last_modified: at(modified_ms), size: 1, e_tag: None, version: None }
    }

    fn dooms(file: &ObjectMeta, live: bool, removed_ms: Option<i64>) -> bool {
        let live: HashSet<Path> = live.then(|| file.location.clone()).into_iter().collect();
        let removed = removed_ms.map(|ms| (file.location.clone(), at(ms))).into_iter().collect();
        Folder { live: &live, removed: &removed, generation: 7, now: at(10 * HOUR), retention: Duration::from_secs(3_600) }.dooms(file)
    }

    #[test]
    fn live_files_stay_whatever_else_is_said() {
        assert!(!dooms(&file("3-ztf-0-0-u.parquet", 0), true, None));
        assert!(!dooms(&file("3-ztf-0-0-u.parquet", 0), true, Some(0)));
    }

    #[test]
    fn removed_files_go_after_the_retention_of_any_generation() {
        for name in ["3-ztf-0-0-u.parquet", "7-ztf-0-0-u.parquet"] {
            assert!(dooms(&file(name, 0), false, Some(9 * HOUR - 1)));
            assert!(!dooms(&file(name, 0), false, Some(9 * HOUR)), "a snapshot of an hour ago may hold it");
        }
    }

    #[test]
    fn a_removal_is_never_older_than_its_file() {
        assert!(!dooms(&file("7-ztf-0-0-u.parquet", 9 * HOUR + 1), false, Some(0)), "the clock that stamped it was wrong");
    }

    #[test]
    fn orphans_go_if_they_are_old_and_of_an_older_generation() {
        assert!(dooms(&file("6-ztf-0-0-u.parquet", 9 * HOUR - 1), false, None));
        assert!(!dooms(&file("6-ztf-0-0-u.parquet", 9 * HOUR), false, None));
        assert!(!dooms(&file("7-ztf-0-0-u.parquet", 0), false, None), "ours may be committed yet");
        assert!(!dooms(&file("8-ztf-0-0-u.parquet", 0), false, None), "somebody has taken over");
    }

    #[test]
    fn what_is_not_ours_stays() {
        for name in ["part-0000.snappy.parquet", "notes.txt", "6-notes.txt", "_delta_log/00000000000000000010.checkpoint.parquet"] {
            assert!(!dooms(&file(name, 0), false, None), "{name}");
        }
    }
}
