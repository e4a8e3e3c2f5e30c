//! The truth beside a stream: one row for each message sent, in a Parquet file.
//!
//! | column | type | |
//! |---|---|---|
//! | `number` | long | the alert's place in the stream, from 0, over all partitions |
//! | `sending` | text | `first`, `duplicate` or `resent` |
//! | `harm` | text | empty, `garbled` or `truncated`: what was done to the bytes |
//! | `edition` | int | 1, or 2 after a change of schema |
//! | `late_s` | double | how much later than due it was sent on purpose, seconds |
//! | `topic`, `partition`, `offset` | text, int, long | where Kafka confirmed it; null: it did not, or did not say where |
//! | `sent_ms` | long | when it was given to Kafka's client, ms since 1970 UTC |
//! | `alert_id` | long | `candid` or `diaSourceId` |
//! | `object` | text | `objectId`, or `diaObjectId` or `ssObjectId` in digits |
//! | `class` | text | what the object truly is |
//! | `bogus` | boolean | whether it is no light of the sky |
//! | `ra_deg`, `dec_deg` | double | the true place |
//! | `mjd_tai`, `band` | double, text | the visit |
//! | `difference_njy` | double | the true flux on the difference image |
//! | `parameters` | map of text to double | the light curve's or orbit's, by name with unit |
//!
//! Of a folder's messages only where and when they were sent is known. The file is whole when the simulator has ended;
//! until then it is there under its name with `.part`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, MapBuilder, RecordBatch, StringBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::records;
use super::seen::{Seen, Telescope};
use super::trouble::{Event, Harm};

/// Rows of a row group, and the most that are held.
const GROUP_ROWS: usize = 16_384;

/// What is true of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The alert's number at the survey.
    pub alert_id: i64,
    /// The object's name at the survey.
    pub object: String,
    /// What the object is.
    pub class: &'static str,
    /// Whether it is no light of the sky.
    pub bogus: bool,
    /// The true place, degrees (J2000).
    pub place_deg: [f64; 2],
    /// The visit's time, MJD, TAI.
    pub mjd_tai: f64,
    /// The visit's filter.
    pub band: &'static str,
    /// The true flux on the difference image, nJy.
    pub difference_njy: f64,
    /// The true parameters, by name.
    pub parameters: Vec<(&'static str, f64)>,
}

impl Told {
    /// The truth of what was seen.
    #[must_use]
    pub fn of(telescope: Telescope, seen: &Seen) -> Self {
        Self {
            alert_id: records::alert_id(telescope, seen),
            object: records::object_name(telescope, seen),
            class: seen.class.name(),
            bogus: seen.class.is_bogus(),
            place_deg: [seen.truth.ra_deg, seen.truth.dec_deg],
            mjd_tai: seen.visit.mjd_tai,
            band: seen.visit.band.letter(),
            difference_njy: seen.truth.difference_njy,
            parameters: seen.truth.parameters.clone(),
        }
    }
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which sending of which alert.
    pub event: Event,
    /// What was done to its bytes.
    pub harm: Harm,
    /// Whether the record is of the schema's next edition.
    pub changed: bool,
    /// When it was given to Kafka's client, milliseconds since 1970 UTC.
    pub sent_ms: i64,
    /// Partition and offset, where Kafka confirmed it.
    pub place: Option<(i32, i64)>,
    /// The truth, where it is known.
    pub told: Option<Told>,
}

/// Why the truth can't be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TruthError {
    path: PathBuf,
    reason: String,
}

/// Writes the table.
pub struct TruthWriter {
    path: PathBuf,
    part: PathBuf,
    topic: String,
    first: u64,
    writer: ArrowWriter<File>,
    rows: Vec<Row>,
}

impl TruthWriter {
    /// Begins the table at `path` of what is sent to `topic`, from alert `first` of the stream on.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn create(path: &Path, topic: &str, first: u64) -> Result<Self, TruthError> {
        let failed = |reason: String| TruthError { path: path.to_owned(), reason };
        let part = PathBuf::from(format!("{}.part", path.display()));
        let file = File::create(&part).map_err(|error| failed(error.to_string()))?;
        let level = ZstdLevel::try_new(3).map_err(|error| failed(error.to_string()))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let schema = batch(&[], topic, first).map_err(|error| failed(error.to_string()))?.schema();
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|error| failed(error.to_string()))?;
        Ok(Self { path: path.to_owned(), part, topic: topic.to_owned(), first, writer, rows: Vec::new() })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), TruthError> {
        self.rows.extend(rows);
        if self.rows.len() >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TruthError> {
        let written = batch(&self.rows, &self.topic, self.first)
            .map_err(parquet::errors::ParquetError::from)
            .and_then(|batch| self.writer.write(&batch))
            .and_then(|()| self.writer.flush());
        self.rows.clear();
        written.map_err(|error| TruthError { path: self.path.clone(), reason: error.to_string() })
    }

    /// Ends the table, and gives it its name.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn close(mut self) -> Result<(), TruthError> {
        self.flush()?;
        let failed = |reason: String| TruthError { path: self.path.clone(), reason };
        self.writer.close().map_err(|error| failed(error.to_string()))?;
        std::fs::rename(&self.part, &self.path).map_err(|error| failed(error.to_string()))
    }
}

fn batch(rows: &[Row], topic: &str, first: u64) -> Result<RecordBatch, arrow::error::ArrowError> {
    fn longs(rows: &[Row], value: impl Fn(&Row) -> Option<i64>) -> ArrayRef {
        let mut column = Int64Builder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish())
    }
    fn ints(rows: &[Row], value: impl Fn(&Row) -> Option<i32>) -> ArrayRef {
        let mut column = Int32Builder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish())
    }
    fn doubles(rows: &[Row], value: impl Fn(&Row) -> Option<f64>) -> ArrayRef {
        let mut column = Float64Builder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish())
    }
    fn texts<'a>(rows: &'a [Row], value: impl Fn(&'a Row) -> Option<&'a str>) -> ArrayRef {
        let mut column = StringBuilder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish())
    }
    fn told(row: &Row) -> Option<&Told> {
        row.told.as_ref()
    }
    let mut bogus = BooleanBuilder::new();
    rows.iter().for_each(|row| bogus.append_option(told(row).map(|told| told.bogus)));
    let mut parameters = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for row in rows {
        for (name, value) in told(row).into_iter().flat_map(|told| &told.parameters) {
            parameters.keys().append_value(name);
            parameters.values().append_value(*value);
        }
        parameters.append(row.told.is_some())?;
    }
    RecordBatch::try_from_iter_with_nullable([
        ("number", longs(rows, |row| Some((first + row.event.index) as i64)), true),
        ("sending", texts(rows, |row| Some(row.event.sending.word())), true),
        ("harm", texts(rows, |row| Some(row.harm.word())), true),
        ("edition", ints(rows, |row| Some(1 + i32::from(row.changed))), true),
        ("late_s", doubles(rows, |row| Some(row.event.late.as_secs_f64())), true),
        ("topic", texts(rows, |_| Some(topic)), true),
        ("partition", ints(rows, |row| row.place.map(|(partition, _)| partition)), true),
        ("offset", longs(rows, |row| row.place.map(|(_, offset)| offset)), true),
        ("sent_ms", longs(rows, |row| Some(row.sent_ms)), true),
        ("alert_id", longs(rows, |row| told(row).map(|told| told.alert_id)), true),
        ("object", texts(rows, |row| told(row).map(|told| told.object.as_str())), true),
        ("class", texts(rows, |row| told(row).map(|told| told.class)), true),
        ("bogus", Arc::new(bogus.finish()) as ArrayRef, true),
        ("ra_deg", doubles(rows, |row| told(row).map(|told| told.place_deg[0])), true),
        ("dec_deg", doubles(rows, |row| told(row).map(|told| told.place_deg[1])), true),
        ("mjd_tai", doubles(rows, |row| told(row).map(|told| told.mjd_tai)), true),
        ("band", texts(rows, |row| told(row).map(|told| told.band)), true),
        ("difference_njy", doubles(rows, |row| told(row).map(|told| told.difference_njy)), true),
        ("parameters", Arc::new(parameters.finish()) as ArrayRef, true),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::simulator::example::example;
    use crate::simulator::trouble::Sending;

    #[test]
    fn what_was_sent_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.parquet");
        let mut writer = TruthWriter::create(&path, "t", 100).unwrap();
        let row = |index: u64| Row {
            event: Event { at: Duration::ZERO, index, sending: Sending::First, late: Duration::from_secs(index % 2) },
            harm: Harm::None,
            changed: index > 20_000,
            sent_ms: 5,
            place: (index % 10 > 0).then_some(((index % 4) as i32, index as i64)),
            told: (index % 7 > 0).then(|| Told::of(Telescope::Ztf, &example(Telescope::Ztf, index % 13))),
        };
        (0..30).for_each(|part| writer.add((part * 1000..(part + 1) * 1000).map(row)).unwrap());
        assert!(!path.exists());
        writer.close().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        assert_eq!(rows, 30_000);
        let numbers = batches.iter().flat_map(|batch| batch["number"].as_primitive::<Int64Type>().values().to_vec());
        assert!(numbers.eq(100..30_100));
        let nulls: usize = batches.iter().map(|batch| batch["offset"].null_count()).sum();
        assert_eq!(nulls, 3000);
        assert!(!folder.path().join("truth.parquet.part").exists());
    }
}
