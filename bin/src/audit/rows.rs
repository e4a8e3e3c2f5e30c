//! Where each row of the tables says that it comes from, read from these columns only.

use std::collections::BTreeMap;

use anyhow::Context;
use arrow::array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::light;
use fink_dataflow::table::marks::{REJECTS, is_output, marked};
use fink_dataflow::table::object::Object;
use fink_dataflow::table::store::wait;
use fink_dataflow::{Intervals, Log};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::snapshot::TableFiles;

/// How many files are read at a time: remote stores take their time to answer.
const AT_A_TIME: usize = 8;

/// The columns that say where a row comes from. Rejects have no `record`.
const COLUMNS: [&str; 6] = ["source", "topic", "incarnation", "partition", "offset", "record"];

/// The rows of all tables, log by log.
#[derive(Default)]
pub struct Rows {
    /// Of all alert tables.
    pub alerts: BTreeMap<Log, LogRows>,
    /// Of the rejects.
    pub rejects: BTreeMap<Log, LogRows>,
}

/// The rows of one log.
#[derive(Clone, Debug, Default)]
pub struct LogRows {
    /// How many.
    pub rows: u64,
    /// How many are there again: same offset and record.
    pub doubled: u64,
    /// The offsets that have rows.
    pub offsets: Intervals,
    /// The offsets that have a row of each record.
    by_record: BTreeMap<i32, Intervals>,
}

impl LogRows {
    pub(super) fn add(&mut self, offset: i64, record: i32) {
        self.rows += 1;
        let new = self.by_record.entry(record).or_default().insert(offset..offset + 1);
        self.doubled += 1 - new;
        self.offsets.insert(offset..offset + 1);
    }
}

impl Rows {
    /// Reads the rows of a table; those of a service's answers stand for no message, light rows are archived ones told again, and
    /// both are left out.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&mut self, archive: &Archive, table: &TableFiles) -> anyhow::Result<()> {
        if is_output(&table.name) || &*table.name == light::TABLE {
            return Ok(());
        }
        let names = names(&table.schema);
        let logs = if table.name.as_ref() == REJECTS { &mut self.rejects } else { &mut self.alerts };
        for files in table.files.chunks(AT_A_TIME) {
            let reads: Vec<_> =
                files.iter().map(|file| columns(archive.clone(), table.name.to_string(), file.clone(), names.clone())).collect();
            let all: Vec<_> = wait(async move { futures::stream::iter(reads).buffered(AT_A_TIME).try_collect().await })?;
            for (file, batches) in files.iter().zip(all) {
                for batch in batches {
                    count(logs, &batch, &names).with_context(|| format!("{}/{}", table.name, file.path))?;
                }
            }
        }
        Ok(())
    }
}

/// The names of our columns in a table, as its schema marks them.
fn names(schema: &str) -> [String; 6] {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    COLUMNS.map(|ours| marked(&schema, ours).unwrap_or(ours).to_owned())
}

async fn columns(archive: Archive, table: String, file: DataFile, names: [String; 6]) -> anyhow::Result<Vec<RecordBatch>> {
    let place = format!("{table}/{}", file.path);
    let builder = ParquetRecordBatchStreamBuilder::new(Object::new(&archive, &table, &file)).await.with_context(|| place.clone())?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().map(String::as_str));
    let stream = builder.with_projection(mask).with_batch_size(8192).build()?;
    stream.try_collect().await.with_context(|| place)
}

fn count(logs: &mut BTreeMap<Log, LogRows>, batch: &RecordBatch, names: &[String; 6]) -> anyhow::Result<()> {
    let column = |name: &String, kind: DataType| {
        let column = batch.column_by_name(name).with_context(|| format!("has no column {name}"))?;
        Ok::<_, anyhow::Error>(cast(column, &kind)?)
    };
    let text =
        |name| Ok::<_, anyhow::Error>(column(name, DataType::Utf8)?.as_any().downcast_ref::<StringArray>().expect("was cast").clone());
    let int =
        |name| Ok::<_, anyhow::Error>(column(name, DataType::Int32)?.as_any().downcast_ref::<Int32Array>().expect("was cast").clone());
    let [source, topic, incarnation, partition, offset, record] = names;
    let (source, topic, incarnation, partition) = (text(source)?, text(topic)?, int(incarnation)?, int(partition)?);
    let offset = column(offset, DataType::Int64)?.as_any().downcast_ref::<Int64Array>().expect("was cast").clone();
    let record = if batch.column_by_name(record).is_some() { Some(int(record)?) } else { None };
    let mut at = 0;
    while at < batch.num_rows() {
        anyhow::ensure!(source.is_valid(at) && topic.is_valid(at) && offset.is_valid(at), "row {at} does not say where it comes from");
        let place = |row: usize| (source.value(row), topic.value(row), incarnation.value(row), partition.value(row));
        let log = Log::new(source.value(at), topic.value(at), incarnation.value(at).cast_unsigned(), partition.value(at));
        let rows = logs.entry(log).or_default();
        // Rows of a log stand in runs: the log is looked up once a run.
        let run = at;
        while at < batch.num_rows() && place(at) == place(run) {
            rows.add(offset.value(at), record.as_ref().map_or(0, |record| record.value(at)));
            at += 1;
        }
    }
    Ok(())
}
