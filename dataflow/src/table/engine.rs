//! What delta_kernel asks of its surroundings: listing, reading and writing through an archive's store.
//!
//! Ours rather than the crate `delta_kernel_default_engine`: it brings a second HTTP stack of features and a thread for each
//! engine, and of what it does only this much is needed. All handlers read whole files (commits, checkpoints), in order.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use delta_kernel::arrow::array::RecordBatch;
use delta_kernel::arrow::json::ReaderBuilder;
use delta_kernel::engine::arrow_conversion::TryFromArrow as _;
use delta_kernel::engine::arrow_data::{ArrowEngineData, EngineDataArrowExt as _};
use delta_kernel::engine::arrow_expression::ArrowEvaluationHandler;
use delta_kernel::engine::arrow_utils::{
    RowIndexBuilder, build_json_reorder_indices, fixup_json_read, fixup_parquet_read, json_arrow_schema, ordering_needs_row_indexes,
    parquet_read_plan, parse_json, to_json_bytes,
};
use delta_kernel::engine::{reader_options, writer_options};
use delta_kernel::engine_data::FilteredEngineData;
use delta_kernel::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use delta_kernel::parquet::arrow::arrow_writer::ArrowWriter;
use delta_kernel::schema::{SchemaRef, StructType};
use delta_kernel::{
    Engine, EngineData, EvaluationHandler, FileDataReadResultIterator, FileMeta, FileSize, FileSlice, JsonHandler, KernelError,
    KernelResult, KernelResultIterator, KernelResultIteratorStatic, ParquetFooter, ParquetHandler, PredicateRef, StorageHandler,
};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;

use super::fault::failpoint;
use super::store::{Archive, wait};

/// How many files are read ahead.
const AHEAD: usize = 16;

/// The engine of one archive's tables.
pub(super) struct StoreEngine {
    files: Arc<Files>,
    evaluation: Arc<ArrowEvaluationHandler>,
}

impl StoreEngine {
    pub(super) fn new(archive: &Archive) -> Self {
        Self { files: Arc::new(Files(archive.clone())), evaluation: Arc::new(ArrowEvaluationHandler {}) }
    }
}

impl Engine for StoreEngine {
    fn evaluation_handler(&self) -> Arc<dyn EvaluationHandler> {
        self.evaluation.clone()
    }
    fn storage_handler(&self) -> Arc<dyn StorageHandler> {
        self.files.clone()
    }
    fn json_handler(&self) -> Arc<dyn JsonHandler> {
        self.files.clone()
    }
    fn parquet_handler(&self) -> Arc<dyn ParquetHandler> {
        self.files.clone()
    }
}

/// All three handlers of files.
struct Files(Archive);

impl Files {
    /// The file's bytes, one after the other, some read ahead.
    fn bytes(&self, paths: Vec<Path>) -> impl Iterator<Item = KernelResult<Bytes>> + Send + 'static {
        let archive = self.0.clone();
        let mut paths = paths.into_iter();
        // A window at a time: the iterator is synchronous, and most logs have less than one window to read.
        std::iter::from_fn(move || {
            let window: Vec<Path> = paths.by_ref().take(AHEAD).collect();
            if window.is_empty() {
                return None;
            }
            let archive = archive.clone();
            Some(wait(async move {
                let read = |path: Path| {
                    let archive = archive.clone();
                    async move { archive.within(async { archive.store().get(&path).await?.bytes().await }).await }
                };
                futures::stream::iter(window).map(read).buffered(AHEAD).collect::<Vec<_>>().await
            }))
        })
        .flatten()
        .map(|read| read.map_err(KernelError::from))
    }

    fn write(&self, url: &Url, data: Bytes, overwrite: bool) -> KernelResult<()> {
        let (archive, path) = (self.0.clone(), path(url)?);
        let mode = if overwrite { PutMode::Overwrite } else { PutMode::Create };
        let put = async move { archive.within(archive.store().put_opts(&path, PutPayload::from_bytes(data), mode.into())).await };
        match wait(put) {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { path, .. }) => Err(KernelError::FileAlreadyExists(path)),
            Err(error) => Err(error.into()),
        }
    }
}

fn path(url: &Url) -> KernelResult<Path> {
    Path::from_url_path(url.path()).map_err(|e| KernelError::generic(e.to_string()))
}

fn meta(url: &Url, meta: &object_store::ObjectMeta) -> KernelResult<FileMeta> {
    let location = url.join(&format!("/{}", meta.location)).map_err(|e| KernelError::generic(e.to_string()))?;
    Ok(FileMeta { location, last_modified: meta.last_modified.timestamp_millis(), size: meta.size })
}

impl StorageHandler for Files {
    fn list_from(&self, url: &Url) -> KernelResult<KernelResultIteratorStatic<FileMeta>> {
        let (archive, after) = (self.0.clone(), path(url)?);
        let folder = if url.path().ends_with('/') {
            after.clone()
        } else {
            let mut parts: Vec<_> = after.parts().collect();
            parts.pop();
            Path::from_iter(parts)
        };
        let mut found =
            wait(async move { archive.within(archive.store().list_with_offset(Some(&folder), &after).try_collect::<Vec<_>>()).await })?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        let url = url.clone();
        Ok(Box::new(found.into_iter().map(move |one| meta(&url, &one))))
    }

    fn read_files(&self, files: Vec<FileSlice>) -> KernelResult<KernelResultIteratorStatic<Bytes>> {
        let mut ranges = Vec::with_capacity(files.len());
        let paths = files.into_iter().map(|(url, range)| {
            ranges.push(range);
            path(&url)
        });
        let paths = paths.collect::<KernelResult<Vec<_>>>()?;
        let cut = |(bytes, range): (KernelResult<Bytes>, Option<std::ops::Range<FileSize>>)| {
            let bytes = bytes?;
            let Some(range) = range else { return Ok(bytes) };
            Ok(bytes.slice(to_usize(range.start)?..to_usize(range.end)?))
        };
        Ok(Box::new(self.bytes(paths).zip(ranges).map(cut)))
    }

    fn copy_atomic(&self, from: &Url, to: &Url) -> KernelResult<()> {
        let (archive, source, target) = (self.0.clone(), path(from)?, path(to)?);
        match wait(async move { archive.within(archive.store().copy_if_not_exists(&source, &target)).await }) {
            Err(object_store::Error::AlreadyExists { path, .. }) => Err(KernelError::FileAlreadyExists(path)),
            other => other.map_err(KernelError::from),
        }
    }

    fn put(&self, url: &Url, data: Bytes, overwrite: bool) -> KernelResult<()> {
        self.write(url, data, overwrite)
    }

    fn head(&self, url: &Url) -> KernelResult<FileMeta> {
        let (archive, file) = (self.0.clone(), path(url)?);
        meta(url, &wait(async move { archive.within(archive.store().head(&file)).await })?)
    }

    fn delete(&self, url: &Url) -> KernelResult<()> {
        let (archive, file) = (self.0.clone(), path(url)?);
        match wait(async move { archive.within(archive.store().delete(&file)).await }) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other.map_err(KernelError::from),
        }
    }
}

fn to_usize(n: FileSize) -> KernelResult<usize> {
    usize::try_from(n).map_err(|e| KernelError::generic(e.to_string()))
}

impl JsonHandler for Files {
    fn parse_json(&self, json: Box<dyn EngineData>, schema: SchemaRef) -> KernelResult<Box<dyn EngineData>> {
        parse_json(json, schema)
    }

    fn read_json_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let paths = files.iter().map(|file| path(&file.location)).collect::<KernelResult<Vec<_>>>()?;
        let locations: Vec<String> = files.iter().map(|file| file.location.to_string()).collect();
        let arrow = Arc::new(json_arrow_schema(&schema)?);
        let order = Arc::new(build_json_reorder_indices(&schema)?);
        let rows = self.bytes(paths).zip(locations).flat_map(move |(bytes, location)| {
            let parsed = bytes.and_then(|bytes| {
                let reader = ReaderBuilder::new(arrow.clone()).with_coerce_primitive(true).build(Cursor::new(bytes))?;
                let batches = reader.map(|batch| Ok(Box::new(fixup_json_read(batch?, &order, &location)?) as Box<dyn EngineData>));
                Ok(batches.collect::<Vec<KernelResult<_>>>())
            });
            parsed.unwrap_or_else(|error| vec![Err(error)])
        });
        Ok(Box::new(rows))
    }

    fn write_json_file(&self, url: &Url, data: KernelResultIterator<'_, FilteredEngineData>, overwrite: bool) -> KernelResult<FileSize> {
        let bytes = to_json_bytes(data)?;
        let size = bytes.len() as FileSize;
        self.write(url, bytes.into(), overwrite)?;
        Ok(size)
    }
}

impl ParquetHandler for Files {
    fn read_parquet_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let paths = files.iter().map(|file| path(&file.location)).collect::<KernelResult<Vec<_>>>()?;
        let locations: Vec<String> = files.iter().map(|file| file.location.to_string()).collect();
        let rows = self.bytes(paths).zip(locations).flat_map(move |(bytes, location)| {
            let read: KernelResult<FileDataReadResultIterator> = bytes.and_then(|bytes| read_parquet(bytes, &schema, location));
            read.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
        });
        Ok(Box::new(rows))
    }

    /// Written whole in memory first: a checkpoint of 15,000 files takes a few megabytes.
    fn write_parquet_file(&self, url: Url, mut data: KernelResultIteratorStatic<Box<dyn EngineData>>) -> KernelResult<FileSize> {
        let first = data.next().ok_or_else(|| KernelError::generic("nothing to write to a Parquet file"))??.try_into_record_batch()?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, first.schema(), writer_options())?;
        writer.write(&first)?;
        for batch in data {
            let batch: RecordBatch = batch?.try_into_record_batch()?;
            writer.write(&batch)?;
        }
        writer.close()?;
        let size = bytes.len() as FileSize;
        self.write(&url, bytes.into(), true)?;
        failpoint("checkpoint");
        Ok(size)
    }

    fn read_parquet_footer(&self, file: &FileMeta) -> KernelResult<ParquetFooter> {
        let bytes = self.bytes(vec![path(&file.location)?]).next().ok_or_else(|| KernelError::generic("one path, one file"))??;
        let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
        Ok(ParquetFooter { schema: Arc::new(StructType::try_from_arrow(metadata.schema().as_ref())?) })
    }
}

fn read_parquet(bytes: Bytes, schema: &SchemaRef, location: String) -> KernelResult<FileDataReadResultIterator> {
    let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
    let (order, mask) = parquet_read_plan(schema, &metadata)?;
    let indexes = ordering_needs_row_indexes(&order).then(|| RowIndexBuilder::new(metadata.metadata().row_groups()));
    let mut indexes = indexes.map(RowIndexBuilder::build).transpose()?;
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
    if let Some(mask) = mask {
        builder = builder.with_projection(mask);
    }
    let schema = schema.clone();
    let batches = builder.build()?.map(move |batch| {
        let batch: ArrowEngineData = fixup_parquet_read(batch?, &order, indexes.as_mut(), Some(&location), Some(&schema))?;
        Ok(Box::new(batch) as Box<dyn EngineData>)
    });
    Ok(Box::new(batches))
}
