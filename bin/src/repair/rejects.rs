//! The rows of the rejects table.

use std::str::FromStr;

use anyhow::Context;
use arrow::array::{Array, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use fink_dataflow::message::Message;
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::store::wait;
use fink_dataflow::{Log, table::Table};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use fink_dataflow::table::object::Object;

/// The table's folder.
pub const TABLE: &str = fink_sinks::rejects::TABLE;

/// A rejected message.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Where it comes from.
    pub log: Log,
    /// The message; without key and payload where these were not read.
    pub message: Message,
    /// When it was taken, in microseconds since 1970 UTC.
    pub received_us: i64,
    /// The kind of fault.
    pub fault: String,
    /// What was wrong.
    pub reason: String,
}

/// A message's place, as `topic/partition/offset`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no place: write TOPIC/PARTITION/OFFSET, as `fink rejects list` shows it");
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        // An incarnation (`topic/3#1/17`) is shown, and need not be said.
        let partition = parts.next().and_then(|part| part.split('#').next()?.parse().ok()).ok_or_else(wrong)?;
        let topic = parts.next().filter(|topic| !topic.is_empty()).ok_or_else(wrong)?.to_owned();
        Ok(Self { topic, partition, offset })
    }
}

/// Which rejects are meant; what is empty means all.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// These messages.
    pub places: Vec<Place>,
    /// Of this topic.
    pub topic: Option<String>,
    /// With this fault.
    pub fault: Option<String>,
}

impl Which {
    /// Whether a reject is meant.
    #[must_use]
    pub fn holds(&self, reject: &Rejected) -> bool {
        let (log, offset) = (&reject.log, reject.message.offset);
        let at = |place: &Place| place.topic == *log.topic && place.partition == log.partition && place.offset == offset;
        (self.places.is_empty() || self.places.iter().any(at))
            && self.topic.as_ref().is_none_or(|topic| **topic == *log.topic)
            && self.fault.as_ref().is_none_or(|fault| *fault == reject.fault)
    }
}

/// The live files of the rejects.
///
/// # Errors
/// When the table can't be read.
pub fn files(archive: &Archive) -> anyhow::Result<Vec<DataFile>> {
    Ok(Table::open(archive, TABLE)?.files()?)
}

/// The rejects in a file, `whole` or without keys and payloads.
///
/// # Errors
/// When the file can't be read.
pub fn read(archive: &Archive, file: &DataFile, whole: bool) -> anyhow::Result<Vec<Rejected>> {
    let object = Object::new(archive, TABLE, file);
    let batches: Vec<RecordBatch> = wait(async move {
        let builder = ParquetRecordBatchStreamBuilder::new(object).await?;
        let schema = builder.parquet_schema();
        let light = schema.columns().iter().map(|column| column.name()).filter(|name| whole || !["key", "payload"].contains(name));
        let mask = ProjectionMask::columns(schema, light);
        builder.with_projection(mask).build()?.try_collect().await
    })
    .with_context(|| format!("{TABLE}/{}", file.path))?;
    let mut rejects = Vec::new();
    for batch in &batches {
        rows(batch, whole, &mut rejects).with_context(|| format!("{TABLE}/{}", file.path))?;
    }
    Ok(rejects)
}

fn rows(batch: &RecordBatch, whole: bool, rejects: &mut Vec<Rejected>) -> anyhow::Result<()> {
    fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> anyhow::Result<&'a T> {
        let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>());
        column.with_context(|| format!("has no column {name} of the right type"))
    }
    let text = |name| column::<StringArray>(batch, name);
    let int = |name| column::<Int32Array>(batch, name);
    let time = |name| column::<TimestampMicrosecondArray>(batch, name);
    let (source, topic, fault, reason) = (text("source")?, text("topic")?, text("fault")?, text("reason")?);
    let (incarnation, partition) = (int("incarnation")?, int("partition")?);
    let offset = column::<Int64Array>(batch, "offset")?;
    let (sent, received) = (time("kafka_timestamp")?, time("ingest_time")?);
    let bytes = |name: &str| if whole { column::<BinaryArray>(batch, name).map(Some) } else { Ok(None) };
    let (key, payload) = (bytes("key")?, bytes("payload")?);
    let value = |array: Option<&BinaryArray>, row: usize| {
        array.filter(|array| array.is_valid(row)).map(|array| Bytes::copy_from_slice(array.value(row)))
    };
    for row in 0..batch.num_rows() {
        rejects.push(Rejected {
            log: Log::new(source.value(row), topic.value(row), incarnation.value(row).cast_unsigned(), partition.value(row)),
            message: Message {
                offset: offset.value(row),
                timestamp_ms: sent.is_valid(row).then(|| sent.value(row).div_euclid(1000)),
                key: value(key, row),
                payload: value(payload, row),
            },
            received_us: received.value(row),
            fault: fault.value(row).to_owned(),
            reason: reason.value(row).to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_topic_a_partition_and_an_offset() {
        let place: Place = "ztf/2026/3#1/17".parse().unwrap();
        assert_eq!(place, Place { topic: "ztf/2026".to_owned(), partition: 3, offset: 17 });
        for wrong in ["ztf", "ztf/3", "/3/17", "ztf/x/17", "ztf/3/x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
