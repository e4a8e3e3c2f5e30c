//! Whether two sets of rows are the same, in whatever order and batches they come.
//!
//! Each row's hash is made of its place and of each of its columns by name; columns that are null, or that hold bytes, do not
//! count, so that rows read before a column was added, and rows read without cutouts, are the same as others. The hashes
//! are summed. What says when a row was taken does not count either.

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use fink_dataflow::alerts::{AlertBatch, Place};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::select::holds_bytes;

/// A set of rows, as two numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Digest {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: u64,
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:016x}", self.rows, self.sum)
    }
}

impl Digest {
    /// Adds rows.
    ///
    /// # Errors
    /// When a column is of a type that has no bytes to compare; Delta has none such.
    pub fn add(&mut self, batch: &AlertBatch) -> Result<(), ArrowError> {
        for hash in hashes(&batch.rows, &batch.places)? {
            self.rows += 1;
            self.sum = self.sum.wrapping_add(hash);
        }
        Ok(())
    }
}

/// The hash of each row.
///
/// # Errors
/// As [`Digest::add`].
pub fn hashes(rows: &RecordBatch, places: &[Place]) -> Result<Vec<u64>, ArrowError> {
    let mut hashes: Vec<u64> = places.iter().map(of_place).collect();
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if holds_bytes(field) {
            continue;
        }
        let seed = xxh3_64(field.name().as_bytes());
        let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
        let encoded = converter.convert_columns(&[column.clone()])?;
        for (row, hash) in hashes.iter_mut().enumerate().filter(|(row, _)| column.is_valid(*row)) {
            // Mixed once more, lest two columns that swap their parts give the same sum.
            *hash = hash.wrapping_add(xxh3_64_with_seed(encoded.row(row).as_ref(), seed));
        }
    }
    Ok(hashes.into_iter().map(|hash| xxh3_64(&hash.to_le_bytes())).collect())
}

fn of_place(place: &Place) -> u64 {
    let Place { log, offset, record, timestamp_ms, received_us: _ } = place;
    let words = format!("{}\n{}\n{} {} {offset} {record} {timestamp_ms:?}", log.source, log.topic, log.incarnation, log.partition);
    xxh3_64(words.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};
    use fink_dataflow::Log;

    use super::*;

    fn places(offsets: &[i64]) -> Vec<Place> {
        let log = Arc::new(Log::new("s", "t", 0, 1));
        offsets
            .iter()
            .map(|offset| Place { log: log.clone(), offset: *offset, record: 0, timestamp_ms: None, received_us: *offset })
            .collect()
    }

    fn sum(columns: Vec<(&str, ArrayRef)>, offsets: &[i64]) -> u64 {
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("a batch");
        hashes(&rows, &places(offsets)).expect("hashes").into_iter().fold(0, u64::wrapping_add)
    }

    fn int(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn neither_order_nor_null_columns_nor_bytes_count_and_all_else_does() {
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let plain = sum(vec![("a", int(&[Some(1), Some(2)])), ("b", text(&["x", "y"]))], &[5, 6]);
        let swapped = sum(vec![("b", text(&["y", "x"])), ("a", int(&[Some(2), Some(1)]))], &[6, 5]);
        assert_eq!(plain, swapped);
        let stamp = Arc::new(BinaryArray::from(vec![&b"1"[..], b"2"])) as ArrayRef;
        let more = vec![("a", int(&[Some(1), Some(2)])), ("b", text(&["x", "y"])), ("c", int(&[None, None])), ("s", stamp)];
        assert_eq!(plain, sum(more, &[5, 6]));
        assert_ne!(plain, sum(vec![("a", int(&[Some(1), Some(2)])), ("b", text(&["y", "x"]))], &[5, 6]));
        assert_ne!(plain, sum(vec![("b", int(&[Some(1), Some(2)])), ("a", text(&["x", "y"]))], &[5, 6]));
        assert_ne!(plain, sum(vec![("a", int(&[Some(1), Some(2)])), ("b", text(&["x", "y"]))], &[5, 7]));
    }
}
