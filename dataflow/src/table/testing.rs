//! What the tests of this folder share: an archive in every store that is at hand, and entries to put into it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::entry::{DataFile, Entry, Removed, State, TableChange, Writer};
use super::fault::FaultyStore;
use super::store::{Archive, open};
use crate::alerts::Tally;
use crate::message::{Log, Mark};
use crate::moment::Moment;

/// The schema of the tests' tables.
pub(super) const SCHEMA: &str = r#"{"type":"struct","fields":[{"name":"offset","type":"long","nullable":true,"metadata":{}},{"name":"day","type":"integer","nullable":true,"metadata":{}}]}"#;

/// An archive of its own, and what must live as long as it.
pub(super) struct Place {
    pub(super) archive: Archive,
    pub(super) store: FaultyStore,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn new(archive: Archive, folder: Option<tempfile::TempDir>) -> Self {
        let store = FaultyStore::new(archive.store().clone());
        // Hangs are waited for: much less than in earnest, yet more than a busy machine takes for a small put.
        let archive = archive.with_store(Arc::new(store.clone())).with_patience(Duration::from_millis(700));
        Self { archive, store, _folder: folder }
    }
}

/// A fresh archive in memory, on local disk, and below the URLs in `FINK_TEST_HDFS` and `FINK_TEST_S3`, where they are set.
pub(super) fn places() -> Vec<Place> {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let local = open(&folder.path().join("an archive").display().to_string(), &BTreeMap::new()).expect("it can be made");
    let mut places = vec![Place::new(Archive::in_memory(), None), Place::new(local, Some(folder))];
    for url in ["FINK_TEST_HDFS", "FINK_TEST_S3"].iter().filter_map(|name| std::env::var(name).ok()) {
        let url = format!("{}/test-{}", url.trim_end_matches('/'), uuid::Uuid::new_v4());
        let mut place = Place::new(open(&url, &BTreeMap::new()).expect("it is a URL"), None);
        place.archive = place.archive.with_patience(Duration::from_secs(5));
        places.push(place);
    }
    places
}

/// An archive in memory.
pub(super) fn memory() -> Place {
    Place::new(Archive::in_memory(), None)
}

/// The entry that takes the archive over.
pub(super) fn fence(state: &State) -> Entry {
    let writer = Writer { host: "here".into(), boot: "b".into(), pid: 1, started: 1 };
    Entry { fence: Some(writer), generation: state.generation + 1, ..empty(state) }
}

/// An entry that covers `count` offsets more of partition 0 and adds a file of them to the table `alerts`.
pub(super) fn live(state: &State, count: i64) -> Entry {
    let log = Log::new("kafka:x", "ztf", 0, 0);
    let from = state.coverage.get(&log).and_then(crate::Intervals::end).unwrap_or(0);
    let mut entry = empty(state);
    entry.covered.insert(&log, from..from + count);
    let messages = count.unsigned_abs();
    entry.tallies.push((log.clone(), Tally { messages, archived: messages, rows: messages, ..Tally::default() }));
    entry.marks.push((log, Mark { offset: from + count - 1, timestamp_ms: Some(7), hash: 9 }));
    let name: Arc<str> = "alerts".into();
    let previous = state.tables.get(&name).map(|table| table.last);
    entry.tables.push(change(&name, previous, vec![file(&format!("f{:04}", state.next), messages)], Vec::new()));
    entry
}

/// An entry without anything in it.
pub(super) fn empty(state: &State) -> Entry {
    Entry { moment: Moment::new(0, state.next), ..Entry::after(state, uuid::Uuid::new_v4().to_string(), 1) }
}

/// A change of a table partitioned by `day`; the one without a previous entry creates it.
pub(super) fn change(table: &Arc<str>, previous: Option<u64>, adds: Vec<DataFile>, removes: Vec<Removed>) -> TableChange {
    let first = previous.is_none();
    TableChange {
        table: table.clone(),
        previous,
        schema: first.then(|| SCHEMA.to_owned()),
        partition_columns: if first { vec!["day".to_owned()] } else { Vec::new() },
        adds,
        data_change: removes.is_empty(),
        removes,
    }
}

/// A file of day 3.
pub(super) fn file(name: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("day=3/{name}.parquet"),
        size: 1000 + rows,
        modified_ms: 1_700_000_000_000,
        partition: vec![("day".to_owned(), Some("3".to_owned()))],
        rows,
        stats: format!(r#"{{"numRecords":{rows},"minValues":{{"offset":0}},"maxValues":{{"offset":9}},"nullCount":{{"offset":0}}}}"#),
    }
}
