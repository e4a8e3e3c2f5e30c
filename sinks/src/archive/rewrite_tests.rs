//! Merged files hold the rows of their inputs, exactly.

use std::collections::BTreeMap;

use arrow::array::Int64Array;
use arrow::compute::concat_batches;
use fink_dataflow::table::delta::Table;
use fink_dataflow::table::entry::{Removed, State, TableChange};
use fink_dataflow::table::fault::{Call, Fault, FaultyStore, Kind};
use fink_dataflow::table::store::open;
use futures::TryStreamExt;

use super::super::files::Files;
use super::super::memory::Memory;
use super::super::samples::{batch, commit, offsets, read as rows_of, ztf};
use super::*;

/// Stores one file a call, of these offsets.
fn store(archive: &Archive, routes: &Arc<Routes>, more: bool, of: Range<i64>, cutout: usize) -> DataFile {
    let mut files = Files::new(Arc::clone(routes), Memory::new(usize::MAX, 1), 7);
    for from in of.clone().step_by(200) {
        let part: Vec<i64> = (from..of.end.min(from + 200)).collect();
        files.alerts(&batch(&ztf(more), &part, cutout, |_| Some(20_000))).expect("it fits");
    }
    let closed = files.close_first().expect("it is written").expect("it is open");
    let (store, path, payload) =
        (Arc::clone(archive.store()), archive.path(&format!("{}/{}", closed.table, closed.file.path)), closed.payload.clone());
    wait(async move { store.put(&path, payload).await }).expect("it is stored");
    closed.file
}

fn routes() -> Arc<Routes> {
    Arc::new(Routes::new(&State::default()).expect("an empty state"))
}

#[test]
fn rows_are_kept_exactly_and_missing_columns_are_null() {
    let (archive, routes) = (Archive::in_memory(), routes());
    let files = vec![
        store(&archive, &routes, false, 0..30, 10),
        store(&archive, &routes, true, 30..700, 10),
        store(&archive, &routes, false, 700..701, 10),
    ];
    let merged = Rewriter::new(archive.clone(), Arc::clone(&routes), 9).rewrite(&"alerts".into(), &files).expect("rewritten");
    assert!(merged.path.starts_with("year=2024/month=10/day=4/9-ztf_night_1-3-0-"), "{}", merged.path);
    assert_eq!((merged.rows, &merged.partition), (701, &files[0].partition));
    assert_eq!(offsets(&archive, "alerts", &merged), (0..701).collect::<Vec<_>>());
    let schema = types::file_schema(
        &types::from_json(&routes.schema("alerts").expect("known")).expect("json"),
        &["year", "month", "day"].map(String::from),
    );
    let schema = Arc::new(schema.expect("arrow has it"));
    let before: Vec<RecordBatch> =
        files.iter().flat_map(|file| rows_of(&archive, "alerts", file)).map(|rows| fit_batch(&rows, &schema).expect("fits")).collect();
    let after: Vec<RecordBatch> =
        rows_of(&archive, "alerts", &merged).iter().map(|rows| fit_batch(rows, &schema).expect("the same columns")).collect();
    let (before, after) = (concat_batches(&schema, &before).expect("one"), concat_batches(&schema, &after).expect("one"));
    assert_eq!(before, after);
    let publisher = after.column_by_name("publisher").expect("evolved");
    assert!((0..30).all(|row| publisher.is_null(row)) && (30..700).all(|row| publisher.is_valid(row)) && publisher.is_null(700));
    let stats: serde_json::Value = serde_json::from_str(&merged.stats).expect("json");
    assert_eq!(stats["numRecords"], 701);
    assert_eq!((&stats["minValues"]["candid"], &stats["maxValues"]["candid"]), (&0.into(), &700.into()));
    assert_eq!(stats["maxValues"]["candidate"]["jd"], 699.5 + f64::from(u8::from(699 % 7 == 0)));
    assert_eq!(stats["nullCount"]["candidate"]["magpsf"], 31 + (30..700).filter(|id| id % 7 == 0).count());
}

#[test]
fn large_files_are_read_and_written_in_parts() {
    let (archive, routes) = (Archive::in_memory(), routes());
    let files: Vec<DataFile> = (0..3).map(|n| store(&archive, &routes, n == 1, n * 1000..n * 1000 + 1000, 20_000)).collect();
    assert!(files.iter().all(|file| file.size > WHOLE));
    let merged = Rewriter::new(archive.clone(), routes, 9).rewrite(&"alerts".into(), &files).expect("rewritten");
    assert_eq!(offsets(&archive, "alerts", &merged), (0..3000).collect::<Vec<_>>());
    let sum: BTreeMap<&str, i64> = rows_of(&archive, "alerts", &merged)
        .iter()
        .map(|rows| {
            let candid = rows.column_by_name("candid").expect("theirs").as_any().downcast_ref::<Int64Array>().expect("a long");
            ("candid", candid.values().iter().sum::<i64>())
        })
        .fold(BTreeMap::new(), |mut all, (name, sum)| {
            *all.entry(name).or_default() += sum;
            all
        });
    assert_eq!(sum["candid"], (0..3000).sum::<i64>());
}

#[test]
fn a_wrong_count_or_a_failing_store_is_an_error() {
    let (faulty, routes) = (FaultyStore::new(Arc::clone(Archive::in_memory().store())), routes());
    let archive = Archive::in_memory().with_store(Arc::new(faulty.clone()));
    let mut files = vec![store(&archive, &routes, false, 0..10, 10), store(&archive, &routes, false, 10..20, 10)];
    let rewriter = Rewriter::new(archive.clone(), routes, 9);
    faulty.plan(Fault { call: Call::Put, path: "9-ztf".into(), from: 0, times: 1, kind: Kind::Fails });
    assert!(rewriter.rewrite(&"alerts".into(), &files).is_err());
    assert_eq!(rewriter.rewrite(&"alerts".into(), &files).expect("the store is well again").rows, 20);
    files[0].rows = 11;
    assert!(rewriter.rewrite(&"alerts".into(), &files).expect_err("a row is missing").contains("20 rows were written of 21"));
    let store = Arc::clone(archive.store());
    let listed: Vec<_> = wait(async move { store.list(None).try_collect().await }).expect("it lists");
    assert_eq!(listed.len(), 3, "two inputs and the merged file");
}

/// Set `FINK_PYTHON` to a Python that has deltalake, polars and pyarrow.
#[test]
fn python_reads_evolved_and_merged_files() {
    let Ok(python) = std::env::var("FINK_PYTHON") else {
        println!("skipped: FINK_PYTHON is not set");
        return;
    };
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let archive = open(&folder.path().display().to_string(), &Default::default()).expect("it can be made");
    let (routes, mut state) = (routes(), State::default());
    let mut table = Table::open(&archive, "alerts").expect("it opens");
    let mut apply = |table: &mut Table, entry: u64, adds: Vec<DataFile>, removes: &[DataFile]| {
        let pending = routes.pending(&state, [&Arc::from("alerts")]);
        let (schema, partition_columns) = pending.schemas.into_values().next().map_or((None, Vec::new()), |(s, p)| (Some(s), p));
        commit(&routes, &mut state, &["alerts"]);
        let removes: Vec<Removed> = removes.iter().map(|file| Removed { path: file.path.clone(), rows: file.rows }).collect();
        let change = TableChange {
            table: "alerts".into(),
            previous: table.applied(),
            schema,
            partition_columns,
            adds,
            data_change: removes.is_empty(),
            removes,
        };
        table.apply(entry, &change).expect("it follows");
    };
    let small = [store(&archive, &routes, false, 0..30, 10), store(&archive, &routes, false, 30..60, 10)];
    apply(&mut table, 0, small.to_vec(), &[]);
    let evolved = [store(&archive, &routes, true, 60..400, 10), store(&archive, &routes, false, 400..401, 10)];
    apply(&mut table, 1, evolved.to_vec(), &[]);
    let script = r#"
import os, sys, deltalake, polars, pyarrow.parquet
t = deltalake.DeltaTable(sys.argv[1])
rows = t.to_pyarrow_table().sort_by("offset").to_pylist()
frame = polars.read_delta(sys.argv[1]).sort("offset").to_dicts()
assert len(rows) == len(frame) == 401, (len(rows), len(frame))
fine = lambda x: None if x % 7 == 0 else x + 0.5
for a in (rows, frame):
    for n, r in enumerate(a):
        new = 60 <= n < 400
        assert r["offset"] == r["candid"] == n and r["objectId"] == f"ZTF{n:08}", r
        assert (r["topic"], r["partition"], r["record"], r["source"], r["incarnation"]) == ("ztf.night-1", 3, 0, "kafka:test", 0), r
        assert (r["year"], r["month"], r["day"]) == (2024, 10, 4) and len(r["schema_id"]) == 16, r
        assert r["kafka_timestamp"].timestamp() * 1000 == 1780000000000 + n and r["ingest_time"].microsecond == 999, r
        assert r["candidate"]["jd"] == fine(n) and r["candidate"]["magpsf"] == (fine(n) if new else None), r
        assert (r["publisher"] is not None) == new, r
        p = r["prv_candidates"]
        assert len(p) == n % 4 and [x["jd"] for x in p] == [fine(n * 10 + i) for i in range(n % 4)], r
        assert all((x["fid"] is not None) == (new and (n * 10 + i) % 5 != 0) for i, x in enumerate(p)), r
        assert r["cutout"]["stampData"] == bytes([n % 251]) * 10, r
# What the statistics leave of a filter.
part = t.to_pyarrow_dataset().to_table(filter=(pyarrow.dataset.field("candid") >= 395))
assert sorted(part["candid"].to_pylist()) == list(range(395, 401))
for path in t.file_uris():
    names = pyarrow.parquet.read_schema(path).names
    assert "offset" in names and "year" not in names, names
print(len(t.file_uris()))
# The readers' native threads may abort an interpreter that winds down.
sys.stdout.flush()
os._exit(0)
"#;
    let read = || {
        let out =
            std::process::Command::new(&python).args(["-c", script]).arg(folder.path().join("alerts")).output().expect("that Python runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    assert_eq!(read(), "4");
    let all = [&small[..], &evolved[..]].concat();
    let merged = Rewriter::new(archive.clone(), Arc::clone(&routes), 9).rewrite(&"alerts".into(), &all).expect("rewritten");
    apply(&mut table, 2, vec![merged], &all);
    assert_eq!(read(), "1");
}
