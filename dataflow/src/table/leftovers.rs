//! What a process that was killed in the middle of a put leaves in a store, under names that no reader and no listing of a
//! table shows: drafts of files on HDFS (`.<name>.<uuid>.tmp`) and on local disk (`<name>#<n>`), and the objects by which the
//! store was asked for its time (`_fink/clock/`). Unfinished uploads to S3 are for a lifecycle rule of the bucket.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::store::Archive;

/// Whatever is told of retention, what is younger may be in the making.
const AGE_MIN: TimeDelta = TimeDelta::hours(1);
/// Where a store is asked for its time.
const CLOCK: &str = "_fink/clock";

/// On whose behalf leftovers are swept, and when.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The generation that writes: drafts of its own files are never swept.
    pub generation: u64,
    /// The store's time.
    pub now: DateTime<Utc>,
    /// How long a file stays that might be needed.
    pub retention: Duration,
}

impl Sweep {
    /// Deletes what was left in the archive. Returns how many files went.
    ///
    /// # Errors
    /// When the store fails; what was deleted is deleted.
    pub async fn sweep(&self, archive: &Archive) -> object_store::Result<usize> {
        match (archive.url().scheme(), archive.url().to_file_path()) {
            ("file", Ok(root)) => {
                let sweep = *self;
                let swept = tokio::task::spawn_blocking(move || sweep.local(&root)).await;
                let failed = |source| object_store::Error::Generic { store: "local", source };
                let drafts = swept.map_err(|error| failed(error.into()))?.map_err(|error| failed(error.into()))?;
                Ok(drafts + self.listed(archive, CLOCK).await?)
            }
            // No drafts, and listing all of a bucket costs.
            ("s3" | "s3a", _) => self.listed(archive, CLOCK).await,
            _ => self.listed(archive, "").await,
        }
    }

    async fn listed(&self, archive: &Archive, folder: &str) -> object_store::Result<usize> {
        let all: Vec<_> = archive.store().list(Some(&archive.path(folder))).try_collect().await?;
        let mut swept = 0;
        for left in all {
            let name = left.location.filename().unwrap_or_default();
            let draft = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
            let clock = left.location.as_ref().contains("/_fink/clock/").then_some(name);
            if !draft.or(clock).is_some_and(|name| self.dooms(name, left.last_modified)) {
                continue;
            }
            match archive.store().delete(&left.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => swept += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(swept)
    }

    /// Local drafts, which the store does not list.
    fn local(&self, folder: &FilePath) -> std::io::Result<usize> {
        let (mut folders, mut swept) = (vec![folder.to_owned()], 0);
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let path: PathBuf = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = entry.file_name();
                let draft = name.to_str().and_then(|name| name.rsplit_once('#')).filter(|(_, number)| number.parse::<u32>().is_ok());
                let Some((name, _)) = draft else { continue };
                if self.dooms(name, entry.metadata()?.modified()?.into()) {
                    std::fs::remove_file(&path)?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Whether a draft of that name may go: nobody is writing it any more.
    fn dooms(&self, name: &str, modified: DateTime<Utc>) -> bool {
        let age = TimeDelta::from_std(self.retention).unwrap_or(TimeDelta::MAX).max(AGE_MIN);
        let ours = name.ends_with(".parquet") || name.contains(".parquet.");
        let generation = name.split_once('-').and_then(|(generation, _)| generation.parse::<u64>().ok());
        self.now - modified > age && (!ours || generation.is_some_and(|generation| generation < self.generation))
    }
}

#[cfg(test)]
mod tests {
    use object_store::PutPayload;

    use super::*;
    use crate::table::store::{open, wait};

    fn sweep(hours: i64) -> Sweep {
        Sweep { generation: 5, now: Utc::now() + TimeDelta::hours(hours), retention: Duration::from_secs(60) }
    }

    fn puts(archive: &Archive, names: &[&str]) {
        for name in names {
            let (archive, path) = (archive.clone(), archive.path(name));
            wait(async move { archive.store().put(&path, PutPayload::from_static(b"x")).await }).expect("the store works");
        }
    }

    fn left(archive: &Archive) -> Vec<String> {
        let archive = archive.clone();
        let all: Vec<_> = wait(async move { archive.store().list(Some(&archive.path(""))).try_collect().await }).expect("the store works");
        let mut names: Vec<String> = all.iter().map(|meta| meta.location.filename().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    fn swept(archive: &Archive, hours: i64) -> usize {
        let archive = archive.clone();
        wait(async move { sweep(hours).sweep(&archive).await }).expect("the store works")
    }

    #[test]
    fn drafts_and_clocks_go_when_they_are_old_and_nobodys() {
        let archive = Archive::in_memory();
        let all = [
            "alerts/day=3/.4-ztf-0-7-aa.parquet.0123.tmp",
            "alerts/day=3/.5-ztf-0-9-bb.parquet.4567.tmp",
            "alerts/day=3/4-ztf-0-7-aa.parquet",
            "alerts/_delta_log/.00000000000000000004.json.89ab.tmp",
            "_fink/clock/cdef",
            "_fink/entries/7.json",
        ];
        puts(&archive, &all);
        assert_eq!(swept(&archive, 0), 0, "all is young");
        assert_eq!(swept(&archive, 2), 3);
        assert_eq!(left(&archive), [".5-ztf-0-9-bb.parquet.4567.tmp", "4-ztf-0-7-aa.parquet", "7.json"]);
    }

    #[test]
    fn local_drafts_go_too_although_the_store_does_not_list_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = open(&folder.path().display().to_string(), &std::collections::BTreeMap::new()).expect("a folder");
        puts(&archive, &["alerts/4-ztf-0-7-aa.parquet", "_fink/clock/1"]);
        let files = ["4-ztf-0-8-bb.parquet#1", "5-ztf-0-9-cc.parquet#1", "0004.json#2"];
        files.iter().for_each(|name| std::fs::write(folder.path().join("alerts").join(name), b"x").expect("the folder is there"));
        assert_eq!((swept(&archive, 0), swept(&archive, 2)), (0, 3));
        assert!(files.iter().all(|name| folder.path().join("alerts").join(name).exists() == name.starts_with('5')));
        assert_eq!(left(&archive), ["4-ztf-0-7-aa.parquet"]);
    }
}
