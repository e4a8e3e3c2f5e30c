//! The committer over real stores: a local folder, a store that fails, lies and hangs, and a second writer.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fink_dataflow::alerts::{Passed, Tally};
use fink_dataflow::message::Log;
use fink_dataflow::moment::Moment;
use fink_dataflow::ports::Keeper;
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{DataFile, State, Writer};
use fink_dataflow::table::fault::{Call, Fault, FaultyStore, Kind};
use fink_dataflow::table::ledger::Ledger;
use fink_dataflow::table::store::{self, Archive, wait};

use super::commit::{Pending, Shape};
use super::committer::{CommitError, CommitOptions, Committer, CompactionOptions, Helpers, Request, Rewrite, Shapes};
use super::compacting::FILES_HELD_MAX;
use super::fence;
use super::group::Group;
use super::merge::Refusal;
use super::start;
use super::writer::Backlog;

const SCHEMA: &str = concat!(
    r#"{"type":"struct","fields":[{"name":"offset","type":"long","nullable":true,"metadata":{}},"#,
    r#"{"name":"day","type":"integer","nullable":true,"metadata":{}}]}"#
);

/// How long a store may take that does not hang.
const PATIENCE: Duration = Duration::from_millis(150);

/// Every table has the same shape.
struct Fixed;

impl Shapes for Fixed {
    fn pending(&self, state: &State, touched: &BTreeSet<Arc<str>>) -> Pending {
        let shape = Shape { schema: SCHEMA.to_owned(), partition_columns: vec!["day".to_owned()] };
        let new = touched.iter().filter(|table| !state.tables.contains_key(*table));
        Pending { routes: Vec::new(), tables: new.map(|table| (Arc::clone(table), shape.clone())).collect() }
    }

    fn schema_json(&self, _: &str) -> Option<Arc<str>> {
        None
    }
}

/// Merges files in name only, and puts a stand-in so that vacuum has something to judge.
struct Stand {
    archive: Archive,
    generation: u64,
    merged: Mutex<u64>,
}

impl Rewrite for Stand {
    fn rewrite(&self, table: &Arc<str>, files: &[DataFile]) -> Result<DataFile, String> {
        let mut merged = self.merged.lock().unwrap();
        *merged += 1;
        let path = format!("day=1/{}-merged-{merged}.parquet", self.generation);
        let at = local(&self.archive).join(&**table).join(&path);
        fs::write(at, "merged").map_err(|error| error.to_string())?;
        let (rows, size) = (files.iter().map(|file| file.rows).sum::<u64>(), files.iter().map(|file| file.size).sum());
        let stats = format!(r#"{{"numRecords":{rows}}}"#);
        Ok(DataFile { path, size, rows, stats, ..files[0].clone() })
    }
}

fn local(archive: &Archive) -> std::path::PathBuf {
    archive.url().to_file_path().expect("it is a local archive")
}

fn folder(dir: &Path) -> Archive {
    store::open(dir.to_str().expect("it is text"), &BTreeMap::new()).expect("the folder is ours")
}

fn quiet() -> CommitOptions {
    CommitOptions { compaction: None, vacuum_every: None, ..CommitOptions::default() }
}

fn open(archive: &Archive, options: CommitOptions) -> Result<(Committer, State), CommitError> {
    let at = archive.clone();
    Committer::start_with(archive.clone(), options, |state| {
        let stand = Stand { archive: at, generation: state.generation, merged: Mutex::new(0) };
        Ok(Helpers { shapes: Arc::new(Fixed), rewriter: Some(Arc::new(stand)) })
    })
}

fn log() -> Log {
    Log::new("test", "ztf", 0, 0)
}

/// The group of one offset, whose file is in table `table`; `done` tells of it.
fn group(generation: u64, offset: i64, table: &str, done: &Sender<i64>) -> Group {
    let tally = Tally { messages: 1, archived: 1, rows: 1, ..Tally::default() };
    let passed = vec![Passed { log: Arc::new(log()), span: offset..offset + 1, tally, mark: None }];
    let file = DataFile {
        path: format!("day=1/{generation}-ztf-0-{offset}-u.parquet"),
        size: 1_000,
        modified_ms: 0,
        partition: vec![("day".to_owned(), Some("1".to_owned()))],
        rows: 1,
        stats: r#"{"numRecords":1}"#.to_owned(),
    };
    let done = done.clone();
    // A test that has ended asks no more.
    let tell = move || done.send(offset).unwrap_or_default();
    let moment = Moment::new(0, offset.unsigned_abs());
    Group { worker: 0, moment, passed, files: vec![(Arc::from(table), file)], done: Box::new(tell) }
}

fn table_for(offset: i64) -> &'static str {
    if offset % 2 == 0 { "alerts" } else { "rejects" }
}

fn wait_for(done: &Receiver<i64>, count: i64) -> BTreeSet<i64> {
    (0..count).map(|_| done.recv_timeout(Duration::from_secs(60)).expect("every group becomes durable")).collect()
}

/// The offsets whose rows the tables hold, told by the names of their files, and each table's last entry.
fn rows(archive: &Archive, tables: &[&str]) -> (Vec<i64>, BTreeMap<String, Option<u64>>) {
    let mut offsets = Vec::new();
    let mut applied = BTreeMap::new();
    for name in tables {
        let mut table = Table::open(archive, name).expect("it can be read");
        for file in table.files().expect("its log can be read") {
            offsets.push(file.path.split('-').nth(3).expect("the offset").parse().expect("a number"));
        }
        applied.insert((*name).to_owned(), table.applied());
    }
    offsets.sort_unstable();
    (offsets, applied)
}

fn ledger(archive: &Archive) -> State {
    let archive = archive.clone();
    wait(async move { Ledger::open(&archive).await }).expect("the ledger can be read").1
}

/// Checks that tables and ledger hold offsets `0..count`, each once.
fn check(archive: &Archive, count: i64) {
    let state = ledger(archive);
    let covered: Vec<i64> = state.coverage.get(&log()).map(|set| set.iter().flatten().collect()).unwrap_or_default();
    assert_eq!(covered, (0..count).collect::<Vec<_>>());
    let names: Vec<&str> = state.tables.keys().map(|name| &**name).collect();
    let (offsets, applied) = rows(archive, &names);
    assert_eq!(offsets, covered);
    for (name, known) in &state.tables {
        assert_eq!(applied[&**name], Some(known.last), "{name}");
    }
}

#[test]
fn groups_become_durable_then_visible_and_the_next_process_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let (told, done) = unbounded();
    for life in 0..3i64 {
        let (committer, state) = open(&archive, quiet()).unwrap();
        assert_eq!(state.generation, life.unsigned_abs() + 1);
        committer.open(&[(log(), 0)]).unwrap();
        let missing: Vec<i64> = committer.stored(&log()).unwrap().missing(20).into_iter().flatten().collect();
        assert_eq!(missing, (life * 5..20).collect::<Vec<_>>());
        for offset in life * 5..life * 5 + 5 {
            committer.commit(group(state.generation, offset, table_for(offset), &told));
        }
        assert_eq!(wait_for(&done, 5).len(), 5);
        assert_eq!(committer.state().coverage.len(), (life * 5 + 5).unsigned_abs());
        committer.stop().unwrap();
        check(&archive, life * 5 + 5);
    }
    assert!(!dir.path().join("_fink/heartbeat.json").exists(), "a writer that stopped in order leaves no heartbeat");
}

/// Every put of the commit's path goes wrong, in each way, at each of the first times.
#[test]
fn faults_of_any_put_lose_and_double_nothing() {
    for path in ["_fink/entries/", "alerts/_delta_log/", "rejects/_delta_log/"] {
        for kind in Kind::ALL {
            // More often than the store's own layer tries, too.
            for (from, times) in [(0, 2), (1, 2), (2, 2), (3, 2), (1, 7)] {
                let dir = tempfile::tempdir().unwrap();
                let sound = folder(dir.path());
                let faulty = FaultyStore::new(Arc::clone(sound.store()));
                let archive = sound.clone().with_store(Arc::new(faulty.clone())).with_patience(PATIENCE);
                faulty.plan(Fault { call: Call::Put, path: path.to_owned(), from, times, kind });
                let (told, done) = unbounded();
                let (committer, state) = open(&archive, quiet()).unwrap();
                for offset in 0..8 {
                    committer.commit(group(state.generation, offset, table_for(offset), &told));
                    // One entry each.
                    assert_eq!(wait_for(&done, 1), BTreeSet::from([offset]));
                }
                committer.stop().unwrap();
                check(&sound, 8);
                assert!(faulty.struck() > 0, "{path} {kind:?} {from}: the fault was never met");
            }
        }
    }
}

#[test]
fn a_full_store_holds_groups_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let sound = folder(dir.path());
    let faulty = FaultyStore::new(Arc::clone(sound.store()));
    let archive = sound.clone().with_store(Arc::new(faulty.clone())).with_patience(PATIENCE);
    let (told, done) = unbounded();
    let (committer, state) = open(&archive, quiet()).unwrap();
    faulty.plan(Fault { call: Call::Put, path: String::new(), from: 0, times: u64::MAX, kind: Kind::Fails });
    for offset in 0..5 {
        committer.commit(group(state.generation, offset, "alerts", &told));
    }
    while committer.status().trouble.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(done.try_recv().is_err());
    assert_eq!(committer.status().waiting, 5);
    assert_eq!(committer.failed(), None);
    assert!(matches!(committer.clone().stop_within(Duration::from_millis(20)), Err(CommitError::Ended(_))));
    faulty.heal();
    wait_for(&done, 5);
    committer.stop().unwrap();
    check(&sound, 5);
}

/// Orphans of a writer that died go, those of ours and what is not ours stay, and so does all that is live.
#[test]
fn vacuum_sweeps_what_a_dead_writer_left() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let folder = dir.path().join("alerts/day=1");
    let (told, done) = unbounded();
    let first = commit_all(&archive, 3, quiet(), |_| ());
    first.stop().unwrap();
    let names = ["1-ztf-0-9-left.parquet", "2-ztf-0-9-ours.parquet", "part-0.parquet", "notes.txt"];
    names.iter().for_each(|name| fs::write(folder.join(name), "rows").unwrap());
    let options =
        CommitOptions { compaction: None, file_retention: Duration::ZERO, vacuum_every: Some(Duration::from_millis(20)), ..quiet() };
    let (second, _) = open(&archive, options).unwrap();
    while folder.join(names[0]).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    second.commit(group(2, 3, "alerts", &told));
    wait_for(&done, 1);
    second.stop().unwrap();
    assert!(names[1..].iter().all(|name| folder.join(name).exists()));
    for offset in 0..3 {
        assert!(folder.join(format!("1-ztf-0-{offset}-u.parquet")).exists(), "it is live");
    }
}

/// A writer that was taken over deletes nothing, whatever it would have deleted.
#[test]
fn a_writer_that_was_taken_over_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    commit_all(&archive, 3, quiet(), |_| ()).stop().unwrap();
    let orphan = dir.path().join("alerts/day=1/1-ztf-0-9-left.parquet");
    fs::write(&orphan, "rows").unwrap();
    let patient = CommitOptions { file_retention: Duration::ZERO, vacuum_every: Some(Duration::from_millis(300)), ..quiet() };
    let (second, _) = open(&archive, patient).unwrap();
    let (third, _) = open(&archive, CommitOptions { take_over: true, ..quiet() }).unwrap();
    // Its vacuum comes before its next heartbeat, as a rule, and finds out by itself.
    std::thread::sleep(Duration::from_millis(900));
    assert!(orphan.exists());
    drop(second);
    third.stop().unwrap();
}

/// A process that died between its entry and a table, whatever tables had taken.
#[test]
fn tables_are_rolled_forward_from_the_entries_that_they_lack() {
    for missed in 1..6 {
        let dir = tempfile::tempdir().unwrap();
        let sound = folder(dir.path());
        let faulty = FaultyStore::new(Arc::clone(sound.store()));
        let archive = sound.clone().with_store(Arc::new(faulty.clone())).with_patience(PATIENCE);
        let (told, done) = unbounded();
        let (committer, state) = open(&archive, quiet()).unwrap();
        // From here on one table takes nothing.
        faulty.plan(Fault { call: Call::Put, path: "rejects/_delta_log/".to_owned(), from: 1, times: u64::MAX, kind: Kind::Fails });
        for offset in 0..2 + missed {
            let table = if offset == 0 { "alerts" } else { "rejects" };
            committer.commit(group(state.generation, offset, table, &told));
            wait_for(&done, 1);
        }
        // It dies; here: it is forgotten, and what it still tries comes to nothing.
        let dead = Writer { pid: u32::MAX, ..fence::this_process().unwrap() };
        let (next, _) = open(&sound, CommitOptions { writer: Some(dead), take_over: true, ..quiet() }).unwrap();
        check(&sound, 2 + missed);
        faulty.heal();
        next.commit(group(2, 2 + missed, "rejects", &told));
        wait_for(&done, 1);
        next.stop().unwrap();
        check(&sound, 3 + missed);
        drop(committer);
    }
}

#[test]
fn a_second_writer_is_refused_or_takes_over_and_the_first_stops() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let (told, done) = unbounded();
    let (first, state) = open(&archive, quiet()).unwrap();
    first.commit(group(state.generation, 0, "alerts", &told));
    wait_for(&done, 1);
    let refused = open(&archive, quiet()).err().expect("it is held").to_string();
    assert!(refused.contains("--take-over"), "{refused}");
    let other = Writer { host: "elsewhere".to_owned(), ..fence::this_process().unwrap() };
    let refused = open(&archive, CommitOptions { writer: Some(other.clone()), ..quiet() }).err().expect("it is held").to_string();
    assert!(refused.contains("heartbeat"), "{refused}");

    let options = CommitOptions { writer: Some(other), take_over: true, ..quiet() };
    let (second, state) = open(&archive, options).unwrap();
    assert_eq!((state.generation, state.coverage.len()), (2, 1));
    second.commit(group(2, 1, "alerts", &told));
    wait_for(&done, 1);
    // The first does not know yet: its next put tells it.
    first.commit(group(1, 1, "alerts", &told));
    assert!(matches!(first.request(Request::Open(vec![(log(), 7)])), Err(Refusal::Ended(_))));
    assert!(first.failed().is_some_and(|why| why.contains("generation 2")), "{:?}", first.failed());
    assert!(done.try_recv().is_err(), "nothing of it was acknowledged");
    assert!(first.stop().is_err());
    second.stop().unwrap();
    check(&archive, 2);
}

#[test]
fn a_writer_that_is_overtaken_as_it_begins_is_told_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let (told, done) = unbounded();
    let commit = |offset| {
        let (committer, state) = open(&archive, quiet()).unwrap();
        committer.commit(group(state.generation, offset, "alerts", &told));
        wait_for(&done, 1);
        committer.stop().unwrap();
    };
    commit(0);
    let opened = archive.clone();
    let (ledger, state) = wait(async move { Ledger::open(&opened).await }).unwrap();
    let ledger = Arc::new(ledger);
    assert!(start::forward(&archive, &ledger, &state).is_ok());
    // Another takes the archive, and takes its table further.
    commit(1);
    let error = start::forward(&archive, &ledger, &state).err().expect("the table is ahead of what was read");
    let error = start::overtaken(&archive, &ledger, &state, error);
    assert!(matches!(&error, CommitError::Held(held) if held.since.contains("taken the archive over")), "{error}");
}

#[test]
fn the_heartbeat_finds_that_another_has_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let (first, _) = open(&archive, quiet()).unwrap();
    let (second, _) = open(&archive, CommitOptions { take_over: true, ..quiet() }).unwrap();
    // Whenever its next heartbeat is.
    while first.failed().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    second.stop().unwrap();
}

/// Writes `commits` groups, each an entry and a table commit of its own, with upkeep and compaction as `options` say.
fn commit_all(archive: &Archive, commits: i64, options: CommitOptions, mut each: impl FnMut(i64)) -> Committer {
    let folder = local(archive).join("alerts");
    fs::create_dir_all(folder.join("day=1")).unwrap();
    let (committer, state) = open(archive, options).unwrap();
    let (told, done) = unbounded();
    for offset in 0..commits {
        let group = group(state.generation, offset, "alerts", &told);
        fs::write(folder.join(&group.files[0].1.path), "rows").unwrap();
        committer.commit(group);
        wait_for(&done, 1);
        each(offset);
    }
    committer
}

/// The live files, their names in the folder, and the files of the log.
fn survey(archive: &Archive) -> (Vec<DataFile>, usize, usize) {
    let count = |path: &str| fs::read_dir(local(archive).join(path)).unwrap().count();
    let live = Table::open(archive, "alerts").and_then(|mut table| table.files()).expect("the table can be read");
    (live, count("alerts/day=1"), count("alerts/_delta_log"))
}

#[test]
fn many_commits_leave_few_files_and_short_logs() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let compaction = CompactionOptions { fan_in: 4, every: Duration::from_millis(5), ..CompactionOptions::default() };
    let options = CommitOptions {
        compaction: Some(compaction),
        checkpoint_every: 20,
        snapshot_every: 50,
        log_retention: Duration::ZERO,
        file_retention: Duration::ZERO,
        vacuum_every: Some(Duration::from_millis(100)),
        ..CommitOptions::default()
    };
    let committer = commit_all(&archive, 150, options, |_| ());
    // Compaction, checkpoints and vacuum catch up by themselves.
    let live = loop {
        let (live, there, log) = survey(&archive);
        if live.len() < 12 && log < 130 && there <= live.len() + 4 {
            break live;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(committer.status().compactions > 0);
    committer.stop().unwrap();
    assert_eq!(live.iter().map(|file| file.rows).sum::<u64>(), 150);
    for file in survey(&archive).0 {
        assert!(dir.path().join("alerts").join(&file.path).exists(), "{} is live and was deleted", file.path);
    }
    assert_eq!(ledger(&archive).coverage.len(), 150);
}

#[test]
fn a_large_backlog_is_not_slowed_by_merges_until_files_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let backlog = Backlog::default();
    backlog.note(Backlog::LARGE);
    let compaction = CompactionOptions {
        fan_in: 4,
        every: Duration::from_millis(5),
        backlog: backlog.clone(),
        settle: Duration::ZERO,
        ..CompactionOptions::default()
    };
    let options = CommitOptions { compaction: Some(compaction), vacuum_every: None, ..CommitOptions::default() };
    let mut merges = Vec::new();
    let committer = commit_all(&archive, FILES_HELD_MAX as i64 + 40, options, |offset| {
        if offset == FILES_HELD_MAX as i64 / 2 {
            merges.push(survey(&archive).0.len());
        }
    });
    // The table may be a few commits behind the ledger.
    assert!(merges[0] >= FILES_HELD_MAX / 2 - 8, "merged down to {} files before there were too many", merges[0]);
    while survey(&archive).0.len() > FILES_HELD_MAX {
        std::thread::sleep(Duration::from_millis(20));
    }
    backlog.note(0);
    while survey(&archive).0.len() >= 12 {
        std::thread::sleep(Duration::from_millis(20));
    }
    committer.stop().unwrap();
    assert_eq!(survey(&archive).0.iter().map(|file| file.rows).sum::<u64>(), FILES_HELD_MAX as u64 + 40);
}

/// Prints what 5,000 commits cost, and how many files they leave.
#[test]
#[ignore = "a measurement of minutes"]
fn five_thousand_commits() {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let compaction = CompactionOptions { every: Duration::from_millis(200), ..CompactionOptions::default() };
    let options = CommitOptions { compaction: Some(compaction), vacuum_every: Some(Duration::from_secs(10)), ..CommitOptions::default() };
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
    };
    let (mut last, mut most) = (cpu(), 0);
    let at = archive.clone();
    let began = std::time::Instant::now();
    let committer = commit_all(&archive, 5_000, options, |offset| {
        if offset % 500 == 499 {
            let (live, there, log) = survey(&at);
            most = most.max(live.len());
            println!(
                "{} commits: {:?} CPU each, {} live, {there} in the folder, {log} in the log",
                offset + 1,
                (cpu() - last) / 500,
                live.len()
            );
            last = cpu();
        }
    });
    println!("{:?} a commit, {:?}", began.elapsed() / 5_000, committer.status());
    committer.stop().unwrap();
    assert!(most <= 50, "{most} live files");
    assert_eq!(survey(&archive).0.iter().map(|file| file.rows).sum::<u64>(), 5_000);
}
