//! The committer as a state machine: what is put into the ledger, what is applied to the tables, and in which order.
//!
//! ```text
//! groups, asks ──► queue ──► entry ──put──► durable ──► one queue a table ──apply──► visible
//!                             one at a time            in order a table, tables side by side
//! ```
//!
//! The machine has no thread, no clock and no store: [`Machine::step`] takes an [`Event`] and says what to do. Its rules:
//!
//! 1. One entry is put at a time. An entry once formed stays as it is, nonce included, until the ledger says what became
//!    of its number; a put that failed, or may have, is put again.
//! 2. What is in an entry is durable when the entry is put, and not before.
//! 3. A table takes the changes of entries in the order of the entries, one at a time. The next entry may be put
//!    meanwhile, as long as no more than [`UNAPPLIED_MAX`] entries wait for a table.
//! 4. An entry of another generation in our place ends everything at once: nothing is put or applied after it.
//! 5. Errors of the store lose nothing: everything is tried again for ever, and said once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fink_dataflow::alerts::{Passed, Tally};
use fink_dataflow::rules::Rule;
use fink_dataflow::table::entry::{DataFile, Entry, Removed, Route, State};
use fink_dataflow::{Coverage, Log, Moment};

use super::merge::{self, Refusal, Removals};

/// The most entries that are put but not yet applied to all of their tables.
pub const UNAPPLIED_MAX: usize = 8;
/// The longest pause before a failed step is tried again.
const PAUSE_MAX_MS: u64 = 5_000;
/// The pause before a failed step is tried again for the first time.
const PAUSE_MIN_MS: u64 = 50;

/// Names what waits for an answer: a group, or somebody's request.
pub type Ticket = u64;

/// What a worker has read and closed, to be committed as a whole.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The latest Moment of it.
    pub moment: Moment,
    /// The spans passed over.
    pub passed: Vec<Passed>,
    /// The files that hold its rows, by table.
    pub files: Vec<(Arc<str>, DataFile)>,
}

/// What an entry may hold besides groups.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Opens logs at these origins; a log that is open already keeps its own.
    Open(Vec<(Log, i64)>),
    /// Holes that a person accepts as lost.
    Accept(Coverage),
    /// Files change place, or rows change table.
    Edit(Edit),
}

/// A change of tables that no group makes: a compaction, or a retry of rejects.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// For people: what it is.
    pub note: String,
    /// What it does to tables.
    pub tables: Vec<TableEdit>,
    /// What it adds to the counts of logs.
    pub tallies: Vec<(Log, Tally)>,
    /// What became of messages that were rejects and are no longer.
    pub moved: Vec<(Log, Tally)>,
    /// Coverage that it adds.
    pub covered: Coverage,
    /// The latest Moment that its rows tell of: a later process goes on after it.
    pub moment: Moment,
    /// The messages whose light rows it adds.
    pub light: Coverage,
}

/// A part of an [`Edit`].
#[derive(Clone, Debug)]
pub struct TableEdit {
    /// The table.
    pub table: Arc<str>,
    /// The last entry applied to the table when whoever asks looked at its files.
    pub as_of: Option<u64>,
    /// Files added.
    pub adds: Vec<DataFile>,
    /// Files removed.
    pub removes: Vec<Removed>,
    /// Whether rows change, or only move.
    pub data_change: bool,
}

/// The shapes of tables that writers have decided on and the ledger may not know yet.
pub trait Shapes: Send + Sync {
    /// What is beyond `state` of these tables.
    fn pending(&self, state: &State, touched: &BTreeSet<Arc<str>>) -> Pending;

    /// The text of a writer's schema, which is kept before the first entry that routes it.
    fn schema_json(&self, fingerprint: &str) -> Option<Arc<str>>;
}

/// What the ledger does not know yet of tables and routes.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Routes decided.
    pub routes: Vec<Route>,
    /// Tables that are new, or whose schema has grown.
    pub tables: BTreeMap<Arc<str>, Shape>,
}

/// A table's schema and partition columns.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shape {
    /// The whole schema, as Delta's JSON.
    pub schema: String,
    /// The partition columns.
    pub partition_columns: Vec<String>,
}

/// What happens to the machine.
#[derive(Debug)]
pub enum Event {
    /// A worker closed a group.
    Group(Ticket, Closed),
    /// Somebody asks for an entry.
    Ask(Ticket, Ask),
    /// The put under way ended.
    Put(PutEnd),
    /// The application under way on a table ended; an error is a text for people.
    Applied {
        /// The table.
        table: Arc<str>,
        /// The entry.
        entry: u64,
        /// How it ended.
        end: Result<(), String>,
    },
    /// A pause is over.
    Due(Pause),
    /// Another writer has taken over, as this text says.
    Fenced(String),
    /// Commit what waits, then finish.
    Stop,
}

/// How a put ended.
#[derive(Debug)]
pub enum PutEnd {
    /// The entry is in the ledger.
    Done,
    /// Another entry stands there.
    Taken(Box<Entry>),
    /// The ledger is past this number, and has forgotten what stood under ours.
    Passed(u64),
    /// A newer release wrote it, as this text says.
    Newer(String),
    /// It can't be told, for this reason: the same entry is to be put again.
    Unknown(String),
}

/// What a pause delays.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Pause {
    /// The put of the entry under way.
    Put,
    /// The application to a table.
    Table(Arc<str>),
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Puts an entry into the ledger, if its number is free.
    Put(Arc<Entry>),
    /// Applies the entry's change of a table to that table.
    Apply(Arc<str>, Arc<Entry>),
    /// Sends [`Event::Due`] after so many milliseconds.
    Wait(Pause, u64),
    /// The group or request is durable.
    Durable(Ticket),
    /// The request can't be granted.
    Refused(Ticket, Refusal),
    /// The entry is in the ledger.
    Committed(Arc<Entry>),
    /// All tables have taken this entry.
    Visible(Arc<Entry>),
    /// Something fails and is tried again: said once, until it is [`Action::Mended`].
    Trouble(Pause, String),
    /// It works again.
    Mended(Pause),
    /// Another generation writes this archive: everything ends here.
    Fenced(String),
    /// An invariant is broken: everything ends here, before harm is done.
    Broken(String),
    /// What waited is durable and visible, after [`Event::Stop`].
    Finished,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Running,
    Stopping,
    Ended,
}

/// The entry that is being put, and who waits for it.
struct Put {
    entry: Arc<Entry>,
    tickets: Vec<Ticket>,
    failures: u32,
}

/// The entries that a table has yet to take.
#[derive(Default)]
struct Queue {
    changes: VecDeque<Arc<Entry>>,
    /// The first of them is being applied, or waits for its pause to end.
    busy: bool,
    failures: u32,
}

/// The committer's state machine; see the module's text.
pub struct Machine {
    phase: Phase,
    /// All entries put.
    state: State,
    /// Tells our entries from everybody's; with an entry's number, its nonce.
    seed: String,
    shapes: Arc<dyn Shapes>,
    waiting: VecDeque<(Ticket, merge::Item)>,
    put: Option<Put>,
    tables: BTreeMap<Arc<str>, Queue>,
    /// Entries put, and how many tables have yet to take each.
    unapplied: BTreeMap<u64, usize>,
    removals: Removals,
}

impl Machine {
    /// A machine that goes on from `state`, whose generation is ours, and whose tables have taken all of its entries.
    /// No other machine, in any process, may have the same `seed`.
    #[must_use]
    pub fn new(state: State, seed: String, shapes: Arc<dyn Shapes>) -> Self {
        Self {
            phase: Phase::Running,
            state,
            seed,
            shapes,
            waiting: VecDeque::new(),
            put: None,
            tables: BTreeMap::new(),
            unapplied: BTreeMap::new(),
            removals: Removals::default(),
        }
    }

    /// All entries put.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Groups and requests that wait for an entry, or for its put.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.put.as_ref().map_or(0, |put| put.tickets.len())
    }

    /// Entries put and not yet applied to all of their tables.
    #[must_use]
    pub fn unapplied(&self) -> usize {
        self.unapplied.len()
    }

    /// All tables have taken all entries below this one.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.unapplied.first_key_value().map_or(self.state.next, |(number, _)| *number)
    }

    /// Takes what happened at `now_ms` (the wall clock's time, written down for people only); says what to do, in order.
    pub fn step(&mut self, event: Event, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Ended {
            return actions;
        }
        match event {
            Event::Group(ticket, closed) => self.waiting.push_back((ticket, merge::Item::Group(closed))),
            Event::Ask(ticket, ask) => self.waiting.push_back((ticket, merge::Item::Ask(ask))),
            Event::Put(end) => self.put_ended(end, &mut actions),
            Event::Applied { table, entry, end } => self.applied(&table, entry, end, &mut actions),
            Event::Due(Pause::Put) => actions.extend(self.put.as_ref().map(|put| Action::Put(Arc::clone(&put.entry)))),
            Event::Due(Pause::Table(table)) => self.apply_again(table, &mut actions),
            Event::Fenced(by) if Rule::Fence.holds() => self.fenced(by, &mut actions),
            Event::Fenced(_) => {}
            Event::Stop => self.phase = Phase::Stopping,
        }
        self.form(now_ms, &mut actions);
        if self.phase == Phase::Stopping && self.waiting.is_empty() && self.put.is_none() && self.unapplied.is_empty() {
            self.phase = Phase::Ended;
            actions.push(Action::Finished);
        }
        actions
    }

    /// Forms the next entry of what waits, if one may be put now.
    fn form(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        while self.phase != Phase::Ended && self.put.is_none() && self.unapplied.len() < UNAPPLIED_MAX && !self.waiting.is_empty() {
            let mut body = merge::Body::new(&self.state, self.shapes.as_ref());
            let mut tickets = Vec::new();
            while let Some((_, item)) = self.waiting.front()
                && body.takes(item)
            {
                let (ticket, item) = self.waiting.pop_front().expect("front() has just said that there is one");
                match body.add(item, &self.removals) {
                    Ok(()) => tickets.push(ticket),
                    Err(Refusal::Bug(text)) => return self.broken(text, actions),
                    Err(refusal) => actions.push(Action::Refused(ticket, refusal)),
                }
            }
            if body.is_empty() {
                // All that was asked for is so already.
                actions.extend(tickets.into_iter().map(Action::Durable));
                continue;
            }
            let edit = body.is_edit();
            let entry = body.entry(format!("{}-{}", self.seed, self.state.next), now_ms);
            match self.state.clone().apply(&entry) {
                Ok(()) => {}
                // Its asker hears of it; who shares the body with it asked for what is so already.
                Err(misfit) if edit => {
                    let asker = tickets.pop();
                    actions.extend(asker.map(|ticket| Action::Refused(ticket, Refusal::Misfit(misfit))));
                    actions.extend(tickets.into_iter().map(Action::Durable));
                    continue;
                }
                Err(misfit) => return self.broken(misfit.to_string(), actions),
            }
            let entry = Arc::new(entry);
            actions.push(Action::Put(Arc::clone(&entry)));
            self.put = Some(Put { entry, tickets, failures: 0 });
        }
    }

    fn put_ended(&mut self, end: PutEnd, actions: &mut Vec<Action>) {
        let Some(mut put) = self.put.take() else { return };
        match end {
            PutEnd::Taken(other) if other.nonce != put.entry.nonce && Rule::Fence.holds() => {
                if other.generation == self.state.generation {
                    let text = format!("entry {} of our own generation {} is not ours", other.number, other.generation);
                    return self.broken(text, actions);
                }
                self.fenced(taken_over(&other), actions);
            }
            PutEnd::Newer(by) => self.fenced(by, actions),
            PutEnd::Passed(next) => self.fenced(format!("the ledger went on to entry {next} without this process"), actions),
            PutEnd::Done | PutEnd::Taken(_) => {
                if put.failures > 0 {
                    actions.push(Action::Mended(Pause::Put));
                }
                self.durable(put, actions);
            }
            PutEnd::Unknown(why) => {
                if put.failures == 0 {
                    actions.push(Action::Trouble(Pause::Put, why));
                }
                actions.push(Action::Wait(Pause::Put, pause_ms(put.failures)));
                put.failures += 1;
                self.put = Some(put);
            }
        }
    }

    fn durable(&mut self, put: Put, actions: &mut Vec<Action>) {
        if let Err(misfit) = self.state.apply(&put.entry) {
            return self.broken(misfit.to_string(), actions);
        }
        self.removals.note(&put.entry);
        actions.push(Action::Committed(Arc::clone(&put.entry)));
        actions.extend(put.tickets.into_iter().map(Action::Durable));
        if put.entry.tables.is_empty() {
            actions.push(Action::Visible(put.entry));
            return;
        }
        self.unapplied.insert(put.entry.number, put.entry.tables.len());
        for change in &put.entry.tables {
            self.tables.entry(Arc::clone(&change.table)).or_default().changes.push_back(Arc::clone(&put.entry));
            self.apply_next(&change.table, actions);
        }
    }

    fn apply_next(&mut self, table: &Arc<str>, actions: &mut Vec<Action>) {
        if let Some(queue) = self.tables.get_mut(table)
            && !queue.busy
            && let Some(entry) = queue.changes.front()
        {
            queue.busy = true;
            actions.push(Action::Apply(Arc::clone(table), Arc::clone(entry)));
        }
    }

    fn apply_again(&self, table: Arc<str>, actions: &mut Vec<Action>) {
        if let Some(entry) = self.tables.get(&table).and_then(|queue| queue.changes.front()) {
            actions.push(Action::Apply(table, Arc::clone(entry)));
        }
    }

    fn applied(&mut self, table: &Arc<str>, number: u64, end: Result<(), String>, actions: &mut Vec<Action>) {
        let Some(queue) = self.tables.get_mut(table) else { return };
        if !queue.busy || queue.changes.front().is_none_or(|entry| entry.number != number) {
            return;
        }
        match end {
            Ok(()) => {
                queue.busy = false;
                let entry = queue.changes.pop_front().expect("front() has just said that there is one");
                if queue.failures > 0 {
                    queue.failures = 0;
                    actions.push(Action::Mended(Pause::Table(Arc::clone(table))));
                }
                if let Some(left) = self.unapplied.get_mut(&number) {
                    *left -= 1;
                    if *left == 0 {
                        self.unapplied.remove(&number);
                        actions.push(Action::Visible(entry));
                    }
                }
                self.apply_next(table, actions);
            }
            Err(why) => {
                if queue.failures == 0 {
                    actions.push(Action::Trouble(Pause::Table(Arc::clone(table)), why));
                }
                actions.push(Action::Wait(Pause::Table(Arc::clone(table)), pause_ms(queue.failures)));
                queue.failures += 1;
            }
        }
    }

    fn fenced(&mut self, by: String, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(Action::Fenced(by));
    }

    fn broken(&mut self, text: String, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(Action::Broken(text));
    }
}

/// Says of an entry that ends us whose it is.
pub(super) fn taken_over(by: &Entry) -> String {
    let who = by.fence.as_ref().map(|writer| format!(", process {} on {},", writer.pid, writer.host)).unwrap_or_default();
    format!("generation {}{who} has taken the archive over (entry {})", by.generation, by.number)
}

/// The pause after so many failures before this one.
fn pause_ms(failures: u32) -> u64 {
    (PAUSE_MIN_MS << failures.min(10)).min(PAUSE_MAX_MS)
}
