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
use fink_operators::decode::fault::CRASHED;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};

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

    /// Whether a reject is meant that must be named to be decoded: it ended a process that did, and would this one.
    #[must_use]
    pub fn spares(&self, reject: &Rejected) -> bool {
        reject.fault == CRASHED && self.places.is_empty() && self.fault.is_none() && self.holds(reject)
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
    let rows = if whole { HEAVY_ROWS } else { LIGHT_ROWS };
    let batches: Vec<_> = Batches::open(archive, file, whole, rows)?.collect::<anyhow::Result<_>>()?;
    Ok(batches.into_iter().flatten().collect())
}

/// The rejects in a file, whole, in pieces that hold about `bytes` of payload at most, and one message at least.
///
/// # Errors
/// When the file can't be read: at once, or with a piece.
pub fn pieces(archive: &Archive, file: &DataFile, bytes: usize) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Vec<Rejected>>>> {
    Ok(gathered(Batches::open(archive, file, true, HEAVY_ROWS)?, bytes))
}

/// Gathers batches into pieces.
fn gathered(
    mut batches: impl Iterator<Item = anyhow::Result<Vec<Rejected>>>,
    bytes: usize,
) -> impl Iterator<Item = anyhow::Result<Vec<Rejected>>> {
    std::iter::from_fn(move || {
        let (mut piece, mut held) = (Vec::new(), 0);
        while held < bytes {
            match batches.next() {
                Some(Ok(batch)) => {
                    held += batch.iter().filter_map(|reject| reject.message.payload.as_ref()).map(Bytes::len).sum::<usize>();
                    piece.extend(batch);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        (!piece.is_empty()).then_some(Ok(piece))
    })
}

/// Rows that are read at a time without payloads, and with: one may have 20 MB.
const LIGHT_ROWS: usize = 4096;
const HEAVY_ROWS: usize = 8;

/// A file's rejects, some rows at a time.
struct Batches {
    stream: Option<ParquetRecordBatchStream<Object>>,
    whole: bool,
    /// For errors.
    path: String,
}

impl Batches {
    fn open(archive: &Archive, file: &DataFile, whole: bool, rows: usize) -> anyhow::Result<Self> {
        let object = Object::new(archive, TABLE, file);
        let path = format!("{TABLE}/{}", file.path);
        let stream = wait(async move {
            let builder = ParquetRecordBatchStreamBuilder::new(object).await?;
            let schema = builder.parquet_schema();
            let light = schema.columns().iter().map(|column| column.name()).filter(|name| whole || !["key", "payload"].contains(name));
            let mask = ProjectionMask::columns(schema, light);
            builder.with_projection(mask).with_batch_size(rows).build()
        });
        Ok(Self { stream: Some(stream.with_context(|| path.clone())?), whole, path })
    }
}

impl Iterator for Batches {
    type Item = anyhow::Result<Vec<Rejected>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        let (stream, batch) = wait(async move {
            let batch = stream.try_next().await;
            (stream, batch)
        });
        let batch = match batch {
            Ok(batch) => batch?,
            Err(error) => return Some(Err(error).with_context(|| self.path.clone())),
        };
        self.stream = Some(stream);
        let mut rejects = Vec::new();
        let read = rows(&batch, self.whole, &mut rejects).with_context(|| self.path.clone());
        Some(read.map(|()| rejects))
    }
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

    fn reject(offset: i64, fault: &str, bytes: usize) -> Rejected {
        let payload = Some(Bytes::from(vec![0; bytes]));
        let message = Message { offset, timestamp_ms: None, key: None, payload };
        Rejected { log: Log::new("kafka:x", "ztf", 0, 3), message, received_us: 0, fault: fault.to_owned(), reason: String::new() }
    }

    #[test]
    fn what_crashed_the_decoder_must_be_named() {
        let (crashed, truncated) = (reject(1, CRASHED, 1), reject(2, "truncated", 1));
        let all = Which::default();
        assert!(all.holds(&crashed) && all.spares(&crashed) && !all.spares(&truncated));
        assert!(Which { topic: Some("ztf".to_owned()), ..Which::default() }.spares(&crashed));
        assert!(!Which { topic: Some("lsst".to_owned()), ..Which::default() }.spares(&crashed));
        assert!(!Which { fault: Some(CRASHED.to_owned()), ..Which::default() }.spares(&crashed));
        assert!(!Which { places: vec!["ztf/3/1".parse().unwrap()], ..Which::default() }.spares(&crashed));
    }

    #[test]
    fn pieces_are_bounded_whole_and_in_order() {
        let batches = [vec![10, 10], vec![50], vec![5, 5], vec![], vec![500], vec![1]];
        let mut offset = 0;
        let batches = batches.map(|batch| {
            let reject = |bytes| {
                offset += 1;
                reject(offset, "truncated", bytes)
            };
            Ok(batch.into_iter().map(reject).collect())
        });
        let pieces: Vec<Vec<i64>> =
            gathered(batches.into_iter(), 40).map(|piece| piece.unwrap().iter().map(|reject| reject.message.offset).collect()).collect();
        assert_eq!(pieces, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
        let mut broken = gathered([Ok(vec![reject(1, "truncated", 1)]), Err(anyhow::anyhow!("torn"))].into_iter(), 40);
        assert!(broken.next().unwrap().is_err());
    }

    #[test]
    fn a_place_is_a_topic_a_partition_and_an_offset() {
        let place: Place = "ztf/2026/3#1/17".parse().unwrap();
        assert_eq!(place, Place { topic: "ztf/2026".to_owned(), partition: 3, offset: 17 });
        for wrong in ["ztf", "ztf/3", "/3/17", "ztf/x/17", "ztf/3/x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
