//! A process that writes the archive: the product's committer, fence and tables' rules, carried out by tasks over the
//! store made up. What its threads do in earnest is done here in the same steps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::clock::Clock;
use fink_dataflow::table::delta::Turn;
use fink_dataflow::table::entry::{Entry, State, Writer};
use fink_dataflow::table::ledger::{Put, slept};
use fink_dataflow::{Log, Moment};
use fink_sinks::archive::commit::{Action, Ask, Closed, Event, Machine, Pause, PutEnd, Ticket};
use fink_sinks::archive::fence::{Signs, judge};
use fink_sinks::archive::merge::Refusal;
use fink_sinks::archive::opening::{After, Astray, FenceEnd, Lacking, Taking};
use fink_sources::lanes::Lanes;

use super::store::{Fault, Version};
use super::tasks::{Answer, Owner, Queue, Signal};
use super::world::{Fixed, World};

/// What a table is to a process that has looked at it.
#[derive(Clone, Copy, Debug)]
struct View {
    versions: usize,
    applied: Option<u64>,
}

/// Who waits for a ticket.
enum Waiter {
    Group { files: Vec<(Arc<str>, String)>, spans: Vec<(Arc<Log>, Range<i64>)>, undone: Rc<Cell<usize>> },
    Ask(Answer<Result<(), Refusal>>),
}

/// A process.
pub struct Process {
    pub world: Rc<World>,
    pub owner: Owner,
    pub writer: Writer,
    pub workers: usize,
    pub machine: RefCell<Option<Machine>>,
    events: Queue<Event>,
    waiters: RefCell<BTreeMap<Ticket, Waiter>>,
    tickets: Cell<Ticket>,
    pub generation: Cell<u64>,
    awake: Cell<u64>,
    views: RefCell<BTreeMap<Arc<str>, View>>,
    pub lanes: RefCell<Option<Lanes>>,
    pub clock: RefCell<Option<Clock>>,
    /// Something came, or became durable.
    pub changed: Signal,
    pub stopping: Cell<bool>,
    /// Its reader hands the next chunk over twice.
    pub twice: Cell<bool>,
    /// Why it ended.
    pub ended: RefCell<Option<String>>,
}

impl Process {
    /// Begins one; it may find that another writes the archive.
    pub fn begin(world: &Rc<World>, writer: Writer, workers: usize, take_over: bool) -> Rc<Self> {
        let owner = world.owners.get() + 1;
        world.owners.set(owner);
        let process = Rc::new(Self {
            world: world.clone(),
            owner,
            writer,
            workers,
            machine: RefCell::default(),
            events: Queue::default(),
            waiters: RefCell::default(),
            tickets: Cell::default(),
            generation: Cell::default(),
            awake: Cell::default(),
            views: RefCell::default(),
            lanes: RefCell::default(),
            clock: RefCell::default(),
            changed: Signal::default(),
            stopping: Cell::default(),
            twice: Cell::default(),
            ended: RefCell::default(),
        });
        world.processes.borrow_mut().push(process.clone());
        let main = process.clone();
        world.tasks.spawn(owner, async move {
            if let Err(why) = main.clone().main(take_over).await {
                main.end(&why);
            }
        });
        process
    }

    pub fn lives(&self) -> bool {
        self.ended.borrow().is_none()
    }

    pub fn end(&self, why: &str) {
        if self.ended.borrow().is_none() {
            self.ended.replace(Some(why.to_owned()));
            self.world.tell(|| format!("process {} ends: {why}", self.owner));
        }
        self.world.tasks.kill(self.owner);
    }

    async fn main(self: Rc<Self>, take_over: bool) -> Result<(), String> {
        let away = |_: Fault| "the store is away".to_owned();
        self.awake.set(self.world.tasks.now());
        let state = self.read_ledger().await.map_err(away)?;
        if !take_over && let Some(holder) = &state.writer {
            let silent = self.world.calls.read(|store| store.heartbeat).await.map_err(away)?;
            let silent = silent.map(|at| Duration::from_millis(self.world.tasks.now() - at));
            let signs = Signs { lives: self.world.lives(holder), ours: false, silent };
            if let Err(held) = judge("made up", Some(holder), &self.writer, signs) {
                return Err(format!("held: {held}"));
            }
        }
        let state = self.take(state).await?;
        self.generation.set(state.generation);
        let _ = self.world.calls.write(|store, now| store.heartbeat = Some(now)).await;
        self.forward(&state).await?;
        self.clock.replace(Some(Clock::after(state.moment)));
        let seed = format!("process {}", self.owner);
        self.machine.replace(Some(Machine::new(state, seed, Arc::new(Fixed))));
        let tasks = &self.world.tasks;
        tasks.spawn(self.owner, self.clone().heartbeat());
        tasks.spawn(self.owner, self.clone().tick());
        super::upkeep::begin(&self);
        super::reader::begin(&self);
        loop {
            let event = self.events.next().await;
            self.step(event);
        }
    }

    /// Reads the ledger: the newest snapshot, and the entries after it.
    pub async fn read_ledger(&self) -> Result<State, Fault> {
        let newest = |store: &super::store::Store| store.snapshots.last_key_value().map(|(_, (state, _))| state.clone());
        let mut state = self.read(newest).await?.unwrap_or_default();
        loop {
            let next = state.next;
            let Some(entry) = self.entry(next).await? else { return Ok(state) };
            if let Err(misfit) = state.apply(&entry) {
                self.world.wrong(format!("process {} reads a ledger that contradicts itself: {misfit}", self.owner));
                return Err(Fault);
            }
        }
    }

    async fn entry(&self, number: u64) -> Result<Option<Entry>, Fault> {
        self.read(move |store| store.entries.get(&number).map(|(entry, _)| entry.clone())).await
    }

    /// A read, tried as often as the ledger does.
    async fn read<T: 'static>(&self, look: impl Fn(&super::store::Store) -> T + Clone + 'static) -> Result<T, Fault> {
        for attempt in 1..4u32 {
            if let Ok(seen) = self.world.calls.read(look.clone()).await {
                return Ok(seen);
            }
            self.world.tasks.sleep(25 << attempt).await;
        }
        self.world.calls.read(look).await
    }

    /// Puts an entry, in the steps of the ledger's put.
    async fn put(&self, entry: &Entry) -> Result<Put, Fault> {
        let began = self.world.tasks.now();
        for attempt in 1.. {
            let body = entry.clone();
            if self.world.calls.write(move |store, now| store.create_entry(&body, now)).await == Ok(true) {
                return self.landed(entry.number, began).await;
            }
            match self.entry(entry.number).await {
                Ok(Some(there)) if there.nonce == entry.nonce => return self.landed(entry.number, began).await,
                Ok(Some(there)) => return Ok(Put::Taken(Box::new(there))),
                _ if attempt == 4 => return Err(Fault),
                _ => self.world.tasks.sleep(25 << attempt).await,
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn landed(&self, number: u64, began: u64) -> Result<Put, Fault> {
        if slept(Duration::from_millis(self.world.tasks.now() - self.awake.get())) {
            let newest = self.world.calls.read(|store| store.snapshots.last_key_value().map(|(next, _)| *next)).await?;
            if let Some(passed) = newest.filter(|next| *next > number) {
                self.world.stats.borrow_mut().passed += 1;
                return Ok(Put::Passed(passed));
            }
        }
        self.awake.set(began);
        Ok(Put::Done)
    }

    async fn take(&self, state: State) -> Result<State, String> {
        let mut taking = Taking::new(state, self.writer.clone(), format!("fence of {}", self.owner), 0);
        loop {
            let end = self.put(&taking.entry()).await.map_or(FenceEnd::Unclear, FenceEnd::Told);
            let Ok(mut after) = taking.step(end).map_err(|misfit| self.world.wrong(format!("a fence does not fit: {misfit}"))) else {
                return Err("broken".to_owned());
            };
            if matches!(after, After::Reread) {
                after = taking.reread(self.read_ledger().await.map_err(|_| "the store is away".to_owned())?);
            }
            match after {
                After::Ours(state) => return Ok(*state),
                After::Again | After::Reread => {}
                After::Lost(_) => return Err("held: another was faster".to_owned()),
                After::GivenUp => return Err("the store is away".to_owned()),
            }
        }
    }

    /// Brings the tables up to the ledger.
    async fn forward(&self, state: &State) -> Result<(), String> {
        for (name, known) in &state.tables {
            let view = self.view(name).await.map_err(|_| "the store is away".to_owned())?;
            let mut lacking = Lacking::new(name.clone(), known.last, view.applied);
            loop {
                let number = match lacking.next() {
                    Ok(Some(number)) => number,
                    Ok(None) => break,
                    Err(astray) => return Err(self.astray(name, astray).await),
                };
                let entry = self.entry(number).await.map_err(|_| "the store is away".to_owned())?;
                if let Err(astray) = lacking.take(entry) {
                    return Err(self.astray(name, astray).await);
                }
            }
            for entry in lacking.found() {
                self.apply(name, &entry).await?;
            }
        }
        Ok(())
    }

    /// A table that seems astray may have been taken further by who took the archive from us just now.
    async fn astray(&self, name: &Arc<str>, astray: Astray) -> String {
        match self.read_ledger().await {
            Ok(state) if state.generation == self.generation.get() => {
                self.world.wrong(format!("{name} and the ledger have gone astray: {astray:?}"));
                "astray".to_owned()
            }
            Ok(_) => "held: another was faster".to_owned(),
            Err(Fault) => "the store is away".to_owned(),
        }
    }

    async fn view(&self, name: &Arc<str>) -> Result<View, Fault> {
        let table = name.clone();
        let view = self.world.calls.read(move |store| {
            let versions = store.tables.get(&table).map(|table| &table.versions[..]).unwrap_or_default();
            View { versions: versions.len(), applied: versions.last().map(|version| version.entry) }
        });
        let view = view.await?;
        self.views.borrow_mut().insert(name.clone(), view);
        Ok(view)
    }

    /// Applies an entry to a table, in the steps of the table's own.
    async fn apply(&self, name: &Arc<str>, entry: &Entry) -> Result<(), String> {
        let away = |_: Fault| "the store is away".to_owned();
        let change = entry.tables.iter().find(|change| change.table == *name).expect("it touches the table");
        let held = self.views.borrow().get(name).copied();
        let mut view = match held {
            Some(view) => view,
            None => self.view(name).await.map_err(away)?,
        };
        let mut conflicts = 0;
        loop {
            match Turn::of(entry.number, change.previous, view.versions > 0, view.applied) {
                Turn::Before => return Ok(()),
                Turn::Now => {}
                Turn::Stale if conflicts > 0 => return Err("out of order".to_owned()),
                Turn::Stale => {
                    view = self.view(name).await.map_err(away)?;
                    conflicts += 1;
                    continue;
                }
            }
            let version = Version {
                nonce: self.world.name(),
                entry: entry.number,
                previous: change.previous,
                adds: change.adds.clone(),
                removes: change.removes.clone(),
                at: self.world.tasks.now(),
            };
            if self.commit(name, view.versions, version).await.map_err(away)? {
                self.views.borrow_mut().insert(name.clone(), View { versions: view.versions + 1, applied: Some(entry.number) });
                return Ok(());
            }
            view = self.view(name).await.map_err(away)?;
            conflicts += 1;
        }
    }

    async fn commit(&self, name: &Arc<str>, number: usize, version: Version) -> Result<bool, Fault> {
        for attempt in 1.. {
            let (table, body) = (name.clone(), version.clone());
            if self.world.calls.write_within(8_000, move |store, _| store.create_version(&table, number, &body)).await == Ok(true) {
                return Ok(true);
            }
            let table = name.clone();
            let there = self
                .world
                .calls
                .read(move |store| store.tables.get(&table).and_then(|table| table.versions.get(number)).map(|version| version.nonce));
            match there.await {
                Ok(Some(nonce)) => return Ok(nonce == version.nonce),
                _ if attempt == 5 => return Err(Fault),
                _ => self.world.tasks.sleep(25 << attempt).await,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn step(self: &Rc<Self>, event: Event) {
        let now = i64::try_from(self.world.tasks.now()).expect("small");
        let Some(actions) = self.machine.borrow_mut().as_mut().map(|machine| machine.step(event, now)) else { return };
        for action in actions {
            self.act(action);
        }
        self.changed.give();
    }

    fn act(self: &Rc<Self>, action: Action) {
        let (process, tasks) = (self.clone(), &self.world.tasks);
        match action {
            Action::Put(entry) => tasks.spawn(self.owner, async move {
                let end = match process.put(&entry).await {
                    Ok(Put::Done) => PutEnd::Done,
                    Ok(Put::Taken(other)) => PutEnd::Taken(other),
                    Ok(Put::Passed(next)) => PutEnd::Passed(next),
                    Err(Fault) => PutEnd::Unknown("away".to_owned()),
                };
                process.events.push(Event::Put(end));
            }),
            Action::Apply(table, entry) => tasks.spawn(self.owner, async move {
                let end = process.apply(&table, &entry).await;
                if end.is_err() {
                    process.views.borrow_mut().remove(&table);
                }
                process.events.push(Event::Applied { table, entry: entry.number, end });
            }),
            Action::Wait(pause, ms) => tasks.spawn(self.owner, async move {
                process.world.tasks.sleep(ms).await;
                process.events.push(Event::Due(pause));
            }),
            Action::Durable(ticket) => self.durable(ticket),
            Action::Refused(ticket, refusal) => {
                if let Some(Waiter::Ask(answer)) = self.waiters.borrow_mut().remove(&ticket) {
                    answer.give(Err(refusal));
                }
            }
            Action::Trouble(Pause::Put, _) => self.world.stats.borrow_mut().put_troubles += 1,
            Action::Committed(_) | Action::Visible(_) | Action::Trouble(..) | Action::Mended(_) => {}
            Action::Fenced(by) => {
                self.world.stats.borrow_mut().fenced += 1;
                self.end(&format!("fenced: {by}"));
            }
            Action::Broken(what) => {
                if !self.twice_was_played() {
                    self.world.wrong(format!("process {} broke: {what}", self.owner));
                }
                self.world.stats.borrow_mut().broken += 1;
                self.end(&format!("broken: {what}"));
            }
            Action::Finished => {
                tasks.spawn(self.owner, async move {
                    // No heartbeat is left behind.
                    let _ = process.world.calls.write(|store, _| store.heartbeat = None).await;
                    process.end("finished");
                });
            }
        }
    }

    /// Whether its reader handed a chunk over twice: then it breaks before it does harm, as it should.
    fn twice_was_played(&self) -> bool {
        self.world.doubled.borrow().contains(&self.owner)
    }

    fn durable(&self, ticket: Ticket) {
        match self.waiters.borrow_mut().remove(&ticket) {
            Some(Waiter::Group { files, spans, undone }) => {
                undone.set(undone.get() - 1);
                let mut store = self.world.calls.store.borrow_mut();
                let known = files.iter().all(|file| store.named.contains(file));
                let covered = spans.iter().all(|(log, span)| {
                    span.is_empty() || store.history.coverage.get(log).is_some_and(|set| set.gaps(span.clone()).is_empty())
                });
                if !known || !covered {
                    let owner = self.owner;
                    store.wrong(format!("process {owner} acknowledged what is not in the ledger: {spans:?}"));
                }
            }
            Some(Waiter::Ask(answer)) => answer.give(Ok(())),
            None => {}
        }
    }

    fn ticket(&self, waiter: Waiter) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        self.waiters.borrow_mut().insert(self.tickets.get(), waiter);
        self.tickets.get()
    }

    /// Hands a group to the committer.
    pub fn group(&self, closed: Closed, undone: &Rc<Cell<usize>>) {
        let files = closed.files.iter().map(|(table, file)| (table.clone(), file.path.clone())).collect();
        let spans = closed.passed.iter().map(|passed| (passed.log.clone(), passed.span.clone())).collect();
        let ticket = self.ticket(Waiter::Group { files, spans, undone: undone.clone() });
        self.events.push(Event::Group(ticket, closed));
    }

    /// Asks the committer for an entry, and waits for the answer.
    pub async fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        let answer = Answer::default();
        let ticket = self.ticket(Waiter::Ask(answer.clone()));
        self.events.push(Event::Ask(ticket, ask));
        answer.get().await
    }

    /// Finishes: what is open is committed.
    pub fn finish(&self) {
        self.events.push(Event::Stop);
    }

    pub fn state(&self) -> State {
        self.machine.borrow().as_ref().map(|machine| machine.state().clone()).unwrap_or_default()
    }

    pub fn moment(&self) -> Moment {
        self.clock.borrow().as_ref().map(Clock::now).unwrap_or_default()
    }

    /// Whether another generation has taken over.
    pub async fn still_ours(&self) -> bool {
        self.read_ledger().await.is_ok_and(|state| state.generation == self.generation.get())
    }

    /// Says that it lives, and looks whether it is still the writer.
    async fn heartbeat(self: Rc<Self>) {
        loop {
            self.world.tasks.sleep(5_000).await;
            let mut number = self.state().next;
            let found = loop {
                match self.entry(number).await {
                    Err(Fault) => break Some(false),
                    Ok(None) => break None,
                    Ok(Some(entry)) if entry.generation != self.generation.get() => break Some(true),
                    Ok(Some(_)) => number += 1,
                }
            };
            match found {
                Some(true) => self.events.push(Event::Fenced("the heartbeat".to_owned())),
                Some(false) => {}
                None => drop(self.world.calls.write(|store, now| store.heartbeat = Some(now)).await),
            }
        }
    }

    /// Live time goes on; late data rolls in at times.
    async fn tick(self: Rc<Self>) {
        loop {
            self.world.tasks.sleep(1_000).await;
            let rolls = self.world.tasks.chance(|chance| chance.permille(100));
            if let Some(clock) = self.clock.borrow_mut().as_mut() {
                let now = clock.now();
                if rolls {
                    clock.ask(now.epoch + 1);
                }
                clock.due(1, now.tick, |_| true);
            }
        }
    }
}
