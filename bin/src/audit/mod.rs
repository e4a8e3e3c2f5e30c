//! Compares what the ledger says with what the tables hold: the work of `fink check`.
//!
//! | module | what it is |
//! |---|---|
//! | [`snapshot`] | the ledger and the tables at one moment, though a writer goes on |
//! | [`rows`] | where each row of the tables says that it comes from |
//! | [`reach`] | how far the sources reach |

pub mod reach;
pub mod rows;
pub mod snapshot;

use std::ops::Range;
use std::sync::Arc;

use fink_dataflow::table::Archive;
use fink_dataflow::{Intervals, Log};
use serde::Serialize;

use reach::Reach;
use rows::{LogRows, Rows};
use snapshot::Snapshot;

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The archive.
    pub archive: String,
    /// The last entry of the ledger that was looked at.
    pub entry: Option<u64>,
    /// The Moment reached, as `epoch.tick`.
    pub moment: String,
    /// Whether all counts and rows agree, and nothing is doubled.
    pub agrees: bool,
    /// Offsets that no source holds any longer, and that nobody accepted as lost.
    pub holes: u64,
    /// Log by log.
    pub logs: Vec<LogReport>,
    /// Table by table.
    pub tables: Vec<TableReport>,
}

/// One log: a partition of a topic at one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// The source's identity.
    pub source: String,
    /// The topic.
    pub topic: String,
    /// The topic's incarnation.
    pub incarnation: u32,
    /// The partition.
    pub partition: i32,
    /// Whether the source could be asked what it holds of this log.
    pub asked: bool,
    /// The first offset that the source holds, if it could be asked; none of a topic's earlier incarnation, which no source holds.
    pub low: Option<i64>,
    /// The offset after the last that the source holds, if it could be asked.
    pub high: Option<i64>,
    /// Where reading began.
    pub origin: i64,
    /// The offsets dealt with, as half-open intervals.
    pub covered: Vec<(i64, i64)>,
    /// Messages dealt with.
    pub messages: u64,
    /// Of these, archived.
    pub archived: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Of these, empty.
    pub empty: u64,
    /// Rows that the ledger counts.
    pub rows: u64,
    /// Rows that the alert tables hold.
    pub rows_in_tables: u64,
    /// Messages that have a row in the alert tables.
    pub archived_in_tables: u64,
    /// Rows that the rejects table holds.
    pub rejected_in_tables: u64,
    /// Rows that are there again: same log, offset and record.
    pub doubled: u64,
    /// Offsets that the source holds and that are not dealt with.
    pub behind: u64,
    /// Offsets not dealt with that the source holds no longer (where it could not be asked: gaps), as half-open intervals.
    pub holes: Vec<(i64, i64)>,
    /// Offsets accepted as lost.
    pub accepted: u64,
    /// What does not agree, for people.
    pub faults: Vec<String>,
}

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// Its folder.
    pub table: String,
    /// Its version.
    pub version: Option<u64>,
    /// Its live files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// What does not agree, for people.
    pub faults: Vec<String>,
}

/// Checks an archive; `reach` says how far sources reach that could be asked.
///
/// # Errors
/// When the archive can't be read.
pub fn audit(archive: &Archive, reach: &Reach) -> anyhow::Result<Report> {
    let snapshot = snapshot::take(archive)?;
    let mut rows = Rows::default();
    for table in &snapshot.tables {
        rows.read(archive, table)?;
    }
    Ok(report(archive.place(), &snapshot, &rows, reach))
}

/// What the ledger and the sources say, without a look at the tables: nothing is said of whether they agree.
#[must_use]
pub fn ledger_only(archive: &Archive, state: fink_dataflow::table::entry::State, reach: &Reach) -> Report {
    let snapshot = Snapshot { state, tables: Vec::new() };
    report(archive.place(), &snapshot, &Rows::default(), reach)
}

fn report(place: String, snapshot: &Snapshot, rows: &Rows, reach: &Reach) -> Report {
    let state = &snapshot.state;
    // A log without an entry of its own can only stem from rows that should not be there.
    let mut logs: std::collections::BTreeSet<&Log> = state.logs.keys().chain(state.coverage.iter().map(|(log, _)| log)).collect();
    logs.extend(rows.alerts.keys().chain(rows.rejects.keys()));
    // What the source holds, and nobody ever opened, has no entry anywhere.
    let unopened: Vec<Log> = reach.logs().filter(|log| !logs.contains(log)).collect();
    let logs = logs.into_iter().map(|log| log_report(log, snapshot, rows, reach));
    let logs: Vec<LogReport> = logs.chain(unopened.iter().map(|log| never_opened(log, reach))).collect();
    let tables: Vec<TableReport> = snapshot.tables.iter().map(table_report).collect();
    let agrees = logs.iter().all(|log| log.faults.is_empty()) && tables.iter().all(|table| table.faults.is_empty());
    let holes = logs.iter().flat_map(|log| &log.holes).map(|(start, end)| (end - start).unsigned_abs()).sum();
    Report { archive: place, entry: state.next.checked_sub(1), moment: state.moment.to_string(), agrees, holes, logs, tables }
}

fn table_report(table: &snapshot::TableFiles) -> TableReport {
    let rows = table.files.iter().map(|file| file.rows).sum::<u64>();
    let mut faults = Vec::new();
    if let Some((applied, last)) = table.lags {
        let applied = applied.map_or("none".to_owned(), |entry| entry.to_string());
        faults.push(format!("entry {last} of the ledger is not applied to it yet (last applied: {applied}): starting the archive does it"));
    } else if rows.cast_signed() != table.ledger_rows {
        faults.push(format!("its files have {rows} rows, the ledger counts {}", table.ledger_rows));
    }
    let bytes = table.files.iter().map(|file| file.size).sum();
    TableReport { table: table.name.to_string(), version: table.version, files: table.files.len() as u64, bytes, rows, faults }
}

/// A log that the source has and the ledger does not know: all that it holds is missing.
fn never_opened(log: &Log, reach: &Reach) -> LogReport {
    let extent = reach.get(log).unwrap_or_default();
    let behind = (extent.end - extent.start).unsigned_abs();
    let faults = if behind > 0 { vec![format!("reading never began: none of its {behind} offsets is dealt with")] } else { Vec::new() };
    LogReport {
        source: log.source.to_string(),
        topic: log.topic.to_string(),
        incarnation: log.incarnation,
        partition: log.partition,
        asked: true,
        low: Some(extent.start),
        high: Some(extent.end),
        origin: extent.start,
        behind,
        faults,
        ..LogReport::default()
    }
}

fn log_report(log: &Log, snapshot: &Snapshot, rows: &Rows, reach: &Reach) -> LogReport {
    let state = &snapshot.state;
    let none = (Intervals::default(), LogRows::default());
    let known = state.logs.get(log).cloned().unwrap_or_default();
    let covered = state.coverage.get(log).unwrap_or(&none.0);
    let accepted = state.accepted.get(log).unwrap_or(&none.0);
    let (alerts, rejects) = (rows.alerts.get(log).unwrap_or(&none.1), rows.rejects.get(log).unwrap_or(&none.1));
    let extent = reach.get(log);
    let (behind, holes) = missing(known.origin, covered, accepted, extent.as_ref());
    let tally = known.tally;
    LogReport {
        source: log.source.to_string(),
        topic: log.topic.to_string(),
        incarnation: log.incarnation,
        partition: log.partition,
        asked: reach.was_asked(log),
        low: extent.as_ref().map(|extent| extent.start),
        high: extent.as_ref().map(|extent| extent.end),
        origin: known.origin,
        covered: covered.iter().map(|span| (span.start, span.end)).collect(),
        messages: tally.messages,
        archived: tally.archived,
        rejected: tally.rejected,
        empty: tally.empty,
        rows: tally.rows,
        rows_in_tables: alerts.rows,
        archived_in_tables: alerts.offsets.len(),
        rejected_in_tables: rejects.rows,
        doubled: alerts.doubled + rejects.doubled,
        behind,
        holes: holes.into_iter().map(|span| (span.start, span.end)).collect(),
        accepted: accepted.len(),
        faults: faults(tally, covered, alerts, rejects),
    }
}

/// How many offsets are not dealt with yet, and which never can be.
fn missing(origin: i64, covered: &Intervals, accepted: &Intervals, extent: Option<&Range<i64>>) -> (u64, Vec<Range<i64>>) {
    let mut known = covered.clone();
    accepted.iter().for_each(|span| {
        known.insert(span);
    });
    let end = covered.end().unwrap_or(origin);
    match extent {
        Some(extent) => {
            let holes = known.gaps(origin..extent.start.min(extent.end));
            let behind = known.gaps(origin.max(extent.start)..extent.end.max(origin));
            (behind.iter().map(|span| (span.end - span.start).unsigned_abs()).sum(), holes)
        }
        None => (0, known.gaps(origin..end)),
    }
}

fn faults(tally: fink_dataflow::alerts::Tally, covered: &Intervals, alerts: &LogRows, rejects: &LogRows) -> Vec<String> {
    let mut faults = Vec::new();
    let mut unless = |holds: bool, text: String| {
        if !holds {
            faults.push(text);
        }
    };
    let counts = format!("{} archived + {} rejected + {} empty", tally.archived, tally.rejected, tally.empty);
    unless(tally.agrees(), format!("{} messages are not {counts}", tally.messages));
    unless(tally.messages <= covered.len(), format!("{} messages on {} covered offsets", tally.messages, covered.len()));
    let (rows, doubled) = (alerts.rows, alerts.doubled + rejects.doubled);
    unless(doubled == 0, format!("{doubled} rows are doubled"));
    unless(rows == tally.rows, format!("{rows} rows in the alert tables, {} counted", tally.rows));
    let archived = alerts.offsets.len();
    unless(archived == tally.archived, format!("{archived} messages in the alert tables, {} counted", tally.archived));
    unless(rejects.rows == tally.rejected, format!("{} rows in the rejects, {} counted", rejects.rows, tally.rejected));
    let outside = |rows: &LogRows| -> u64 {
        let left = |span: Range<i64>| covered.gaps(span).iter().map(|gap| (gap.end - gap.start).unsigned_abs()).sum::<u64>();
        rows.offsets.iter().map(left).sum()
    };
    let strays = outside(alerts) + outside(rejects);
    unless(strays == 0, format!("{strays} messages in the tables are not covered by the ledger"));
    let both = rejects.offsets.iter().map(|span| (span.end - span.start).unsigned_abs()).sum::<u64>()
        - rejects.offsets.iter().flat_map(|span| alerts.offsets.gaps(span)).map(|gap| (gap.end - gap.start).unsigned_abs()).sum::<u64>();
    unless(both == 0, format!("{both} messages are both archived and rejected"));
    faults
}

/// A log, for people: `topic/partition`, with its incarnation where it is not the first.
#[must_use]
pub fn name(log: &LogReport) -> String {
    Log { source: Arc::from(""), topic: log.topic.as_str().into(), incarnation: log.incarnation, partition: log.partition }.to_string()
}

#[cfg(test)]
mod tests;
