//! A store made up: the ledger's objects, the tables' versions and the files, and calls to it that may fail, lie, or be
//! carried out long after whoever made them was told that they failed. It knows what must never happen, and says so.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use fink_dataflow::table::entry::{DataFile, Entry, Removed, State};

use super::tasks::{Answer, Tasks};

/// A row: the log's topic and partition, the offset, the record.
pub type Row = (Arc<str>, i32, i64, i32);

/// A version of a table.
#[derive(Clone, Debug)]
pub struct Version {
    pub nonce: u64,
    pub entry: u64,
    pub previous: Option<u64>,
    pub adds: Vec<DataFile>,
    pub removes: Vec<Removed>,
    pub at: u64,
}

/// A table: its versions, and what they add up to.
#[derive(Debug, Default)]
pub struct Table {
    pub versions: Vec<Version>,
    pub live: BTreeMap<String, DataFile>,
    /// When files were taken out.
    pub removed: BTreeMap<String, u64>,
    named: BTreeSet<String>,
}

/// What is in the store.
#[derive(Default)]
pub struct Store {
    /// What stands in the ledger's slots, and since when.
    pub entries: BTreeMap<u64, (Entry, u64)>,
    pub snapshots: BTreeMap<u64, (State, u64)>,
    pub tables: BTreeMap<Arc<str>, Table>,
    /// Files by table and path: their rows, and when they were put.
    pub files: BTreeMap<(Arc<str>, String), (Rc<Vec<Row>>, u64)>,
    pub heartbeat: Option<u64>,
    /// The ledger as it went, slots cleaned or not.
    pub history: State,
    pub fences: Vec<(u64, u64)>,
    /// Every file that the ledger ever named.
    pub named: BTreeSet<(Arc<str>, String)>,
    /// Entries put into slots that had been cleaned.
    pub ghosts: u64,
    pub deleted: u64,
    /// What must never happen, and did.
    pub wrong: Vec<String>,
    /// How long a removed file must stay, in ms.
    pub retention: u64,
    /// It says what is put.
    pub traced: bool,
}

impl Store {
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Puts an entry if its slot is free.
    pub fn create_entry(&mut self, entry: &Entry, now: u64) -> bool {
        if self.entries.contains_key(&entry.number) {
            return false;
        }
        self.entries.insert(entry.number, (entry.clone(), now));
        if self.traced {
            let tables: Vec<_> = entry.tables.iter().map(|change| change.table.to_string()).collect();
            println!("{now:>9} ms  entry {} of generation {}: {} {tables:?}", entry.number, entry.generation, entry.note);
        }
        if entry.number < self.history.next {
            self.ghosts += 1;
            return true;
        }
        let generation = self.history.generation;
        if entry.fence.is_none() && entry.generation != generation {
            self.wrong(format!("entry {} is of generation {} after generation {generation} took over", entry.number, entry.generation));
        }
        let new = self.history.coverage.clone().merge(&entry.covered);
        if new != entry.covered.len() {
            self.wrong(format!("entry {} covers {} offsets twice", entry.number, entry.covered.len() - new));
        }
        if !(self.history.moment.epoch <= entry.moment.epoch && self.history.moment.tick <= entry.moment.tick) {
            self.wrong(format!("entry {} is of {} after {}", entry.number, entry.moment, self.history.moment));
        }
        for change in &entry.tables {
            for add in &change.adds {
                let key = (change.table.clone(), add.path.clone());
                if !self.files.contains_key(&key) {
                    self.wrong(format!("entry {} names {}, which is not there", entry.number, add.path));
                }
                if !self.named.insert(key) {
                    self.wrong(format!("entry {} names {} again", entry.number, add.path));
                }
            }
        }
        if entry.fence.is_some() {
            self.fences.push((entry.number, entry.generation));
        }
        if let Err(misfit) = self.history.apply(entry) {
            self.wrong(format!("the ledger contradicts itself: {misfit}"));
        }
        true
    }

    /// Puts a version of a table, if it is the next.
    pub fn create_version(&mut self, name: &Arc<str>, number: usize, version: &Version) -> bool {
        let (mut wrong, table) = (Vec::new(), self.tables.entry(name.clone()).or_default());
        if table.versions.len() != number {
            return false;
        }
        let last = table.versions.last().map(|version| version.entry);
        if last != version.previous {
            wrong.push(format!("{name} took entry {} after {last:?}, and it follows {:?}", version.entry, version.previous));
        }
        for removed in &version.removes {
            if table.live.remove(&removed.path).is_none() {
                wrong.push(format!("{name}: {} was removed and not there", removed.path));
            }
            table.removed.insert(removed.path.clone(), version.at);
        }
        for add in &version.adds {
            if !table.named.insert(add.path.clone()) {
                wrong.push(format!("{name}: {} was added twice", add.path));
            }
            table.live.insert(add.path.clone(), add.clone());
        }
        if self.traced {
            println!("{:>12}  {name} takes entry {}", "", version.entry);
        }
        table.versions.push(version.clone());
        self.wrong.extend(wrong);
        true
    }

    /// Deletes a file that nobody may need.
    pub fn delete_file(&mut self, name: &Arc<str>, path: &str, now: u64) {
        let key = (name.clone(), path.to_owned());
        if self.files.remove(&key).is_none() {
            return;
        }
        self.deleted += 1;
        let table = self.tables.get(name);
        let removed = table.and_then(|table| table.removed.get(path));
        if table.is_some_and(|table| table.live.contains_key(path)) {
            self.wrong(format!("{path} of {name} is live and was deleted"));
        } else if self.named.contains(&key) && removed.is_none() {
            self.wrong(format!("{path} of {name} was deleted before the table had it"));
        } else if let Some(removed) = removed
            && removed + self.retention > now
        {
            self.wrong(format!("{path} of {name} was deleted {} ms after it was removed", now - removed));
        }
    }
}

/// A call failed, or is said to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault;

/// How the store behaves.
#[derive(Default)]
pub struct Moods {
    /// Calls of a thousand that go wrong.
    pub faults: Cell<u64>,
    /// Puts that were told as failed and done all the same.
    pub ambiguous: Cell<u64>,
}

/// Where calls go.
#[derive(Clone)]
pub struct Calls {
    pub tasks: Tasks,
    pub store: Rc<RefCell<Store>>,
    pub moods: Rc<Moods>,
}

impl Calls {
    /// Reads: what comes back is what was there at some time between.
    pub async fn read<T: 'static>(&self, look: impl FnOnce(&Store) -> T + 'static) -> Result<T, Fault> {
        let (before, after, fails) = self.plan();
        if fails {
            self.tasks.sleep(before).await;
            return Err(Fault);
        }
        let (answer, calls) = (Answer::default(), self.clone());
        let asked = answer.clone();
        self.tasks.spawn(0, async move {
            calls.tasks.sleep(before).await;
            let seen = look(&calls.store.borrow());
            calls.tasks.sleep(after).await;
            answer.give(Ok(seen));
        });
        asked.get().await
    }

    /// Writes: done and told, or done and not told, or not done, or done long after it was told that it was not.
    pub async fn write<T: 'static>(&self, act: impl FnOnce(&mut Store, u64) -> T + 'static) -> Result<T, Fault> {
        self.write_within(150_000, act).await
    }

    /// As [`Calls::write`]; what is told as failed is done `latest` ms afterwards at the latest, or not at all.
    pub async fn write_within<T: 'static>(&self, latest: u64, act: impl FnOnce(&mut Store, u64) -> T + 'static) -> Result<T, Fault> {
        let (before, after, fails) = self.plan();
        let (how, later) = self.tasks.chance(|chance| (chance.below(3), chance.between(1, latest)));
        let (answer, calls) = (Answer::default(), self.clone());
        let asked = answer.clone();
        self.tasks.spawn(0, async move {
            calls.tasks.sleep(before).await;
            if !fails {
                let done = act(&mut calls.store.borrow_mut(), calls.tasks.now());
                calls.tasks.sleep(after).await;
                return answer.give(Ok(done));
            }
            let pause = match how {
                0 => 0,
                1 => later,
                _ => {
                    calls.tasks.sleep(after).await;
                    return answer.give(Err(Fault));
                }
            };
            if pause > 0 {
                calls.tasks.sleep(after).await;
                answer.give(Err(Fault));
            }
            calls.tasks.sleep(pause).await;
            act(&mut calls.store.borrow_mut(), calls.tasks.now());
            calls.moods.ambiguous.set(calls.moods.ambiguous.get() + 1);
            if pause == 0 {
                calls.tasks.sleep(after).await;
                answer.give(Err(Fault));
            }
        });
        asked.get().await
    }

    fn plan(&self) -> (u64, u64, bool) {
        let faults = self.moods.faults.get();
        self.tasks.chance(|chance| {
            let slow = chance.permille(30);
            let longest = if slow { 900 } else { 15 };
            (chance.between(0, longest), chance.between(0, longest), chance.permille(faults))
        })
    }
}
