//! Tables in Parquet.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{CatalogueError, missing};

/// The columns of these names, batch by batch.
///
/// # Errors
/// When the file is no Parquet, or lacks a column.
pub fn tables(file: Bytes, wanted: &[&str]) -> Result<Vec<RecordBatch>, CatalogueError> {
    let wrong = |e: &dyn std::error::Error| CatalogueError::format("Parquet file", e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| wrong(&e))?;
    let schema = builder.schema().clone();
    if let Some(name) = wanted.iter().find(|name| schema.field_with_name(name).is_err()) {
        return Err(missing(name, schema.fields().iter().map(|f| f.name().as_str())));
    }
    let roots = wanted.iter().filter_map(|name| schema.index_of(name).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(65_536).build().map_err(|e| wrong(&e))?;
    reader.collect::<Result<_, _>>().map_err(|e| wrong(&e))
}
