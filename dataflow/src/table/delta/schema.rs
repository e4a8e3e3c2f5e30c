//! Delta's schema JSON from an Arrow schema and back.
//!
//! Everything is nullable, at every depth. Only what reader protocol 1 holds is accepted: no timestamps without a zone, no
//! unsigned numbers, no empty structs. Names below lists and maps are Parquet's canonical ones (`element`, `key`, `value`).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use serde_json::{Value, json};

/// Why a schema can't be a Delta table's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// A column has a type that Delta does not know.
    #[error("a Delta table can't hold {column}: {reason}")]
    Type {
        /// The column's dotted path.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two names differ by case only: Delta takes them for one.
    #[error("a Delta table can't hold {first} and {second} side by side: its names differ by more than case")]
    Case {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// A text is no Delta schema.
    #[error("this is no Delta schema: {0}")]
    Text(String),
}

/// The `schemaString` of a table with the columns of `schema`, all of them nullable.
///
/// # Errors
/// When a column has a type or name that a Delta table of reader protocol 1 can't hold.
pub fn delta_schema(schema: &Schema) -> Result<String, SchemaError> {
    Ok(structure(schema.fields(), "")?.to_string())
}

fn structure(fields: &Fields, above: &str) -> Result<Value, SchemaError> {
    let mut seen: BTreeSet<(String, &str)> = BTreeSet::new();
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let path = if above.is_empty() { field.name().clone() } else { format!("{above}.{}", field.name()) };
        let folded = field.name().to_lowercase();
        if let Some((_, first)) = seen.range((folded.clone(), "")..).next().filter(|(name, _)| *name == folded) {
            return Err(SchemaError::Case { first: (*first).to_owned(), second: path });
        }
        seen.insert((folded, field.name()));
        if field.name().is_empty() || field.name().contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=']) {
            return Err(SchemaError::Type { column: path, reason: "its name is empty or holds one of ` ,;{}()=`".into() });
        }
        columns.push(json!({"name": field.name(), "type": type_of(field.data_type(), &path)?, "nullable": true, "metadata": {}}));
    }
    Ok(json!({"type": "struct", "fields": columns}))
}

fn type_of(kind: &DataType, path: &str) -> Result<Value, SchemaError> {
    let refuse = |reason: &str| Err(SchemaError::Type { column: path.to_owned(), reason: reason.to_owned() });
    Ok(match kind {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("binary"),
        DataType::Date32 => json!("date"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00" | "Z") => json!("timestamp"),
        DataType::Timestamp(..) => return refuse("timestamps must be microseconds of UTC"),
        DataType::Decimal128(precision @ 1..=38, scale @ 0..) if i16::from(*scale) <= i16::from(*precision) => {
            json!(format!("decimal({precision},{scale})"))
        }
        DataType::Struct(fields) if fields.is_empty() => return refuse("a struct without fields is nothing in Parquet"),
        DataType::Struct(fields) => structure(fields, path)?,
        DataType::List(element) | DataType::LargeList(element) => {
            let element = type_of(element.data_type(), &format!("{path}.element"))?;
            json!({"type": "array", "elementType": element, "containsNull": true})
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return refuse("a map's entries must be a struct") };
            let [key, value] = pair.as_ref() else { return refuse("a map's entries must have a key and a value") };
            let key = type_of(key.data_type(), &format!("{path}.key"))?;
            let value = type_of(value.data_type(), &format!("{path}.value"))?;
            json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": true})
        }
        other => return refuse(&format!("Delta has no type for {other}")),
    })
}

/// The Arrow schema of a Delta table's `schemaString`, all columns nullable.
///
/// # Errors
/// When the text is no Delta schema, or has a type that reader protocol 1 does not.
pub fn arrow_schema(schema: &str) -> Result<Schema, SchemaError> {
    let text = |reason: &str| SchemaError::Text(reason.to_owned());
    let value: Value = serde_json::from_str(schema).map_err(|e| text(&e.to_string()))?;
    match arrow_type(&value)? {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        _ => Err(text("it is not a struct")),
    }
}

fn arrow_type(kind: &Value) -> Result<DataType, SchemaError> {
    if let Some(name) = kind.as_str() {
        return primitive(name);
    }
    let part = |name: &str| kind.get(name).ok_or_else(|| SchemaError::Text(format!("`{name}` is missing from {kind}")));
    let nested = |name: &str, part: &Value| Ok(Arc::new(Field::new(name, arrow_type(part)?, true)));
    match part("type")?.as_str() {
        Some("struct") => {
            let fields = part("fields")?.as_array().ok_or_else(|| SchemaError::Text("`fields` is no list".into()))?;
            let column = |field: &Value| {
                let name = field.get("name").and_then(Value::as_str).ok_or_else(|| SchemaError::Text("a field has no name".into()))?;
                nested(name, field.get("type").ok_or_else(|| SchemaError::Text(format!("{name} has no type")))?)
            };
            Ok(DataType::Struct(fields.iter().map(column).collect::<Result<Fields, _>>()?))
        }
        Some("array") => Ok(DataType::List(nested("element", part("elementType")?)?)),
        Some("map") => {
            let key: FieldRef = Arc::new(Field::new("key", arrow_type(part("keyType")?)?, false));
            let pair = DataType::Struct([key, nested("value", part("valueType")?)?].into_iter().collect());
            Ok(DataType::Map(Arc::new(Field::new("key_value", pair, false)), false))
        }
        _ => Err(SchemaError::Text(format!("{kind} is no type"))),
    }
}

fn primitive(name: &str) -> Result<DataType, SchemaError> {
    Ok(match name {
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => {
            let digits = other.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.split_once(','));
            let digits = digits.and_then(|(p, s)| Some(DataType::Decimal128(p.trim().parse().ok()?, s.trim().parse().ok()?)));
            digits.ok_or_else(|| SchemaError::Text(format!("`{other}` is no type of reader protocol 1")))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, kind: DataType) -> Field {
        Field::new(name, kind, false)
    }

    #[test]
    fn a_schema_goes_there_and_back_with_everything_nullable() {
        let utc = || Some("UTC".into());
        let inner = DataType::Struct(vec![field("jd", DataType::Float64), field("raw", DataType::Binary)].into());
        let pair = DataType::Struct(vec![field("key", DataType::Utf8), field("value", DataType::Int16)].into());
        let schema = Schema::new(vec![
            field("objectId", DataType::Utf8),
            field("at", DataType::Timestamp(TimeUnit::Microsecond, utc())),
            field("night", DataType::Date32),
            field("price", DataType::Decimal128(10, 2)),
            field("prv_candidates", DataType::List(Arc::new(field("item", inner)))),
            field("tags", DataType::Map(Arc::new(field("entries", pair)), false)),
        ]);
        let text = delta_schema(&schema).expect("Delta holds it");
        let back = arrow_schema(&text).expect("it is a schema");
        assert!(!text.contains("\"nullable\":false") && !text.contains("Null\":false"));
        assert!(back.fields().iter().all(|f| f.is_nullable()));
        assert_eq!(back.field(1).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, utc()));
        let DataType::List(element) = back.field(4).data_type() else { panic!("a list stays one") };
        assert_eq!(element.name(), "element");
        // What came back is the canonical form: it stays as it is from here on.
        assert_eq!(delta_schema(&back).expect("Delta holds it"), text);
        // The kernel reads the same from it.
        let kernel: delta_kernel::schema::StructType = serde_json::from_str(&text).expect("the kernel reads it");
        assert_eq!(kernel.num_fields(), 6);
    }

    #[test]
    fn what_delta_cannot_hold_is_refused_by_name() {
        for kind in [
            DataType::UInt32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Struct(Fields::empty()),
            DataType::Decimal128(39, 0),
            DataType::Null,
        ] {
            let deep = DataType::List(Arc::new(field("item", DataType::Struct(vec![field("x", kind)].into()))));
            let error = delta_schema(&Schema::new(vec![field("a", deep)])).expect_err("it is refused");
            assert!(matches!(&error, SchemaError::Type { column, .. } if column == "a.element.x"), "{error}");
        }
        let twins = Schema::new(vec![field("Year", DataType::Int32), field("year", DataType::Int32)]);
        assert!(matches!(delta_schema(&twins), Err(SchemaError::Case { .. })));
        assert!(arrow_schema("\"timestamp_ntz\"").is_err() && arrow_schema("{}").is_err() && arrow_schema("no").is_err());
    }
}
