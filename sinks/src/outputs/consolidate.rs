//! A table without what came and went: each row once, with the sum of its differences.

use std::collections::HashMap;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use fink_dataflow::Moment;
use fink_dataflow::table::entry::DataFile;

use super::residue::Contents;
use super::store::{Batches, Files, Rows, StoreError};

/// Writes the rows of these files anew, in `batches`. A row has the Moment of its last change, so that sums are as they were for
/// whoever asks as of the newest Moment, or of a later one. `breathe` is called between two files.
///
/// # Errors
/// When a file can't be read or written; nothing has changed then.
pub fn consolidated(files: &Files, old: &[DataFile], mut batches: Batches, breathe: &mut dyn FnMut()) -> Result<Vec<DataFile>, StoreError> {
    let contents = Contents::new(&files.content())?;
    let mut sums: HashMap<u128, (i64, Moment)> = HashMap::new();
    for file in old {
        let mut take = |rows: Rows| {
            Ok(contents.each(&rows.rows, |row, hash, _| {
                let (sum, last) = sums.entry(hash).or_insert((0, rows.moments[row]));
                *sum += rows.diffs[row];
                *last = rows.moments[row].max(*last);
            })?)
        };
        files.read(file, &mut take)?;
        breathe();
    }
    sums.retain(|_, (sum, _)| *sum != 0);
    for file in old {
        let mut take = |rows: Rows| {
            let (mut indices, mut moments, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
            contents.each(&rows.rows, |row, hash, _| {
                // Each is told once, where it stands first.
                if let Some((sum, last)) = sums.remove(&hash) {
                    indices.push(u32::try_from(row).expect("a batch is small"));
                    moments.push(last);
                    diffs.push(sum);
                }
            })?;
            let rows = take_record_batch(&rows.rows, &UInt32Array::from(indices))?;
            batches.add_rows(files, Rows { rows, moments, diffs })
        };
        files.read(file, &mut take)?;
        breathe();
    }
    batches.finish(files)
}
