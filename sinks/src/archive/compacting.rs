//! When small files become one, and which: compaction beside live commits, on one thread of low priority.
//!
//! A commit a second leaves thousands of files a night. They are merged in *tiers*: files of a folder (a night) with rows of
//! the same magnitude, to the base of [`CompactionOptions::fan_in`], become one of the next magnitude as soon as there are
//! enough of them. So a row is written anew once a magnitude and no more, and a folder never holds many files of any. A file
//! that has reached its size is left alone. A folder that has been quiet for a while is finished: what is left in it becomes few
//! files, whatever their magnitude, and what was large enough for a night that goes on is not for one that is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{DataFile, Entry, Removed, State};
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::light;
use tracing::{debug, warn};

use super::commit::{Ask, Edit, TableEdit};
use super::committer::Shared;
use super::driver::{Message, chain};
use super::merge::Refusal;
use super::writer::Backlog;

/// The pause after a merge that failed.
const REST: Duration = Duration::from_secs(60);

/// Files of a folder that may wait for the end of a large backlog.
pub const FILES_HELD_MAX: usize = 100;

/// How small files become large ones.
#[derive(Clone, Debug)]
pub struct CompactionOptions {
    /// How many files of one magnitude become one. Larger: fewer rewrites of each row, and more files in a folder.
    pub fan_in: usize,
    /// A file of so many bytes is large enough while its folder grows.
    pub enough_bytes: u64,
    /// A file of so many bytes is large enough for ever.
    pub whole_bytes: u64,
    /// A merge stops taking in files when it has so many bytes.
    pub full_bytes: u64,
    /// The most files that one merge takes in.
    pub files_max: usize,
    /// A folder to which nothing was added for so long is finished.
    pub quiet: Duration,
    /// The pause between two looks.
    pub every: Duration,
    /// While this is large nothing is merged, lest it takes its share of the machine from the backlog; but for folders of
    /// more than [`FILES_HELD_MAX`] files.
    pub backlog: Backlog,
    /// How long that goes on after its end: what only catches up, and ends, leaves merging to who stays.
    pub settle: Duration,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            fan_in: 12,
            enough_bytes: 48 * MIB,
            whole_bytes: 128 * MIB,
            full_bytes: 256 * MIB,
            files_max: 256,
            quiet: Duration::from_secs(900),
            every: Duration::from_secs(5),
            backlog: Backlog::default(),
            settle: Duration::from_secs(10),
        }
    }
}

/// The files of a folder to merge now, in order of path; none, if it is well as it is.
#[must_use]
pub fn choose<'a>(files: impl IntoIterator<Item = &'a DataFile>, quiet: bool, options: &CompactionOptions) -> Vec<&'a DataFile> {
    let mut tiers: BTreeMap<u32, Vec<&DataFile>> = BTreeMap::new();
    let enough = if quiet { options.whole_bytes.max(options.enough_bytes) } else { options.enough_bytes };
    for file in files.into_iter().filter(|file| file.size < enough) {
        tiers.entry(magnitude(file.rows, options.fan_in)).or_default().push(file);
    }
    let bytes = |files: &[&DataFile]| files.iter().map(|file| file.size).sum::<u64>();
    let due = |files: &[&DataFile]| files.len() >= options.fan_in || (files.len() > 1 && bytes(files) >= options.full_bytes);
    let mut chosen = match tiers.iter().find(|(_, files)| due(files)) {
        Some((_, files)) => files.clone(),
        None if quiet => finish(tiers.into_values().flatten().collect()),
        None => Vec::new(),
    };
    // Paths begin with generation and offset: rows that came together stay together.
    chosen.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    chosen.truncate(options.files_max);
    let mut sum = 0;
    let taken = chosen.iter().take_while(|file| {
        let room = sum < options.full_bytes;
        sum += file.size;
        room
    });
    let taken = taken.count();
    chosen.truncate(taken);
    if chosen.len() < 2 { Vec::new() } else { chosen }
}

/// Of what is left in a quiet folder, what is worth a merge: a large file is not written anew for the sake of crumbs.
fn finish(mut files: Vec<&DataFile>) -> Vec<&DataFile> {
    files.sort_unstable_by_key(|file| file.size);
    while let Some((largest, rest)) = files.split_last()
        && rest.iter().map(|file| file.size).sum::<u64>() < largest.size / 4
    {
        files.pop();
    }
    files
}

fn magnitude(rows: u64, base: usize) -> u32 {
    rows.max(1).ilog(u64::try_from(base.max(2)).unwrap_or(u64::MAX))
}

/// The live files of a folder, by path; without their statistics.
struct Folder {
    files: BTreeMap<String, DataFile>,
    last_add: Instant,
    /// Files added since it was last looked at.
    fresh: usize,
    /// It has changed since it was last found well.
    dirty: bool,
}

impl Folder {
    fn new() -> Self {
        Self { files: BTreeMap::new(), last_add: Instant::now(), fresh: 0, dirty: true }
    }
}

/// A table's folders, by partition.
#[derive(Default)]
struct Live {
    /// The last entry included.
    last: Option<u64>,
    folders: BTreeMap<Vec<Option<String>>, Folder>,
}

impl Live {
    fn add(&mut self, file: &DataFile) {
        let key = file.partition.iter().map(|(_, value)| value.clone()).collect();
        let folder = self.folders.entry(key).or_insert_with(Folder::new);
        folder.files.insert(file.path.clone(), DataFile { stats: String::new(), ..file.clone() });
        folder.dirty = true;
        folder.fresh += 1;
        folder.last_add = Instant::now();
    }

    /// The most files added to a folder since it was last looked at.
    fn fresh(&self) -> usize {
        self.folders.values().map(|folder| folder.fresh).max().unwrap_or(0)
    }

    fn remove(&mut self, path: &str) {
        for folder in self.folders.values_mut() {
            if folder.files.remove(path).is_some() {
                return;
            }
        }
    }
}

/// Whether a table's small files are merged: light rows are written in large files, by object, and stay so.
fn is_compacted(table: &str) -> bool {
    table != light::TABLE
}

/// Merges files into one: what the archive does with Parquet, and tests do with less.
pub trait Rewrite: Send + Sync {
    /// One file with the rows of `files`, in their folder.
    ///
    /// # Errors
    /// A text for people; it is tried again later.
    fn rewrite(&self, table: &Arc<str>, files: &[DataFile]) -> Result<DataFile, String>;
}

/// What follows the committer and asks it to replace small files.
pub(super) struct Compactor {
    shared: Arc<Shared>,
    options: CompactionOptions,
    rewriter: Arc<dyn Rewrite>,
    committer: Sender<Message>,
    tables: BTreeMap<Arc<str>, Option<Live>>,
    last_look: Instant,
    /// A look is due: a while has passed, or a folder has got many files.
    due: bool,
    /// After a failure nothing is tried until then.
    rests_until: Instant,
}

impl Compactor {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: CompactionOptions,
        rewriter: Arc<dyn Rewrite>,
        committer: Sender<Message>,
        state: &State,
    ) -> Self {
        let tables = state.tables.keys().filter(|name| is_compacted(name)).map(|name| (Arc::clone(name), None)).collect();
        Self { shared, options, rewriter, committer, tables, last_look: Instant::now(), due: false, rests_until: Instant::now() }
    }

    /// Follows the committer until it is gone.
    pub(super) fn run(mut self, visible: &Receiver<Arc<Entry>>) {
        if let Err(error) = rustix::process::nice(15) {
            debug!(%error, "compaction runs at the common priority");
        }
        loop {
            match visible.recv_timeout(self.options.every.saturating_sub(self.last_look.elapsed())) {
                Ok(entry) => self.follow(&entry),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.due = true,
            }
            if self.due && visible.is_empty() {
                while self.compact_one(visible) {}
                self.last_look = Instant::now();
                self.due = false;
            }
        }
    }

    fn follow(&mut self, entry: &Entry) {
        for change in entry.tables.iter().filter(|change| is_compacted(&change.table)) {
            // A table that this process creates is known from its first file on; others are read when they are looked at.
            let live = self.tables.entry(Arc::clone(&change.table)).or_insert_with(|| Some(Live::default()));
            let Some(live) = live else { continue };
            if live.last.is_some_and(|last| last >= entry.number) {
                continue;
            }
            live.last = Some(entry.number);
            change.adds.iter().for_each(|file| live.add(file));
            change.removes.iter().for_each(|file| live.remove(&file.path));
            self.due |= !change.adds.is_empty() && live.fresh() >= self.options.fan_in;
        }
    }

    /// Reads the files of tables that are older than this process.
    fn read(&mut self) {
        for (name, live) in self.tables.iter_mut().filter(|(_, live)| live.is_none()) {
            let files = Table::open(&self.shared.archive, name).and_then(|mut table| Ok((table.files()?, table.applied())));
            match files {
                Ok((files, last)) => {
                    let mut read = Live { last, ..Live::default() };
                    files.iter().for_each(|file| read.add(file));
                    *live = Some(read);
                }
                Err(error) => warn!(table = %name, error = %chain(&error), "no compaction: the table's files can't be listed"),
            }
        }
    }

    /// Merges the files of one folder, if any needs it. Returns whether there may be more to do.
    fn compact_one(&mut self, visible: &Receiver<Arc<Entry>>) -> bool {
        // When the store is in trouble, live commits come first.
        if Instant::now() < self.rests_until || self.shared.status().trouble.is_some() {
            return false;
        }
        self.read();
        let Some((table, files)) = self.next() else { return false };
        let began = Instant::now();
        let merged = match self.rewriter.rewrite(&table, &files) {
            Ok(merged) => merged,
            Err(error) => {
                warn!(%table, files = files.len(), %error, "compaction failed, tried again later");
                self.rests_until = Instant::now() + REST;
                // Perhaps our view of the files is what is wrong.
                self.tables.insert(table, None);
                return false;
            }
        };
        failpoint("compaction");
        let (path, bytes) = (merged.path.clone(), merged.size);
        match self.ask(&table, &files, merged) {
            Ok(()) => debug!(%table, files = files.len(), bytes, took = ?began.elapsed(), "compacted"),
            Err(Refusal::Ended(_)) => return false,
            Err(refusal) => {
                debug!(%table, %refusal, "compaction not committed");
                self.tables.insert(table, None);
                return true;
            }
        }
        // Until the tables have it, the files of the folder are not what they will be.
        for entry in visible {
            self.follow(&entry);
            if entry.tables.iter().any(|change| change.table == table && change.adds.iter().any(|add| add.path == path)) {
                return true;
            }
        }
        false
    }

    /// The next folder's files to merge.
    fn next(&mut self) -> Option<(Arc<str>, Vec<DataFile>)> {
        let mut worst = 0;
        let mut found = None;
        for (name, live) in &mut self.tables {
            for folder in live.iter_mut().flat_map(|live| live.folders.values_mut()) {
                worst = worst.max(folder.files.len());
                folder.fresh = 0;
                let quiet = folder.last_add.elapsed() >= self.options.quiet;
                let held = self.options.backlog.was_large(self.options.settle) && folder.files.len() <= FILES_HELD_MAX;
                if found.is_some() || held || !folder.dirty {
                    continue;
                }
                let chosen: Vec<DataFile> = choose(folder.files.values(), quiet, &self.options).into_iter().cloned().collect();
                if !chosen.is_empty() {
                    found = Some((Arc::clone(name), chosen));
                } else if quiet {
                    folder.dirty = false;
                }
            }
        }
        self.shared.status().folder_files_max = worst;
        found
    }

    fn ask(&self, table: &Arc<str>, files: &[DataFile], merged: DataFile) -> Result<(), Refusal> {
        let removes = files.iter().map(|file| Removed { path: file.path.clone(), rows: file.rows }).collect();
        let as_of = self.tables.get(table).and_then(Option::as_ref).and_then(|live| live.last);
        let part = TableEdit { table: Arc::clone(table), as_of, adds: vec![merged], removes, data_change: false };
        let edit = Edit { note: format!("compaction of {} files of {table}", files.len()), tables: vec![part], ..Edit::default() };
        let (answer, answered) = bounded(1);
        let sent = self.committer.send(Message::Ask(Ask::Edit(edit), answer));
        sent.ok().and_then(|()| answered.recv().ok()).unwrap_or_else(|| Err(Refusal::Ended("it is gone".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(number: u64, rows: u64, size: u64) -> DataFile {
        let partition = vec![("year".to_owned(), Some("2026".to_owned()))];
        DataFile { path: format!("1-{number:08}.parquet"), size, modified_ms: 0, partition, rows, stats: String::new() }
    }

    /// Commits `commits` files and merges after each as told; returns the most files ever live, those at the end, and how
    /// often a row was rewritten on average.
    fn run(commits: u64, rows: u64, row_bytes: u64, footer: u64, options: &CompactionOptions) -> (usize, Vec<DataFile>, f64) {
        let mut live: Vec<DataFile> = Vec::new();
        let (mut most, mut number, mut rewritten) = (0, 0, 0);
        let mut merge = |live: &mut Vec<DataFile>, number: &mut u64, quiet: bool| {
            loop {
                let chosen: Vec<DataFile> = choose(live.iter(), quiet, options).into_iter().cloned().collect();
                if chosen.is_empty() {
                    return;
                }
                let rows: u64 = chosen.iter().map(|file| file.rows).sum();
                rewritten += rows;
                live.retain(|file| !chosen.contains(file));
                *number += 1;
                live.push(file(*number, rows, rows * row_bytes + footer));
            }
        };
        for _ in 0..commits {
            number += 1;
            live.push(file(number, rows, rows * row_bytes + footer));
            most = most.max(live.len());
            merge(&mut live, &mut number, false);
        }
        merge(&mut live, &mut number, true);
        #[allow(clippy::cast_precision_loss)] // a ratio
        (most, live, rewritten as f64 / (commits * rows) as f64)
    }

    #[test]
    fn five_thousand_commits_of_small_alerts_stay_few_files() {
        for rows in [1, 11, 50, 143, 144, 1_000] {
            let (most, live, rewrites) = run(5_000, rows, 2_000, 60_000, &CompactionOptions::default());
            let full = usize::try_from((rows * 5_000 * 2_000) >> 27).expect("small");
            assert!(most <= 40 + full, "{rows} rows a commit: {most} files");
            assert!(live.len() <= 4 + full, "{rows} rows a commit: {} left", live.len());
            assert!(rewrites <= 5.0, "{rows} rows a commit: each rewritten {rewrites} times");
        }
    }

    #[test]
    fn a_night_of_real_alerts_is_rewritten_twice_or_less_and_ends_in_large_files() {
        let (most, live, rewrites) = run(36_000, 20, 70_000, 100_000, &CompactionOptions::default());
        assert!(rewrites <= 3.0, "each row rewritten {rewrites} times");
        let small = live.iter().filter(|file| file.size < 128 << 20).count();
        let large = live.iter().filter(|file| file.size > 512 << 20).count();
        assert!(small <= 2 && large == 0, "{small} small and {large} large of {}", live.len());
        assert!(most <= live.len() + 50, "{most} at most, {} at the end", live.len());
    }

    #[test]
    fn what_a_backlog_left_as_it_is_becomes_large_once_the_night_is_over() {
        let options = CompactionOptions::default();
        let files: Vec<DataFile> = (0..9).map(|number| file(number, 1_300, 55 << 20)).collect();
        assert!(choose(&files, false, &options).is_empty(), "large enough for a night that goes on");
        assert_eq!(choose(&files, true, &options).len(), 5, "256 MiB and a little");
        assert!(choose(&[file(1, 3_000, 130 << 20), file(2, 3_000, 130 << 20)], true, &options).is_empty());
    }

    #[test]
    fn a_large_file_is_not_written_anew_for_crumbs() {
        let options = CompactionOptions::default();
        let files = [file(1, 1_000, 100 << 20), file(2, 10, 1 << 20), file(3, 10, 1 << 20)];
        let chosen: Vec<u64> = choose(&files, true, &options).into_iter().map(|file| file.rows).collect();
        assert_eq!(chosen, [10, 10]);
        assert!(choose(&files[..2], true, &options).is_empty());
        assert!(choose(&files, false, &options).is_empty(), "two of a kind wait for more");
    }

    proptest! {
        #[test]
        fn what_is_chosen_always_shrinks_the_folder_and_stays_in_bounds(
            sizes in prop::collection::vec((1u64..5_000, 1u64..300), 0..80), quiet in any::<bool>()
        ) {
            let options = CompactionOptions::default();
            let files: Vec<DataFile> = sizes.iter().zip(0..).map(|((rows, mib), n)| file(n, *rows, mib << 20)).collect();
            let chosen = choose(&files, quiet, &options);
            prop_assert!(chosen.len() != 1 && chosen.len() <= options.files_max);
            let enough = if quiet { options.whole_bytes } else { options.enough_bytes };
            prop_assert!(chosen.iter().all(|file| file.size < enough));
            let bytes: u64 = chosen.iter().map(|file| file.size).sum();
            prop_assert!(bytes < options.full_bytes + enough);
        }
    }
}
