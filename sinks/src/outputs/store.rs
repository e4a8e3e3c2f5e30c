//! Rows of an output to files, and back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use fink_dataflow::Moment;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::store::{Archive, wait};
use parquet::errors::ParquetError;

use super::pending::Changes;
use super::table::{OWN, published};
use crate::archive::encode::Encoder;
use crate::archive::files::ClosedFile;
use crate::archive::memory::{Charge, Memory};
use crate::archive::properties::{COARSE_ROWS, Grain, Layout};
use crate::archive::rewrite::{RewriteError, fit_batch, read};
use crate::archive::upload::{Stuck, persist};

/// Why rows could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// They are not the table's.
    #[error("rows do not fit the table: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet can't write them.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] RewriteError),
    /// A file lacks one of our columns.
    #[error("{0} does not say when its rows were published")]
    Foreign(String),
}

/// The files of an output's table.
pub struct Files {
    archive: Archive,
    table: Arc<str>,
    /// The files' columns: the output's and ours, and those that it had in an earlier release.
    columns: SchemaRef,
    layout: Layout,
    generation: u64,
    memory: Arc<Memory>,
    own: Arc<AtomicUsize>,
    stuck: Stuck,
}

/// Rows of a table.
pub struct Rows {
    /// The output's columns.
    pub rows: RecordBatch,
    /// When each was published.
    pub moments: Vec<Moment>,
    /// How often it came.
    pub diffs: Vec<i64>,
}

impl Files {
    /// Of `table`, whose files have these columns.
    ///
    /// # Errors
    /// When Parquet has no such columns.
    pub fn new(archive: Archive, table: Arc<str>, columns: SchemaRef, generation: u64, stuck: Stuck) -> Result<Self, StoreError> {
        let layout = Layout::new(&columns)?;
        let (memory, own) = (Memory::new(usize::MAX, 1), Arc::default());
        Ok(Self { archive, table, columns, layout, generation, memory, own, stuck })
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<str> {
        &self.table
    }

    /// The columns that make a row what it is.
    #[must_use]
    pub fn content(&self) -> SchemaRef {
        let fields = self.columns.fields().iter().filter(|field| !OWN.contains(&field.name().as_str()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    /// Rows of an output with all columns of the table.
    ///
    /// # Errors
    /// When a column has another type than the table's.
    pub fn fit(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        fit_batch(rows, &self.content())
    }

    /// Stores rows in one file, published at these Moments. Tries for as long as it takes.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn write(&self, rows: &[Rows], name: Moment) -> Result<DataFile, StoreError> {
        let count: usize = rows.iter().map(|rows| rows.diffs.len()).sum();
        let mut encoder = Encoder::new(&self.layout, if count < COARSE_ROWS { Grain::Fine } else { Grain::Coarse })?;
        for Rows { rows, moments, diffs } in rows {
            encoder.write(&fit_batch(&published(rows, moments, diffs)?, &self.columns)?)?;
        }
        let (pieces, metadata) = encoder.finish()?;
        let stats = self.layout.stats(&metadata);
        let payload: object_store::PutPayload = pieces.into_bytes().into_iter().collect();
        let size = payload.content_length() as u64;
        let file = DataFile { path: String::new(), size, modified_ms: 0, partition: Vec::new(), rows: count as u64, stats };
        let stem = format!("{}-{:010}-{:020}", self.generation, name.epoch, name.tick);
        let mut charge = Charge::new(&self.memory, &self.own);
        charge.set(payload.content_length());
        let mut closed = ClosedFile { table: Arc::clone(&self.table), file, stem, payload, charge };
        closed.rename();
        let (archive, stuck) = (self.archive.clone(), Arc::clone(&self.stuck));
        let (_, stored) = wait(async move { persist(&archive, &stuck, closed).await });
        Ok(stored)
    }

    /// Hands over all rows of a file.
    ///
    /// # Errors
    /// When it can't be read, or `take` fails.
    pub fn read(&self, file: &DataFile, take: &mut dyn FnMut(Rows) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut failed = None;
        let content = self.content();
        let outcome = read(&self.archive, &self.table, file, &self.columns, &mut |batch| {
            let taken = rows_of(&batch, &content, &file.path).and_then(&mut *take);
            taken.map_err(|error| {
                let told = RewriteError::Arrow { path: file.path.clone(), source: ArrowError::ComputeError(error.to_string()) };
                failed = Some(error);
                told
            })
        });
        match (outcome, failed) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(error.into()),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Rows on their way into files.
pub struct Batches {
    file_rows: usize,
    moment: Moment,
    rows: Vec<Rows>,
    count: usize,
    done: Vec<DataFile>,
}

impl Batches {
    /// Into files of so many rows, published at `moment`.
    #[must_use]
    pub fn new(file_rows: usize, moment: Moment) -> Self {
        Self { file_rows, moment, rows: Vec::new(), count: 0, done: Vec::new() }
    }

    /// Adds rows of now.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn add(&mut self, files: &Files, (rows, diffs): Changes) -> Result<(), StoreError> {
        let moments = vec![self.moment; diffs.len()];
        self.add_rows(files, Rows { rows, moments, diffs })
    }

    /// Adds rows that tell their own Moments.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn add_rows(&mut self, files: &Files, rows: Rows) -> Result<(), StoreError> {
        if rows.diffs.is_empty() {
            return Ok(());
        }
        self.count += rows.diffs.len();
        self.rows.push(rows);
        if self.count >= self.file_rows {
            self.flush(files)?;
        }
        Ok(())
    }

    fn flush(&mut self, files: &Files) -> Result<(), StoreError> {
        if self.count > 0 {
            self.done.push(files.write(&self.rows, self.moment)?);
            (self.rows, self.count) = (Vec::new(), 0);
        }
        Ok(())
    }

    /// The files.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn finish(mut self, files: &Files) -> Result<Vec<DataFile>, StoreError> {
        self.flush(files)?;
        Ok(self.done)
    }
}

fn rows_of(batch: &RecordBatch, content: &SchemaRef, path: &str) -> Result<Rows, StoreError> {
    let foreign = || StoreError::Foreign(path.to_owned());
    let column = |name: &str| batch.column_by_name(name).filter(|column| column.null_count() == 0).ok_or_else(foreign);
    let [epoch, tick, diff] = OWN.map(column);
    let (epoch, tick, diff) = (epoch?, tick?, diff?);
    let epochs = epoch.as_primitive_opt::<Int32Type>().ok_or_else(foreign)?.values();
    let ticks = tick.as_primitive_opt::<Int64Type>().ok_or_else(foreign)?.values();
    let moment = |(epoch, tick): (&i32, &i64)| Moment::new(epoch.cast_unsigned(), tick.cast_unsigned());
    let moments = epochs.iter().zip(ticks).map(moment).collect();
    let diffs = diff.as_primitive_opt::<Int64Type>().ok_or_else(foreign)?.values().to_vec();
    Ok(Rows { rows: fit_batch(batch, content)?, moments, diffs })
}
