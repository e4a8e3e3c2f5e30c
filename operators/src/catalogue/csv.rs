//! Tables in comma-separated text.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};

use super::{CatalogueError, missing};

/// The columns of these names, as text; the first line names the columns. Blanks and quotes around a value do not matter: some
/// write `1 , "3HSP J0001" , …`, where quotes are not the first in their field.
///
/// # Errors
/// When the file is not UTF-8, or lacks a column.
pub fn table(file: &[u8], wanted: &[&str]) -> Result<RecordBatch, CatalogueError> {
    let wrong = |e: csv::Error| CatalogueError::format("CSV file", e);
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
    let names: Vec<String> = reader.headers().map_err(wrong)?.iter().map(|name| bare(name).to_owned()).collect();
    let at = |name: &&str| names.iter().position(|n| n == name).ok_or_else(|| missing(name, names.iter().map(String::as_str)));
    let places = wanted.iter().map(at).collect::<Result<Vec<_>, _>>()?;
    let mut columns: Vec<StringBuilder> = wanted.iter().map(|_| StringBuilder::new()).collect();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(wrong)? {
        for (column, place) in columns.iter_mut().zip(&places) {
            column.append_option(record.get(*place).map(bare).filter(|value| !value.is_empty()));
        }
    }
    batch(wanted, columns)
}

/// A batch of columns of text.
pub(super) fn batch(names: &[&str], columns: Vec<StringBuilder>) -> Result<RecordBatch, CatalogueError> {
    let columns = columns.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
    // A column may be asked for twice: as a position, and to be carried.
    let mut named: Vec<(&str, ArrayRef)> = Vec::new();
    for (name, column) in names.iter().zip(columns) {
        if named.iter().all(|(known, _)| known != name) {
            named.push((name, column));
        }
    }
    RecordBatch::try_from_iter_with_nullable(named.into_iter().map(|(name, column)| (name, column, true)))
        .map_err(|e| CatalogueError::format("table", e))
}

fn bare(value: &str) -> &str {
    value.trim().trim_matches('"').trim()
}
