//! The files that a writer has open: one for each table, night and writer's schema.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use fink_dataflow::alerts::{AlertBatch, Decoded, Reject};
use fink_dataflow::message::Log;
use fink_dataflow::table::entry::{DataFile, State};
use object_store::PutPayload;
use parquet::errors::ParquetError;
use uuid::Uuid;

use super::columns::{partition_folder, partition_values, with_own};
use super::encode::Encoder;
use super::memory::{Charge, Memory};
use super::properties::{COARSE_ROWS, Grain, Layout};
use super::routes::{RouteError, Routes, TableShape};
use crate::rejects;

/// Why rows could not be written. Each is a fault of ours, and none that trying again would mend.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A schema has no table.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Columns do not fit together.
    #[error("rows do not fit their schema: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet can't write them.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
}

/// Which file rows go to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    table: Arc<str>,
    /// Empty for rejects.
    schema: Arc<str>,
    date: Option<i32>,
}

/// How a file of some table is written.
#[derive(Clone)]
enum Form {
    Alerts(Arc<TableShape>),
    Rejects(Arc<Layout>),
}

impl Form {
    fn layout(&self) -> &Layout {
        match self {
            Self::Alerts(shape) => &shape.layout,
            Self::Rejects(layout) => layout,
        }
    }
}

/// A file in the making. Rows wait as they are until it is clear whether they are few or many.
struct OpenFile {
    form: Form,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    encoder: Option<Encoder>,
    rows: usize,
    /// Where its first row comes from; it names the file.
    first: (Arc<Log>, i64),
    charge: Charge,
}

/// A file that is complete but not stored.
pub struct ClosedFile {
    /// Its table.
    pub table: Arc<str>,
    /// What the table will know of it; a retry of its put gives it another path.
    pub file: DataFile,
    /// The path's folder and the name's beginning: a fresh name is `<stem>-<uuid>.parquet`.
    pub stem: String,
    /// Its bytes.
    pub payload: PutPayload,
    /// The memory that they take.
    pub charge: Charge,
}

impl ClosedFile {
    /// Gives the file a name that none had before.
    pub fn rename(&mut self) {
        self.file.path = format!("{}-{}.parquet", self.stem, Uuid::new_v4().simple());
    }
}

/// The open files of a writer.
pub struct Files {
    routes: Arc<Routes>,
    memory: Arc<Memory>,
    own: Arc<AtomicUsize>,
    generation: u64,
    open: BTreeMap<Key, OpenFile>,
}

impl Files {
    /// None yet.
    #[must_use]
    pub fn new(routes: Arc<Routes>, memory: Arc<Memory>, generation: u64) -> Self {
        Self { routes, memory, own: Arc::default(), generation, open: BTreeMap::new() }
    }

    /// Whether no file is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes of open files, and of closed ones that are not stored yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }

    /// Bytes of open files.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open.values().map(|file| file.charge.bytes()).sum()
    }

    /// Bytes of the largest open file.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.open.values().map(|file| file.charge.bytes()).max().unwrap_or(0)
    }

    /// Appends alerts, each to the file of its night.
    ///
    /// # Errors
    /// When they do not fit their own schema.
    pub fn alerts(&mut self, batch: &AlertBatch) -> Result<(), FilesError> {
        let (Some(first), Some(night)) = (batch.places.first(), batch.nights.first()) else { return Ok(()) };
        let shape = self.routes.route(&batch.schema)?;
        let rows = with_own(&shape.columns, &batch.rows, &batch.places, &shape.schema_id)?;
        let key = |date| Key { table: Arc::clone(&shape.table), schema: Arc::clone(&batch.schema.fingerprint), date };
        let form = Form::Alerts(Arc::clone(&shape));
        if batch.nights.iter().all(|other| other == night) {
            let from = (Arc::clone(&first.log), first.offset);
            return self.append(key(*night), form, from, rows);
        }
        let mut nights: BTreeMap<Option<i32>, Vec<u32>> = BTreeMap::new();
        for (row, night) in (0u32..).zip(&batch.nights) {
            nights.entry(*night).or_default().push(row);
        }
        for (night, indices) in nights {
            let first = &batch.places[indices[0] as usize];
            let from = (Arc::clone(&first.log), first.offset);
            let part = take_record_batch(&rows, &UInt32Array::from(indices))?;
            self.append(key(night), form.clone(), from, part)?;
        }
        Ok(())
    }

    /// Appends rejects, each to the file of its date.
    ///
    /// # Errors
    /// When they hold more bytes than a batch can.
    pub fn rejects(&mut self, rejects: &[Reject]) -> Result<(), FilesError> {
        let mut dates: BTreeMap<Option<i32>, Vec<&Reject>> = BTreeMap::new();
        for reject in rejects {
            dates.entry(rejects::date(reject)).or_default().push(reject);
        }
        for (date, rejects) in dates {
            let key = Key { table: rejects::TABLE.into(), schema: "".into(), date };
            let from = (Arc::clone(&rejects[0].log), rejects[0].message.offset);
            self.append(key, Form::Rejects(rejects::layout()), from, rejects::rows(&rejects)?)?;
        }
        Ok(())
    }

    fn append(&mut self, key: Key, form: Form, first: (Arc<Log>, i64), rows: RecordBatch) -> Result<(), FilesError> {
        let file = match self.open.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => free.insert(OpenFile {
                form,
                waiting: Vec::new(),
                waiting_bytes: 0,
                encoder: None,
                rows: 0,
                first,
                charge: Charge::new(&self.memory, &self.own),
            }),
        };
        file.append(rows)
    }

    /// Ends the largest file; `None` where none is open.
    ///
    /// # Errors
    /// When Parquet can't.
    pub fn close_largest(&mut self) -> Result<Option<ClosedFile>, FilesError> {
        let Some((key, _)) = self.open.iter().max_by_key(|(_, file)| file.charge.bytes()) else { return Ok(None) };
        let key = key.clone();
        let file = self.open.remove(&key).expect("it was found just now");
        file.close(key, self.generation).map(Some)
    }

    /// Ends the first file; `None` where none is open.
    ///
    /// # Errors
    /// When Parquet can't.
    pub fn close_first(&mut self) -> Result<Option<ClosedFile>, FilesError> {
        let Some((key, file)) = self.open.pop_first() else { return Ok(None) };
        file.close(key, self.generation).map(Some)
    }
}

/// Writes rows to files that nobody keeps: whether they can be written at all.
///
/// # Errors
/// What a writer would have ended for.
pub fn rehearse(decoded: &Decoded) -> Result<(), FilesError> {
    let routes = Routes::new(&State::default()).expect("an empty state has no schema that could be wrong");
    let mut files = Files::new(Arc::new(routes), Memory::new(usize::MAX, 1), 0);
    decoded.alerts.iter().try_for_each(|batch| files.alerts(batch))?;
    files.rejects(&decoded.rejects)?;
    while files.close_first()?.is_some() {}
    Ok(())
}

impl OpenFile {
    fn append(&mut self, rows: RecordBatch) -> Result<(), FilesError> {
        self.rows += rows.num_rows();
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.rows >= COARSE_ROWS {
            if self.encoder.is_none() {
                self.encoder = Some(Encoder::new(self.form.layout(), Grain::Coarse)?);
            }
            self.encode()?;
        }
        let encoded = self.encoder.as_ref().map_or(0, |encoder| encoder.open_bytes() + encoder.written_bytes());
        self.charge.set(self.waiting_bytes + encoded);
        Ok(())
    }

    /// Encodes the rows that wait.
    fn encode(&mut self) -> Result<(), FilesError> {
        let encoder = self.encoder.as_mut().expect("called when there is one");
        let waiting = std::mem::take(&mut self.waiting);
        // Each write has a cost for each column; copying small batches together costs less.
        if waiting.len() > 1 && waiting.iter().all(|batch| batch.num_rows() < 64) {
            encoder.write(&concat_batches(&waiting[0].schema(), &waiting)?)?;
        } else {
            waiting.iter().try_for_each(|batch| encoder.write(batch))?;
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    fn close(mut self, key: Key, generation: u64) -> Result<ClosedFile, FilesError> {
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::new(self.form.layout(), Grain::Fine)?);
        }
        self.encode()?;
        let (pieces, metadata) = self.encoder.expect("made above").finish()?;
        let stats = self.form.layout().stats(&metadata);
        let columns = match &self.form {
            Form::Alerts(shape) => shape.partition_columns.clone(),
            Form::Rejects(_) => rejects::partition_columns(),
        };
        let partition = partition_values(&columns, key.date);
        let (log, offset) = &self.first;
        let topic: String = log.topic.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).take(60).collect();
        let stem = format!("{}/{generation}-{topic}-{}-{offset}", partition_folder(&partition), log.partition);
        let payload: PutPayload = pieces.into_bytes().into_iter().collect();
        let size = payload.content_length();
        self.charge.set(size);
        let file = DataFile { path: String::new(), size: size as u64, modified_ms: 0, partition, rows: self.rows as u64, stats };
        let mut closed = ClosedFile { table: key.table, file, stem, payload, charge: self.charge };
        closed.rename();
        Ok(closed)
    }
}
