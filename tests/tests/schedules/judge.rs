//! What must hold when all is drained: every offset that the cluster held is in exactly one of rows, rejects, empty and
//! hole; the tables are what the ledger says; the coverage is what was read.

use std::collections::BTreeMap;
use std::ops::Range;

use fink_dataflow::alerts::Tally;
use fink_dataflow::coverage::Intervals;
use fink_dataflow::{Log, Moment};

use super::kafka::{self, Kind, Partition, SOURCE};
use super::store::{Row, Store};
use super::world::{World, table_of};

fn log_of(topic: &str, partition: i32) -> Log {
    Log::new(SOURCE, topic, 0, partition)
}

/// What is read yet of a log: what is missing and still there.
fn unread(store: &Store, log: &Log, held: &Partition) -> Vec<Range<i64>> {
    let Some(known) = store.history.logs.get(log) else { return vec![held.low..held.high()] };
    let covered = store.history.coverage.get(log).cloned().unwrap_or_default();
    let accepted = store.history.accepted.get(log).cloned().unwrap_or_default();
    let mut known_of = covered;
    for span in accepted.iter() {
        known_of.insert(span);
    }
    known_of.gaps(known.origin.max(held.low)..held.high())
}

/// Whether all that is there is covered.
pub fn is_drained(world: &World) -> bool {
    let (kafka, store) = (world.kafka.borrow(), world.calls.store.borrow());
    kafka.partitions.iter().all(|((topic, partition), held)| unread(&store, &log_of(topic, *partition), held).is_empty())
}

/// What is not covered yet.
pub fn lacks(world: &World) -> String {
    let (kafka, store) = (world.kafka.borrow(), world.calls.store.borrow());
    let lacks = kafka.partitions.iter().map(|((topic, partition), held)| {
        let log = log_of(topic, *partition);
        (log.to_string(), unread(&store, &log, held))
    });
    let lacks: Vec<_> = lacks.filter(|(_, gaps)| !gaps.is_empty()).collect();
    format!("{lacks:?} not covered")
}

/// The rows of the live files, by row: how often each is there.
fn rows(store: &Store) -> Result<BTreeMap<(String, Row), u32>, String> {
    let mut rows = BTreeMap::new();
    for (name, table) in &store.tables {
        for (path, file) in &table.live {
            let body = store.files.get(&(name.clone(), path.clone())).ok_or_else(|| format!("{path} of {name} is live and not there"))?;
            if body.0.len() as u64 != file.rows {
                return Err(format!("{path} holds {} rows, the table says {}", body.0.len(), file.rows));
            }
            for row in body.0.iter() {
                *rows.entry((name.to_string(), row.clone())).or_default() += 1;
            }
        }
    }
    Ok(rows)
}

/// Judges a world at rest.
///
/// # Errors
/// What does not hold.
pub fn judge(world: &World) -> Result<(), String> {
    let (kafka, store) = (world.kafka.borrow(), world.calls.store.borrow());
    if let Some(wrong) = store.wrong.first() {
        return Err(wrong.clone());
    }
    for (name, known) in &store.history.tables {
        let table = store.tables.get(name).ok_or_else(|| format!("{name} is in the ledger and nowhere else"))?;
        let applied = table.versions.last().map(|version| version.entry);
        if applied != Some(known.last) {
            return Err(format!("{name} has taken {applied:?}, the ledger says {}", known.last));
        }
        let counted = table.live.values().map(|file| file.rows.cast_signed()).sum::<i64>();
        if counted != known.rows {
            return Err(format!("{name} has {counted} rows, the ledger says {}", known.rows));
        }
    }
    let mut found = rows(&store)?;
    for ((topic, partition), held) in &kafka.partitions {
        judge_log(world, &store, &log_of(topic, *partition), held, &mut found)?;
    }
    if let Some((row, times)) = found.into_iter().next() {
        return Err(format!("{row:?} is there {times} times, and nothing stands for it"));
    }
    if store.history.moment == Moment::default() && store.history.coverage.len() > 0 {
        return Err("what is covered has no Moment".to_owned());
    }
    Ok(())
}

fn judge_log(world: &World, store: &Store, log: &Log, held: &Partition, found: &mut BTreeMap<(String, Row), u32>) -> Result<(), String> {
    let known = store.history.logs.get(log).ok_or_else(|| format!("{log} was never opened"))?;
    let covered = store.history.coverage.get(log).cloned().unwrap_or_default();
    let said = world.said.borrow().get(log).cloned().unwrap_or_default();
    if covered.end().is_some_and(|end| end > held.high()) || covered.first().is_some_and(|first| first < known.origin) {
        return Err(format!("{log}: {covered:?} is covered of {}..{}", known.origin, held.high()));
    }
    let (mut tally, mut mark) = (Tally::default(), None);
    for offset in known.origin..held.high() {
        if !covered.contains(offset) {
            if offset >= held.low || !said.contains(offset) {
                return Err(format!("{log}: offset {offset} is not covered, and no hole was said (the log begins at {})", held.low));
            }
            continue;
        }
        let (table, records) = match held.at(offset) {
            Kind::Alert(records) => (table_of(&log.topic).to_string(), records),
            Kind::Reject => ("rejects".to_owned(), 1),
            Kind::Empty | Kind::Unseen => (String::new(), 0),
        };
        for record in 0..records {
            let row = (log.topic.clone(), log.partition, offset, record);
            match found.remove(&(table.clone(), row)) {
                Some(1) => {}
                times => return Err(format!("{log}: offset {offset} is in {table} {} times", times.unwrap_or(0))),
            }
        }
        match held.at(offset) {
            Kind::Alert(records) => {
                tally.archived += 1;
                tally.rows += u64::from(records.unsigned_abs());
            }
            Kind::Reject => tally.rejected += 1,
            Kind::Empty => tally.empty += 1,
            Kind::Unseen => continue,
        }
        tally.messages += 1;
        mark = Some(kafka::mark(log.partition, offset));
    }
    if known.tally != tally {
        return Err(format!("{log}: counted {:?}, there are {tally:?}", known.tally));
    }
    if known.mark != mark {
        return Err(format!("{log}: the mark is {:?}, the last message {mark:?}", known.mark));
    }
    accepted_holes(store, log, &covered)
}

fn accepted_holes(store: &Store, log: &Log, covered: &Intervals) -> Result<(), String> {
    let accepted = store.history.accepted.get(log).cloned().unwrap_or_default();
    match accepted.iter().flatten().find(|offset| covered.contains(*offset)) {
        Some(offset) => Err(format!("{log}: offset {offset} is covered, and accepted as lost")),
        None => Ok(()),
    }
}
