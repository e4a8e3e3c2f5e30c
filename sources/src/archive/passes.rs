//! A history in several passes, of which each has all of its objects' light rows: who reads them so needs the memory of one pass.
//!
//! The objects are parted by their names. Where they are parted follows from a sample of them: it decides how large a pass is,
//! nothing else.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use fink_dataflow::table::light;
use fink_dataflow::table::object::Object;
use fink_dataflow::table::store::runtime;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::select::{Objects, Selection};
use super::{Job, ROWS, Replay, ReplayError};

/// Files of which the names are looked at.
const FILES: usize = 8;

impl Replay {
    /// The same in passes of about so many light rows; rows of other tables come in the first.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn passes(mut self, rows: u64) -> Result<Vec<Self>, ReplayError> {
        let (light, others): (Vec<Job>, Vec<Job>) = self.files.drain(..).partition(|job| *job.layout.table == *light::TABLE);
        let all: u64 = light.iter().map(|job| job.file.rows).sum();
        let count = usize::try_from(all.div_ceil(rows.max(1))).unwrap_or(usize::MAX);
        let mut names = if count > 1 { self.names(&light)? } else { Vec::new() };
        names.sort_unstable();
        // Each is the first of its part.
        let mut bounds: Vec<Arc<str>> =
            (1..count).filter_map(|part| names.get(part * names.len() / count)).map(|name| (**name).into()).collect();
        bounds.dedup();
        let ends = bounds.iter().cloned().map(Some).chain([None]);
        let begins = [None].into_iter().chain(bounds.iter().cloned().map(Some));
        let mut others = Some(others);
        let pass = |(from, until): (Option<Arc<str>>, Option<Arc<str>>)| {
            let mut pass = Self::none(&self.archive, Arc::clone(&self.ledger), self.routes.clone(), self.wanted);
            let one = from.is_none() && until.is_none();
            let part = light.iter().map(|job| Job {
                layout: Arc::clone(&job.layout),
                file: job.file.clone(),
                selection: if one { Arc::clone(&job.selection) } else { part(&job.selection, &from, &until) },
            });
            let part = part.filter(|job| job.selection.objects.may_be_in(&job.file.stats));
            pass.files = others.take().into_iter().flatten().chain(part).collect();
            pass
        };
        Ok(begins.zip(ends).map(pass).collect())
    }

    /// The names of the objects in some of these files.
    fn names(&self, files: &[Job]) -> Result<Vec<String>, ReplayError> {
        let mut names = Vec::new();
        for job in files.iter().step_by(files.len().div_ceil(FILES).max(1)) {
            let path = format!("{}/{}", job.layout.table, job.file.path);
            let failed = |source| ReplayError::File { path: path.clone(), source };
            let wrong = |source| ReplayError::Rows { path: path.clone(), source };
            let object = Object::new(&self.archive, &job.layout.table, &job.file);
            let builder = runtime().block_on(ParquetRecordBatchStreamBuilder::new(object)).map_err(failed)?;
            let column: Vec<_> = builder.schema().fields().iter().position(|field| field.name() == light::OBJECT).into_iter().collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), column);
            let mut batches = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(failed)?;
            while let Some(batch) = runtime().block_on(batches.try_next()).map_err(failed)? {
                let Some(column) = batch.columns().first() else { break };
                let column = cast(column, &DataType::Utf8).map_err(wrong)?;
                let column = column.as_string::<i32>();
                names.extend((0..column.len()).filter(|row| column.is_valid(*row)).map(|row| column.value(row).to_owned()));
            }
        }
        Ok(names)
    }
}

fn part(of: &Selection, from: &Option<Arc<str>>, until: &Option<Arc<str>>) -> Arc<Selection> {
    let objects = Objects::Between { from: from.clone(), until: until.clone() };
    Arc::new(Selection { objects, ..of.clone() })
}
