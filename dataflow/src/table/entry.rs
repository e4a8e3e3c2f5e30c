//! What the ledger says: its entries, and the state that they add up to.
//!
//! The ledger is the only commit point of an archive. An entry is put if absent under its number; what it says happened.
//! Tables are rolled forward from it: entry `n` is applied to table `t` by one commit with transaction number `n`, on a
//! snapshot whose transaction number is the entry that touched `t` before (`TableChange::previous`), strictly in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};

use crate::alerts::Tally;
use crate::coverage::Coverage;
use crate::message::{Log, Mark};
use crate::moment::Moment;
use crate::ports::Stored;
use crate::rules::Rule;

/// The newest format of entries and snapshots that this release reads and writes. It reads this one and the one before.
pub const FORMAT: u32 = 2;
/// The format of entries without [`Entry::light`], which earlier releases read too.
pub const FORMAT_PLAIN: u32 = 1;

/// One entry of the ledger. Every part may be empty but those that say who wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`] where it has a part that earlier releases would forget, else [`FORMAT_PLAIN`].
    pub format: u32,
    /// The entry's number, from 0, without gaps.
    pub number: u64,
    /// Fresh for each entry: tells our own put, reported as failed, from another writer's.
    pub nonce: String,
    /// The writer's generation. An entry of another generation than [`State::generation`] must carry a `fence`.
    pub generation: u64,
    /// The least upper bound of the Moments of what it covers.
    pub moment: Moment,
    /// The writer's wall clock, in milliseconds since 1970 UTC: for people, nothing is decided by it.
    pub written_ms: i64,
    /// A new generation takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Writer>,
    /// Logs opened, and the offset at which reading of each begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<(Log, i64)>,
    /// The coverage added.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub covered: Coverage,
    /// What became of the messages covered: to be added to what is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tallies: Vec<(Log, Tally)>,
    /// What became of messages that were rejects and are no longer: of the log's rejected, so many are now the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<(Log, Tally)>,
    /// The last message of each log covered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(Log, Mark)>,
    /// Holes accepted by a person.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub accepted: Coverage,
    /// The messages whose light rows this entry adds to the table of light rows ([`super::light`]).
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub light: Coverage,
    /// Writers' schemas met for the first time, and the table that each goes to, once and for ever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What happens to the tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableChange>,
    /// For people: what the entry is (`live`, `compaction of alerts`, `retry of 3 rejects`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A process that writes an archive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// The host's name.
    pub host: String,
    /// The kernel's boot id and the process's namespace of pids: a pid means nothing after a reboot or in another container.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// The process's start time in clock ticks since boot (`/proc/<pid>/stat`, field 22): pids are used again.
    pub started: u64,
}

/// Where the rows of a writer's schema go.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The schema's fingerprint ([`crate::alerts::WriterSchema::fingerprint`]); its text is kept in `_fink/schemas/`.
    pub fingerprint: Arc<str>,
    /// The record's full name.
    pub name: String,
    /// The table's folder in the archive, such as `alerts` or `alerts_lsst`.
    pub table: Arc<str>,
}

impl Entry {
    /// An entry that follows what `state` holds, and changes nothing yet.
    #[must_use]
    pub fn after(state: &State, nonce: String, written_ms: i64) -> Self {
        Self {
            format: FORMAT_PLAIN,
            number: state.next,
            nonce,
            generation: state.generation,
            moment: state.moment,
            written_ms,
            fence: None,
            origins: Vec::new(),
            covered: Coverage::default(),
            tallies: Vec::new(),
            moved: Vec::new(),
            marks: Vec::new(),
            accepted: Coverage::default(),
            light: Coverage::default(),
            routes: Vec::new(),
            tables: Vec::new(),
            note: String::new(),
        }
    }
}

/// What an entry does to one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableChange {
    /// The table's folder in the archive.
    pub table: Arc<str>,
    /// The entry that touched this table before; `None`: this one creates it.
    pub previous: Option<u64>,
    /// The table's whole schema after this entry, as Delta's JSON (`schemaString`), where this entry creates or evolves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The partition columns; said where the table is created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_columns: Vec<String>,
    /// Files added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<DataFile>,
    /// Files removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removes: Vec<Removed>,
    /// Whether rows change; a compaction only moves them.
    pub data_change: bool,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its path below the table's folder, with `/`, such as `year=2026/month=11/day=22/0-17-….parquet`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, in milliseconds since 1970 UTC.
    pub modified_ms: i64,
    /// The value of each partition column, in the table's order; `None` is null.
    pub partition: Vec<(String, Option<String>)>,
    /// Its rows.
    pub rows: u64,
    /// Delta's statistics as JSON (`numRecords`, `minValues`, `maxValues`, `nullCount`).
    pub stats: String,
}

/// A file taken out of a table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Its path below the table's folder.
    pub path: String,
    /// Its rows.
    pub rows: u64,
}

/// What is stored of one log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogState {
    /// Where reading of it began.
    pub origin: i64,
    /// What became of its messages.
    pub tally: Tally,
    /// The last covered message.
    pub mark: Option<Mark>,
}

/// A table as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// The last entry that touched it.
    pub last: u64,
    /// Its schema, as Delta's JSON (`schemaString`).
    pub schema: String,
    /// Its partition columns.
    pub partition_columns: Vec<String>,
    /// Rows added less rows removed, as the entries say.
    pub rows: i64,
}

/// All that the entries up to one of them add up to; what a snapshot holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The newest of its entries' formats.
    pub format: u32,
    /// The number of the next entry.
    pub next: u64,
    /// The generation that may write.
    pub generation: u64,
    /// Who that is.
    pub writer: Option<Writer>,
    /// The least upper bound of all Moments written; ticks and epochs go on from here.
    pub moment: Moment,
    /// What is covered.
    pub coverage: Coverage,
    /// Holes accepted by a person.
    pub accepted: Coverage,
    /// The messages whose light rows are in the table of light rows.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub light: Coverage,
    /// What is stored of each log that was opened.
    #[serde(with = "pairs")]
    pub logs: BTreeMap<Log, LogState>,
    /// Routes by fingerprint.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// The tables.
    pub tables: BTreeMap<Arc<str>, TableState>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT_PLAIN,
            next: 0,
            generation: 0,
            writer: None,
            moment: Moment::default(),
            coverage: Coverage::default(),
            accepted: Coverage::default(),
            light: Coverage::default(),
            logs: BTreeMap::new(),
            routes: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }
}

/// Why an entry can't follow a state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// Written in a format that this release can't read.
    #[error("entry {number} has format {format}, this release reads up to {FORMAT}: it was written by a newer fink")]
    Format {
        /// The entry.
        number: u64,
        /// Its format.
        format: u32,
    },
    /// Its number is not the next.
    #[error("entry {number} can't follow: {next} is next")]
    Number {
        /// The entry.
        number: u64,
        /// The state's next.
        next: u64,
    },
    /// Its generation may not write.
    #[error("entry {number} is of generation {generation}, but {current} writes this archive")]
    Generation {
        /// The entry.
        number: u64,
        /// Its generation.
        generation: u64,
        /// The one that may write.
        current: u64,
    },
    /// It says that another entry touched a table before it than did.
    #[error("entry {number} follows {said:?} on table {table}, but {is:?} touched it last")]
    Previous {
        /// The entry.
        number: u64,
        /// The table.
        table: Arc<str>,
        /// What the entry says.
        said: Option<u64>,
        /// What the state says.
        is: Option<u64>,
    },
    /// It covers what is covered already.
    #[error("entry {number} covers {doubled} offsets that are covered already")]
    Doubled {
        /// The entry.
        number: u64,
        /// How many.
        doubled: u64,
    },
    /// It adds light rows of messages that are not dealt with, or that have some already.
    #[error("entry {number} adds light rows of {wrong} messages that are not dealt with, or that have some already")]
    Light {
        /// The entry.
        number: u64,
        /// How many.
        wrong: u64,
    },
    /// It moves more messages out of a log's rejects than there are, or moves them nowhere.
    #[error("entry {number} moves {moved} messages out of the rejects of {log}, which has {rejected}")]
    Moved {
        /// The entry.
        number: u64,
        /// The log.
        log: Log,
        /// How many it moves.
        moved: u64,
        /// How many there are.
        rejected: u64,
    },
    /// Its counts do not add up.
    #[error("entry {number} counts {log} wrong: messages are not archived + rejected + empty")]
    Tally {
        /// The entry.
        number: u64,
        /// The log.
        log: Log,
    },
}

impl State {
    /// What is stored of a log; `None` for one that was never opened.
    #[must_use]
    pub fn stored(&self, log: &Log) -> Option<Stored> {
        let known = self.logs.get(log)?;
        let of = |coverage: &Coverage| coverage.get(log).cloned().unwrap_or_default();
        Some(Stored { origin: known.origin, covered: of(&self.coverage), accepted: of(&self.accepted), mark: known.mark })
    }

    /// The newest incarnation stored of a source's topic.
    #[must_use]
    pub fn incarnation(&self, source: &str, topic: &str) -> Option<u32> {
        self.logs.keys().filter(|log| *log.source == *source && *log.topic == *topic).map(|log| log.incarnation).max()
    }

    /// Every source and topic that was ever opened.
    #[must_use]
    pub fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut topics: Vec<_> = self.logs.keys().map(|log| (Arc::clone(&log.source), Arc::clone(&log.topic))).collect();
        topics.dedup();
        topics
    }

    /// Adds an entry. On an error the state is as it was.
    ///
    /// # Errors
    /// When the entry can't follow; a writer checks this before its put, a reader after its get.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Misfit> {
        self.check(entry)?;
        if let Some(writer) = &entry.fence {
            self.generation = entry.generation;
            self.writer = Some(writer.clone());
        }
        for (log, origin) in &entry.origins {
            self.logs.entry(log.clone()).or_default().origin = *origin;
        }
        self.coverage.merge(&entry.covered);
        for (log, tally) in &entry.tallies {
            self.logs.entry(log.clone()).or_default().tally += *tally;
        }
        for (log, moved) in &entry.moved {
            let tally = &mut self.logs.entry(log.clone()).or_default().tally;
            tally.rejected -= moved.messages;
            tally.archived += moved.archived;
            tally.empty += moved.empty;
            tally.rows += moved.rows;
        }
        for (log, mark) in &entry.marks {
            let state = self.logs.entry(log.clone()).or_default();
            if state.mark.is_none_or(|old| old.offset <= mark.offset) {
                state.mark = Some(*mark);
            }
        }
        self.accepted.merge(&entry.accepted);
        self.light.merge(&entry.light);
        for route in &entry.routes {
            self.routes.entry(route.fingerprint.clone()).or_insert_with(|| route.clone());
        }
        for change in &entry.tables {
            let table = self.tables.entry(change.table.clone()).or_insert_with(|| TableState {
                last: entry.number,
                schema: String::new(),
                partition_columns: change.partition_columns.clone(),
                rows: 0,
            });
            table.last = entry.number;
            if let Some(schema) = &change.schema {
                table.schema.clone_from(schema);
            }
            table.rows += change.adds.iter().map(|file| file.rows.cast_signed()).sum::<i64>();
            table.rows -= change.removes.iter().map(|file| file.rows.cast_signed()).sum::<i64>();
        }
        // Coordinate by coordinate: late data of a later epoch must not set the ticks back.
        self.moment = self.moment.join(&entry.moment);
        self.next = entry.number + 1;
        self.format = self.format.max(entry.format);
        Ok(())
    }

    fn check(&self, entry: &Entry) -> Result<(), Misfit> {
        let number = entry.number;
        if entry.format > FORMAT {
            return Err(Misfit::Format { number, format: entry.format });
        }
        if number != self.next {
            return Err(Misfit::Number { number, next: self.next });
        }
        let allowed = if entry.fence.is_some() { entry.generation == self.generation + 1 } else { entry.generation == self.generation };
        if !allowed && Rule::Fence.holds() {
            return Err(Misfit::Generation { number, generation: entry.generation, current: self.generation });
        }
        for change in &entry.tables {
            let is = self.tables.get(&change.table).map(|t| t.last);
            if is != change.previous {
                return Err(Misfit::Previous { number, table: change.table.clone(), said: change.previous, is });
            }
        }
        let new = self.coverage.clone().merge(&entry.covered);
        if new != entry.covered.len() && Rule::Coverage.holds() {
            return Err(Misfit::Doubled { number, doubled: entry.covered.len() - new });
        }
        if !entry.light.is_empty() {
            let mut covered = self.coverage.clone();
            covered.merge(&entry.covered);
            let wrong = covered.merge(&entry.light) + entry.light.len() - self.light.clone().merge(&entry.light);
            if wrong > 0 {
                return Err(Misfit::Light { number, wrong });
            }
        }
        if let Some((log, _)) = entry.tallies.iter().chain(&entry.moved).find(|(_, tally)| !tally.agrees()) {
            return Err(Misfit::Tally { number, log: log.clone() });
        }
        let mut moved = BTreeMap::<&Log, u64>::new();
        for (log, tally) in &entry.moved {
            let (all, rejected) = (moved.entry(log).or_default(), self.logs.get(log).map_or(0, |known| known.tally.rejected));
            *all += tally.messages;
            if *all > rejected || tally.rejected > 0 {
                return Err(Misfit::Moved { number, log: log.clone(), moved: *all, rejected });
            }
        }
        Ok(())
    }
}

/// A map with a structured key, as a list of pairs: JSON's keys are strings.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, K: Serialize, V: Serialize>(map: &BTreeMap<K, V>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, K: Deserialize<'de> + Ord, V: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry { number, ..Entry::after(&State::default(), String::new(), 0) }
    }

    #[test]
    fn light_rows_are_added_once_of_what_is_dealt_with() {
        let log = Log::new("s", "t", 0, 0);
        let of = |span| {
            let mut some = Coverage::default();
            some.insert(&log, span);
            some
        };
        let mut state = State::default();
        state.apply(&Entry { covered: of(0..10), light: of(2..4), format: FORMAT, ..entry(0) }).unwrap();
        assert_eq!((state.light.clone(), state.format), (of(2..4), FORMAT));
        let mut lacking = of(0..2);
        lacking.merge(&of(4..10));
        assert_eq!(super::super::light::lacking(&state), lacking);
        assert_eq!(state.apply(&Entry { light: of(3..6), ..entry(1) }), Err(Misfit::Light { number: 1, wrong: 1 }));
        assert_eq!(state.apply(&Entry { light: of(8..13), ..entry(1) }), Err(Misfit::Light { number: 1, wrong: 3 }));
        state.apply(&Entry { light: lacking, ..entry(1) }).unwrap();
        assert!(super::super::light::lacking(&state).is_empty());
    }

    #[test]
    fn a_message_moves_out_of_the_rejects_once() {
        let log = Log::new("s", "t", 0, 0);
        let mut state = State::default();
        let tally = Tally { messages: 5, archived: 3, rejected: 2, rows: 3, bytes: 50, ..Tally::default() };
        state.apply(&Entry { tallies: vec![(log.clone(), tally)], ..entry(0) }).unwrap();
        let moved = Tally { messages: 1, archived: 1, rows: 4, ..Tally::default() };
        state.apply(&Entry { moved: vec![(log.clone(), moved)], ..entry(1) }).unwrap();
        let now = Tally { messages: 5, archived: 4, rejected: 1, rows: 7, bytes: 50, ..Tally::default() };
        assert_eq!(state.logs[&log].tally, now);
        assert!(now.agrees());

        let before = state.clone();
        let twice = Entry { moved: vec![(log.clone(), moved), (log.clone(), moved)], ..entry(2) };
        assert_eq!(state.apply(&twice), Err(Misfit::Moved { number: 2, log: log.clone(), moved: 2, rejected: 1 }));
        let nowhere = Tally { messages: 1, rejected: 1, ..Tally::default() };
        assert!(state.apply(&Entry { moved: vec![(log.clone(), nowhere)], ..entry(2) }).is_err());
        let lost = Tally { messages: 1, ..Tally::default() };
        assert_eq!(state.apply(&Entry { moved: vec![(log.clone(), lost)], ..entry(2) }), Err(Misfit::Tally { number: 2, log }));
        assert_eq!(state, before);
    }
}
