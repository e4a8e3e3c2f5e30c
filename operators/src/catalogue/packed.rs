//! A catalogue's rows, or changes of them, as a Parquet file of our own: with the numbers by which they are known, their places
//! in degrees, and only the columns that a match tells. It is read faster than what it was made of, and says the same wherever
//! it is read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int8Array, PrimitiveArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, UInt32Type};
use bytes::Bytes;
use fink_dataflow::detection::{Real, Real32};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::change::Change;
use super::{CatalogueError, CatalogueId, Motion, Row, Shared};

/// What all rows of a version share, and a file of them does not hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// The catalogue.
    pub catalogue: CatalogueId,
    /// How near an object must be.
    pub radius_arcsec: Real32,
}

/// Rows of a file that are read at a time.
const BATCH: usize = 65_536;

fn wrong(reason: impl ToString) -> CatalogueError {
    CatalogueError::format("file of packed rows", reason)
}

/// Packs changes of rows that tell so many columns.
///
/// # Errors
/// When they can't be written: never, but for a lack of memory.
pub fn pack(changes: &[Change], columns: usize) -> Result<Bytes, CatalogueError> {
    let batch = batch(&changes[..0], columns)?;
    let level = ZstdLevel::try_new(1).map_err(wrong)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).map_err(wrong)?;
    for some in changes.chunks(BATCH) {
        writer.write(&self::batch(some, columns)?).map_err(wrong)?;
    }
    writer.close().map_err(wrong)?;
    Ok(file.into())
}

fn batch(changes: &[Change], columns: usize) -> Result<RecordBatch, CatalogueError> {
    let rows = || changes.iter().map(|(row, _)| row);
    let real = |of: fn(&Row) -> f64| Arc::new(Float64Array::from_iter_values(rows().map(of))) as ArrayRef;
    let motion = |of: fn(&Motion) -> f64| Arc::new(Float64Array::from_iter(rows().map(|row| row.motion.as_deref().map(of)))) as ArrayRef;
    let mut fields: Vec<(String, ArrayRef, bool)> = vec![
        ("change".into(), Arc::new(Int8Array::from_iter_values(changes.iter().map(|(_, change)| *change))), false),
        ("number".into(), Arc::new(UInt32Array::from_iter_values(rows().map(|row| row.number))), false),
        ("ra_deg".into(), real(|row| row.ra_deg.0), false),
        ("dec_deg".into(), real(|row| row.dec_deg.0), false),
        ("pm_ra".into(), motion(|motion| motion.ra.0), true),
        ("pm_dec".into(), motion(|motion| motion.dec.0), true),
        ("pm_mjd".into(), motion(|motion| motion.mjd.0), true),
    ];
    for column in 0..columns {
        let texts = rows().map(|row| row.carried.get(column).map_or("", |text| &**text));
        fields.push((format!("carried_{column}"), Arc::new(StringArray::from_iter_values(texts)), false));
    }
    RecordBatch::try_from_iter_with_nullable(fields).map_err(wrong)
}

/// The changes of a packed file: rows that come are of the form `new`, those that go of the form `old`.
///
/// # Errors
/// When the file is not one that was packed.
pub fn unpack(file: Bytes, new: Form, old: Form) -> Result<Vec<Change>, CatalogueError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(wrong)?;
    let mut changes = Vec::with_capacity(usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0));
    let mut shared = Shared::default();
    for batch in builder.with_batch_size(BATCH).build().map_err(wrong)? {
        read(&batch.map_err(wrong)?, [new, old], &mut shared, &mut changes)?;
    }
    Ok(changes)
}

fn read(batch: &RecordBatch, [new, old]: [Form; 2], shared: &mut Shared, changes: &mut Vec<Change>) -> Result<(), CatalogueError> {
    fn column<'b, T: ArrowPrimitiveType>(batch: &'b RecordBatch, name: &str) -> Result<&'b PrimitiveArray<T>, CatalogueError> {
        batch.column_by_name(name).and_then(|column| column.as_primitive_opt()).ok_or_else(|| wrong(format!("no column '{name}'")))
    }
    let (change, number) = (column::<Int8Type>(batch, "change")?, column::<UInt32Type>(batch, "number")?);
    let real = |name| column::<Float64Type>(batch, name);
    let (ra, dec) = (real("ra_deg")?, real("dec_deg")?);
    let (pm_ra, pm_dec, pm_mjd) = (real("pm_ra")?, real("pm_dec")?, real("pm_mjd")?);
    let mut carried = Vec::new();
    while let Some(column) = batch.column_by_name(&format!("carried_{}", carried.len())) {
        carried.push(column.as_string_opt::<i32>().ok_or_else(|| wrong("a carried column is no text"))?);
    }
    let mut key: Vec<Box<str>> = Vec::new();
    for row in 0..batch.num_rows() {
        key.clear();
        key.extend(carried.iter().map(|column| column.value(row).into()));
        let carried = shared.of(&key);
        let motion = pm_mjd
            .is_valid(row)
            .then(|| Box::new(Motion { ra: Real(pm_ra.value(row)), dec: Real(pm_dec.value(row)), mjd: Real(pm_mjd.value(row)) }));
        let change = change.value(row);
        let Form { catalogue, radius_arcsec } = if change > 0 { new } else { old };
        let (ra_deg, dec_deg) = (Real(ra.value(row)), Real(dec.value(row)));
        changes.push((Row { catalogue, number: number.value(row), ra_deg, dec_deg, radius_arcsec, motion, carried }, change));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let (new, old) = (
            Form { catalogue: CatalogueId::typed(3), radius_arcsec: Real32(1.5) },
            Form { catalogue: CatalogueId::untyped(2), radius_arcsec: Real32(60.0) },
        );
        let row = |number: u32, form: Form| Row {
            catalogue: form.catalogue,
            number,
            ra_deg: Real(f64::from(number) / 7.0),
            dec_deg: Real(-0.1),
            radius_arcsec: form.radius_arcsec,
            motion: (number == 1).then(|| Box::new(Motion { ra: Real(-3.5), dec: Real(0.1), mjd: Real(57_388.5) })),
            carried: Arc::new(["RRAB".into(), number.to_string().into()]),
        };
        let changes = vec![(row(0, new), 1), (row(1, old), -1), (row(1, new), 1), (row(4_000_000_000, old), -1)];
        let file = pack(&changes, 2).expect("packed");
        assert_eq!(unpack(file.clone(), new, old).expect("unpacked"), changes);
        assert_eq!(unpack(pack(&[], 0).expect("packed"), new, old).expect("unpacked"), []);
        let error = unpack(file.slice(..file.len() - 9), new, old).expect_err("cut off").to_string();
        assert!(error.starts_with("not a file of packed rows: "), "{error}");
        assert!(unpack(Bytes::from_static(b"x"), new, old).is_err());
    }
}
