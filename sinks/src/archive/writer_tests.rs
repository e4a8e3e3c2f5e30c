//! Groups: when they close, what they hold, and that nothing is lost under pressure and faults.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_channel::unbounded;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::budget::Budget;
use fink_dataflow::table::entry::State;
use fink_dataflow::table::fault::{Call, Fault, FaultyStore, Kind};

use super::super::files::rehearse;
use super::super::properties::COARSE_ROWS;
use super::super::samples::{batch, decoded, offsets, reject, ztf};
use super::*;
use crate::rejects;

fn shared(archive: &Archive, memory: usize, sink: impl Fn(Group) + Send + Sync + 'static) -> Shared {
    let routes = Arc::new(Routes::new(&State::default()).expect("an empty state"));
    Shared { archive: archive.clone(), routes, memory: Memory::new(memory, 1), sink: Arc::new(sink), stuck: Stuck::default() }
}

fn options() -> WriterOptions {
    WriterOptions {
        worker: 2,
        generation: 5,
        commit_interval: Duration::from_secs(1),
        group_bytes_max: 64 << 20,
        backlog: Backlog::default(),
        nice: 0,
    }
}

/// A writer without a thread, and the groups that it hands on.
fn writer(archive: &Archive, memory: usize, options: WriterOptions) -> (Writer, Receiver<Group>) {
    let (give, groups) = unbounded();
    let shared = shared(archive, memory, move |group| give.send(group).expect("the test listens"));
    (Writer::new(options, shared, Arc::default()), groups)
}

fn one(offsets: Range<i64>) -> AlertBatch {
    batch(&ztf(false), &offsets.collect::<Vec<_>>(), 100, |_| Some(20_000))
}

/// The offsets of each table and partition.
fn contents(archive: &Archive, groups: &[Group]) -> BTreeMap<(String, String), Vec<i64>> {
    let mut all: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (table, file) in groups.iter().flat_map(|group| &group.files) {
        let day = file.partition.iter().map(|(_, value)| value.as_deref().unwrap_or("?")).collect::<Vec<_>>().join("-");
        all.entry((table.to_string(), day)).or_default().extend(offsets(archive, table, file));
    }
    all
}

#[test]
fn a_group_closes_by_age_counted_from_its_first_chunk() {
    let archive = Archive::in_memory();
    let (mut writer, groups) = writer(&archive, usize::MAX, options());
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(writer.deadline(), None);
    writer.take(at(0), 0, Moment::new(0, 7), vec![decoded(vec![one(0..3)], vec![])]).expect("taken");
    writer.take(at(900), 1, Moment::new(1, 5), vec![decoded(vec![one(3..5)], vec![])]).expect("taken");
    writer.tick(at(999)).expect("nothing is due");
    assert_eq!((writer.deadline(), writer.group.is_some()), (Some(at(1000)), true));
    writer.tick(at(1000)).expect("closed");
    assert_eq!(writer.deadline(), None);
    let group = groups.recv().expect("handed on");
    assert_eq!((group.worker, group.moment), (2, Moment::new(1, 7)));
    assert_eq!(group.passed.iter().map(|passed| passed.span.clone()).collect::<Vec<_>>(), [0..3, 3..5]);
    assert_eq!(group.files.len(), 1);
    let (table, file) = &group.files[0];
    assert_eq!((&**table, offsets(&archive, table, file)), ("alerts", vec![0, 1, 2, 3, 4]));
    assert!(file.path.starts_with("year=2024/month=10/day=4/5-ztf_night_1-3-0-"), "{}", file.path);
    assert_eq!(*writer.acks.undone.lock().expect("not poisoned"), 1);
    (group.done)();
    assert_eq!(writer.acks.durable.lock().expect("not poisoned").pop(), Some(0..2));
    assert_eq!(*writer.acks.undone.lock().expect("not poisoned"), 0);
}

#[test]
fn a_group_grows_older_while_the_backlog_is_large() {
    let archive = Archive::in_memory();
    let backlog = Backlog::default();
    let (mut writer, groups) = writer(&archive, usize::MAX, WriterOptions { backlog: backlog.clone(), ..options() });
    let start = Instant::now();
    backlog.note(Backlog::LARGE);
    writer.take(start, 0, Moment::new(0, 7), vec![decoded(vec![one(0..3)], vec![])]).expect("taken");
    writer.tick(start + Duration::from_secs(9)).expect("nothing is due");
    assert!(writer.group.is_some());
    backlog.note(Backlog::LARGE - 1);
    writer.tick(start + Duration::from_secs(9)).expect("closed");
    assert_eq!(groups.recv().expect("handed on").passed.len(), 1);
    backlog.note(Backlog::LARGE);
    writer.take(start, 1, Moment::new(0, 8), vec![decoded(vec![one(3..4)], vec![])]).expect("taken");
    writer.tick(start + Backlog::INTERVAL).expect("closed");
    assert!(writer.group.is_none());
}

#[test]
fn a_group_of_one_file_closes_before_that_file_must_give_way() {
    let archive = Archive::in_memory();
    let (mut writer, groups) = writer(&archive, 1_000_000, WriterOptions { group_bytes_max: usize::MAX, ..options() });
    let now = Instant::now();
    for number in 0.. {
        let from = i64::try_from(number).expect("few") * 2;
        let rows = batch(&ztf(false), &[from, from + 1], 20_000, |_| Some(20_000));
        writer.take(now, number, Moment::new(0, 1), vec![decoded(vec![rows], vec![])]).expect("taken");
        if writer.group.is_none() {
            break;
        }
    }
    let group = groups.recv().expect("handed on");
    assert_eq!(group.files.len(), 1);
    assert!((700_000..1_000_000).contains(&group.files[0].1.size), "{}", group.files[0].1.size);
}

#[test]
fn a_group_closes_when_it_is_big_and_an_empty_one_is_a_group_too() {
    let archive = Archive::in_memory();
    let (mut writer, groups) = writer(&archive, usize::MAX, WriterOptions { group_bytes_max: 500_000, ..options() });
    let now = Instant::now();
    let big = |from: i64| batch(&ztf(false), &(from..from + 10).collect::<Vec<_>>(), 20_000, |_| Some(20_000));
    writer.take(now, 0, Moment::new(0, 1), vec![decoded(vec![big(0)], vec![])]).expect("taken");
    assert!(writer.group.is_some());
    writer.take(now, 1, Moment::new(0, 1), vec![decoded(vec![big(10)], vec![])]).expect("taken");
    assert!(writer.group.is_none(), "it is full");
    assert_eq!(groups.recv().expect("handed on").files.len(), 1);
    writer.take(now, 2, Moment::new(0, 2), vec![decoded(vec![], vec![])]).expect("taken");
    writer.flush().expect("closed");
    let empty = groups.recv().expect("handed on");
    assert_eq!((empty.files.len(), empty.passed.len()), (0, 1));
    writer.flush().expect("nothing to close");
    writer.finish().expect("ended");
    assert!(groups.recv().is_err(), "no group without a chunk");
}

#[test]
fn nights_and_rejects_go_to_files_of_their_own() {
    let archive = Archive::in_memory();
    let (mut writer, groups) = writer(&archive, usize::MAX, options());
    let all: Vec<i64> = (0..600).collect();
    let night = |offset: i64| [Some(20_000), Some(20_001), None][(offset % 3) as usize];
    let part = decoded(vec![batch(&ztf(false), &all, 10, night), batch(&ztf(true), &[600, 601], 10, |_| Some(20_001))], vec![reject(700)]);
    writer.take(Instant::now(), 0, Moment::new(0, 1), vec![part]).expect("taken");
    writer.finish().expect("ended");
    let group = groups.recv().expect("handed on");
    assert_eq!(group.files.len(), 5, "one a table, night and schema");
    let found = contents(&archive, std::slice::from_ref(&group));
    let of = |rest: i64| (0..600).filter(|offset| offset % 3 == rest).collect::<Vec<_>>();
    let mut second = of(1);
    second.extend([600, 601]);
    let mut first_sorted = found[&("alerts".to_owned(), "2024-10-5".to_owned())].clone();
    first_sorted.sort_unstable();
    assert_eq!(first_sorted, second);
    assert_eq!(found[&("alerts".to_owned(), "2024-10-4".to_owned())], of(0));
    assert_eq!(found[&("alerts".to_owned(), "?-?-?".to_owned())], of(2));
    assert_eq!(found[&(rejects::TABLE.to_owned(), "2026-5-28".to_owned())], [700]);
}

#[test]
fn claims_are_released_and_memory_stays_in_bounds_over_thirty_nights() {
    const BOUND: usize = 6 << 20;
    let archive = Archive::in_memory();
    let (mut writer, groups) = writer(&archive, BOUND, WriterOptions { group_bytes_max: usize::MAX, ..options() });
    let (memory, budget) = (Arc::clone(&writer.shared.memory), Budget::new(1 << 20));
    let now = Instant::now();
    for n in 0..60i64 {
        let offsets: Vec<i64> = (n * 60..n * 60 + 60).collect();
        let mut part = decoded(vec![batch(&ztf(false), &offsets, 4_000, |offset| Some(20_000 + (offset % 30) as i32))], vec![]);
        part.claims.push(Arc::new(budget.take(240_000)));
        writer.take(now, n as u64, Moment::new(0, n as u64), vec![part]).expect("taken");
        assert_eq!(budget.used(), 0, "the bytes are not held any more");
    }
    writer.finish().expect("ended");
    let group = groups.recv().expect("handed on");
    let rows: BTreeSet<i64> = contents(&archive, std::slice::from_ref(&group)).into_values().flatten().collect();
    assert_eq!((rows.len(), group.files.iter().map(|(_, file)| file.rows).sum::<u64>()), (3_600, 3_600));
    assert!(group.files.len() > 30, "files were closed early: {}", group.files.len());
    // A part comes whole: 60 rows of 4 kB.
    assert!(memory.peak() < BOUND + (1 << 20), "{} held at most", memory.peak());
    assert_eq!(memory.used(), 0);
}

#[test]
fn what_cannot_be_stored_is_tried_again_until_it_can() {
    for kind in Kind::ALL {
        let faulty = FaultyStore::new(Arc::clone(Archive::in_memory().store()));
        let archive = Archive::in_memory().with_store(Arc::new(faulty.clone())).with_patience(Duration::from_millis(100));
        faulty.plan(Fault { call: Call::Put, path: "alerts/".into(), from: 0, times: 3, kind });
        let (mut writer, groups) = writer(&archive, usize::MAX, options());
        let rows = (0..COARSE_ROWS as i64 + 10).collect::<Vec<_>>();
        let part = decoded(vec![batch(&ztf(false), &rows, 10, |_| None)], vec![]);
        writer.take(Instant::now(), 0, Moment::new(0, 1), vec![part]).expect("taken");
        let stuck = Arc::clone(&writer.shared.stuck);
        writer.finish().expect("ended");
        let group = groups.recv().expect("handed on");
        assert_eq!(faulty.struck(), 3, "{kind:?}");
        assert_eq!(offsets(&archive, "alerts", &group.files[0].1), rows);
        assert_eq!(*stuck.lock().expect("not poisoned"), None, "all is well again");
    }
}

#[test]
fn the_thread_closes_groups_by_its_clock_and_waits_for_a_slow_committer() {
    let archive = Archive::in_memory();
    let (give, groups) = unbounded();
    let shared = shared(&archive, usize::MAX, move |group| give.send(group).expect("the test listens"));
    let (mut handle, thread) = start(WriterOptions { commit_interval: Duration::from_millis(1), ..options() }, shared).expect("started");
    // One group each, since the writer is asked to flush; nobody makes them durable.
    for n in 0..UNDONE_MAX as i64 + 5 {
        handle.take(Moment::new(0, 1), vec![decoded(vec![one(n..n + 1)], vec![])]);
        handle.flush();
    }
    let held: Vec<Group> = groups.iter().take(UNDONE_MAX).collect();
    assert!(groups.recv_timeout(Duration::from_millis(100)).is_err(), "it waits for the committer");
    assert!(handle.durable().is_empty());
    held.into_iter().for_each(|group| (group.done)());
    drop(handle);
    thread.join().expect("ended");
    assert_eq!(groups.iter().flat_map(|group| group.passed).count(), 5);
}

#[test]
fn a_writer_that_cannot_go_on_says_why_and_so_does_a_rehearsal() {
    let mut unfit = one(0..3);
    unfit.schema = ztf(true);
    let part = || decoded(vec![unfit.clone()], vec![]);
    assert!(matches!(rehearse(&decoded(vec![one(0..3)], vec![reject(4)])), Ok(())));
    assert!(matches!(rehearse(&part()), Err(FilesError::Arrow(_))));
    let (mut handle, thread) = start(options(), shared(&Archive::in_memory(), usize::MAX, |_| {})).expect("started");
    assert!(!thread.has_failed());
    handle.take(Moment::new(0, 1), vec![part()]);
    while !thread.has_failed() {
        std::thread::yield_now();
    }
    // Whoever does not know yet may go on giving.
    handle.take(Moment::new(0, 2), vec![decoded(vec![one(3..4)], vec![])]);
    assert!(handle.durable().is_empty());
    assert!(matches!(thread.join(), Err(FilesError::Arrow(_))));
}
