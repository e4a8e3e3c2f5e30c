//! What is left to do after arrow-avro, so that a batch has exactly the columns of its schema: mostly nothing but names.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::array::{BinaryArray, TimestampMicrosecondArray};
use arrow::compute::{TakeOptions, take};
use arrow::datatypes::{DataType, Decimal128Type, Fields, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

/// What is to be done to a column.
#[derive(Clone, Debug)]
pub enum Fit {
    /// Nothing.
    Keep,
    /// It holds nothing and was not read: a column of nulls.
    Null,
    /// Milliseconds become microseconds.
    Millis,
    /// A number becomes the timestamp that it is.
    Micros,
    /// Bytes of one size become bytes.
    Fixed,
    /// The digits are checked.
    Decimal,
    /// Indices become these symbols.
    Symbols(ArrayRef),
    /// Each field is fitted.
    Struct(Vec<Fit>),
    /// The items are fitted.
    List(Box<Fit>),
    /// The values are fitted.
    Map(Box<Fit>),
}

impl Fit {
    /// Fits a column to `kind`. Values are moved only where their encoding differs.
    ///
    /// # Errors
    /// When a value has no place in `kind`: a symbol that the enum lacks, a time beyond 64 bits.
    pub fn apply(&self, column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match (self, kind) {
            (Self::Keep, _) => Arc::clone(column),
            (Self::Millis, _) => {
                let micros = |ms: i64| ms.checked_mul(1000).ok_or_else(|| ArrowError::ComputeError(format!("{ms} ms is no time")));
                let times = column.as_primitive::<Int64Type>().try_unary::<_, TimestampMicrosecondType, _>(micros)?;
                Arc::new(times.with_timezone("UTC"))
            }
            (Self::Micros, _) => {
                let times: TimestampMicrosecondArray = column.as_primitive::<Int64Type>().reinterpret_cast();
                Arc::new(times.with_timezone("UTC"))
            }
            (Self::Fixed, _) => Arc::new(unfix(column.as_fixed_size_binary())),
            (Self::Decimal, DataType::Decimal128(precision, _)) => {
                // Parquet would cut off what does not fit, and say nothing.
                column.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)?;
                Arc::clone(column)
            }
            (Self::Symbols(symbols), _) => take(symbols, column, Some(TakeOptions { check_bounds: true }))?,
            (Self::Struct(fits), DataType::Struct(fields)) => {
                let old = column.as_struct();
                let columns = fit_all(fits, fields, old.columns(), old.len())?;
                Arc::new(StructArray::try_new(fields.clone(), columns, old.nulls().cloned())?)
            }
            (Self::List(fit), DataType::List(field)) => {
                let old = column.as_list::<i32>();
                let values = fit.apply(old.values(), field.data_type())?;
                Arc::new(ListArray::try_new(Arc::clone(field), old.offsets().clone(), values, old.nulls().cloned())?)
            }
            (Self::Map(fit), DataType::Map(field, sorted)) => {
                let old = column.as_map();
                let DataType::Struct(fields) = field.data_type() else { unreachable!("a map's entries are a struct") };
                let columns = vec![Arc::clone(old.keys()), fit.apply(old.values(), fields[1].data_type())?];
                let entries = StructArray::try_new(fields.clone(), columns, None)?;
                Arc::new(MapArray::try_new(Arc::clone(field), old.offsets().clone(), entries, old.nulls().cloned(), *sorted)?)
            }
            (fit, kind) => unreachable!("{fit:?} does not make {kind}"),
        })
    }
}

/// Fits columns to fields, each to its own; fields that hold nothing have no column.
///
/// # Errors
/// As [`Fit::apply`].
pub fn fit_all(fits: &[Fit], fields: &Fields, columns: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut columns = columns.iter();
    let fitted = fits.iter().zip(fields).map(|(fit, field)| match fit {
        Fit::Null => Ok(new_null_array(field.data_type(), rows)),
        fit => fit.apply(columns.next().expect("a column for each field that holds something"), field.data_type()),
    });
    fitted.collect()
}

fn unfix(column: &FixedSizeBinaryArray) -> BinaryArray {
    column.iter().collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn symbols_are_set_in_and_their_range_is_checked() {
        let fit = Fit::Symbols(Arc::new(StringArray::from(vec!["g", "r"])));
        let fitted = fit.apply(&(Arc::new(Int32Array::from(vec![Some(1), None, Some(0)])) as ArrayRef), &DataType::Utf8).unwrap();
        assert_eq!(fitted.as_string::<i32>(), &StringArray::from(vec![Some("r"), None, Some("g")]));
        assert!(fit.apply(&(Arc::new(Int32Array::from(vec![2])) as ArrayRef), &DataType::Utf8).is_err());
        assert!(fit.apply(&(Arc::new(Int32Array::from(vec![-1])) as ArrayRef), &DataType::Utf8).is_err());
    }

    #[test]
    fn times_beyond_64_bits_are_refused() {
        let kind = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        let apply = |v: Vec<Option<i64>>| Fit::Millis.apply(&(Arc::new(Int64Array::from(v)) as ArrayRef), &kind);
        let times = apply(vec![Some(-1), None]).unwrap();
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), -1000);
        assert!(times.is_null(1) && times.data_type() == &kind);
        assert!(apply(vec![Some(i64::MAX)]).is_err());
    }
}
