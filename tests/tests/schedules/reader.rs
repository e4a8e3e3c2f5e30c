//! What a process reads and writes: the product's lanes and queues, a client of the cluster made up, and a writer that
//! groups as the product's does, whose files are the lists of their rows' places.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::alerts::{Passed, Tally};
use fink_dataflow::message::{Chunk, Message};
use fink_dataflow::ports::{Drawn, Inlet as _, Stored, Stretch};
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::{Log, Moment};
use fink_sinks::archive::commit::{Ask as Request, Closed};
use fink_sources::lanes::{Answer, Ask, Lane, LaneCount, Lanes, Origin, Rules, Sight};
use fink_sources::queue::{Bounds, Inlet, Outlet, queue};

use super::kafka::{self, Kind, SOURCE};
use super::process::Process;
use super::store::Row;
use super::tasks::{Queue, Signal};
use super::world::table_of;

/// A lane of a process: what its client reads, and the queue that it fills.
struct LaneRun {
    process: Rc<Process>,
    lane: Lane,
    outlet: Outlet,
    came: Signal,
    reads: BTreeMap<Arc<Log>, Stretch>,
}

/// The client does not get through.
struct Away;

/// Begins to read, and to write what is read.
pub fn begin(process: &Rc<Process>) {
    let chance = |from, to| process.world.tasks.chance(|chance| chance.between(from, to));
    let two = chance(0, 2) > 0;
    let near = chance(0, 12).cast_signed();
    let rules = Rules {
        origin: process.world.origin.clone(),
        lanes: if two { LaneCount::Two { near } } else { LaneCount::One },
        pattern: process.world.pattern,
        ..Rules::default()
    };
    let bounds = Bounds { chunks_max: usize::try_from(chance(1, 6)).expect("small"), chunks_per_worker: 1, ..Bounds::default() };
    let late = Queue::default();
    let running = Rc::new(Cell::new(0));
    let lanes = if two { &[Lane::Live, Lane::Backlog][..] } else { &[Lane::Live][..] };
    for lane in lanes {
        let (outlet, inlet) = queue(bounds);
        let came = Signal::default();
        let run = LaneRun { process: process.clone(), lane: *lane, outlet, came: came.clone(), reads: BTreeMap::new() };
        let reading: std::pin::Pin<Box<dyn Future<Output = ()>>> = match lane {
            Lane::Live => Box::pin(run.live(rules.clone(), late.clone())),
            Lane::Backlog => Box::pin(run.backlog(late.clone())),
        };
        process.world.tasks.spawn(process.owner, reading);
        for worker in 0..process.workers {
            running.set(running.get() + 1);
            let writer = Writer::new(process, *lane, worker);
            process.world.tasks.spawn(process.owner, writer.run(inlet.clone(), came.clone(), running.clone()));
        }
    }
}

impl LaneRun {
    async fn live(mut self, rules: Rules, late: Queue<Stretch>) {
        let tasks = self.process.world.tasks.clone();
        let refresh = tasks.chance(|chance| chance.between(1_000, 8_000));
        let (mut begun, mut looked) = (false, tasks.now());
        while !self.process.stopping.get() {
            if begun && tasks.now() - looked < refresh {
                self.round(looked + refresh - tasks.now()).await;
                continue;
            }
            looked = tasks.now();
            match self.look(&rules, &late).await {
                Ok(()) => begun = true,
                Err(Away) => tasks.sleep(300).await,
            }
        }
        self.over();
    }

    async fn backlog(mut self, late: Queue<Stretch>) {
        while !self.process.stopping.get() {
            while let Some(stretch) = late.try_next() {
                self.reads.insert(stretch.log.clone(), stretch);
            }
            self.round(5_000).await;
        }
        self.over();
    }

    /// It reads no more: its queue ends when this is dropped, and those who draw from it look again.
    fn over(self) {
        let came = self.came.clone();
        drop(self);
        came.give();
    }

    async fn look(&mut self, rules: &Rules, late: &Queue<Stretch>) -> Result<(), Away> {
        let (process, world) = (self.process.clone(), self.process.world.clone());
        world.tasks.sleep(world.tasks.chance(|chance| chance.between(0, 20))).await;
        let state = process.state();
        if process.lanes.borrow().is_none() {
            let known: Vec<_> = state.logs.keys().map(|log| (log.source.clone(), log.topic.clone())).collect();
            process.lanes.replace(Some(Lanes::new(SOURCE.into(), rules.clone(), &known)));
        }
        let extents = world.kafka.borrow().extents().ok_or(Away)?;
        world.tasks.sleep(world.tasks.chance(|chance| chance.between(0, 20))).await;
        let state = process.state();
        let sight = |extent: fink_dataflow::ports::Extent| {
            let log = Log::new(SOURCE, &extent.topic, 0, extent.partition);
            let of = |coverage: &fink_dataflow::Coverage| coverage.get(&log).cloned().unwrap_or_default();
            let topic_known = state.logs.keys().any(|log| log.topic == extent.topic);
            let stored = state.logs.get(&log).map(|known| Stored {
                origin: known.origin,
                covered: of(&state.coverage),
                accepted: of(&state.accepted),
                mark: known.mark,
            });
            Sight { incarnation: topic_known.then_some(0), stored, extent }
        };
        let sights: Vec<Sight> = extents.into_iter().map(sight).collect();
        let asks = process.lanes.borrow().as_ref().map(|lanes| lanes.asks(&sights)).unwrap_or_default();
        world.tasks.sleep(world.tasks.chance(|chance| chance.between(0, 20))).await;
        let answers = asks.into_iter().map(|ask| (ask.clone(), self.answer(&ask))).collect();
        let planned = process.lanes.borrow_mut().as_mut().map(|lanes| lanes.plan(&sights, &answers));
        let plan = match planned.expect("they are there by now") {
            Ok(plan) => plan,
            Err(refusal) => {
                world.wrong(format!("the lanes refuse what is right: {refusal}"));
                return Err(Away);
            }
        };
        if !plan.opens.is_empty()
            && let Err(refusal) = process.ask(Request::Open(plan.opens)).await
        {
            world.wrong(format!("logs can't be opened: {refusal}"));
        }
        plan.holes.into_iter().for_each(|(log, hole)| world.say_hole(&log, hole));
        for (lane, stretch) in plan.reads {
            match lane {
                Lane::Live => drop(self.reads.insert(stretch.log.clone(), stretch)),
                Lane::Backlog => late.push(stretch),
            }
        }
        // Wakes the backlog lane.
        world.grown.give();
        Ok(())
    }

    fn answer(&self, ask: &Ask) -> Answer {
        let kafka = self.process.world.kafka.borrow();
        match ask {
            Ask::Mark(topic, partition, offset) => {
                let held = &kafka.partitions[&(topic.clone(), *partition)];
                let seen = (held.low..held.high()).contains(offset) && held.at(*offset) != Kind::Unseen;
                Answer::Mark(seen.then(|| kafka::mark(*partition, *offset)))
            }
            Ask::OffsetAt(..) => unreachable!("no origin is a time"),
        }
    }

    /// One chunk, or a wait for one.
    async fn round(&mut self, patience: u64) {
        let (process, world) = (self.process.clone(), self.process.world.clone());
        let seen = world.grown.seen();
        let (logs, mut ready) = (world.kafka.borrow(), Vec::new());
        if !logs.away {
            for (log, stretch) in &self.reads {
                let held = &logs.partitions[&(log.topic.clone(), log.partition)];
                let end = stretch.until.unwrap_or(i64::MAX).min(held.high());
                if stretch.from < end || stretch.from < held.low {
                    ready.push((log.clone(), stretch.clone(), held.low, held.high(), end));
                }
            }
        }
        drop(logs);
        if ready.is_empty() {
            return world.grown.after(seen, &world.tasks, patience).await;
        }
        let which = usize::try_from(world.tasks.chance(|chance| chance.below(ready.len() as u64))).expect("small");
        let (log, stretch, low, high, end) = ready.swap_remove(which);
        world.tasks.sleep(world.tasks.chance(|chance| chance.between(0, 30))).await;
        if stretch.from < low {
            return self.out_of_range(&log, stretch.from, low..high);
        }
        let to = end.min(stretch.from + world.tasks.chance(|chance| chance.between(1, 12)).cast_signed());
        if let Some(stretch) = self.reads.get_mut(&log) {
            stretch.from = to;
        }
        let chunk = self.chunk(&log, stretch.from..to);
        if process.twice.replace(false) && chunk.messages.len() > 1 {
            world.doubled.borrow_mut().insert(process.owner);
            self.send(chunk.clone()).await;
        }
        self.send(chunk).await;
        if process.stopping.get() {
            return;
        }
        let next = process.lanes.borrow_mut().as_mut().and_then(|lanes| {
            if lanes.ends(self.lane, &log) != Some(to) {
                return None;
            }
            self.reads.remove(&log);
            lanes.finished(self.lane, &log)
        });
        self.reads.extend(next.map(|stretch| (stretch.log.clone(), stretch)));
    }

    fn chunk(&self, log: &Arc<Log>, span: Range<i64>) -> Chunk {
        let kafka = self.process.world.kafka.borrow();
        let held = &kafka.partitions[&(log.topic.clone(), log.partition)];
        let seen = span.clone().filter(|offset| held.at(*offset) != Kind::Unseen);
        let message = |offset| Message { offset, timestamp_ms: Some(1_000 + offset), key: None, payload: None };
        Chunk { log: log.clone(), span, messages: seen.map(message).collect(), received_us: 0 }
    }

    async fn send(&self, chunk: Chunk) {
        let mut back = Some(chunk);
        while let Some(chunk) = back.take() {
            if self.process.stopping.get() {
                return;
            }
            back = self.outlet.send(chunk, Duration::ZERO).err();
            if back.is_some() {
                self.process.world.tasks.sleep(25).await;
            }
        }
        self.came.give();
    }

    fn out_of_range(&mut self, log: &Arc<Log>, at: i64, held: Range<i64>) {
        let world = self.process.world.clone();
        self.reads.remove(log);
        let mut lanes = self.process.lanes.borrow_mut();
        match lanes.as_mut().expect("it reads").out_of_range(self.lane, log, at, held) {
            Ok((hole, next)) => {
                world.say_hole(log, hole);
                self.reads.extend(next.map(|stretch| (stretch.log.clone(), stretch)));
            }
            Err(refusal) => world.wrong(format!("the lanes refuse a hole: {refusal}")),
        }
    }
}

/// A group in the making: spans, and rows by table and night.
#[derive(Default)]
struct Open {
    since: u64,
    moment: Moment,
    passed: Vec<Passed>,
    rows: BTreeMap<(Arc<str>, i64), Vec<Row>>,
}

/// The writer of a worker and lane.
struct Writer {
    process: Rc<Process>,
    lane: Lane,
    worker: usize,
    interval: u64,
    full: usize,
    open: Option<Open>,
    undone: Rc<Cell<usize>>,
    uploads: Queue<Option<Open>>,
}

impl Writer {
    fn new(process: &Rc<Process>, lane: Lane, worker: usize) -> Self {
        let (interval, full) = process.world.tasks.chance(|chance| (chance.between(50, 3_000), chance.between(1, 60)));
        let full = usize::try_from(full).expect("small");
        let (undone, uploads) = (Rc::default(), Queue::default());
        Self { process: process.clone(), lane, worker, interval, full, open: None, undone, uploads }
    }

    async fn run(mut self, inlet: Inlet, came: Signal, running: Rc<Cell<usize>>) {
        let tasks = self.process.world.tasks.clone();
        tasks.spawn(self.process.owner, upload(self.process.clone(), self.uploads.clone(), self.undone.clone(), running));
        loop {
            let seen = came.seen();
            match inlet.draw(self.worker) {
                Drawn::Chunk(chunk) => self.take(&chunk),
                Drawn::Ended => break,
                Drawn::Nothing => {
                    let due = self.open.as_ref().map_or(10_000, |open| (open.since + self.interval).saturating_sub(tasks.now()));
                    came.after(seen, &tasks, due).await;
                }
            }
            let Some(open) = &self.open else { continue };
            if tasks.now() >= open.since + self.interval || open.rows.values().map(Vec::len).sum::<usize>() >= self.full {
                self.flush();
            }
            while self.undone.get() >= 16 {
                tasks.sleep(50).await;
            }
        }
        self.flush();
        self.uploads.push(None);
    }

    fn take(&mut self, chunk: &Chunk) {
        let world = self.process.world.clone();
        let now = self.process.moment();
        let moment = if self.lane == Lane::Live { now } else { Moment::new(now.epoch + 1, now.tick) };
        let open = self.open.get_or_insert_with(|| Open { since: world.tasks.now(), ..Open::default() });
        open.moment = Moment::new(open.moment.epoch.max(moment.epoch), open.moment.tick.max(moment.tick));
        let mut tally = Tally { messages: chunk.messages.len() as u64, ..Tally::default() };
        let kafka = world.kafka.borrow();
        let held = &kafka.partitions[&(chunk.log.topic.clone(), chunk.log.partition)];
        for message in &chunk.messages {
            let place = |record| (chunk.log.topic.clone(), chunk.log.partition, message.offset, record);
            match held.at(message.offset) {
                Kind::Alert(records) => {
                    tally.archived += 1;
                    tally.rows += u64::from(records.unsigned_abs());
                    let key = (table_of(&chunk.log.topic), kafka::night(message.offset));
                    open.rows.entry(key).or_default().extend((0..records).map(place));
                }
                Kind::Reject => {
                    tally.rejected += 1;
                    open.rows.entry(("rejects".into(), 0)).or_default().push(place(0));
                }
                Kind::Empty => tally.empty += 1,
                Kind::Unseen => unreachable!("no consumer sees it"),
            }
        }
        let mark = chunk.messages.last().map(|last| kafka::mark(chunk.log.partition, last.offset));
        open.passed.push(Passed { log: chunk.log.clone(), span: chunk.span.clone(), tally, mark });
    }

    fn flush(&mut self) {
        if let Some(open) = self.open.take() {
            self.undone.set(self.undone.get() + 1);
            self.uploads.push(Some(open));
        }
    }
}

/// Stores the files of groups, and hands each group on when all of its own are stored; the last writer through finishes.
async fn upload(process: Rc<Process>, groups: Queue<Option<Open>>, undone: Rc<Cell<usize>>, running: Rc<Cell<usize>>) {
    while let Some(open) = groups.next().await {
        let mut files = Vec::new();
        for ((table, night), rows) in open.rows {
            let file = store(&process, &table, night, rows).await;
            files.push((table, file));
        }
        process.group(Closed { moment: open.moment, passed: open.passed, files }, &undone);
    }
    running.set(running.get() - 1);
    if running.get() == 0 {
        process.finish();
    }
}

/// Stores a file, under a fresh name at each attempt, for as long as it takes.
pub async fn store(process: &Rc<Process>, table: &Arc<str>, night: i64, rows: Vec<Row>) -> DataFile {
    let rows = Rc::new(rows);
    let mut pause = 50;
    loop {
        let path = format!("night={night}/{}-{}.parquet", process.generation.get(), process.world.name());
        let (key, body) = ((table.clone(), path.clone()), rows.clone());
        let put = process.world.calls.write(move |store, now| drop(store.files.insert(key, (body, now))));
        if put.await.is_ok() {
            let partition = vec![("night".to_owned(), Some(night.to_string()))];
            let size = 100 * rows.len() as u64;
            return DataFile { path, size, modified_ms: 0, partition, rows: rows.len() as u64, stats: String::new() };
        }
        process.world.tasks.sleep(pause).await;
        pause = (pause * 2).min(5_000);
    }
}

/// Where logs begin that are new.
pub fn origin(latest: bool) -> Origin {
    if latest { Origin::Latest } else { Origin::Earliest }
}
