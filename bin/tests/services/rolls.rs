//! History is the table of light rows and the alerts that it lacks: each row once, whatever was rolled when, also of rejects that
//! were decoded after all.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fink::services::roll::Roller;
use fink_dataflow::alerts::{AlertBatch, Passed, Reject, Tally};
use fink_dataflow::message::Message;
use fink_dataflow::table::entry::{DataFile, Removed};
use fink_dataflow::table::store::wait;
use fink_dataflow::table::{Archive, Table, light};
use fink_dataflow::{Log, Moment};
use fink_sinks::archive::committer::{CommitOptions, Committer, Edit, Request, TableEdit};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::group::Group;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;
use fink_sinks::archive::upload::Uploader;
use fink_sources::archive::Replay;
use fink_sources::archive::rejected::rejected;

use crate::graph::alerts;
use crate::reference::{Reference, reference};

/// Messages of a group; every fifth is a reject.
const GROUP: usize = 20;

struct World {
    archive: Archive,
    committer: Committer,
    routes: Arc<Routes>,
    log: Arc<Log>,
    /// An alert for each offset.
    alerts: Vec<AlertBatch>,
}

fn is_reject(offset: usize) -> bool {
    offset % 5 == 3
}

impl World {
    fn new() -> Self {
        let archive = Archive::in_memory();
        let options = CommitOptions { vacuum_every: None, compaction: None, ..CommitOptions::default() };
        let (committer, _, routes) = Committer::start(archive.clone(), options).expect("taken");
        let log = Arc::new(Log::new("test", "alerts", 0, 0));
        let mut alerts = alerts(11);
        for (offset, batch) in (0..).zip(&mut alerts) {
            (batch.places[0].log, batch.places[0].offset) = (log.clone(), offset);
        }
        Self { archive, committer, routes, log, alerts }
    }

    /// Files of these alerts and rejects, stored.
    fn files(&self, offsets: impl Iterator<Item = usize>, rejects: &[Reject]) -> Vec<(Arc<str>, DataFile)> {
        let mut files = Files::new(self.routes.clone(), Memory::new(usize::MAX, 1), self.committer.state().generation);
        offsets.for_each(|offset| files.alerts(&self.alerts[offset]).expect("they fit"));
        files.rejects(rejects).expect("they fit");
        let uploader = Uploader::new(self.archive.clone(), Arc::default(), Arc::new(|_| ()));
        let mut stored = Vec::new();
        while let Some(file) = files.close_first().expect("closed") {
            stored.push(uploader.put(file));
        }
        let stored = stored.into_iter().map(|file| wait(file).expect("stored")).collect();
        uploader.finish();
        stored
    }

    fn group(&self, offsets: Range<usize>) -> Vec<(Arc<str>, DataFile)> {
        let reject = |offset: usize| Reject {
            log: self.log.clone(),
            message: Message { offset: offset as i64, timestamp_ms: Some(1), key: None, payload: Some(vec![0].into()) },
            received_us: 1,
            fault: "garbled",
            reason: "of no use".to_owned(),
        };
        let rejects: Vec<Reject> = offsets.clone().filter(|offset| is_reject(*offset)).map(reject).collect();
        let files = self.files(offsets.clone().filter(|offset| !is_reject(*offset)), &rejects);
        let (messages, rejected) = (offsets.len() as u64, rejects.len() as u64);
        let tally = Tally { messages, rejected, archived: messages - rejected, rows: messages - rejected, ..Tally::default() };
        let span = offsets.start as i64..offsets.end as i64;
        let passed = vec![Passed { log: self.log.clone(), span, tally, mark: None }];
        let next = self.committer.state().next;
        self.committer.commit(Group { worker: 0, moment: Moment::new(0, 1), passed, files: files.clone(), done: Box::new(|| ()) });
        while self.committer.state().next == next {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.settle();
        files
    }

    /// Waits until the tables have taken all that was committed.
    fn settle(&self) {
        let state = self.committer.state();
        for (name, known) in &state.tables {
            while Table::open(&self.archive, name).expect("opened").applied() < Some(known.last) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn roll(&self) -> u64 {
        let roller = Roller { archive: self.archive.clone(), committer: self.committer.clone(), routes: self.routes.clone() };
        let rolled = roller.roll(&AtomicBool::new(false)).expect("rolled").expect("the tables have taken all");
        self.settle();
        rolled
    }

    /// What history comes to, and from which tables.
    fn history(&self) -> (Reference, Vec<Arc<str>>, u64) {
        let replay = Replay::history(&self.archive).expect("opened");
        let (tables, rows) = (replay.versions().iter().map(|(table, _)| table.clone()).collect(), replay.rows());
        let mut batches = Vec::new();
        let take = |batch| {
            batches.push(batch);
            ControlFlow::Continue(())
        };
        replay.run(2, take).expect("read");
        (reference(&batches, &[], 1.5), tables, rows)
    }

    fn check(&self, offsets: impl Iterator<Item = usize>) {
        let expected: Vec<AlertBatch> = offsets.map(|offset| self.alerts[offset].clone()).collect();
        assert_eq!(self.history().0, reference(&expected, &[], 1.5));
    }
}

#[test]
fn history_has_each_row_once_whatever_was_rolled_when() {
    let world = World::new();
    let archived = |until: usize| (0..until).filter(|offset| !is_reject(*offset));
    let first = world.group(0..GROUP);
    world.group(GROUP..2 * GROUP);
    world.check(archived(2 * GROUP));
    assert_eq!(world.roll(), archived(2 * GROUP).count() as u64);
    world.check(archived(2 * GROUP));
    let (_, tables, rows) = world.history();
    assert!(tables.iter().any(|table| **table == *light::TABLE));
    assert_eq!(rows, archived(2 * GROUP).count() as u64, "no alert is read that has a light row");

    world.group(2 * GROUP..3 * GROUP);
    world.check(archived(3 * GROUP));

    // Rejects of the first group are decoded after all.
    let retried = || (0..GROUP).filter(|offset| is_reject(*offset));
    let adds = world.files(retried(), &[]);
    let rejects = first.into_iter().find(|(table, _)| **table == *"rejects").expect("a file of rejects").1;
    let edit = |table: Arc<str>, adds, removes| TableEdit { table, as_of: None, adds, removes, data_change: true };
    let table = adds[0].0.clone();
    let mut tables = vec![edit(table, adds.into_iter().map(|(_, file)| file).collect(), Vec::new())];
    let gone = Removed { path: rejects.path, rows: rejects.rows };
    tables.push(TableEdit { as_of: world.committer.state().next.checked_sub(1), ..edit("rejects".into(), Vec::new(), vec![gone]) });
    let count = retried().count() as u64;
    let moved = vec![((*world.log).clone(), Tally { messages: count, archived: count, rows: count, ..Tally::default() })];
    world.committer.request(Request::Edit(Edit { tables, moved, ..Edit::default() })).expect("granted");
    world.settle();
    world.check(archived(3 * GROUP).chain(retried()));

    assert_eq!(world.roll(), (archived(3 * GROUP).count() - archived(2 * GROUP).count()) as u64 + count);
    world.check(archived(3 * GROUP).chain(retried()));
    let state = world.committer.state();
    assert_eq!(light::rows_lacking(&state), 0);
    assert!(light::lacking(&state).without(&rejected(&world.archive).expect("read")).is_empty());
    assert_eq!(world.roll(), 0, "there is nothing more");
    world.committer.clone().stop().expect("stopped");
}
