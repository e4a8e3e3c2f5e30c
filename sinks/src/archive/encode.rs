//! One Parquet file in the making, in memory.
//!
//! A file is kept whole until it is stored: its size is bounded by that of a group, and a put that failed can then be
//! tried again, for as long as it takes, without asking anybody for the rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use fink_dataflow::table::pieces::Pieces;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;

use super::properties::{GROUP_BYTES_MAX, GROUP_ROWS_MAX, Grain, Layout};

/// Encodes batches of one layout into row groups.
pub struct Encoder {
    file: SerializedFileWriter<Pieces>,
    factory: ArrowRowGroupWriterFactory,
    /// The writers of the row group that is open, one a leaf column.
    columns: Vec<ArrowColumnWriter>,
    group_rows: usize,
    group_rows_max: usize,
}

impl Encoder {
    /// A file without rows.
    ///
    /// # Errors
    /// When Parquet can't.
    pub fn new(layout: &Layout, grain: Grain) -> Result<Self, ParquetError> {
        let file = SerializedFileWriter::new(Pieces::default(), layout.parquet().root_schema_ptr(), layout.properties(grain))?;
        let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(layout.columns()));
        Ok(Self { file, factory, columns: Vec::new(), group_rows: 0, group_rows_max: GROUP_ROWS_MAX })
    }

    /// Appends rows, which have the layout's columns.
    ///
    /// # Errors
    /// When they do not.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut at = 0;
        while at < batch.num_rows() {
            let take = (batch.num_rows() - at).min(self.group_rows_max - self.group_rows);
            self.append(&batch.slice(at, take))?;
            at += take;
            if self.group_rows == self.group_rows_max || self.open_bytes() >= GROUP_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            self.columns = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        let mut writers = self.columns.iter_mut();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            for leaf in compute_leaves(field, column)? {
                writers.next().expect("a writer for each leaf column").write(&leaf)?;
            }
        }
        self.group_rows += rows.num_rows();
        Ok(())
    }

    /// Ends the open row group, if there is one.
    ///
    /// # Errors
    /// When Parquet can't.
    pub fn flush(&mut self) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            return Ok(());
        }
        self.group_rows = 0;
        let mut group = self.file.next_row_group()?;
        for column in std::mem::take(&mut self.columns) {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When Parquet can't.
    pub fn finish(mut self) -> Result<(Pieces, ParquetMetaData), ParquetError> {
        self.flush()?;
        let metadata = self.file.finish()?;
        // Not `into_inner`, which writes the footer once more.
        Ok((std::mem::take(self.file.inner_mut()), metadata))
    }

    /// Bytes held by the open row group.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::memory_size).sum()
    }

    /// Bytes of the row groups that ended.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        self.file.bytes_written()
    }

    /// The file's bytes so far but for the last few, taken out: what is left begins after them.
    pub fn take_written(&mut self) -> Vec<Bytes> {
        self.file.inner_mut().take_full()
    }
}
