//! The table of what could not be decoded: each message whole, with its place and the reason.
//!
//! Partitioned by the UTC date of the message's own timestamp.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use fink_dataflow::alerts::Reject;
use fink_dataflow::table::marks;

use crate::archive::columns::timestamp;
use crate::archive::properties::Layout;
use crate::archive::types;

/// The table's folder in the archive.
pub const TABLE: &str = marks::REJECTS;

/// The columns of its files.
static COLUMNS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let columns = [
        ("source", DataType::Utf8),
        ("topic", DataType::Utf8),
        ("incarnation", DataType::Int32),
        ("partition", DataType::Int32),
        ("offset", DataType::Int64),
        ("kafka_timestamp", timestamp()),
        ("key", DataType::Binary),
        ("payload", DataType::Binary),
        ("fault", DataType::Utf8),
        ("reason", DataType::Utf8),
        ("ingest_time", timestamp()),
    ];
    Arc::new(Schema::new(columns.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
});

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(|| Arc::new(Layout::new(&COLUMNS).expect("Parquet has these types")));

/// The columns of its files.
#[must_use]
pub fn columns() -> SchemaRef {
    Arc::clone(&COLUMNS)
}

/// How its files are written.
#[must_use]
pub fn layout() -> Arc<Layout> {
    Arc::clone(&LAYOUT)
}

/// Its partition columns.
#[must_use]
pub fn partition_columns() -> Vec<String> {
    ["year", "month", "day"].map(String::from).to_vec()
}

/// Its schema, as Delta's JSON.
#[must_use]
pub fn schema_json() -> String {
    let partitions = partition_columns().into_iter().map(|name| Arc::new(Field::new(name, DataType::Int32, true)));
    let fields = COLUMNS.fields().iter().cloned().chain(partitions).collect();
    types::of_columns(&fields).and_then(|schema| types::to_json(&schema)).expect("Delta has these types")
}

/// The UTC date of a message, in days since 1970.
#[must_use]
pub fn date(reject: &Reject) -> Option<i32> {
    i32::try_from(reject.message.timestamp_ms?.div_euclid(86_400_000)).ok()
}

/// Rejects as rows.
///
/// # Errors
/// When they hold more bytes than a batch can (2 GiB).
pub fn rows(rejects: &[&Reject]) -> Result<RecordBatch, ArrowError> {
    let all = || rejects.iter();
    let texts = |of: fn(&Reject) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(all().map(|r| of(r)))) };
    let ints = |of: fn(&Reject) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(all().map(|r| of(r)))) };
    let bytes = |of: fn(&Reject) -> Option<&Bytes>| -> ArrayRef { Arc::new(BinaryArray::from_iter(all().map(|r| of(r)))) };
    let sent = TimestampMicrosecondArray::from_iter(all().map(|r| r.message.timestamp_ms.and_then(|ms| ms.checked_mul(1000))));
    let received = TimestampMicrosecondArray::from_iter_values(all().map(|r| r.received_us));
    let columns: Vec<ArrayRef> = vec![
        texts(|r| &r.log.source),
        texts(|r| &r.log.topic),
        ints(|r| r.log.incarnation.cast_signed()),
        ints(|r| r.log.partition),
        Arc::new(Int64Array::from_iter_values(all().map(|r| r.message.offset))),
        Arc::new(sent.with_timezone("UTC")),
        bytes(|r| r.message.key.as_ref()),
        bytes(|r| r.message.payload.as_ref()),
        texts(|r| r.fault),
        texts(|r| &r.reason),
        Arc::new(received.with_timezone("UTC")),
    ];
    RecordBatch::try_new(self::columns(), columns)
}
