//! One entry of many groups and requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use differential_dataflow::lattice::Lattice;
use fink_dataflow::alerts::Tally;
use fink_dataflow::message::Mark;
use fink_dataflow::rules::Rule;
use fink_dataflow::table::entry::{DataFile, Entry, FORMAT, FORMAT_PLAIN, Misfit, Removed, State, TableChange};
use fink_dataflow::{Coverage, Log, Moment};

use super::commit::{Ask, Closed, Edit, Pending, Shapes, TableEdit};

/// The most files of groups in one entry: an entry is one small object, and a reader reads it whole.
const FILES_MAX: usize = 512;
/// How many removed files are remembered, to refuse an edit that would remove one of them again.
const REMOVALS_MAX: usize = 20_000;

/// What waits for an entry.
#[derive(Debug)]
pub(super) enum Item {
    Group(Closed),
    Ask(Ask),
}

/// Why a request is not granted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Files that it removes may be gone: look again.
    #[error("files of table {0} have changed meanwhile")]
    Changed(Arc<str>),
    /// It names a table that nobody has given a shape.
    #[error("there is no table {0}")]
    NoTable(Arc<str>),
    /// It does not fit what the ledger says.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// It breaks an invariant.
    #[error("{0}")]
    Bug(String),
    /// The committer has ended.
    #[error("the archive's committer has ended: {0}")]
    Ended(String),
}

/// The files removed of late, table by table.
#[derive(Default)]
pub(super) struct Removals {
    entries: BTreeMap<Arc<str>, BTreeMap<String, u64>>,
    order: VecDeque<(Arc<str>, String, u64)>,
    /// Removals of entries up to this one may be forgotten.
    forgotten: Option<u64>,
}

impl Removals {
    /// Remembers what `entry` removes.
    pub(super) fn note(&mut self, entry: &Entry) {
        for change in &entry.tables {
            for removed in &change.removes {
                self.entries.entry(Arc::clone(&change.table)).or_default().insert(removed.path.clone(), entry.number);
                self.order.push_back((Arc::clone(&change.table), removed.path.clone(), entry.number));
            }
        }
        while self.order.len() > REMOVALS_MAX {
            let Some((table, path, number)) = self.order.pop_front() else { break };
            self.entries.entry(table).or_default().remove(&path);
            self.forgotten = Some(number);
        }
    }

    /// Whether all files that `edit` removes are still there.
    fn allow(&self, edit: &TableEdit) -> bool {
        if edit.removes.is_empty() {
            return true;
        }
        if self.forgotten.is_some() && edit.as_of < self.forgotten {
            return false;
        }
        let gone = self.entries.get(&edit.table);
        edit.removes.iter().all(|removed| !gone.is_some_and(|gone| gone.contains_key(&removed.path)))
    }
}

/// An entry in the making.
pub(super) struct Body<'a> {
    state: &'a State,
    shapes: &'a dyn Shapes,
    /// What this body covers.
    covered: Coverage,
    moment: Moment,
    origins: BTreeMap<Log, i64>,
    accepted: Coverage,
    tallies: BTreeMap<Log, Tally>,
    marks: BTreeMap<Log, Mark>,
    adds: BTreeMap<Arc<str>, Vec<DataFile>>,
    files: usize,
    groups: usize,
    edit: Option<Edit>,
}

impl<'a> Body<'a> {
    pub(super) fn new(state: &'a State, shapes: &'a dyn Shapes) -> Self {
        Self {
            state,
            shapes,
            covered: Coverage::default(),
            moment: state.moment,
            origins: BTreeMap::new(),
            accepted: Coverage::default(),
            tallies: BTreeMap::new(),
            marks: BTreeMap::new(),
            adds: BTreeMap::new(),
            files: 0,
            groups: 0,
            edit: None,
        }
    }

    /// Whether there is room for `item`. The first always has room; an edit is an entry of its own.
    pub(super) fn takes(&self, item: &Item) -> bool {
        match item {
            Item::Group(closed) => self.edit.is_none() && (self.groups == 0 || self.files + closed.files.len() <= FILES_MAX),
            Item::Ask(Ask::Edit(_)) => self.is_empty(),
            Item::Ask(_) => self.edit.is_none(),
        }
    }

    /// Adds `item`.
    ///
    /// # Errors
    /// When it can't be granted; the body is then as it was, but for [`Refusal::Bug`].
    pub(super) fn add(&mut self, item: Item, removals: &Removals) -> Result<(), Refusal> {
        match item {
            Item::Group(closed) => self.group(closed),
            Item::Ask(Ask::Open(origins)) => {
                for (log, origin) in origins {
                    if !self.state.logs.contains_key(&log) {
                        self.origins.entry(log).or_insert(origin);
                    }
                }
                Ok(())
            }
            Item::Ask(Ask::Accept(holes)) => {
                let mut known = self.state.accepted.clone();
                known.merge(&self.accepted);
                if known.merge(&holes) > 0 {
                    self.accepted.merge(&holes);
                }
                Ok(())
            }
            Item::Ask(Ask::Edit(edit)) => {
                for part in &edit.tables {
                    if !removals.allow(part) {
                        return Err(Refusal::Changed(Arc::clone(&part.table)));
                    }
                    if !self.has_table(&part.table) {
                        return Err(Refusal::NoTable(Arc::clone(&part.table)));
                    }
                }
                self.edit = Some(edit);
                Ok(())
            }
        }
    }

    fn group(&mut self, closed: Closed) -> Result<(), Refusal> {
        for passed in &closed.passed {
            let log = passed.log.as_ref();
            let doubled = match self.state.coverage.get(log) {
                Some(old) => old.gaps(passed.span.clone()) != vec![passed.span.clone()] && !passed.span.is_empty(),
                None => false,
            };
            let length = (passed.span.end - passed.span.start).max(0).unsigned_abs();
            if (doubled || self.covered.insert(log, passed.span.clone()) != length) && Rule::Coverage.holds() {
                return Err(Refusal::Bug(format!("{log}: offsets {:?} are covered already", passed.span)));
            }
            *self.tallies.entry(log.clone()).or_default() += passed.tally;
            if let Some(mark) = passed.mark {
                let last = self.marks.entry(log.clone()).or_insert(mark);
                if last.offset < mark.offset {
                    *last = mark;
                }
            }
        }
        for (table, file) in closed.files {
            if !self.has_table(&table) {
                return Err(Refusal::Bug(format!("there is no shape of table {table}, to which {} belongs", file.path)));
            }
            self.adds.entry(table).or_default().push(file);
            self.files += 1;
        }
        self.moment = self.moment.join(&closed.moment);
        self.groups += 1;
        Ok(())
    }

    fn has_table(&self, table: &Arc<str>) -> bool {
        self.state.tables.contains_key(table)
            || self.adds.contains_key(table)
            || self.shapes.pending(self.state, &BTreeSet::from([Arc::clone(table)])).tables.contains_key(table)
    }

    /// Whether it is what somebody asked for alone.
    pub(super) fn is_edit(&self) -> bool {
        self.edit.is_some()
    }

    /// Whether an entry of this would say nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.edit.is_none()
            && self.adds.is_empty()
            && self.covered.is_empty()
            && self.tallies.is_empty()
            && self.origins.is_empty()
            && self.accepted.is_empty()
    }

    /// The entry.
    pub(super) fn entry(mut self, nonce: String, written_ms: i64) -> Entry {
        let mut light = Coverage::default();
        let (edits, moved, note) = match self.edit.take() {
            Some(edit) => {
                self.covered.merge(&edit.covered);
                self.moment = self.moment.join(&edit.moment);
                light = edit.light;
                for (log, tally) in edit.tallies {
                    *self.tallies.entry(log).or_default() += tally;
                }
                (edit.tables, edit.moved, edit.note)
            }
            None => (Vec::new(), Vec::new(), if self.groups > 0 { "live".to_owned() } else { String::new() }),
        };
        let touched = self.adds.keys().chain(edits.iter().map(|part| &part.table)).cloned().collect();
        let pending = self.shapes.pending(self.state, &touched);
        let adds = std::mem::take(&mut self.adds);
        let live = adds.into_iter().map(|(table, adds)| change(self.state, &pending, table, adds, Vec::new(), true));
        let edited = edits.into_iter().map(|part| change(self.state, &pending, part.table, part.adds, part.removes, part.data_change));
        let tables = live.chain(edited).collect();
        let format = if light.is_empty() { FORMAT_PLAIN } else { FORMAT };
        Entry {
            format,
            light,
            moment: self.moment,
            origins: self.origins.into_iter().collect(),
            covered: self.covered,
            tallies: self.tallies.into_iter().collect(),
            moved,
            marks: self.marks.into_iter().collect(),
            accepted: self.accepted,
            routes: pending.routes,
            tables,
            note,
            ..Entry::after(self.state, nonce, written_ms)
        }
    }
}

fn change(state: &State, pending: &Pending, table: Arc<str>, adds: Vec<DataFile>, removes: Vec<Removed>, data_change: bool) -> TableChange {
    let known = state.tables.get(&table);
    let shape = pending.tables.get(&table);
    TableChange {
        previous: known.map(|known| known.last),
        schema: shape.map(|shape| shape.schema.clone()),
        partition_columns: match known {
            Some(_) => Vec::new(),
            None => shape.map(|shape| shape.partition_columns.clone()).unwrap_or_default(),
        },
        table,
        adds,
        removes,
        data_change,
    }
}
