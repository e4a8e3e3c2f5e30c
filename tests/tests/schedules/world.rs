//! A world from a seed: a cluster, a store, processes, and somebody who strikes them; then peace, and a judgement.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use fink_dataflow::table::entry::{State, Writer};
use fink_dataflow::{Coverage, Log};
use fink_sinks::archive::commit::{Pending, Shape, Shapes};
use fink_sources::lanes::Origin;

use super::judge;
use super::kafka::Kafka;
use super::process::Process;
use super::reader;
use super::store::{Calls, Store};
use super::tasks::{Owner, Signal, Tasks};

/// After so long without an end something is stuck, in ms.
const PATIENCE: u64 = 1_500_000;

/// What happened, to see that the schedules reach far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub killed: u64,
    pub paused: u64,
    pub taken_over: u64,
    pub held: u64,
    pub fenced: u64,
    pub broken: u64,
    pub put_troubles: u64,
    pub passed: u64,
    pub snapshots: u64,
    pub cleaned: u64,
    pub compactions: u64,
    pub refused: u64,
    pub entries: u64,
    pub ambiguous: u64,
    pub ghosts: u64,
    pub deleted: u64,
    pub holes: u64,
    pub rows: u64,
    pub seconds: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.killed += other.killed;
        self.paused += other.paused;
        self.taken_over += other.taken_over;
        self.held += other.held;
        self.fenced += other.fenced;
        self.broken += other.broken;
        self.put_troubles += other.put_troubles;
        self.passed += other.passed;
        self.snapshots += other.snapshots;
        self.cleaned += other.cleaned;
        self.compactions += other.compactions;
        self.refused += other.refused;
        self.entries += other.entries;
        self.ambiguous += other.ambiguous;
        self.ghosts += other.ghosts;
        self.deleted += other.deleted;
        self.holes += other.holes;
        self.rows += other.rows;
        self.seconds += other.seconds;
    }
}

/// All there is.
pub struct World {
    pub tasks: Tasks,
    pub calls: Calls,
    pub kafka: RefCell<Kafka>,
    /// The logs have grown, or changed.
    pub grown: Signal,
    pub processes: RefCell<Vec<Rc<Process>>>,
    pub owners: Cell<Owner>,
    names: Cell<u64>,
    pub stats: RefCell<Stats>,
    /// The holes that were said.
    pub said: RefCell<Coverage>,
    /// Processes whose reader handed a chunk over twice.
    pub doubled: RefCell<BTreeSet<Owner>>,
    pub origin: Origin,
    pub pattern: bool,
    pub retention: u64,
    traced: bool,
    peace: Cell<bool>,
    /// Nobody is started any more.
    leaving: Cell<bool>,
    done: Cell<bool>,
}

/// Where a topic's rows go.
pub fn table_of(topic: &str) -> Arc<str> {
    if topic == "ztf" { "alerts".into() } else { "alerts_lsst".into() }
}

/// Tables that have a shape from the start.
pub struct Fixed;

impl Shapes for Fixed {
    fn pending(&self, state: &State, touched: &BTreeSet<Arc<str>>) -> Pending {
        let shape = Shape { schema: "{}".to_owned(), partition_columns: vec!["night".to_owned()] };
        let new = touched.iter().filter(|table| !state.tables.contains_key(*table));
        Pending { routes: Vec::new(), tables: new.map(|table| (table.clone(), shape.clone())).collect::<BTreeMap<_, _>>() }
    }

    fn schema_json(&self, _: &str) -> Option<Arc<str>> {
        None
    }
}

impl World {
    fn new(seed: u64) -> Rc<Self> {
        let tasks = Tasks::new(seed);
        let kafka = tasks.chance(Kafka::new);
        let (latest, pattern, retention) =
            tasks.chance(|chance| (chance.permille(300), chance.permille(500), chance.between(20_000, 60_000)));
        let traced = std::env::var_os("FINK_TRACE").is_some();
        let store = Store { retention: retention - 10_000, traced, ..Store::default() };
        let calls = Calls { tasks: tasks.clone(), store: Rc::new(RefCell::new(store)), moods: Rc::default() };
        Rc::new(Self {
            tasks,
            calls,
            kafka: RefCell::new(kafka),
            grown: Signal::default(),
            processes: RefCell::default(),
            owners: Cell::default(),
            names: Cell::default(),
            stats: RefCell::default(),
            said: RefCell::default(),
            doubled: RefCell::default(),
            origin: reader::origin(latest),
            pattern,
            retention,
            traced,
            peace: Cell::default(),
            leaving: Cell::default(),
            done: Cell::default(),
        })
    }

    /// A number that was not given before.
    pub fn name(&self) -> u64 {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }

    /// Says what happens, where `FINK_TRACE` asks for it.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{:>9} ms  {}", self.tasks.now(), what());
        }
    }

    pub fn wrong(&self, what: String) {
        self.calls.store.borrow_mut().wrong(what);
    }

    pub fn say_hole(&self, log: &Log, hole: Range<i64>) {
        self.said.borrow_mut().insert(log, hole);
    }

    /// Whether the process of a writer lives, silent or not.
    pub fn lives(&self, writer: &Writer) -> bool {
        self.processes.borrow().iter().any(|process| process.writer == *writer && process.lives())
    }

    fn living(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().iter().filter(|process| process.lives()).cloned().collect()
    }

    /// Whether one process lives, and it is the one that may write.
    fn one_writes(&self) -> bool {
        let generation = self.calls.store.borrow().history.generation;
        matches!(&self.living()[..], [process] if process.generation.get() == generation && process.machine.borrow().is_some())
    }

    fn start(self: &Rc<Self>, take_over: bool) -> Rc<Process> {
        let (host, workers) = self.tasks.chance(|chance| (chance.pick(&["here", "here", "there"]), chance.pick(&[1, 1, 2, 3])));
        let pid = self.owners.get() + 1;
        let writer = Writer { host: host.to_owned(), boot: "1".to_owned(), pid, started: u64::from(pid) };
        self.tell(|| format!("process {pid} begins on {host}, {workers} workers, take over: {take_over}"));
        Process::begin(self, writer, workers, take_over)
    }

    /// Sees that there is always somebody who reads, sooner or later.
    async fn supervise(self: Rc<Self>) {
        while !self.done.get() {
            if self.living().is_empty() && !self.leaving.get() {
                let take_over = self.tasks.chance(|chance| chance.permille(150));
                self.start(take_over);
            }
            self.tasks.sleep(self.tasks.chance(|chance| chance.between(200, 4_000))).await;
            let held =
                self.processes.borrow().last().is_some_and(|last| last.ended.borrow().as_ref().is_some_and(|why| why.starts_with("held")));
            self.stats.borrow_mut().held += u64::from(held);
        }
    }

    async fn produce(self: Rc<Self>) {
        while !self.peace.get() {
            self.tasks.sleep(self.tasks.chance(|chance| chance.between(100, 5_000))).await;
            if self.peace.get() {
                return;
            }
            self.tasks.chance(|chance| {
                let mut kafka = self.kafka.borrow_mut();
                for _ in 0..chance.between(1, 3) {
                    let key = kafka.any(chance);
                    kafka.grow(&key, chance.between(1, 15), chance);
                }
            });
            self.grown.give();
        }
    }

    /// Strikes for a while, then heals, and waits until all is drained.
    async fn fate(self: Rc<Self>) {
        let chance = |from, to| self.tasks.chance(|chance| chance.between(from, to));
        for _ in 0..chance(3, 12) {
            self.tasks.sleep(chance(200, 18_000)).await;
            self.strike().await;
        }
        self.peace.set(true);
        self.tell(|| "peace".to_owned());
        self.calls.moods.faults.set(0);
        self.kafka.borrow_mut().away = false;
        self.living().iter().for_each(|process| self.tasks.resume(process.owner));
        while !self.clone().drain().await {}
        self.done.set(true);
        self.tell(|| "all have ended".to_owned());
    }

    /// Waits until all is covered, and stops who writes. False: it broke on the way, as one must whose reader handed it a
    /// chunk twice, and another must go on.
    async fn drain(self: Rc<Self>) -> bool {
        self.leaving.set(false);
        // Those that were taken over find out by themselves.
        while !(judge::is_drained(&self) && self.one_writes()) {
            self.grown.give();
            self.tasks.sleep(1_000).await;
        }
        self.leaving.set(true);
        let last = self.living()[0].clone();
        while last.lives() {
            last.stopping.set(true);
            self.grown.give();
            self.tasks.sleep(1_000).await;
        }
        let why = last.ended.borrow().clone();
        why.as_deref() == Some("finished")
    }

    async fn strike(self: &Rc<Self>) {
        let chance = |from, to| self.tasks.chance(|chance| chance.between(from, to));
        let living = self.living();
        let Some(process) = living.get(usize::try_from(chance(0, 9)).expect("small") % living.len().max(1)).cloned() else { return };
        let strike = chance(0, 13);
        self.tell(|| format!("strike {strike} at process {}", process.owner));
        match strike {
            0..=2 => {
                self.stats.borrow_mut().killed += 1;
                process.end("killed");
            }
            3..=5 => self.silence(&process).await,
            6 => process.stopping.set(true),
            7 => {
                self.stats.borrow_mut().taken_over += 1;
                self.start(true);
            }
            8 => self.tasks.chance(|chance| self.kafka.borrow_mut().bear(chance)),
            9 => self.tasks.chance(|chance| self.kafka.borrow_mut().forget(chance)),
            10 => {
                let away = self.kafka.borrow().away;
                self.kafka.borrow_mut().away = !away;
            }
            11 | 12 => self.calls.moods.faults.set(self.tasks.chance(|chance| chance.pick(&[0, 0, 20, 100, 400, 1_000]))),
            _ => process.twice.set(true),
        }
        self.grown.give();
    }

    /// A process falls silent for a while, and may find itself replaced when it goes on.
    async fn silence(self: &Rc<Self>, process: &Rc<Process>) {
        let (short, replaced) = self.tasks.chance(|chance| (chance.permille(500), chance.permille(700)));
        let length = self.tasks.chance(|chance| if short { chance.between(100, 5_000) } else { chance.between(10_000, 120_000) });
        self.stats.borrow_mut().paused += 1;
        self.tasks.pause(process.owner);
        let (world, silent) = (self.clone(), process.clone());
        self.tasks.spawn(0, async move {
            world.tasks.sleep(length).await;
            world.tasks.resume(silent.owner);
        });
        if replaced {
            self.tasks.sleep(self.tasks.chance(|chance| chance.between(10, 3_000))).await;
            self.stats.borrow_mut().taken_over += 1;
            self.start(true);
        }
    }
}

/// Plays the world of a seed to its end. Returns what happened, and a digest of it all.
///
/// # Errors
/// What must never happen, and did.
pub fn play(seed: u64) -> Result<(Stats, u64), String> {
    let world = World::new(seed);
    world.tasks.spawn(0, world.clone().supervise());
    world.tasks.spawn(0, world.clone().produce());
    world.tasks.spawn(0, world.clone().fate());
    let seen = world.clone();
    world.tasks.run(|| seen.done.get() || !seen.calls.store.borrow().wrong.is_empty() || seen.tasks.now() > PATIENCE);
    let outcome = || {
        if let Some(wrong) = world.calls.store.borrow().wrong.first() {
            return Err(wrong.clone());
        }
        if !world.done.get() {
            let living: Vec<_> = world.living().iter().map(|process| process.owner).collect();
            return Err(format!("stuck after {PATIENCE} ms: processes {living:?} live, {}", judge::lacks(&world)));
        }
        judge::judge(&world)
    };
    let result = outcome().and_then(|()| {
        // What was asked of the store long ago is carried out at last: it must do no harm.
        world.tasks.run(|| false);
        outcome()
    });
    let mut stats = *world.stats.borrow();
    {
        let store = world.calls.store.borrow();
        stats.entries = store.history.next;
        stats.ghosts = store.ghosts;
        stats.deleted = store.deleted;
        stats.ambiguous = world.calls.moods.ambiguous.get();
        stats.holes = world.said.borrow().len();
        stats.seconds = world.tasks.now() / 1_000;
        stats.rows = store.history.tables.values().map(|table| table.rows.unsigned_abs()).sum();
    }
    let digest = world.tasks.digest();
    // Processes and the world hold each other.
    world.processes.borrow_mut().clear();
    world.tasks.clear();
    result.map(|()| (stats, digest))
}
