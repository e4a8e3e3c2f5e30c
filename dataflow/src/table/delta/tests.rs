//! A table through its life, under faults, in races, and as Python reads it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::table::entry::{Entry, Removed, State};
use crate::table::fault::{Call, Fault, Kind};
use crate::table::ledger::{Ledger, Put};
use crate::table::store::open;
use crate::table::testing::{Place, change, fence, file, live, memory, places};

fn name() -> Arc<str> {
    "alerts".into()
}

fn table(place: &Place) -> Table {
    Table::open(&place.archive, "alerts").expect("it opens")
}

/// Adds a file by each entry of `entries`, which follow one another.
fn add(table: &mut Table, entries: std::ops::Range<u64>) {
    for entry in entries {
        let change = change(&name(), table.applied(), vec![file(&format!("f{entry:04}"), entry)], Vec::new());
        assert!(matches!(table.apply(entry, &change).expect("it follows"), Applied::Now(_)));
    }
}

fn paths(table: &mut Table) -> Vec<String> {
    table.files().expect("it lists").into_iter().map(|file| file.path).collect()
}

fn expected(entries: std::ops::Range<u64>) -> Vec<String> {
    entries.map(|entry| format!("day=3/f{entry:04}.parquet")).collect()
}

#[test]
fn a_table_is_created_by_its_first_entry_and_grows() {
    for place in places() {
        let mut one = table(&place);
        assert_eq!((one.version(), one.applied(), paths(&mut one)), (None, None, Vec::new()));
        add(&mut one, 5..8);
        assert_eq!((one.version(), one.applied()), (Some(2), Some(7)));
        let mut again = table(&place);
        assert_eq!((again.version(), again.applied()), (Some(2), Some(7)));
        assert_eq!(again.schema(), one.schema());
        assert_eq!(again.files().expect("it lists"), [file("f0005", 5), file("f0006", 6), file("f0007", 7)]);
        add(&mut again, 8..9);
        // The first one's version is old by now: it is told so by the store, and looks again.
        let late = change(&name(), Some(7), vec![file("f0008", 8)], Vec::new());
        assert_eq!(one.apply(8, &late).expect("it was applied"), Applied::Before);
        assert_eq!(paths(&mut one), expected(5..9));
    }
}

#[test]
fn entries_are_applied_in_their_order_only() {
    let place = memory();
    let mut one = table(&place);
    let orphan = change(&name(), Some(1), Vec::new(), Vec::new());
    assert!(matches!(one.apply(2, &orphan), Err(TableError::Order { previous: Some(1), applied: None, .. })));
    add(&mut one, 1..3);
    assert!(matches!(one.apply(4, &change(&name(), Some(3), Vec::new(), Vec::new())), Err(TableError::Order { applied: Some(2), .. })));
    assert!(matches!(one.apply(4, &change(&name(), None, Vec::new(), Vec::new())), Err(TableError::Order { applied: Some(2), .. })));
    assert_eq!(one.apply(1, &change(&name(), None, Vec::new(), Vec::new())).expect("it was applied"), Applied::Before);
    assert_eq!(one.version(), Some(1));
    let bad = change(&name(), Some(2), vec![file("with space", 1)], Vec::new());
    assert!(matches!(one.apply(3, &bad), Err(TableError::Change { entry: 3, .. })));
}

#[test]
fn a_stale_writer_meets_those_who_went_on() {
    let place = memory();
    let (mut one, mut two) = (table(&place), table(&place));
    add(&mut one, 0..3);
    // It believes that there is no table, and would create it.
    assert_eq!(two.apply(0, &change(&name(), None, vec![file("f0000", 0)], Vec::new())).expect("it was applied"), Applied::Before);
    add(&mut one, 3..9);
    // It knows version 2, and would write version 3 by an entry that nobody wrote.
    let fork = change(&name(), Some(2), vec![file("fork", 1)], Vec::new());
    assert!(matches!(two.apply(20, &fork), Err(TableError::Order { applied: Some(8), .. })));
    assert_eq!(paths(&mut two), expected(0..9));
}

#[test]
fn columns_are_added_in_the_commit_that_needs_them() {
    let place = memory();
    let mut one = table(&place);
    add(&mut one, 0..2);
    let fields = |columns: &[(&str, DataType)]| columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>();
    let inner = DataType::Struct(fields(&[("jd", DataType::Float64), ("new", DataType::Utf8)]).into());
    let wider = Schema::new(fields(&[
        ("offset", DataType::Int64),
        ("prv", DataType::List(Arc::new(Field::new("element", inner, true)))),
        ("day", DataType::Int32),
    ]));
    let wider = delta_schema(&wider).expect("Delta holds it");
    let mut second = change(&name(), Some(1), vec![file("f0002", 2)], Vec::new());
    second.schema = Some(wider.clone());
    assert_eq!(one.apply(2, &second).expect("it follows"), Applied::Now(2));
    assert_eq!(one.schema(), Some(wider.as_str()));
    let mut again = table(&place);
    assert_eq!((again.schema(), again.applied()), (Some(wider.as_str()), Some(2)));
    assert_eq!(paths(&mut again), expected(0..3));
}

#[test]
fn compaction_checkpoint_and_cleaning_leave_the_same_table() {
    for place in places() {
        let mut one = table(&place);
        add(&mut one, 0..10);
        let removes = (0..10).map(|entry| Removed { path: format!("day=3/f{entry:04}.parquet"), rows: entry }).collect();
        one.apply(10, &change(&name(), Some(9), vec![file("compacted", 45)], removes)).expect("it follows");
        add(&mut one, 11..13);
        assert_eq!(one.checkpoint().expect("it is written"), Some(12));
        add(&mut one, 13..15);
        assert_eq!(one.clean_log(Duration::from_secs(60)).expect("the store works"), 0, "all is young");
        place.store.age(Duration::from_secs(3600));
        // The versions below the checkpoint; it and the two after it stay.
        assert_eq!(one.clean_log(Duration::from_secs(60)).expect("the store works"), 12);
        assert_eq!(one.clean_log(Duration::from_secs(60)).expect("the store works"), 0);
        let mut left = vec!["day=3/compacted.parquet".to_owned()];
        left.extend(expected(11..15));
        for mut table in [one, table(&place)] {
            assert_eq!((table.version(), table.applied()), (Some(14), Some(14)));
            assert_eq!(paths(&mut table), left);
            let gone: Vec<String> = table.removed().expect("it lists").into_iter().map(|stone| stone.path).collect();
            assert_eq!(gone, expected(0..10));
        }
    }
}

#[test]
fn a_removal_is_dated_by_the_stores_clock() {
    for place in places() {
        let mut one = table(&place);
        add(&mut one, 0..2);
        place.store.ahead(Duration::from_secs(7200));
        let removes = vec![Removed { path: "day=3/f0000.parquet".to_owned(), rows: 0 }];
        let before = chrono::Utc::now().timestamp_millis();
        one.apply(2, &change(&name(), Some(1), Vec::new(), removes)).expect("it follows");
        let removed = table(&place).removed().expect("it lists");
        assert_eq!(removed.len(), 1);
        // A host's clock that is behind would let vacuum take the file from its readers.
        assert!(removed[0].deleted_ms >= before + 7_199_000, "{removed:?} {before}");
    }
}

#[test]
fn cleaning_keeps_what_a_reader_of_the_last_while_opened() {
    let place = memory();
    let mut one = table(&place);
    add(&mut one, 0..5);
    one.checkpoint().expect("it is written");
    add(&mut one, 5..10);
    place.store.age(Duration::from_secs(3600));
    // Version 9 was the newest an hour ago; whoever opened it reads the checkpoint of 4 and what follows.
    assert_eq!(one.clean_log(Duration::from_secs(60)).expect("the store works"), 4);
    let mut again = table(&place);
    assert_eq!(paths(&mut again), expected(0..10));
}

#[test]
fn any_fault_of_a_commit_leaves_it_there_once() {
    for kind in Kind::ALL {
        for place in places() {
            let mut one = table(&place);
            for (entry, reads, puts) in [(0, 0, 1), (1, 1, 1), (2, 0, 2), (3, 0, 1)] {
                for (call, times) in [(Call::Put, puts), (Call::Get, reads)] {
                    place.store.plan(Fault { call, path: "_delta_log/".into(), from: 0, times, kind });
                }
                add(&mut one, entry..entry + 1);
                place.store.heal();
            }
            assert!(place.store.struck() >= 5, "{kind:?}");
            let mut again = table(&place);
            assert_eq!((again.version(), again.applied()), (Some(3), Some(3)), "{kind:?}");
            assert_eq!(paths(&mut again), expected(0..4));
        }
    }
}

#[test]
fn what_can_not_be_told_is_said_and_the_same_entry_can_be_applied_again() {
    for kind in [Kind::Fails, Kind::Lies] {
        let place = memory();
        let mut one = table(&place);
        add(&mut one, 0..1);
        for call in [Call::Put, Call::Get] {
            place.store.plan(Fault { call, path: "_delta_log/".into(), from: 0, times: u64::MAX, kind });
        }
        let next = change(&name(), Some(0), vec![file("f0001", 1)], Vec::new());
        assert!(matches!(one.apply(1, &next), Err(TableError::Unclear { version: 1, .. })));
        place.store.heal();
        let now = one.apply(1, &next).expect("it follows");
        assert_eq!(now, if kind == Kind::Fails { Applied::Now(1) } else { Applied::Before });
        assert_eq!(paths(&mut one), expected(0..2));
    }
}

/// A checkpoint that fails anywhere leaves the table readable, and can be written again.
#[test]
fn any_fault_of_a_checkpoint_leaves_the_table_as_it_was() {
    for kind in Kind::ALL {
        for path in [".checkpoint.parquet", "_last_checkpoint"] {
            let place = memory();
            let mut one = table(&place);
            add(&mut one, 0..6);
            place.store.plan(Fault { call: Call::Put, path: path.into(), from: 0, times: 1, kind });
            drop(one.checkpoint());
            assert_eq!(place.store.struck(), 1);
            place.store.heal();
            assert_eq!(paths(&mut table(&place)), expected(0..6));
            one.checkpoint().expect("it is written");
            place.store.age(Duration::from_secs(3600));
            one.clean_log(Duration::ZERO).expect("the store works");
            assert_eq!(paths(&mut table(&place)), expected(0..6), "{kind:?} {path}");
        }
    }
}

/// Brings the table up to the ledger, as whoever starts does.
fn roll_forward(ledger: &Ledger, table: &mut Table) {
    let (name, mut number) = (table.name().clone(), 0);
    while let Some(entry) = wait_for(ledger, number) {
        for change in entry.tables.iter().filter(|change| change.table == name) {
            table.apply(entry.number, change).expect("it follows");
        }
        number += 1;
    }
}

fn wait_for(ledger: &Ledger, number: u64) -> Option<Entry> {
    futures::executor::block_on(async {
        let _guard = crate::table::store::runtime().enter();
        ledger.entry(number).await.expect("the store works")
    })
}

fn ledger_of(place: &Place, entries: u64) -> (Ledger, State) {
    let archive = place.archive.clone();
    wait(async move {
        let (ledger, mut state) = Ledger::open(&archive).await.expect("it opens");
        for number in 0..entries {
            let entry = if number == 0 { fence(&state) } else { live(&state, 2) };
            assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
            state.apply(&entry).expect("it follows");
        }
        (ledger, state)
    })
}

#[test]
fn what_was_put_before_a_crash_is_rolled_forward_once() {
    for place in places() {
        let (ledger, state) = ledger_of(&place, 9);
        // The crash came after the ledger's entry 8 and the table's 5.
        let mut crashed = table(&place);
        for number in 1..6 {
            crashed.apply(number, &wait_for(&ledger, number).expect("it was put").tables[0]).expect("it follows");
        }
        drop(crashed);
        for _ in 0..2 {
            let mut one = table(&place);
            roll_forward(&ledger, &mut one);
            assert_eq!((one.version(), one.applied()), (Some(7), Some(8)));
            assert_eq!(paths(&mut one), expected(1..9));
            let rows: u64 = one.files().expect("it lists").iter().map(|file| file.rows).sum();
            assert_eq!(i64::try_from(rows).ok(), state.tables.get("alerts").map(|table| table.rows));
        }
    }
}

#[test]
fn two_recoverers_at_once_apply_each_entry_once() {
    for place in places() {
        let (ledger, _) = ledger_of(&place, 25);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| roll_forward(&ledger, &mut table(&place)));
            }
        });
        let mut one = table(&place);
        assert_eq!((one.version(), one.applied()), (Some(23), Some(24)));
        assert_eq!(paths(&mut one), expected(1..25));
    }
}

/// Set `FINK_PYTHON` to a Python that has deltalake, polars and pyarrow.
#[test]
fn python_reads_what_is_written() {
    let Ok(python) = std::env::var("FINK_PYTHON") else {
        println!("skipped: FINK_PYTHON is not set");
        return;
    };
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let archive = open(&folder.path().display().to_string(), &Default::default()).expect("it can be made");
    let mut one = Table::open(&archive, "alerts").expect("it opens");
    for entry in 0..4 {
        let added = vec![parquet(folder.path(), entry, entry > 1)];
        let mut next = change(&name(), one.applied(), added, Vec::new());
        next.schema = match entry {
            0 => Some(delta_schema(&columns(false)).expect("Delta holds it")),
            2 => Some(delta_schema(&columns(true)).expect("Delta holds it")),
            _ => None,
        };
        one.apply(entry, &next).expect("it follows");
    }
    let taken = one.files().expect("it lists").swap_remove(1);
    let removes = vec![Removed { path: taken.path, rows: taken.rows }];
    one.apply(4, &change(&name(), Some(3), vec![parquet(folder.path(), 4, true)], removes)).expect("it follows");
    one.checkpoint().expect("it is written");
    one.apply(5, &change(&name(), Some(4), vec![parquet(folder.path(), 5, true)], Vec::new())).expect("it follows");
    let script = r#"
import os, sys, deltalake, polars
t = deltalake.DeltaTable(sys.argv[1])
assert t.version() == 5, t.version()
assert t.transaction_version("fink") == 5
rows = t.to_pyarrow_table() if hasattr(t, "to_pyarrow_table") else t.to_arrow()
frame = polars.scan_delta(sys.argv[1]).collect()
offsets = sorted(rows.column("offset").to_pylist())
assert offsets == sorted(frame["offset"].to_list())
assert sorted(set(rows.column("day").to_pylist())) == [3]
assert "extra" in frame.columns
assert len(t.history()) >= 1
t.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)
print(",".join(map(str, offsets)))
# The readers' native threads may abort an interpreter that winds down.
sys.stdout.flush()
os._exit(0)
"#;
    let table = folder.path().join("alerts");
    let out = std::process::Command::new(python).args(["-c", script]).arg(&table).output().expect("that Python runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read: BTreeSet<i64> = String::from_utf8_lossy(&out.stdout).trim().split(',').map(|n| n.parse().expect("a number")).collect();
    assert_eq!(read, [0, 2, 3, 4, 5].iter().flat_map(|entry| [entry * 10, entry * 10 + 1]).collect());
}

fn columns(wider: bool) -> Schema {
    let mut fields = vec![Field::new("offset", DataType::Int64, true)];
    if wider {
        fields.push(Field::new("extra", DataType::Utf8, true));
    }
    fields.push(Field::new("day", DataType::Int32, true));
    Schema::new(fields)
}

/// A file of two rows, without the partition column.
fn parquet(archive: &std::path::Path, entry: u64, wider: bool) -> DataFile {
    let first = entry.cast_signed() * 10;
    let schema = columns(wider).project(&if wider { vec![0, 1] } else { vec![0] }).expect("the columns are there");
    let mut arrays: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(vec![first, first + 1]))];
    if wider {
        arrays.push(Arc::new(StringArray::from(vec![Some("x"), None])));
    }
    let batch = RecordBatch::try_new(schema.into(), arrays).expect("the columns fit");
    let mut bytes = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("it writes");
    writer.write(&batch).expect("it writes");
    writer.close().expect("it writes");
    let mut made = file(&format!("p{entry:04}"), 2);
    made.size = bytes.len() as u64;
    made.stats =
        format!(r#"{{"numRecords":2,"minValues":{{"offset":{first}}},"maxValues":{{"offset":{}}},"nullCount":{{"offset":0}}}}"#, first + 1);
    let path = archive.join("alerts").join(&made.path);
    std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("it can be made");
    std::fs::write(path, bytes).expect("it can be written");
    made
}
