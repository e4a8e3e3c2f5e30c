//! Arrow columns by name, whatever number type a survey's schema gives them.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, OffsetSizeTrait, PrimitiveArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};

/// A column of numbers, booleans or text, or none.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// Singles.
    Single(&'a PrimitiveArray<Float32Type>),
    /// Doubles.
    Double(&'a PrimitiveArray<Float64Type>),
    /// Integers.
    Int(&'a PrimitiveArray<Int32Type>),
    /// Long integers.
    Long(&'a PrimitiveArray<Int64Type>),
    /// Truth values.
    Flag(&'a BooleanArray),
    /// Text.
    Text(&'a ArrayRef),
    /// No such column, or of a type that is none of these.
    None,
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Float32 => Self::Single(array.as_primitive()),
            DataType::Float64 => Self::Double(array.as_primitive()),
            DataType::Int32 => Self::Int(array.as_primitive()),
            DataType::Int64 => Self::Long(array.as_primitive()),
            DataType::Boolean => Self::Flag(array.as_boolean()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(array),
            _ => Self::None,
        }
    }

    /// The number in a row, as a double.
    #[must_use]
    pub fn double(&self, row: usize) -> Option<f64> {
        match self {
            Self::Single(a) => a.is_valid(row).then(|| f64::from(a.value(row))),
            Self::Double(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Int(a) => a.is_valid(row).then(|| f64::from(a.value(row))),
            #[expect(clippy::cast_precision_loss, reason = "who asks for a double knows that the numbers are small")]
            Self::Long(a) => a.is_valid(row).then(|| a.value(row) as f64),
            Self::Flag(_) | Self::Text(_) | Self::None => None,
        }
    }

    /// The number in a row, as a single.
    #[must_use]
    pub fn single(&self, row: usize) -> Option<f32> {
        match self {
            Self::Single(a) => a.is_valid(row).then(|| a.value(row)),
            #[expect(clippy::cast_possible_truncation, reason = "rounded to what a row has room for")]
            _ => self.double(row).map(|value| value as f32),
        }
    }

    /// The whole number in a row.
    #[must_use]
    pub fn long(&self, row: usize) -> Option<i64> {
        match self {
            Self::Int(a) => a.is_valid(row).then(|| i64::from(a.value(row))),
            Self::Long(a) => a.is_valid(row).then(|| a.value(row)),
            _ => None,
        }
    }

    /// The text in a row.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Text(a) if a.is_valid(row) => Some(match a.data_type() {
                DataType::Utf8 => a.as_string::<i32>().value(row),
                DataType::LargeUtf8 => a.as_string::<i64>().value(row),
                _ => a.as_string_view().value(row),
            }),
            _ => None,
        }
    }

    /// Yes or no in a row: a boolean, the words `t` and `1`, or a number that is not 0.
    #[must_use]
    pub fn flag(&self, row: usize) -> Option<bool> {
        match self {
            Self::Flag(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Text(_) => self.text(row).map(|text| matches!(text, "t" | "1" | "T" | "true")),
            _ => self.long(row).map(|number| number != 0),
        }
    }
}

/// A record's fields, and which rows have the record at all.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    fields: &'a StructArray,
    /// Whether each row is there, if some are not.
    nulls: Option<NullBuffer>,
}

impl<'a> Record<'a> {
    /// The record itself, as the one field of a struct.
    #[must_use]
    pub fn of(fields: &'a StructArray) -> Self {
        Self { fields, nulls: fields.nulls().cloned() }
    }

    /// The record at a path of records in records.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<Self> {
        let mut record = self.clone();
        for name in path {
            let inner = record.fields.column_by_name(name)?.as_struct_opt()?;
            record = Self { fields: inner, nulls: NullBuffer::union(record.nulls.as_ref(), inner.nulls()) };
        }
        Some(record)
    }

    /// The list of records at a name: for each row its range in the records that follow.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<(Ranges<'a>, Record<'a>)> {
        let column = self.fields.column_by_name(name)?;
        let ranges = match column.data_type() {
            DataType::List(_) => Ranges::Short(column.as_list()),
            DataType::LargeList(_) => Ranges::Long(column.as_list()),
            _ => return None,
        };
        let values = match &ranges {
            Ranges::Short(list) => list.values(),
            Ranges::Long(list) => list.values(),
        };
        Some((ranges, Record::of(values.as_struct_opt()?)))
    }

    /// The first column of these names that there is.
    #[must_use]
    pub fn column(&self, names: &[&str]) -> Column<'a> {
        let fields: &'a StructArray = self.fields;
        names.iter().find_map(|name| fields.column_by_name(name)).map_or(Column::None, Column::of)
    }

    /// Whether the record is there in a row.
    #[must_use]
    pub fn is_there(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }
}

/// For each row of a list column, its range of elements.
#[derive(Clone, Debug)]
pub enum Ranges<'a> {
    /// With offsets of 32 bits.
    Short(&'a arrow::array::ListArray),
    /// With offsets of 64 bits.
    Long(&'a arrow::array::LargeListArray),
}

impl Ranges<'_> {
    /// The range of a row; empty where there is no list.
    #[must_use]
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        fn of<O: OffsetSizeTrait>(list: &arrow::array::GenericListArray<O>, row: usize) -> std::ops::Range<usize> {
            let offsets = list.value_offsets();
            if list.is_valid(row) { offsets[row].as_usize()..offsets[row + 1].as_usize() } else { 0..0 }
        }
        match self {
            Self::Short(list) => of(list, row),
            Self::Long(list) => of(list, row),
        }
    }
}

/// A batch as one record.
#[must_use]
pub fn whole(batch: &RecordBatch) -> StructArray {
    StructArray::from(batch.clone())
}
