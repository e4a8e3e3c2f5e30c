//! The threads that carry out what the state machine decides.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{Entry, Misfit};
use fink_dataflow::table::ledger::{Ledger, LedgerError, Put};
use fink_dataflow::table::store::{Archive, runtime, wait};
use object_store::ObjectStoreExt;
use tracing::{error, info, warn};

use super::commit::{Action, Ask, Closed, Event, Machine, Pause, PutEnd, Shapes, Ticket};
use super::committer::{CommitOptions, Hears, Helpers, Shared};
use super::fence::{HEARTBEAT, Hold};
use super::group::Group;
use super::merge::Refusal;
use super::start::Started;
use super::{compacting, upkeep};

/// What the committer's thread is told.
pub(super) enum Message {
    /// A group to commit.
    Group(Group),
    /// A request, and where the answer goes.
    Ask(Ask, Sender<Result<(), Refusal>>),
    /// Something that was under way ended.
    Event(Event),
    /// Finish.
    Stop,
}

/// All that the threads are made of.
pub(super) struct Parts {
    pub(super) started: Started,
    pub(super) options: CommitOptions,
    pub(super) helpers: Helpers,
    pub(super) shared: Arc<Shared>,
    pub(super) messages: Sender<Message>,
    pub(super) inbox: Receiver<Message>,
}

/// Who waits for a ticket.
enum Waiter {
    Group(Box<dyn FnOnce() + Send>),
    Ask(Sender<Result<(), Refusal>>),
}

struct Driver {
    machine: Machine,
    ledger: Arc<Ledger>,
    shapes: Arc<dyn Shapes>,
    shared: Arc<Shared>,
    messages: Sender<Message>,
    inbox: Receiver<Message>,
    waiters: HashMap<Ticket, Waiter>,
    tickets: Ticket,
    timers: BTreeMap<(Instant, Pause), ()>,
    tables: BTreeMap<Arc<str>, Sender<Arc<Entry>>>,
    /// Those who follow what becomes visible.
    followers: Vec<Sender<Arc<Entry>>>,
    /// Who hears of what is durable, before the others.
    hears: Option<Hears>,
    /// What fails now, for the status.
    troubles: BTreeMap<Pause, String>,
    ended: bool,
    /// Kept until the end: this process writes the archive.
    _hold: Hold,
}

/// Starts the threads. The one returned is the driver's; the others see their channel closed when it is gone, and finish what
/// they are at: nothing that they then do can be committed, and nothing is deleted that is not ours.
pub(super) fn spawn(parts: Parts) -> io::Result<JoinHandle<()>> {
    let Parts { started, options, helpers: Helpers { shapes, rewriter }, shared, messages, inbox } = parts;
    let Started { ledger, state, tables, hold } = started;
    let thread = |name: &str| Builder::new().name(name.to_owned());
    let (beat, driver) = unbounded();
    let (to_ledger, view, out) = (Arc::clone(&ledger), Arc::clone(&shared), messages.clone());
    thread("fink-heartbeat").spawn(move || heartbeat(&to_ledger, &view, &driver, &out))?;
    let (to_upkeep, visible) = unbounded();
    let versions = tables.iter().filter_map(|(name, table)| Some((Arc::clone(name), table.version()?))).collect();
    let upkeep = upkeep::Upkeep::new(Arc::clone(&ledger), Arc::clone(&shared), options.clone(), &versions);
    thread("fink-upkeep").spawn(move || upkeep.run(&visible))?;
    let hears = options.hears.clone();
    let mut followers = vec![beat, to_upkeep];
    if let (Some(options), Some(rewriter)) = (options.compaction, rewriter) {
        let (to_compact, visible) = unbounded();
        let compactor = compacting::Compactor::new(Arc::clone(&shared), options, rewriter, messages.clone(), &state);
        thread("fink-compact").spawn(move || compactor.run(&visible))?;
        followers.push(to_compact);
    }
    let seed = uuid::Uuid::new_v4().simple().to_string();
    let mut driver = Driver {
        machine: Machine::new(state, seed, Arc::clone(&shapes)),
        ledger,
        shapes,
        shared,
        messages,
        inbox,
        waiters: HashMap::new(),
        tickets: 0,
        timers: BTreeMap::new(),
        tables: BTreeMap::new(),
        followers,
        hears,
        troubles: BTreeMap::new(),
        ended: false,
        _hold: hold,
    };
    for (name, table) in tables {
        driver.table_thread(name, Some(table))?;
    }
    thread("fink-commit").spawn(move || driver.run())
}

impl Driver {
    fn run(mut self) {
        while !self.ended {
            let message = match self.timers.first_key_value() {
                Some(((due, _), ())) => self.inbox.recv_deadline(*due),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let event = match message {
                Ok(Message::Group(group)) => self.group(group),
                Ok(Message::Ask(ask, answer)) => Event::Ask(self.ticket(Waiter::Ask(answer)), ask),
                Ok(Message::Event(event)) => event,
                Ok(Message::Stop) => Event::Stop,
                Err(RecvTimeoutError::Timeout) => match self.timers.pop_first() {
                    Some(((_, pause), ())) => Event::Due(pause),
                    None => continue,
                },
                // The driver holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.step(event);
        }
    }

    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        self.tickets += 1;
        self.waiters.insert(self.tickets, waiter);
        self.tickets
    }

    fn group(&mut self, group: Group) -> Event {
        let Group { worker: _, moment, passed, files, done } = group;
        Event::Group(self.ticket(Waiter::Group(done)), Closed { moment, passed, files })
    }

    fn step(&mut self, event: Event) {
        let before = self.machine.state().next;
        let actions = self.machine.step(event, chrono::Utc::now().timestamp_millis());
        if self.machine.state().next != before {
            // Before anybody is told that it is durable.
            self.shared.publish(self.machine.state().clone());
        }
        self.shared.settled.store(self.machine.settled(), Ordering::Release);
        actions.into_iter().for_each(|action| self.act(action));
        let mut status = self.shared.status();
        status.waiting = self.machine.waiting();
        status.unapplied = self.machine.unapplied();
        status.trouble = self.troubles.values().next().cloned();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Put(entry) => self.put(entry),
            Action::Apply(table, entry) => self.apply(table, entry),
            Action::Wait(pause, ms) => {
                self.timers.insert((Instant::now() + Duration::from_millis(ms), pause), ());
            }
            Action::Durable(ticket) => match self.waiters.remove(&ticket) {
                Some(Waiter::Group(done)) => done(),
                // Whoever asked may have gone.
                Some(Waiter::Ask(answer)) => drop(answer.send(Ok(()))),
                None => {}
            },
            Action::Refused(ticket, refusal) => {
                if let Some(Waiter::Ask(answer)) = self.waiters.remove(&ticket) {
                    drop(answer.send(Err(refusal)));
                }
            }
            Action::Committed(entry) => {
                self.hears.iter().for_each(|Hears(hears)| hears(&entry));
                self.committed(&entry);
            }
            Action::Visible(entry) => {
                // A follower that is gone misses nothing.
                self.followers.iter().for_each(|follower| drop(follower.send(Arc::clone(&entry))));
            }
            Action::Trouble(pause, why) => {
                match &pause {
                    Pause::Put => warn!(%why, "commits wait: the ledger can't be written, tried again until it can"),
                    Pause::Table(table) => warn!(%table, %why, "the table can't be written, tried again until it can"),
                }
                self.troubles.insert(pause, why);
            }
            Action::Mended(pause) => {
                info!(what = ?pause, "works again");
                self.troubles.remove(&pause);
            }
            Action::Fenced(by) => {
                error!(%by, "another writer has taken over, this one stops");
                self.end(Some(by));
            }
            Action::Broken(what) => {
                error!(%what, "the committer stops before it does harm");
                self.end(Some(what));
            }
            Action::Finished => {
                info!(next = self.machine.state().next, "all is committed");
                self.release();
                self.end(None);
            }
        }
    }

    fn put(&self, entry: Arc<Entry>) {
        let texts: Vec<(Arc<str>, Arc<str>)> = entry
            .routes
            .iter()
            .filter_map(|route| Some((Arc::clone(&route.fingerprint), self.shapes.schema_json(&route.fingerprint)?)))
            .collect();
        let (ledger, messages) = (Arc::clone(&self.ledger), self.messages.clone());
        runtime().spawn(async move {
            let end = put(&ledger, &entry, &texts).await;
            // The driver has ended if nobody takes the message.
            let _ = messages.send(Message::Event(Event::Put(end)));
        });
    }

    fn apply(&mut self, table: Arc<str>, entry: Arc<Entry>) {
        if !self.tables.contains_key(&table)
            && let Err(error) = self.table_thread(Arc::clone(&table), None)
        {
            let end = Err(format!("no thread for it: {error}"));
            drop(self.messages.send(Message::Event(Event::Applied { table, entry: entry.number, end })));
            return;
        }
        if let Some(thread) = self.tables.get(&table) {
            // The thread lives until this sender is dropped.
            let _ = thread.send(entry);
        }
    }

    fn table_thread(&mut self, name: Arc<str>, table: Option<Table>) -> io::Result<()> {
        let (entries, inbox) = unbounded();
        let (archive, messages) = (self.shared.archive.clone(), self.messages.clone());
        self.tables.insert(Arc::clone(&name), entries);
        Builder::new().name(format!("fink-table-{name}")).spawn(move || apply_all(&archive, &name, table, &inbox, &messages))?;
        Ok(())
    }

    fn committed(&self, entry: &Entry) {
        let files = || entry.tables.iter().flat_map(|change| &change.adds);
        let mut status = self.shared.status();
        status.last_entry = Some(entry.number);
        status.last_commit_ms = Some(chrono::Utc::now().timestamp_millis());
        status.entries += 1;
        if entry.tables.iter().any(|change| change.data_change) {
            status.rows += files().map(|file| file.rows).sum::<u64>();
            status.bytes += files().map(|file| file.size).sum::<u64>();
        } else if !entry.tables.is_empty() {
            status.compactions += 1;
            status.compacted_bytes += files().map(|file| file.size).sum::<u64>();
        }
    }

    /// Leaves no heartbeat behind: whoever comes next, from wherever, need not wait for it to grow old.
    fn release(&self) {
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        wait(async move {
            // The heartbeat of a successor is not ours to take away.
            if !matches!(upkeep::overtaken(&ledger, &shared).await, Ok(None)) {
                return;
            }
            let archive = &shared.archive;
            let path = archive.path("_fink/heartbeat.json");
            // It grows old by itself if it can't be deleted.
            let _ = tokio::time::timeout(HEARTBEAT, archive.store().delete(&path)).await;
        });
    }

    fn end(&mut self, failed: Option<String>) {
        self.ended = true;
        let why = failed.clone().unwrap_or_else(|| "it was stopped".to_owned());
        self.shared.status().failed = failed;
        for (_, waiter) in self.waiters.drain() {
            if let Waiter::Ask(answer) = waiter {
                drop(answer.send(Err(Refusal::Ended(why.clone()))));
            }
        }
        self.followers.clear();
        self.tables.clear();
    }
}

async fn put(ledger: &Ledger, entry: &Entry, texts: &[(Arc<str>, Arc<str>)]) -> PutEnd {
    for (fingerprint, json) in texts {
        if let Err(error) = ledger.put_schema(fingerprint, json).await {
            return PutEnd::Unknown(chain(&error));
        }
    }
    match ledger.put(entry).await {
        Ok(Put::Done) => PutEnd::Done,
        Ok(Put::Taken(other)) => PutEnd::Taken(other),
        Ok(Put::Passed(next)) => PutEnd::Passed(next),
        Err(LedgerError::Misfit(misfit @ Misfit::Format { .. })) => PutEnd::Newer(misfit.to_string()),
        Err(error) => PutEnd::Unknown(chain(&error)),
    }
}

/// Applies entries to one table until the driver is gone.
fn apply_all(archive: &Archive, name: &Arc<str>, mut table: Option<Table>, entries: &Receiver<Arc<Entry>>, messages: &Sender<Message>) {
    for entry in entries {
        let end = apply(archive, name, &mut table, &entry);
        if end.is_err() {
            // Opened anew for the next attempt: what we hold of it may be what is wrong.
            table = None;
        }
        // The driver has ended if nobody takes the message.
        let _ = messages.send(Message::Event(Event::Applied { table: Arc::clone(name), entry: entry.number, end }));
    }
}

fn apply(archive: &Archive, name: &str, held: &mut Option<Table>, entry: &Entry) -> Result<(), String> {
    let table = match held {
        Some(table) => table,
        None => held.insert(Table::open(archive, name).map_err(|error| chain(&error))?),
    };
    let change = entry.tables.iter().find(|change| *change.table == *name).ok_or("the entry does not touch the table")?;
    table.apply(entry.number, change).map(|_| ()).map_err(|error| chain(&error))
}

/// Says that the writer lives, and looks whether it is still the writer, until the driver is gone.
fn heartbeat(ledger: &Arc<Ledger>, shared: &Arc<Shared>, driver: &Receiver<Arc<Entry>>, messages: &Sender<Message>) {
    let mut last = Instant::now();
    loop {
        // Entries that become visible come by here too; only the silence after the driver's end matters.
        match driver.recv_timeout(HEARTBEAT.saturating_sub(last.elapsed())) {
            Ok(_) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let (reading, view) = (Arc::clone(ledger), Arc::clone(shared));
        let result = wait(async move {
            if let Some(by) = upkeep::overtaken(&reading, &view).await? {
                return Ok(Some(by));
            }
            reading.heartbeat(view.generation).await.map(|()| None)
        });
        last = Instant::now();
        match result {
            Ok(Some(by)) => drop(messages.send(Message::Event(Event::Fenced(by)))),
            Ok(None) => {}
            Err(error) => warn!(error = %chain(&error), "no heartbeat: the store does not take it"),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
