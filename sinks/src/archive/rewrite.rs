//! Several Parquet files into one, row for row, a row group at a time.
//!
//! What an input lacks of the table's columns, at any depth, becomes null. In memory are a row group of an input, the open
//! row group of the output, and the parts that are on their way to the store.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::store::{Archive, wait};
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use uuid::Uuid;

use super::columns::partition_folder;
use super::committer::Rewrite;
use super::encode::Encoder;
use super::properties::{Grain, Layout};
use super::routes::Routes;
use super::types::{self, TypesError};

/// Files up to this size are fetched whole.
const WHOLE: u64 = 8 << 20;
/// Of larger ones the end first, which holds the footer.
const TAIL: u64 = 1 << 20;
/// Rows decoded at once.
const BATCH_ROWS: usize = 256;
/// The parts in which the output is stored.
const PART: usize = 8 << 20;
/// How many parts may be on their way.
const PARTS_MAX: usize = 2;

/// Why files could not be rewritten. Nothing has changed then; what was stored of the output is an orphan.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] object_store::Error),
    /// A file is not the Parquet that it should be.
    #[error("{path}: {source}")]
    Parquet {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: ParquetError,
    },
    /// A file's columns can't be the table's.
    #[error("{path}: {source}")]
    Arrow {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: ArrowError,
    },
    /// The table's schema is none.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The output does not have the inputs' rows.
    #[error("{made} rows were written of {said}")]
    Rows {
        /// Rows written.
        made: u64,
        /// Rows that the inputs should have.
        said: u64,
    },
}

/// What merges the files of an archive.
pub struct Rewriter {
    archive: Archive,
    routes: Arc<Routes>,
    generation: u64,
}

impl Rewriter {
    /// For the tables that `routes` knows; `generation` is the writing one, and begins the files' names.
    #[must_use]
    pub fn new(archive: Archive, routes: Arc<Routes>, generation: u64) -> Self {
        Self { archive, routes, generation }
    }
}

impl Rewrite for Rewriter {
    fn rewrite(&self, table: &Arc<str>, files: &[DataFile]) -> Result<DataFile, String> {
        let schema = self.routes.schema(table).ok_or("nothing is known of this table's schema")?;
        rewrite(&self.archive, table, &schema, self.generation, files).map_err(|error| error.to_string())
    }
}

/// Writes one file with the rows of `files`, which are of one partition, in their order. `schema` is the table's, as
/// Delta's JSON. Blocks; not for asynchronous code.
///
/// # Errors
/// When the store fails, or a file is not what its table says; nothing has changed then.
pub fn rewrite(archive: &Archive, table: &str, schema: &str, generation: u64, files: &[DataFile]) -> Result<DataFile, RewriteError> {
    let partition = files.first().map(|file| file.partition.clone()).unwrap_or_default();
    let partition_columns: Vec<String> = partition.iter().map(|(name, _)| name.clone()).collect();
    let columns = Arc::new(types::file_schema(&types::from_json(schema)?, &partition_columns)?);
    let name = name(generation, &partition_folder(&partition), files);
    let broken = |source| RewriteError::Parquet { path: name.clone(), source };
    let layout = Layout::new(&columns).map_err(broken)?;
    let mut encoder = Encoder::new(&layout, Grain::Coarse).map_err(broken)?;
    let mut output = Output::new(archive.clone(), archive.path(&format!("{table}/{name}")));
    for input in files {
        read(archive, table, input, &columns, &mut |batch| {
            encoder.write(&batch).map_err(broken)?;
            output.write(encoder.take_written())
        })?;
    }
    let (pieces, metadata) = encoder.finish().map_err(broken)?;
    let stats = layout.stats(&metadata);
    let (said, rows) = (files.iter().map(|file| file.rows).sum(), metadata.file_metadata().num_rows().unsigned_abs());
    if said != rows {
        return Err(RewriteError::Rows { made: rows, said });
    }
    let size = output.finish(pieces.into_bytes())?;
    Ok(DataFile { path: name, size, modified_ms: chrono::Utc::now().timestamp_millis(), partition, rows, stats })
}

/// A fresh name that says where the first row comes from, as the first file's does, under the writing generation.
fn name(generation: u64, folder: &str, files: &[DataFile]) -> String {
    let first = files.first().and_then(|file| file.path.rsplit('/').next()).unwrap_or_default();
    // `<generation>-<topic>-<partition>-<offset>-<uuid>.parquet`
    let place = first.split_once('-').and_then(|(_, rest)| rest.rsplit_once('-')).map_or("merged", |(place, _)| place);
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{generation}-{place}-{}.parquet", Uuid::new_v4().simple())
}

/// Gives all rows of a file, with the table's columns.
///
/// # Errors
/// When the store fails, the file is not what its table says, or `give` fails.
pub(crate) fn read(
    archive: &Archive,
    table: &str,
    file: &DataFile,
    columns: &SchemaRef,
    give: &mut dyn FnMut(RecordBatch) -> Result<(), RewriteError>,
) -> Result<(), RewriteError> {
    let path = archive.path(&format!("{table}/{}", file.path));
    let broken = |source| RewriteError::Parquet { path: file.path.clone(), source };
    let misfit = |source| RewriteError::Arrow { path: file.path.clone(), source };
    let first = if file.size <= WHOLE { 0..file.size } else { file.size - TAIL..file.size };
    let mut end = Window::fetch(archive, &path, first, file.size)?;
    let mut reader = ParquetMetaDataReader::new();
    if let Err(ParquetError::NeedMoreData(needed)) = reader.try_parse_sized(&end.bytes, file.size) {
        end = Window::fetch(archive, &path, file.size.saturating_sub(needed as u64)..file.size, file.size)?;
        reader.try_parse_sized(&end.bytes, file.size).map_err(broken)?;
    }
    let metadata = Arc::new(reader.finish().map_err(broken)?);
    let known = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).map_err(broken)?;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let range = extent(group);
        let window = if end.covers(&range) { end.clone() } else { Window::fetch(archive, &path, range, file.size)? };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, known.clone());
        for batch in builder.with_row_groups(vec![index]).with_batch_size(BATCH_ROWS).build().map_err(broken)? {
            give(fit_batch(&batch.map_err(misfit)?, columns).map_err(misfit)?)?;
        }
    }
    Ok(())
}

/// The bytes of a row group, which stand in one run.
fn extent(group: &RowGroupMetaData) -> Range<u64> {
    let chunks = || group.columns().iter().map(|column| column.byte_range());
    let end = chunks().map(|(start, length)| start + length).max().unwrap_or(0);
    chunks().map(|(start, _)| start).min().unwrap_or(end)..end
}

/// A part of a file, in memory.
#[derive(Clone)]
struct Window {
    start: u64,
    bytes: Bytes,
    file_size: u64,
}

impl Window {
    fn fetch(archive: &Archive, path: &Path, range: Range<u64>, file_size: u64) -> Result<Self, object_store::Error> {
        if range.is_empty() {
            return Ok(Self { start: 0, bytes: Bytes::new(), file_size });
        }
        let (store, path, start) = (Arc::clone(archive.store()), path.clone(), range.start);
        let bytes = wait(async move { store.get_range(&path, range).await })?;
        Ok(Self { start, bytes, file_size })
    }

    fn covers(&self, range: &Range<u64>) -> bool {
        self.start <= range.start && range.end <= self.start + self.bytes.len() as u64
    }

    fn at(&self, start: u64) -> Result<usize, ParquetError> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.filter(|at| *at <= self.bytes.len()).ok_or_else(|| ParquetError::EOF("a page outside of its row group".into()))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.file_size
    }
}

impl ChunkReader for Window {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Cursor::new(self.bytes.slice(self.at(start)?..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let at = self.at(start)?;
        let end = at.checked_add(length).filter(|end| *end <= self.bytes.len());
        Ok(self.bytes.slice(at..end.ok_or_else(|| ParquetError::EOF("a page outside of its row group".into()))?))
    }
}

/// A file being stored: by one put where it is small, else in parts.
struct Output {
    archive: Archive,
    path: Path,
    early: Vec<Bytes>,
    early_bytes: usize,
    parts: Option<WriteMultipart>,
    size: u64,
}

impl Output {
    fn new(archive: Archive, path: Path) -> Self {
        Self { archive, path, early: Vec::new(), early_bytes: 0, parts: None, size: 0 }
    }

    fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), RewriteError> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        self.size += bytes as u64;
        self.early_bytes += bytes;
        self.early.extend(pieces);
        if self.early_bytes < PART {
            return Ok(());
        }
        let (pieces, parts) = (std::mem::take(&mut self.early), self.parts.take());
        self.early_bytes = 0;
        let (store, path) = (Arc::clone(self.archive.store()), self.path.clone());
        let parts = wait(async move {
            let mut parts = match parts {
                Some(parts) => parts,
                None => WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, PART),
            };
            for piece in pieces {
                parts.put(piece);
                if let Err(error) = parts.wait_for_capacity(PARTS_MAX).await {
                    abort(parts).await;
                    return Err(error);
                }
            }
            Ok::<_, object_store::Error>(parts)
        })?;
        self.parts = Some(parts);
        Ok(())
    }

    /// Stores what is left, and returns the file's size.
    fn finish(mut self, pieces: Vec<Bytes>) -> Result<u64, RewriteError> {
        self.write(pieces)?;
        let (rest, parts) = (std::mem::take(&mut self.early), self.parts.take());
        let (store, path) = (Arc::clone(self.archive.store()), self.path.clone());
        wait(async move {
            match parts {
                None => store.put(&path, rest.into_iter().collect()).await.map(|_| ()),
                Some(mut parts) => {
                    rest.into_iter().for_each(|piece| parts.put(piece));
                    parts.finish().await.map(|_| ())
                }
            }
        })?;
        Ok(self.size)
    }
}

/// A file that was not finished leaves nothing in the store.
impl Drop for Output {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            wait(abort(parts));
        }
    }
}

async fn abort(parts: WriteMultipart) {
    if let Err(error) = parts.abort().await {
        tracing::debug!(%error, "parts of an unfinished file stay in the store");
    }
}

/// The rows with these columns: by name, missing ones null.
///
/// # Errors
/// When a column is of a type that can't become the one wanted.
pub(crate) fn fit_batch(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let all = StructArray::from(batch.clone());
    let arrays = columns.fields().iter().map(|field| fit_field(&all, field));
    RecordBatch::try_new(Arc::clone(columns), arrays.collect::<Result<_, _>>()?)
}

fn fit_field(from: &StructArray, field: &Field) -> Result<ArrayRef, ArrowError> {
    match from.column_by_name(field.name()) {
        Some(column) => fit(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), from.len())),
    }
}

fn fit(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let from = array.as_struct();
            let arrays = fields.iter().map(|field| fit_field(from, field)).collect::<Result<_, _>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, from.nulls().cloned(), from.len())?))
        }
        (DataType::List(_), DataType::List(element)) => {
            let from = array.as_list::<i32>();
            let values = fit(from.values(), element.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), from.offsets().clone(), values, from.nulls().cloned())?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let (from, DataType::Struct(fields)) = (array.as_map(), entries.data_type()) else { return cast(array, to) };
            let values = fit(from.values(), fields[1].data_type())?;
            let keys = fit(from.keys(), fields[0].data_type())?;
            let inner = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), from.offsets().clone(), inner, from.nulls().cloned(), *sorted)?))
        }
        _ => cast(array, to),
    }
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
