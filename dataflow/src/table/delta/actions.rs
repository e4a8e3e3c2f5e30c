//! The lines of a Delta commit, as the protocol's text has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{APPLICATION, arrow_schema};
use crate::table::entry::{DataFile, TableChange};

/// The reader protocol of our tables: the first, which every reader follows.
pub(super) const READER: i32 = 1;
/// The writer protocol of our tables.
pub(super) const WRITER: i32 = 2;
/// How long checkpoints remember files that were taken out; vacuum must have deleted them by then, or sweep them as orphans.
/// Each commit of a day leaves a file that compaction takes out, and every checkpoint writes all that are remembered.
const TOMBSTONES_KEPT: &str = "interval 12 hours";

/// One line of a commit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Action<'a> {
    CommitInfo(CommitInfo<'a>),
    Protocol(Protocol),
    MetaData(&'a Metadata),
    Txn(Transaction),
    Add(Add<'a>),
    Remove(Remove<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo<'a> {
    timestamp: i64,
    operation: &'static str,
    operation_parameters: BTreeMap<&'static str, &'static str>,
    is_blind_append: bool,
    engine_info: &'static str,
    txn_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
}

/// What a table is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) id: String,
    pub(super) format: Format,
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    pub(super) configuration: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_time: Option<i64>,
}

/// How a table's files are written.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Format {
    provider: &'static str,
    options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self { provider: "parquet", options: BTreeMap::new() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    app_id: &'static str,
    version: u64,
    last_updated: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Add<'a> {
    path: &'a str,
    partition_values: BTreeMap<&'a str, Option<&'a str>>,
    size: u64,
    modification_time: i64,
    data_change: bool,
    stats: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remove<'a> {
    path: &'a str,
    deletion_timestamp: i64,
    data_change: bool,
}

/// A commit, ready to be put.
pub(super) struct Commit {
    /// Told by it from another's commit under the same version.
    pub(super) nonce: String,
    /// What the table is after it.
    pub(super) metadata: Metadata,
    /// The file.
    pub(super) lines: Bytes,
}

impl Commit {
    /// The commit by which `entry` makes `change` at `now_ms` (milliseconds since 1970 UTC) to a table of which `known` is known;
    /// `None`: it is created.
    ///
    /// # Errors
    /// Why the change can't be made.
    pub(super) fn new(entry: u64, change: &TableChange, known: Option<&Metadata>, now_ms: i64) -> Result<Self, String> {
        let nonce = uuid::Uuid::new_v4().to_string();
        let metadata = metadata(change, known, now_ms)?;
        let (operation, mode) = match (known, change.data_change) {
            (None, _) => ("CREATE TABLE", None),
            (Some(_), true) => ("WRITE", Some(("mode", "Append"))),
            (Some(_), false) => ("OPTIMIZE", None),
        };
        let mut actions = vec![Action::CommitInfo(CommitInfo {
            timestamp: now_ms,
            operation,
            operation_parameters: mode.into_iter().collect(),
            is_blind_append: known.is_some() && change.schema.is_none() && change.removes.is_empty(),
            engine_info: concat!("fink/", env!("CARGO_PKG_VERSION")),
            txn_id: &nonce,
        })];
        if known.is_none() {
            actions.push(Action::Protocol(Protocol { min_reader_version: READER, min_writer_version: WRITER }));
        }
        if known.is_none_or(|known| known.schema_string != metadata.schema_string) {
            actions.push(Action::MetaData(&metadata));
        }
        actions.push(Action::Txn(Transaction { app_id: APPLICATION, version: entry, last_updated: now_ms }));
        for file in &change.adds {
            actions.push(Action::Add(add(file, &metadata, change.data_change)?));
        }
        for file in &change.removes {
            plain(&file.path)?;
            actions.push(Action::Remove(Remove { path: &file.path, deletion_timestamp: now_ms, data_change: change.data_change }));
        }
        let mut lines = Vec::new();
        for action in &actions {
            serde_json::to_writer(&mut lines, action).expect("an action is plain data");
            lines.push(b'\n');
        }
        Ok(Self { nonce, metadata, lines: lines.into() })
    }
}

fn metadata(change: &TableChange, known: Option<&Metadata>, now: i64) -> Result<Metadata, String> {
    if let Some(schema) = &change.schema {
        arrow_schema(schema).map_err(|e| e.to_string())?;
    }
    match (known, &change.schema) {
        (Some(known), None) => Ok(known.clone()),
        (Some(known), Some(schema)) => Ok(Metadata { schema_string: schema.clone(), ..known.clone() }),
        (None, None) => Err("the table does not exist, and the entry does not say its schema".into()),
        (None, Some(schema)) => Ok(Metadata {
            id: uuid::Uuid::new_v4().to_string(),
            format: Format::default(),
            schema_string: schema.clone(),
            partition_columns: change.partition_columns.clone(),
            configuration: [("delta.deletedFileRetentionDuration".to_owned(), TOMBSTONES_KEPT.to_owned())].into(),
            created_time: Some(now),
        }),
    }
}

fn add<'a>(file: &'a DataFile, metadata: &Metadata, data_change: bool) -> Result<Add<'a>, String> {
    plain(&file.path)?;
    if !file.partition.iter().map(|(column, _)| column).eq(&metadata.partition_columns) {
        return Err(format!("{} has the partition {:?}, the table {:?}", file.path, file.partition, metadata.partition_columns));
    }
    Ok(Add {
        path: &file.path,
        partition_values: file.partition.iter().map(|(column, value)| (column.as_str(), value.as_deref())).collect(),
        size: file.size,
        modification_time: file.modified_ms,
        data_change,
        stats: &file.stats,
    })
}

/// Paths in the log are URLs, and ours need no escapes: whoever names files sees to that.
fn plain(path: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._=/".contains(c);
    if !path.is_empty() && path.chars().all(good) {
        Ok(())
    } else {
        Err(format!("the path `{path}` holds more than letters, digits and -._=/"))
    }
}

/// The nonce in a commit's bytes, whoever wrote it.
pub(super) fn nonce(commit: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        txn_id: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        commit_info: Option<Info>,
    }
    let lines = commit.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()).find_map(|line| line.commit_info?.txn_id)
}
