//! A deputy and a clerk, with letters as texts between them, over a real committer and a local archive.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use arrow::datatypes::DataType;
use fink_dataflow::table::store;

use super::super::committer::{CommitOptions, Hears};
use super::super::memory::Memory;
use super::super::samples::{batch, decoded, log, reject, schema, ztf};
use super::super::upload::Stuck;
use super::super::writer::{Backlog, Shared, WriterOptions, start};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A leading process, and deputies of others; all that crosses is text.
struct Cluster {
    committer: Committer,
    routes: Arc<Routes>,
    deputies: Vec<Deputy>,
    archive: store::Archive,
    _folder: tempfile::TempDir,
}

fn cluster(others: usize) -> Cluster {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = store::open(folder.path().to_str().expect("text"), &BTreeMap::new()).expect("ours");
    let deputies: Arc<OnceLock<Vec<Deputy>>> = Arc::default();
    let (to_deputies, heard) = channel::<(usize, String)>();
    let told = to_deputies.clone();
    let tells: Tells = Arc::new(move |to, told_what| told.send((to, serde_json::to_string(&told_what).expect("text"))).expect("heard"));
    let hears = Hears(Arc::new(move |entry| {
        let text = serde_json::to_string(&Told::Entry(Arc::clone(entry))).expect("text");
        (0..others).for_each(|to| to_deputies.send((to, text.clone())).expect("heard"));
    }));
    let options = CommitOptions { compaction: None, vacuum_every: None, hears: Some(hears), ..CommitOptions::default() };
    let (committer, state, routes) = Committer::start(archive.clone(), options).expect("it starts");
    let clerk = Clerk::new(committer.clone(), Arc::clone(&routes), tells);
    let (asks, asked) = channel::<(usize, String)>();
    std::thread::spawn(move || {
        for (from, text) in asked {
            clerk.asked(from, serde_json::from_str(&text).expect("an ask")).expect("taken");
        }
    });
    let deputy = |index| {
        let asks = asks.clone();
        Deputy::new(state.clone(), Arc::new(move |ask| asks.send((index, serde_json::to_string(&ask).expect("text"))).expect("asked")))
    };
    let all: Vec<_> = (0..others).map(deputy).collect();
    deputies.set(all.clone()).ok().expect("set once");
    std::thread::spawn(move || {
        for (to, text) in heard {
            deputies.get().expect("set")[to].told(serde_json::from_str(&text).expect("told")).expect("it fits");
        }
    });
    Cluster { committer, routes, deputies: all, archive, _folder: folder }
}

fn group(from: i64, to: i64) -> (Group, Receiver<()>) {
    let (done, durable) = channel();
    let tally = Tally { messages: 2, empty: 2, bytes: 7, ..Tally::default() };
    let passed =
        vec![Passed { log: log(), span: from..to, tally, mark: Some(Mark { offset: to - 1, timestamp_ms: None, hash: u64::MAX }) }];
    let done = Box::new(move || done.send(()).expect("heard"));
    (Group { worker: 1, moment: Moment::new(1, 7), passed, files: Vec::new(), done }, durable)
}

#[test]
fn what_deputies_give_is_committed_once_and_known_to_all_before_they_are_told() {
    let Cluster { committer, deputies, .. } = cluster(2);
    deputies[0].open(&[((*log()).clone(), 5)]).expect("opened");
    assert_eq!(deputies[0].stored(&log()).expect("open").origin, 5);
    let (first, durable) = group(5, 9);
    deputies[0].commit(first);
    durable.recv_timeout(PATIENCE).expect("durable");
    assert_eq!(deputies[0].stored(&log()).expect("open").covered.end(), Some(9));
    let (second, durable) = group(9, 12);
    deputies[1].commit(second);
    durable.recv_timeout(PATIENCE).expect("durable");
    assert_eq!(*deputies[1].state(), *committer.state());
    assert_eq!(deputies[1].stored(&log()).expect("open").mark, Some(Mark { offset: 11, timestamp_ms: None, hash: u64::MAX }));
    assert_eq!((deputies[1].status().waiting, deputies[1].status().last_entry), (0, committer.status().last_entry));
    assert_eq!(committer.state().moment, Moment::new(1, 7));
    assert!(deputies[1].told(Told::Durable(99)).is_err(), "nobody asked");
}

#[test]
fn schemas_go_where_one_process_decides_whoever_meets_them() {
    let Cluster { routes, deputies, .. } = cluster(2);
    let at = |deputy: usize| Routes::decided_by(&State::default(), Arc::new(deputies[deputy].clone())).expect("an empty state");
    let (one, two) = (at(0), at(1));
    let lsst = schema("lsst.v10_0.alert", &[("diaSourceId", DataType::Int64)]);
    // Each alone would give its first the table `alerts`.
    assert_eq!(&*one.route(&ztf(false)).expect("routed").table, "alerts");
    assert_eq!(&*two.route(&lsst).expect("routed").table, "alerts_lsst");
    let (grown, known) = (two.route(&ztf(true)).expect("routed"), routes.route(&ztf(true)).expect("routed"));
    assert_eq!((&*grown.table, &grown.columns, &grown.partition_columns), ("alerts", &known.columns, &known.partition_columns));
    assert_eq!(one.route(&ztf(true)).expect("routed").columns, known.columns);
    let raw = schema("odd.alert", &[("datum", DataType::Binary)]);
    let raw = WriterSchema { form: Form::Raw("recursive".into()), ..Arc::try_unwrap(raw).expect("only one") };
    assert_eq!(&*one.route(&raw).expect("routed").table, "alerts_raw");
    assert_eq!(routes.text(&raw.fingerprint).as_deref(), Some("{}"), "the leader keeps the schema's text");
}

#[test]
fn alerts_and_rejects_of_another_process_stand_in_the_tables() {
    let Cluster { committer, deputies, archive, .. } = cluster(1);
    let deputy = deputies[0].clone();
    deputy.open(&[((*log()).clone(), 0)]).expect("opened");
    let shared = Shared {
        archive: archive.clone(),
        routes: Arc::new(Routes::decided_by(&State::default(), Arc::new(deputy.clone())).expect("an empty state")),
        memory: Memory::new(usize::MAX, 1),
        sink: Arc::new(deputy.clone()),
        stuck: Stuck::default(),
    };
    let options = WriterOptions {
        worker: 0,
        generation: deputy.status().generation,
        commit_interval: Duration::from_millis(10),
        group_bytes_max: usize::MAX,
        backlog: Backlog::default(),
        nice: 0,
    };
    let (mut handle, thread) = start(options, shared).expect("started");
    let alerts = batch(&ztf(false), &[0, 1, 2], 10, |_| Some(20_000));
    handle.take(Moment::new(0, 3), vec![decoded(vec![alerts], vec![reject(3)])]);
    handle.flush();
    let end = std::time::Instant::now() + PATIENCE;
    while handle.durable().is_empty() {
        assert!(std::time::Instant::now() < end, "not durable");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(handle);
    thread.join().expect("ended");
    committer.clone().stop().expect("all is applied");
    let state = committer.state();
    assert_eq!((state.tables["alerts"].rows, state.tables["rejects"].rows), (3, 1));
    assert_eq!(state.routes.len(), 1);
    assert_eq!(*deputy.state(), *state);
    let table = fink_dataflow::table::delta::Table::open(&archive, "alerts").expect("a table");
    assert_eq!(table.applied(), Some(state.tables["alerts"].last));
}
