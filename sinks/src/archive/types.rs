//! Table schemas: Arrow's columns as Delta's, and what a table's schema becomes when new columns come.
//!
//! Everything in an alert table is nullable from birth, inner fields and elements too, so that a new column is only ever
//! an addition: readers of Delta fill what older files lack with nulls, in structs and in lists of structs as well.

use arrow::datatypes::{Fields, Schema};
use arrow::error::ArrowError;
use delta_kernel::engine::arrow_conversion::{TryFromArrow as _, TryFromKernel as _};
use delta_kernel::schema::{ArrayType, DataType, MapType, StructField, StructType};

use super::columns::{MARK, Names};

/// A table's schema and Delta's JSON do not fit.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    /// A column's type is none that Delta has.
    #[error("not a schema that Delta can hold: {0}")]
    Arrow(#[from] ArrowError),
    /// Names clash, or a type is malformed.
    #[error("not a schema that Delta can hold: {0}")]
    Delta(String),
    /// The JSON is not a Delta schema.
    #[error("not a Delta schema: {0}")]
    Json(#[from] serde_json::Error),
}

/// The survey's columns as Delta's, all nullable.
///
/// # Errors
/// When Delta has no such type.
pub fn of_columns(columns: &Fields) -> Result<StructType, TypesError> {
    let fields = columns.iter().map(|field| Ok(StructField::nullable(field.name(), plain(DataType::try_from_arrow(field.data_type())?))));
    structure(fields.collect::<Result<Vec<_>, ArrowError>>()?)
}

/// A table's schema: the survey's columns, then ours, marked.
///
/// # Errors
/// When Delta has no such type.
pub fn with_own(survey: &StructType, names: &Names) -> Result<StructType, TypesError> {
    let mut fields: Vec<StructField> = survey.fields().cloned().collect();
    for (field, mark) in names.fields().into_iter().chain(names.partition_fields()) {
        let kind = DataType::try_from_arrow(field.data_type())?;
        fields.push(StructField::nullable(field.name(), kind).with_metadata([(MARK, mark)]));
    }
    structure(fields)
}

/// The survey's part of a table's schema.
///
/// # Errors
/// Never for a schema that was read or made here.
pub fn without_own(table: &StructType) -> Result<StructType, TypesError> {
    structure(table.fields().filter(|field| !field.metadata().contains_key(MARK)).cloned().collect())
}

/// The columns of a table's files in Arrow's types: the table's without its partition columns.
///
/// # Errors
/// When Arrow has no such type.
pub fn file_schema(table: &StructType, partition_columns: &[String]) -> Result<Schema, TypesError> {
    let fields = table
        .fields()
        .filter(|field| !partition_columns.contains(field.name()))
        .map(|field| StructField { metadata: Default::default(), ..field.clone() });
    Ok(Schema::try_from_kernel(&structure(fields.collect())?)?)
}

/// Delta's `schemaString`.
///
/// # Errors
/// Never: a schema is plain data.
pub fn to_json(schema: &StructType) -> Result<String, TypesError> {
    Ok(serde_json::to_string(schema)?)
}

/// The schema of a `schemaString`.
///
/// # Errors
/// When it is none.
pub fn from_json(json: &str) -> Result<StructType, TypesError> {
    Ok(serde_json::from_str(json)?)
}

/// The least schema that holds the rows of both, where new fields are the only difference; `None` where a field changes its
/// type, or differs from another by case only. The first one's fields keep their places.
#[must_use]
pub fn merge(table: &StructType, new: &StructType) -> Option<StructType> {
    let mut fields: Vec<StructField> = table.fields().cloned().collect();
    for field in new.fields() {
        match fields.iter_mut().find(|old| old.name().eq_ignore_ascii_case(field.name())) {
            Some(old) if old.name() == field.name() => old.data_type = merge_types(&old.data_type, &field.data_type)?,
            Some(_) => return None,
            None => fields.push(field.clone()),
        }
    }
    structure(fields).ok()
}

fn merge_types(old: &DataType, new: &DataType) -> Option<DataType> {
    Some(match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => merge(old, new)?.into(),
        (DataType::Array(old), DataType::Array(new)) => ArrayType::new(merge_types(&old.element_type, &new.element_type)?, true).into(),
        (DataType::Map(old), DataType::Map(new)) => {
            let value = merge_types(&old.value_type, &new.value_type)?;
            (old.key_type == new.key_type).then(|| MapType::new(old.key_type.clone(), value, true).into())?
        }
        (old, new) => (old == new).then(|| old.clone())?,
    })
}

/// The type with everything in it nullable, and without what other writers noted beside its fields.
fn plain(kind: DataType) -> DataType {
    match kind {
        DataType::Struct(inner) => {
            let fields = inner.fields().map(|field| StructField::nullable(field.name(), plain(field.data_type.clone())));
            StructType::try_new(fields).map_or(DataType::Struct(inner.clone()), DataType::from)
        }
        DataType::Array(array) => ArrayType::new(plain(array.element_type), true).into(),
        DataType::Map(map) => MapType::new(plain(map.key_type), plain(map.value_type), true).into(),
        other => other,
    }
}

fn structure(fields: Vec<StructField>) -> Result<StructType, TypesError> {
    StructType::try_new(fields).map_err(|error| TypesError::Delta(error.to_string()))
}
