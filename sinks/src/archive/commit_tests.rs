//! The committer's machine under random schedules: a ledger and tables made of maps, whose answers may be late, lost or
//! wrong, crashes at any boundary, and other writers that take over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fink_dataflow::alerts::{Passed, Tally};
use fink_dataflow::table::entry::{DataFile, Entry, Removed, State, Writer};
use fink_dataflow::{Log, Moment};
use proptest::prelude::*;

use super::commit::{Action, Ask, Closed, Edit, Event, Machine, Pause, Pending, PutEnd, Shape, Shapes, TableEdit, UNAPPLIED_MAX};
use super::merge::Refusal;

const TABLES: [&str; 2] = ["alerts", "rejects"];

/// Both tables have a shape from the start.
struct Fixed;

impl Shapes for Fixed {
    fn pending(&self, state: &State, touched: &BTreeSet<Arc<str>>) -> Pending {
        let shape = Shape { schema: "{}".to_owned(), partition_columns: vec!["year".to_owned()] };
        let new = touched.iter().filter(|table| TABLES.contains(&&***table) && !state.tables.contains_key(*table));
        Pending { routes: Vec::new(), tables: new.map(|table| (Arc::clone(table), shape.clone())).collect() }
    }

    fn schema_json(&self, _: &str) -> Option<Arc<str>> {
        None
    }
}

/// A table: what it holds, and the last entry it took.
#[derive(Clone, Debug, Default)]
struct Table {
    applied: Option<u64>,
    files: BTreeSet<String>,
}

/// A process with a machine, and the actions that it has not carried out yet.
struct Process {
    machine: Machine,
    todo: Vec<Action>,
    /// The span of each group that waits for its answer.
    asked: BTreeMap<u64, (usize, i64, i64)>,
    /// Where reading goes on.
    next: Vec<i64>,
    ended: bool,
}

struct World {
    ledger: Vec<Entry>,
    tables: BTreeMap<Arc<str>, Table>,
    /// The process that writes, and those that were taken over but do not know it.
    processes: Vec<Process>,
    logs: Vec<Log>,
    durable: Vec<(usize, i64, i64)>,
    tickets: u64,
    fenced: usize,
    /// What the processes' clocks show at each event.
    clock: fn(u64) -> i64,
    events: u64,
}

fn file(table: &str, log: usize, start: i64, end: i64, ticket: u64) -> (Arc<str>, DataFile) {
    let path = format!("{log}_{start}_{end}_{ticket}.parquet");
    let partition = vec![("year".to_owned(), Some("2026".to_owned()))];
    (Arc::from(table), DataFile { path, size: 1, modified_ms: 0, partition, rows: (end - start).unsigned_abs(), stats: "{}".to_owned() })
}

impl World {
    fn new() -> Self {
        let logs = (0..2).map(|partition| Log::new("test", "ztf", 0, partition)).collect();
        let (ledger, tables, processes, durable) = Default::default();
        let mut world = World { ledger, tables, processes, logs, durable, tickets: 0, fenced: 0, clock: |_| 0, events: 0 };
        world.start();
        world
    }

    fn state(&self) -> State {
        let mut state = State::default();
        for entry in &self.ledger {
            state.apply(entry).expect("every entry of the ledger follows the ones before");
        }
        state
    }

    /// A process fences, rolls the tables forward, and begins where coverage ends.
    fn start(&mut self) {
        let mut state = self.state();
        let fence = Entry {
            generation: state.generation + 1,
            fence: Some(Writer { host: "h".to_owned(), boot: "b".to_owned(), pid: 1, started: 1 }),
            ..Entry::after(&state, format!("fence {}", state.next), 0)
        };
        state.apply(&fence).expect("the fence follows");
        self.ledger.push(fence);
        for entry in self.ledger.clone() {
            for change in &entry.tables {
                if self.table(&change.table).applied.is_none_or(|applied| applied < entry.number) {
                    self.apply(&change.table, &entry).expect("rolls forward in order");
                }
            }
        }
        let next = self.logs.iter().map(|log| state.coverage.get(log).and_then(|set| set.end()).unwrap_or(0)).collect();
        let machine = Machine::new(state, format!("seed {}", self.ledger.len()), Arc::new(Fixed));
        self.processes.push(Process { machine, todo: Vec::new(), asked: BTreeMap::new(), next, ended: false });
    }

    fn table(&mut self, name: &Arc<str>) -> &mut Table {
        self.tables.entry(Arc::clone(name)).or_default()
    }

    /// One table commit, with the check on the entry before.
    fn apply(&mut self, name: &Arc<str>, entry: &Entry) -> Result<(), String> {
        let change = entry.tables.iter().find(|change| change.table == *name).expect("the entry touches the table");
        let table = self.table(name);
        if table.applied.is_some_and(|applied| applied >= entry.number) {
            return Ok(());
        }
        if table.applied != change.previous {
            return Err(format!("{name} is at {:?}, entry {} follows {:?}", table.applied, entry.number, change.previous));
        }
        for removed in &change.removes {
            assert!(table.files.remove(&removed.path), "{} was not there to be removed", removed.path);
        }
        for add in &change.adds {
            assert!(table.files.insert(add.path.clone()), "{} was added twice", add.path);
        }
        table.applied = Some(entry.number);
        Ok(())
    }

    fn event(&mut self, process: usize, event: Event) {
        let process = &mut self.processes[process];
        self.events += 1;
        let actions = process.machine.step(event, (self.clock)(self.events));
        assert!(process.machine.unapplied() <= UNAPPLIED_MAX);
        for action in actions {
            match action {
                Action::Durable(ticket) => {
                    let span = process.asked.remove(&ticket);
                    if let Some((log, start, end)) = span {
                        let covered = self
                            .ledger
                            .iter()
                            .any(|entry| entry.covered.get(&self.logs[log]).is_some_and(|set| set.gaps(start..end).is_empty()));
                        assert!(covered, "acknowledged before its entry was put");
                        self.durable.push((log, start, end));
                    }
                }
                Action::Fenced(_) => {
                    process.ended = true;
                    self.fenced += 1;
                }
                Action::Broken(text) => panic!("{text}"),
                Action::Refused(_, refusal) => assert!(matches!(refusal, Refusal::Changed(_) | Refusal::NoTable(_)), "{refusal}"),
                Action::Finished => process.ended = true,
                Action::Trouble(..) | Action::Mended(_) | Action::Committed(_) | Action::Visible(_) => {}
                Action::Put(_) | Action::Apply(..) | Action::Wait(..) => process.todo.push(action),
            }
        }
    }

    fn group(&mut self, process: usize, log: usize, length: i64, table: &str) {
        self.tickets += 1;
        let ticket = self.tickets;
        let start = self.processes[process].next[log];
        let end = start + length;
        self.processes[process].next[log] = end;
        self.processes[process].asked.insert(ticket, (log, start, end));
        let messages = length.unsigned_abs();
        let tally = Tally { messages, archived: messages, ..Tally::default() };
        let passed = vec![Passed { log: Arc::new(self.logs[log].clone()), span: start..end, tally, mark: None }];
        let closed = Closed { moment: Moment::new(0, ticket), passed, files: vec![file(table, log, start, end, ticket)] };
        self.event(process, Event::Group(ticket, closed));
    }

    /// Asks to put the files of a table that its process sees into one: the union of their spans, in one path.
    fn compact(&mut self, process: usize, table: &str) {
        self.tickets += 1;
        let table: Arc<str> = Arc::from(table);
        let seen = self.table(&table).clone();
        if seen.files.len() < 2 {
            return;
        }
        let joined = seen.files.iter().map(|path| path.trim_end_matches(".parquet")).collect::<Vec<_>>().join("+");
        let mut add = file(&table, 0, 0, 0, self.tickets).1;
        add.path = format!("{joined}.parquet");
        let removes = seen.files.iter().map(|path| Removed { path: path.clone(), rows: 0 }).collect();
        let part = TableEdit { table, as_of: seen.applied, adds: vec![add], removes, data_change: false };
        let edit = Edit { note: "compaction".to_owned(), tables: vec![part], ..Edit::default() };
        self.event(process, Event::Ask(self.tickets, Ask::Edit(edit)));
    }

    /// Carries out one action of a process: `outcome` says whether it is done, and whether the answer says so.
    fn carry_out(&mut self, process: usize, which: usize, outcome: u8) {
        if self.processes[process].todo.is_empty() {
            return;
        }
        let which = which % self.processes[process].todo.len();
        let action = self.processes[process].todo.swap_remove(which);
        let (done, told) = [(true, true), (true, true), (true, false), (false, false)][usize::from(outcome % 4)];
        match action {
            Action::Put(entry) => {
                let slot = usize::try_from(entry.number).expect("small");
                if done && slot == self.ledger.len() {
                    self.ledger.push(entry.as_ref().clone());
                }
                let end = match self.ledger.get(slot) {
                    _ if !told => PutEnd::Unknown("timed out".to_owned()),
                    Some(there) if there.nonce == entry.nonce => PutEnd::Done,
                    Some(there) => PutEnd::Taken(Box::new(there.clone())),
                    None => PutEnd::Unknown("not there".to_owned()),
                };
                self.event(process, Event::Put(end));
            }
            Action::Apply(table, entry) => {
                let end = if done { self.apply(&table, &entry) } else { Ok(()) };
                let end = if told { end } else { Err("timed out".to_owned()) };
                self.event(process, Event::Applied { table, entry: entry.number, end });
            }
            Action::Wait(pause, _) => self.event(process, Event::Due(pause)),
            _ => unreachable!("only these are kept"),
        }
    }

    fn writer(&self) -> usize {
        self.processes.len() - 1
    }

    fn step(&mut self, kind: u8, a: u8, b: u8) {
        let writer = self.writer();
        match kind {
            0..=5 => self.group(writer, usize::from(a % 2), i64::from(b % 4) + 1, TABLES[usize::from(b / 4 % 2)]),
            6 => self.compact(writer, TABLES[usize::from(a % 2)]),
            // Killed: what was under way may still arrive, as a put in flight does.
            7 => {
                self.processes[writer].ended = true;
                if a.is_multiple_of(2) {
                    self.processes[writer].todo.clear();
                }
                self.start();
            }
            // Taken over while it lives.
            8 => self.start(),
            _ => {
                let process = usize::from(a) % self.processes.len();
                // The newest has the most to do.
                let process = if a.is_multiple_of(3) { process } else { writer };
                self.carry_out(process, usize::from(b >> 2), b);
            }
        }
    }

    /// Lets every process end without further faults.
    fn finish(&mut self) {
        for process in 0..self.processes.len() {
            if !self.processes[process].ended {
                self.event(process, Event::Stop);
            }
            while !self.processes[process].todo.is_empty() {
                self.carry_out(process, 0, 0);
            }
            assert!(self.processes[process].ended, "a process neither finished nor was fenced");
        }
    }

    fn check(&self) {
        let state = self.state();
        // Each acknowledged span is covered; the ledger itself refuses to cover anything twice.
        for (log, start, end) in &self.durable {
            let covered = state.coverage.get(&self.logs[*log]).expect("an acknowledged log is covered");
            assert!(covered.gaps(*start..*end).is_empty());
        }
        let mut rows: Vec<BTreeMap<i64, u32>> = vec![BTreeMap::new(); self.logs.len()];
        for (name, table) in &self.tables {
            assert_eq!(table.applied, state.tables.get(name).map(|table| table.last), "{name} has not taken all entries");
            for part in table.files.iter().flat_map(|path| path.trim_end_matches(".parquet").split('+')) {
                let fields: Vec<i64> = part.split('_').map(|field| field.parse().expect("a number")).collect();
                (fields[1]..fields[2]).for_each(|offset| *rows[usize::try_from(fields[0]).expect("small")].entry(offset).or_default() += 1);
            }
        }
        for (log, rows) in self.logs.iter().zip(&rows) {
            assert!(rows.values().all(|times| *times == 1), "{log}: rows doubled");
            let covered: BTreeSet<i64> = state.coverage.get(log).map(|set| set.iter().flatten().collect()).unwrap_or_default();
            assert_eq!(covered, rows.keys().copied().collect(), "{log}: rows and coverage differ");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_or_doubled_under_any_schedule(steps in prop::collection::vec((0u8..24, any::<u8>(), any::<u8>()), 1..250)) {
        let mut world = World::new();
        for (kind, a, b) in steps {
            world.step(kind, a, b);
        }
        let unanswered = world.processes[world.writer()].asked.len();
        let last = world.writer();
        world.finish();
        world.check();
        // The one that writes ends with every group acknowledged.
        prop_assert!(world.processes[last].asked.is_empty(), "{} of {unanswered} never answered", world.processes[last].asked.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn a_clock_that_is_behind_and_steps_back_changes_nothing(steps in prop::collection::vec((0u8..24, any::<u8>(), any::<u8>()), 1..150)) {
        let live = |clock| {
            let mut world = World { clock, ..World::new() };
            steps.iter().for_each(|(kind, a, b)| world.step(*kind, *a, *b));
            world.finish();
            world.check();
            world.ledger.iter_mut().for_each(|entry| entry.written_ms = 0);
            let tables: Vec<_> = world.tables.into_values().map(|table| (table.applied, table.files)).collect();
            (world.ledger, tables)
        };
        let right = live(|event| 1_795_000_000_000 + i64::try_from(event).expect("few"));
        // A minute behind, and every now and then two minutes more.
        let wrong = live(|event| 1_794_999_940_000 - if event % 3 == 0 { 120_000 } else { 0 });
        prop_assert_eq!(right, wrong);
    }
}

/// A world whose machine got `groups` groups, and put none of them yet.
fn waiting(groups: usize) -> World {
    let mut world = World::new();
    for n in 0..groups {
        world.group(0, n % 2, 1, "alerts");
    }
    world
}

#[test]
fn groups_that_wait_share_one_entry() {
    let mut world = waiting(10);
    while !world.processes[0].todo.is_empty() {
        world.carry_out(0, 0, 0);
    }
    // The fence, the first group alone, and the nine that came while it was put.
    assert_eq!(world.ledger.len(), 3);
    assert_eq!(world.ledger[2].tables[0].adds.len(), 9);
    assert_eq!(world.durable.len(), 10);
}

#[test]
fn a_put_that_can_not_be_told_is_put_again_as_it_was() {
    let mut world = waiting(1);
    let Action::Put(first) = &world.processes[0].todo[0] else { panic!("a put is first") };
    let first = Arc::clone(first);
    for _ in 0..5 {
        world.carry_out(0, 0, 3);
        world.group(0, 0, 1, "alerts");
        assert!(matches!(world.processes[0].todo[..], [Action::Wait(Pause::Put, _)]), "it pauses, and forms nothing new");
        world.carry_out(0, 0, 0);
        let Action::Put(again) = &world.processes[0].todo[0] else { panic!("a put is next") };
        assert_eq!(**again, *first);
    }
    assert!(world.durable.is_empty());
    world.finish();
    world.check();
    assert_eq!(world.durable.len(), 6);
}

#[test]
fn a_table_that_fails_holds_the_ledger_at_the_bound() {
    let mut world = World::new();
    for _ in 0..3 * UNAPPLIED_MAX {
        world.group(0, 0, 1, "alerts");
        let put = world.processes[0].todo.iter().position(|action| matches!(action, Action::Put(_)));
        if let Some(put) = put {
            world.carry_out(0, put, 0);
        }
    }
    assert_eq!(world.ledger.len(), 1 + UNAPPLIED_MAX);
    assert_eq!(world.processes[0].machine.unapplied(), UNAPPLIED_MAX);
    assert_eq!(world.processes[0].todo.len(), 1, "one change is under way, in order: {:?}", world.processes[0].todo);
    world.finish();
    world.check();
    assert_eq!(world.durable.len(), 3 * UNAPPLIED_MAX);
}

#[test]
fn a_fenced_machine_does_nothing_more() {
    let mut world = waiting(2);
    world.start();
    world.carry_out(0, 0, 0);
    assert_eq!(world.fenced, 1);
    assert!(world.processes[0].todo.is_empty());
    world.group(0, 1, 1, "alerts");
    world.event(0, Event::Stop);
    assert!(world.processes[0].todo.is_empty());
    assert!(world.durable.is_empty());
}

#[test]
fn an_edit_of_files_that_are_gone_is_refused() {
    let mut world = waiting(4);
    while !world.processes[0].todo.is_empty() {
        world.carry_out(0, 0, 0);
    }
    world.compact(0, "alerts");
    // Planned from the same files, while the first is put.
    world.compact(0, "alerts");
    let before = world.ledger.len();
    while !world.processes[0].todo.is_empty() {
        world.carry_out(0, 0, 0);
    }
    assert_eq!(world.ledger.len(), before + 1);
    world.check();
}

#[test]
fn a_group_that_is_covered_already_breaks_the_committer() {
    let mut world = waiting(1);
    while !world.processes[0].todo.is_empty() {
        world.carry_out(0, 0, 0);
    }
    let passed = vec![Passed { log: Arc::new(world.logs[0].clone()), span: 0..1, tally: Tally::default(), mark: None }];
    let closed = Closed { moment: Moment::new(0, 1), passed, files: Vec::new() };
    let actions = world.processes[0].machine.step(Event::Group(99, closed), 0);
    assert!(matches!(&actions[..], [Action::Broken(_)]), "{actions:?}");
}

#[test]
fn opening_what_is_open_is_granted_without_an_entry() {
    let mut world = World::new();
    let log = world.logs[0].clone();
    world.event(0, Event::Ask(1, Ask::Open(vec![(log.clone(), 17)])));
    world.carry_out(0, 0, 0);
    assert_eq!(world.state().logs[&log].origin, 17);
    let actions = world.processes[0].machine.step(Event::Ask(2, Ask::Open(vec![(log, 3)])), 0);
    assert!(matches!(&actions[..], [Action::Durable(2)]), "{actions:?}");
}
