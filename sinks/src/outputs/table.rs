//! An output: its name, its columns, and how its rows become Arrow's.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use fink_dataflow::Moment;
use fink_dataflow::table::marks::OUTPUTS;

/// Our columns beside an output's own: when a row was published, and how often it came or went.
pub const OWN: [&str; 3] = ["epoch", "tick", "diff"];

/// What makes the columns of rows.
pub type Columns<R> = Arc<dyn Fn(&[R]) -> Vec<ArrayRef> + Send + Sync>;

/// A collection that is kept as a table.
pub struct Output<R> {
    name: Arc<str>,
    fields: Fields,
    columns: Columns<R>,
}

impl<R> Clone for Output<R> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), fields: self.fields.clone(), columns: Arc::clone(&self.columns) }
    }
}

/// Why there is no such output.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OutputError {
    /// Its name can't be a folder's.
    #[error("an output is named by lower-case letters, digits and _, not `{0}`")]
    Name(String),
    /// A column has a name of ours.
    #[error("output {0} has a column `{1}`, which says when a row was published: give it another name")]
    Column(String, String),
}

impl<R> Output<R> {
    /// The output `name`, whose rows have these columns: `columns` makes an array of each, in this order. A row is what its
    /// columns say: they must be a function of it alone, the same in every process.
    ///
    /// # Errors
    /// When the name is no folder's, or a column is called `epoch`, `tick` or `diff`.
    pub fn new(
        name: &str,
        fields: impl Into<Fields>,
        columns: impl Fn(&[R]) -> Vec<ArrayRef> + Send + Sync + 'static,
    ) -> Result<Self, OutputError> {
        let fields = fields.into();
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.chars().all(plain) {
            return Err(OutputError::Name(name.to_owned()));
        }
        if let Some(ours) = fields.iter().find(|field| OWN.iter().any(|own| own.eq_ignore_ascii_case(field.name()))) {
            return Err(OutputError::Column(name.to_owned(), ours.name().clone()));
        }
        Ok(Self { name: name.into(), fields, columns: Arc::new(columns) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its columns.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Rows as Arrow has them.
    ///
    /// # Errors
    /// When the columns made are not those declared.
    pub fn batch(&self, rows: &[R]) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields.clone())), (self.columns)(rows))
    }
}

/// The folder of an output's table, below the archive.
#[must_use]
pub fn folder(name: &str) -> Arc<str> {
    format!("{OUTPUTS}{name}").into()
}

/// An output's columns, and ours.
#[must_use]
pub fn with_own(fields: &Fields) -> Fields {
    let own = OWN.into_iter().zip([DataType::Int32, DataType::Int64, DataType::Int64]);
    fields.iter().cloned().chain(own.map(|(name, kind)| Arc::new(Field::new(name, kind, true)))).collect()
}

/// Rows with ours: published at `moment`, each so often.
///
/// # Errors
/// Never, for as many differences as rows.
pub fn published(rows: &RecordBatch, moments: &[Moment], diffs: &[i64]) -> Result<RecordBatch, ArrowError> {
    let epochs = moments.iter().map(|moment| moment.epoch.cast_signed());
    let ticks = moments.iter().map(|moment| moment.tick.cast_signed());
    let own: [ArrayRef; 3] = [
        Arc::new(Int32Array::from_iter_values(epochs)),
        Arc::new(Int64Array::from_iter_values(ticks)),
        Arc::new(Int64Array::from_iter_values(diffs.iter().copied())),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(with_own(rows.schema_ref().fields())));
    RecordBatch::try_new(schema, rows.columns().iter().cloned().chain(own).collect())
}
