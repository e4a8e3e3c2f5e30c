//! Which messages are rejects now: they are dealt with, and have no row among the alerts.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use fink_dataflow::table::marks::REJECTS;
use fink_dataflow::table::object::Object;
use fink_dataflow::table::store::runtime;
use fink_dataflow::table::{Archive, Table};
use fink_dataflow::{Coverage, Log};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use super::ReplayError;

/// The columns that say where a reject comes from.
const COLUMNS: [&str; 5] = ["source", "topic", "incarnation", "partition", "offset"];

/// The messages that are rejects, by the table's newest version. Blocks; not for asynchronous code.
///
/// # Errors
/// When the table can't be read.
pub fn rejected(archive: &Archive) -> Result<Coverage, ReplayError> {
    let mut rejected = Coverage::default();
    for file in Table::open(archive, REJECTS)?.files()? {
        let path = format!("{REJECTS}/{}", file.path);
        let failed = |source: ParquetError| ReplayError::File { path: path.clone(), source };
        let object = Object::new(archive, REJECTS, &file);
        let builder = runtime().block_on(ParquetRecordBatchStreamBuilder::new(object)).map_err(failed)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let mut batches = builder.with_projection(mask).build().map_err(failed)?;
        while let Some(batch) = runtime().block_on(batches.try_next()).map_err(failed)? {
            let column = |name: &str, kind| {
                let found = batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")));
                found.and_then(|column| cast(column, &kind)).map_err(|source| ReplayError::Rows { path: path.clone(), source })
            };
            let (source, topic) = (column("source", DataType::Utf8)?, column("topic", DataType::Utf8)?);
            let (incarnation, partition) = (column("incarnation", DataType::Int32)?, column("partition", DataType::Int32)?);
            let offset = column("offset", DataType::Int64)?;
            let (source, topic) = (source.as_string::<i32>(), topic.as_string::<i32>());
            let (incarnation, partition) = (incarnation.as_primitive::<Int32Type>(), partition.as_primitive::<Int32Type>());
            for (row, offset) in offset.as_primitive::<Int64Type>().iter().enumerate() {
                let Some(offset) = offset else { continue };
                let log = Log::new(source.value(row), topic.value(row), incarnation.value(row).cast_unsigned(), partition.value(row));
                rejected.insert(&log, offset..offset + 1);
            }
        }
    }
    Ok(rejected)
}
