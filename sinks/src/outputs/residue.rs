//! What an answer has and its table has not, and the reverse: desired minus published, by content.
//!
//! Of a row that was published only its hash is kept (xxHash, 128 bits: that two of a billion rows share one has a chance of
//! 10⁻²¹), with how often it is there: 48 bytes a row. A row of the answer takes that away again, and is kept with its content
//! where the table has it too rarely. So where nothing changed nothing is left, and never more is held than the rows published
//! by their hashes, and of the answer those that the table lacks. Rows to be taken back are read from the table once more,
//! for their content.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_128;

/// Rows by content.
pub struct Contents {
    schema: SchemaRef,
    converter: RowConverter,
}

impl Contents {
    /// Of rows with these columns.
    ///
    /// # Errors
    /// When a column's type can't be compared; of Delta's types all can but maps.
    pub fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self { schema: SchemaRef::clone(schema), converter: RowConverter::new(fields.collect())? })
    }

    /// Hands over each row's hash, and its content as bytes.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn each(&self, rows: &RecordBatch, mut take: impl FnMut(usize, u128, &[u8])) -> Result<(), ArrowError> {
        let converted = self.converter.convert_columns(rows.columns())?;
        for (index, row) in converted.iter().enumerate() {
            take(index, xxh3_128(row.as_ref()), row.as_ref());
        }
        Ok(())
    }

    /// The rows of these contents.
    ///
    /// # Errors
    /// Never, for contents that were handed over.
    pub fn rows<'c>(&self, contents: impl IntoIterator<Item = &'c [u8]>) -> Result<RecordBatch, ArrowError> {
        let parser = self.converter.parser();
        let columns: Vec<ArrayRef> = self.converter.convert_rows(contents.into_iter().map(|content| parser.parse(content)))?;
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)
    }
}

/// What is left of one row.
struct Left {
    /// How often the answer has it more than the table.
    diff: i64,
    /// Its content, where that is positive.
    content: Option<Box<[u8]>>,
}

/// What an answer has more than its table, and less.
pub struct Residue {
    contents: Contents,
    left: HashMap<u128, Left>,
}

impl Residue {
    /// Nothing, of rows with these columns.
    ///
    /// # Errors
    /// As [`Contents::new`].
    pub fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self { contents: Contents::new(schema)?, left: HashMap::new() })
    }

    /// Takes away what the table has.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn published(&mut self, rows: &RecordBatch, diffs: &[i64]) -> Result<(), ArrowError> {
        let left = &mut self.left;
        self.contents.each(rows, |row, hash, _| add(left, hash, -diffs[row], None))
    }

    /// Adds what the answer has.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn desired(&mut self, rows: &RecordBatch, diffs: &[i64]) -> Result<(), ArrowError> {
        let left = &mut self.left;
        self.contents.each(rows, |row, hash, content| add(left, hash, diffs[row], Some(content)))
    }

    /// Different rows that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether rows of the table are to be taken back.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        self.left.values().any(|left| left.diff < 0)
    }

    /// At most so many rows that the table lacks; `None`: it lacks none (any more).
    pub fn lacking(&mut self, most: usize) -> Option<Result<(RecordBatch, Vec<i64>), ArrowError>> {
        let hashes: Vec<u128> = self.left.iter().filter(|(_, left)| left.diff > 0).map(|(hash, _)| *hash).take(most).collect();
        if hashes.is_empty() {
            return None;
        }
        let taken: Vec<Left> = hashes.iter().filter_map(|hash| self.left.remove(hash)).collect();
        let contents = taken.iter().map(|left| left.content.as_deref().expect("what the table lacks is kept with its content"));
        let diffs = taken.iter().map(|left| left.diff).collect();
        Some(self.contents.rows(contents).map(|rows| (rows, diffs)))
    }

    /// Of these rows of the table those that are to be taken back, and how often (negative); each is told once.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn taken_back(&mut self, rows: &RecordBatch) -> Result<(Vec<u32>, Vec<i64>), ArrowError> {
        let (mut indices, mut diffs) = (Vec::new(), Vec::new());
        let left = &mut self.left;
        self.contents.each(rows, |row, hash, _| {
            if let Entry::Occupied(entry) = left.entry(hash)
                && entry.get().diff < 0
            {
                indices.push(u32::try_from(row).expect("a batch is small"));
                diffs.push(entry.remove().diff);
            }
        })?;
        Ok((indices, diffs))
    }
}

fn add(left: &mut HashMap<u128, Left>, hash: u128, diff: i64, content: Option<&[u8]>) {
    match left.entry(hash) {
        Entry::Vacant(entry) => {
            if diff != 0 {
                entry.insert(Left { diff, content: content.filter(|_| diff > 0).map(Into::into) });
            }
        }
        Entry::Occupied(mut entry) => {
            let known = entry.get_mut();
            known.diff += diff;
            if known.diff == 0 {
                entry.remove();
            } else if known.diff < 0 {
                known.content = None;
            } else if known.content.is_none() {
                // It became positive by a row of the answer, which brings its content.
                known.content = content.map(Into::into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::compute::take_record_batch;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("class", DataType::Utf8, true)]))
    }

    fn batch(ids: &[i64]) -> RecordBatch {
        let class = StringArray::from_iter(ids.iter().map(|id| (id % 3 > 0).then(|| format!("class {}", id % 2))));
        RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(class)]).expect("made to fit")
    }

    fn apply(to: &mut HashMap<i64, i64>, rows: &RecordBatch, diffs: &[i64]) {
        assert_eq!(*rows, batch(rows.column(0).as_primitive::<Int64Type>().values()), "the content is what it was");
        for (id, diff) in rows.column(0).as_primitive::<Int64Type>().values().iter().zip(diffs) {
            *to.entry(*id).or_insert(0) += diff;
        }
    }

    proptest! {
        #[test]
        fn what_is_left_makes_the_table_the_answer(
            published in prop::collection::vec((0i64..12, -2i64..3), 0..40),
            desired in prop::collection::vec((0i64..12, -2i64..3), 0..40),
        ) {
            // Neither has a row less often than never.
            let net = |changes: &[(i64, i64)]| {
                let mut net = HashMap::<i64, i64>::new();
                changes.iter().for_each(|(id, diff)| *net.entry(*id).or_insert(0) += diff);
                net
            };
            let whole = |mut changes: Vec<(i64, i64)>| {
                let lacks: Vec<_> = net(&changes).into_iter().filter(|(_, diff)| *diff < 0).map(|(id, diff)| (id, -diff)).collect();
                changes.extend(lacks);
                changes
            };
            let (published, desired) = (whole(published), whole(desired));
            let split = |changes: &[(i64, i64)]| -> (Vec<i64>, Vec<i64>) { changes.iter().copied().unzip() };
            let mut residue = Residue::new(&schema()).expect("comparable");
            let (ids, diffs) = split(&published);
            residue.published(&batch(&ids), &diffs).expect("fits");
            let (ids, diffs) = split(&desired);
            residue.desired(&batch(&ids), &diffs).expect("fits");
            let mut table = net(&published);
            let takes_back = residue.takes_back();
            let rows = batch(&split(&published).0);
            let (indices, diffs) = residue.taken_back(&rows).expect("fits");
            prop_assert_eq!(takes_back, !indices.is_empty());
            let rows = take_record_batch(&rows, &arrow::array::UInt32Array::from(indices)).expect("rows");
            apply(&mut table, &rows, &diffs);
            while let Some(lacking) = residue.lacking(3) {
                let (rows, diffs) = lacking.expect("contents");
                apply(&mut table, &rows, &diffs);
            }
            prop_assert!(residue.is_empty());
            table.retain(|_, count| *count != 0);
            let mut answer = net(&desired);
            answer.retain(|_, count| *count != 0);
            prop_assert_eq!(table, answer);
        }
    }
}
