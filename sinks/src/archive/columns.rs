//! Our own columns beside the survey's: where each row comes from, and the night that its table is partitioned by.
//!
//! Where a survey's column has a name of ours in any case, ours gives way and takes the suffix `_fink`. A table's names
//! are chosen when it is created; each of our columns is marked in the table's schema ([`MARK`]), so that a table of a
//! survey that once had a `topic` of its own still tells ours from theirs.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chrono::{Datelike, NaiveDate};
use delta_kernel::schema::{MetadataValue, StructType};
use fink_dataflow::alerts::Place;

pub use fink_dataflow::table::marks::MARK;

/// Our columns in alert tables, in the order in which they follow the survey's.
const OWN: [&str; 9] = ["topic", "partition", "offset", "record", "kafka_timestamp", "schema_id", "ingest_time", "source", "incarnation"];

/// What tables are partitioned by; the files do not hold these.
const PARTITIONS: [&str; 3] = ["year", "month", "day"];

/// Our columns' names in one table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    own: [String; 9],
    partitions: [String; 3],
}

impl Default for Names {
    fn default() -> Self {
        Self { own: OWN.map(String::from), partitions: PARTITIONS.map(String::from) }
    }
}

impl Names {
    /// Names that none of the survey's columns has.
    #[must_use]
    pub fn beside(survey: &Fields) -> Self {
        let taken: BTreeSet<String> = survey.iter().map(|field| field.name().to_lowercase()).collect();
        let free = |name: &str| {
            let mut name = name.to_owned();
            while taken.contains(&name) {
                name.push_str("_fink");
            }
            name
        };
        Self { own: OWN.map(free), partitions: PARTITIONS.map(free) }
    }

    /// The names that a table's schema marks as ours; `None` where one is missing.
    #[must_use]
    pub fn of_table(schema: &StructType) -> Option<Self> {
        let mut names = Self::default();
        for (ours, name) in OWN.iter().chain(&PARTITIONS).zip(names.own.iter_mut().chain(&mut names.partitions)) {
            let marked =
                schema.fields().find(|field| matches!(field.metadata().get(MARK), Some(MetadataValue::String(mark)) if mark == ours));
            name.clone_from(marked?.name());
        }
        Some(names)
    }

    /// The partition columns, in order.
    #[must_use]
    pub fn partition_columns(&self) -> Vec<String> {
        self.partitions.to_vec()
    }

    /// Whether a column of this name, in any case, is one of ours.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.own.iter().chain(&self.partitions).any(|ours| ours.eq_ignore_ascii_case(name))
    }

    /// Our columns that files hold, with what marks them.
    pub(crate) fn fields(&self) -> Vec<(Field, &'static str)> {
        let types = [
            DataType::Utf8,
            DataType::Int32,
            DataType::Int64,
            DataType::Int32,
            timestamp(),
            DataType::Utf8,
            timestamp(),
            DataType::Utf8,
            DataType::Int32,
        ];
        self.own.iter().zip(types).zip(OWN).map(|((name, kind), mark)| (Field::new(name, kind, true), mark)).collect()
    }

    /// Our columns that only paths hold, with what marks them.
    pub(crate) fn partition_fields(&self) -> Vec<(Field, &'static str)> {
        self.partitions.iter().zip(PARTITIONS).map(|(name, mark)| (Field::new(name, DataType::Int32, true), mark)).collect()
    }

    /// The columns of a file: the survey's, then ours.
    #[must_use]
    pub fn file_schema(&self, survey: &Fields) -> SchemaRef {
        let own = self.fields().into_iter().map(|(field, _)| Arc::new(field));
        Arc::new(Schema::new(survey.iter().cloned().chain(own).collect::<Fields>()))
    }
}

/// Microseconds since 1970 UTC, which is what Delta's `timestamp` is.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Rows as they are written: the survey's columns and ours. `schema` comes from [`Names::file_schema`].
///
/// # Errors
/// When the rows do not have the survey's columns of `schema`, or there is not a place for each.
pub fn with_own(schema: &SchemaRef, rows: &RecordBatch, places: &[Place], schema_id: &str) -> Result<RecordBatch, ArrowError> {
    let texts = |of: fn(&Place) -> &Arc<str>| -> ArrayRef { Arc::new(StringArray::from_iter_values(places.iter().map(of))) };
    let ints = |of: fn(&Place) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(places.iter().map(of))) };
    let kafka = TimestampMicrosecondArray::from_iter(places.iter().map(|place| place.timestamp_ms.and_then(|ms| ms.checked_mul(1000))));
    let ingest = TimestampMicrosecondArray::from_iter_values(places.iter().map(|place| place.received_us));
    let own: [ArrayRef; 9] = [
        texts(|place| &place.log.topic),
        ints(|place| place.log.partition),
        Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.offset))),
        ints(|place| place.record),
        Arc::new(kafka.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(places.iter().map(|_| schema_id))),
        Arc::new(ingest.with_timezone("UTC")),
        texts(|place| &place.log.source),
        ints(|place| place.log.incarnation.cast_signed()),
    ];
    RecordBatch::try_new(Arc::clone(schema), rows.columns().iter().cloned().chain(own).collect())
}

/// The value of each partition column for a date in days since 1970; nulls where there is none.
#[must_use]
pub fn partition_values(columns: &[String], date: Option<i32>) -> Vec<(String, Option<String>)> {
    let date = date.and_then(calendar);
    let values = [date.map(|d| d.year().to_string()), date.map(|d| d.month().to_string()), date.map(|d| d.day().to_string())];
    columns.iter().cloned().zip(values).collect()
}

/// The folder of a partition below its table, such as `year=2026/month=11/day=2`.
#[must_use]
pub fn partition_folder(values: &[(String, Option<String>)]) -> String {
    let parts = values.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__")));
    parts.collect::<Vec<_>>().join("/")
}

/// The days that a date may have: years 1 to 9999, which is what readers of timestamps and dates can hold.
fn calendar(days: i32) -> Option<NaiveDate> {
    let date = NaiveDate::from_epoch_days(days)?;
    (1..=9999).contains(&date.year()).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&str]) -> Fields {
        names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect()
    }

    #[test]
    fn ours_give_way_in_any_case() {
        let names = Names::beside(&fields(&["objectId", "Topic", "YEAR", "year_fink"]));
        assert_eq!(names.own[0], "topic_fink");
        assert_eq!(names.partitions, ["year_fink_fink", "month", "day"].map(String::from));
        assert!(names.has("Offset") && !names.has("topic"));
    }

    #[test]
    fn partitions_are_dates_or_null() {
        let columns = Names::default().partition_columns();
        let some = partition_values(&columns, Some(20_780));
        assert_eq!(partition_folder(&some), "year=2026/month=11/day=23");
        let none = partition_values(&columns, None);
        assert_eq!(none, partition_values(&columns, Some(i32::MAX)));
        assert!(partition_folder(&none).starts_with("year=__HIVE_DEFAULT_PARTITION__/month="));
    }
}
