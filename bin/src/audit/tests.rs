use std::collections::BTreeMap;

use fink_dataflow::alerts::Tally;
use fink_dataflow::table::entry::{LogState, State, TableState};

use super::*;

/// An archive whose ledger counts four messages of one log: two archived (one with two records), one rejected, one empty.
fn snapshot() -> (Log, Snapshot) {
    let log = Log::new("kafka:x", "ztf", 0, 1);
    let tally = Tally { messages: 4, archived: 2, rejected: 1, empty: 1, rows: 3, bytes: 40 };
    let mut state = State { next: 3, ..State::default() };
    state.logs.insert(log.clone(), LogState { origin: 10, tally, mark: None });
    state.coverage.insert(&log, 10..15);
    (log, Snapshot { state, tables: Vec::new() })
}

fn rows(log: &Log, alerts: &[(i64, i32)], rejects: &[i64]) -> Rows {
    let (mut of_alerts, mut of_rejects) = (LogRows::default(), LogRows::default());
    alerts.iter().for_each(|(offset, record)| of_alerts.add(*offset, *record));
    rejects.iter().for_each(|offset| of_rejects.add(*offset, 0));
    Rows { alerts: BTreeMap::from([(log.clone(), of_alerts)]), rejects: BTreeMap::from([(log.clone(), of_rejects)]) }
}

fn check(alerts: &[(i64, i32)], rejects: &[i64]) -> Report {
    let (log, snapshot) = snapshot();
    report("here".to_owned(), &snapshot, &rows(&log, alerts, rejects), &Reach::default())
}

#[test]
fn a_whole_archive_agrees() {
    let whole = check(&[(10, 0), (11, 0), (11, 1)], &[12]);
    assert!(whole.agrees, "{:?}", whole.logs[0].faults);
    assert_eq!((whole.logs[0].rows_in_tables, whole.logs[0].archived_in_tables, whole.entry), (3, 2, Some(2)));
}

#[test]
fn every_kind_of_fault_is_told() {
    let told = |alerts: &[(i64, i32)], rejects: &[i64], fault: &str| {
        let report = check(alerts, rejects);
        assert!(!report.agrees);
        assert!(report.logs.iter().any(|log| log.faults.iter().any(|text| text.contains(fault))), "{fault}: {:?}", report.logs[0].faults);
    };
    told(&[(10, 0), (11, 0)], &[12], "2 rows in the alert tables, 3 counted");
    told(&[(10, 0), (11, 0), (11, 0)], &[12], "1 rows are doubled");
    told(&[(10, 0), (10, 1), (10, 2)], &[12], "1 messages in the alert tables, 2 counted");
    told(&[(10, 0), (11, 0), (11, 1)], &[], "0 rows in the rejects, 1 counted");
    told(&[(10, 0), (11, 0), (11, 1)], &[12, 12], "1 rows are doubled");
    told(&[(10, 0), (40, 0), (40, 1)], &[12], "1 messages in the tables are not covered");
    told(&[(10, 0), (11, 0), (11, 1)], &[11], "1 messages are both archived and rejected");

    let (log, mut snapshot) = snapshot();
    snapshot.state.logs.get_mut(&log).unwrap().tally.messages = 5;
    let report = report("here".to_owned(), &snapshot, &rows(&log, &[(10, 0), (11, 0), (11, 1)], &[12]), &Reach::default());
    assert_eq!(report.logs[0].faults, ["5 messages are not 2 archived + 1 rejected + 1 empty"]);
}

#[test]
fn rows_of_a_log_that_the_ledger_does_not_know_are_a_fault() {
    let (log, snapshot) = snapshot();
    let mut all = rows(&log, &[(10, 0), (11, 0), (11, 1)], &[12]);
    all.alerts.insert(Log::new("kafka:x", "ztf", 1, 1), all.alerts[&log].clone());
    let report = report("here".to_owned(), &snapshot, &all, &Reach::default());
    assert!(!report.agrees);
    assert_eq!((report.logs.len(), name(&report.logs[1])), (2, "ztf/1#1".to_owned()));
    assert!(!report.logs[1].faults.is_empty());
}

#[test]
fn a_table_that_stays_behind_the_ledger_is_told() {
    let (_, mut snapshot) = snapshot();
    let table = TableState { last: 2, schema: String::new(), partition_columns: Vec::new(), rows: 0 };
    snapshot.state.tables.insert("alerts".into(), table);
    let mut files = snapshot::TableFiles {
        name: "alerts".into(),
        version: Some(0),
        schema: String::new(),
        files: Vec::new(),
        ledger_rows: 0,
        lags: None,
    };
    assert_eq!(table_report(&files).faults, Vec::<String>::new());
    files.ledger_rows = 3;
    assert_eq!(table_report(&files).faults, ["its files have 0 rows, the ledger counts 3"]);
    files.lags = Some((Some(1), 2));
    assert!(table_report(&files).faults[0].contains("entry 2 of the ledger is not applied"));
}

#[test]
fn what_the_source_lost_is_a_hole_and_what_it_holds_is_behind() {
    let covered = Intervals::from(vec![(10, 20), (50, 60)]);
    let accepted = Intervals::from(vec![(20, 25)]);
    let (behind, holes) = missing(10, &covered, &accepted, Some(&(40..70)));
    assert_eq!((behind, holes), (20, vec![25..40]));
    // Nobody could be asked: the gaps are told.
    assert_eq!(missing(10, &covered, &accepted, None), (0, vec![25..50]));
    // Nothing read yet.
    assert_eq!(missing(10, &Intervals::default(), &Intervals::default(), Some(&(0..30))), (20, Vec::new()));
}

#[test]
fn partitions_that_nobody_began_to_read_are_missing_and_of_earlier_incarnations_nothing_is_held() {
    let (log, mut snapshot) = snapshot();
    let extents = [(1, 10..15), (2, 3..9), (4, 7..7)];
    let reach = |snapshot: &Snapshot| Reach::of(&snapshot.state, "kafka:x", "ztf", &extents);
    let look =
        |snapshot: &Snapshot| report("here".to_owned(), snapshot, &rows(&log, &[(10, 0), (11, 0), (11, 1)], &[12]), &reach(snapshot));
    let told = look(&snapshot);
    let faults: Vec<_> = told.logs.iter().map(|log| (log.partition, log.covered.len(), log.behind, log.faults.len())).collect();
    assert_eq!((told.agrees, faults), (false, vec![(1, 1, 0, 0), (2, 0, 6, 1), (4, 0, 0, 0)]));

    // An earlier incarnation, of which the source holds nothing: its gap is a hole whose source was asked.
    let old = Log::new("kafka:x", "ztf", 0, 2);
    snapshot.state.logs.insert(old.clone(), LogState::default());
    snapshot.state.coverage.insert(&old, 5..6);
    snapshot.state.logs.insert(Log::new("kafka:x", "ztf", 1, 1), LogState::default());
    let told = look(&snapshot);
    let of_old = told.logs.iter().find(|log| (log.incarnation, log.partition) == (0, 2)).unwrap();
    assert_eq!((of_old.asked, of_old.low, &of_old.holes), (true, None, &vec![(0, 5)]));
    let elsewhere = Reach::of(&snapshot.state, "kafka:y", "ztf", &extents);
    assert!(!elsewhere.was_asked(&old) && !elsewhere.was_asked(&log));
}
