//! When rows become visible to a Delta reader: follows a table's log, and reads what each commit added.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use fink_dataflow::table::store;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use serde_json::Value;

/// Reads a file of the table by its path.
type Get = Box<dyn Fn(&str) -> Option<Bytes> + Send>;
/// Reads the rows of one.
type Rows = Box<dyn Fn(&str) -> Option<Vec<(i64, i64)>> + Send>;

/// A table's log, followed version by version as a streaming reader follows it.
pub struct Follower {
    get: Get,
    rows: Rows,
    next: u64,
}

/// Rows that a commit added.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The commit's version.
    pub version: u64,
    /// When it was seen, in milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// For each row its message's timestamp in milliseconds, and its offset.
    pub rows: Vec<(i64, i64)>,
}

/// The wall clock, in milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_millis()).expect("fits")
}

impl Follower {
    /// Follows a table of a local archive from its first commit.
    #[must_use]
    pub fn new(archive: &Path, table: &str) -> Self {
        let folder = archive.join(table);
        let data = folder.clone();
        // Of a local file only the two columns are read: a reader must not cost what the writer does.
        let rows = move |path: &str| fs::File::open(data.join(path)).ok().map(rows);
        Self { get: Box::new(move |path| fs::read(folder.join(path)).ok().map(Bytes::from)), rows: Box::new(rows), next: 0 }
    }

    /// Follows a table of an archive in any store.
    #[must_use]
    pub fn of(archive: &str, table: &str) -> Self {
        let archive = store::open(archive, &BTreeMap::new()).expect("an archive can be opened");
        let table = table.to_owned();
        let get = move |path: &str| {
            let (store, path) = (Arc::clone(archive.store()), archive.path(&format!("{table}/{path}")));
            store::wait(async move { store.get(&path).await?.bytes().await }).ok()
        };
        let all = get.clone();
        Self { get: Box::new(get), rows: Box::new(move |path| all(path).map(rows)), next: 0 }
    }

    /// Skips what is there.
    #[must_use]
    pub fn from_now(mut self) -> Self {
        while (self.get)(&log(self.next)).is_some() {
            self.next += 1;
        }
        self
    }

    /// The next commit that added rows, if one is there; commits that only move rows are passed over.
    pub fn poll(&mut self) -> Option<Seen> {
        loop {
            let commit = (self.get)(&log(self.next))?;
            let at_ms = now_ms();
            let text = String::from_utf8_lossy(&commit);
            let version = self.next;
            self.next += 1;
            let actions = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
            let added: Vec<_> = actions.filter(|a| a["add"]["dataChange"] == Value::Bool(true)).collect();
            if !added.is_empty() {
                // A file that was compacted and vacuumed since can't be read any more.
                let files = added.iter().filter_map(|a| (self.rows)(&decoded(a["add"]["path"].as_str().expect("a path"))));
                let rows = files.flatten().collect();
                return Some(Seen { version, at_ms, rows });
            }
        }
    }

    /// As [`Follower::poll`], until something is there or time is up; looks every two milliseconds.
    pub fn wait(&mut self, at_most: Duration) -> Option<Seen> {
        let until = std::time::Instant::now() + at_most;
        loop {
            let seen = self.poll();
            if seen.is_some() || std::time::Instant::now() > until {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Paths in a Delta log are percent-encoded.
fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let code = if byte == b'%' { [bytes.next(), bytes.next()].into_iter().flatten().collect::<Vec<_>>() } else { Vec::new() };
        let hex = std::str::from_utf8(&code).ok().and_then(|c| u8::from_str_radix(c, 16).ok());
        out.push(hex.unwrap_or(byte));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn log(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

fn rows<F: ChunkReader + 'static>(file: F) -> Vec<(i64, i64)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a file that was committed can be read");
    let schema = builder.schema().clone();
    let column = |ours: &str| {
        let suffixed = format!("{ours}_fink");
        schema.index_of(&suffixed).or_else(|_| schema.index_of(ours)).expect("our columns are there")
    };
    let (timestamp, offset) = (column("kafka_timestamp"), column("offset"));
    let mask = ProjectionMask::roots(builder.parquet_schema(), [timestamp, offset]);
    let (first, second) = if timestamp < offset { (0, 1) } else { (1, 0) };
    let reader = builder.with_projection(mask).build().expect("a reader can be built");
    let mut out = Vec::new();
    for batch in reader {
        let batch = batch.expect("a batch can be read");
        let times = cast(batch.column(first), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).expect("timestamps");
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let offsets = batch.column(second).as_primitive::<Int64Type>();
        out.extend((0..batch.num_rows()).filter(|&i| times.is_valid(i)).map(|i| (times.value(i) / 1000, offsets.value(i))));
    }
    out
}

/// Median, 99th percentile and maximum.
#[must_use]
pub fn percentiles(mut values: Vec<i64>) -> (i64, i64, i64) {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() * percent / 100).min(values.len() - 1)];
    (at(50), at(99), values[values.len() - 1])
}
