//! A writer's schema as columns: which types Delta can hold, how arrow-avro is to read them, and what is left to do.
//!
//! arrow-avro never sees the survey's own JSON. It gets a schema of the same encoding, with every type written out where
//! it is used, under a name of its own, and with those logical types only whose columns Delta can hold. So neither names
//! (arrow-avro 60.1 can't resolve dotted ones, which LSST uses) nor types that it lacks can stop a survey.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow_avro::reader::{Decoder, DecoderMode, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, SchemaStore};
use fink_dataflow::alerts::{Form, WriterSchema};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::avro::{Graph, Id, Logical, Node};
use super::fault::Fault;
use super::fit::Fit;

/// The most columns (leaves) that a table of columns may have; wider schemas are kept raw.
const LEAVES_MAX: usize = 4096;
/// The deepest nesting of columns.
const DEPTH_MAX: usize = 32;
/// The largest fixed type: where it is absent, a column takes its size all the same.
const FIXED_MAX: usize = 4096;

/// A schema that was understood.
#[derive(Debug)]
pub struct Understood {
    /// What the archive needs to know of it.
    pub schema: Arc<WriterSchema>,
    /// Its types.
    pub graph: Graph,
    /// How it becomes columns; `None`: it stays raw.
    pub columns: Option<Columns>,
}

/// How datums become columns.
#[derive(Debug)]
pub struct Columns {
    /// The schema for arrow-avro.
    pub wire: String,
    /// What is to be done to each of its columns.
    pub fits: Vec<Fit>,
    /// What an absent value of each type takes in memory, by index in the graph.
    pub widths: Vec<u64>,
    /// The most bytes of columns that a byte of datum can become.
    pub swell: u64,
    /// The fewest bytes of a datum.
    pub bytes_min: usize,
}

impl Columns {
    /// A fresh decoder. It fills as far as it is fed: whoever feeds it bounds the batch.
    pub(super) fn decoder(&self) -> Result<Decoder, ArrowError> {
        let mut store = SchemaStore::new();
        let fingerprint = store.register(AvroSchema::new(self.wire.clone()))?;
        ReaderBuilder::new()
            .with_batch_size(usize::MAX)
            .with_writer_schema_store(store)
            .with_active_fingerprint(fingerprint)
            .with_decoder_mode(DecoderMode::UnframedDatum)
            .build_decoder()
    }
}

/// Understands a writer's schema.
///
/// # Errors
/// When it is no Avro schema at all, or a bomb.
pub fn understand(json: &str) -> Result<Understood, Fault> {
    let graph = Graph::parse(json)?;
    let mut shaper = Shaper { graph: &graph, open: Vec::new(), names: 0, leaves: 0, widths: vec![0; graph.len()], swell: 1 };
    let shaped = shaper.root().and_then(|(fields, shape)| {
        let Fit::Struct(fits) = shape.fit else { unreachable!("a record's columns are a struct") };
        let (widths, swell) = (shaper.widths, shaper.swell);
        let columns = Columns { wire: shape.wire.to_string(), fits, widths, swell, bytes_min: shape.bytes_min };
        // What arrow-avro can't take after all must not stop the survey either.
        columns.decoder().map_err(|e| e.to_string())?;
        Ok((fields, columns))
    });
    let (columns, form, plan) = match shaped {
        Ok((fields, columns)) => (Schema::new(fields), Form::Columns, Some(columns)),
        Err(reason) => (Schema::new(vec![Field::new("datum", DataType::Binary, true)]), Form::Raw(reason), None),
    };
    let schema = WriterSchema {
        fingerprint: fingerprint(json).into(),
        json: json.into(),
        name: graph.name.clone(),
        columns: Arc::new(columns),
        form,
    };
    Ok(Understood { schema: Arc::new(schema), graph, columns: plan })
}

/// The first 32 hex digits of a text's SHA-256.
#[must_use]
pub fn fingerprint(json: &str) -> String {
    Sha256::digest(json.as_bytes())[..16].iter().map(|b| format!("{b:02x}")).collect()
}

/// A type as a column.
struct Shape {
    kind: DataType,
    wire: Value,
    fit: Fit,
    /// The fewest bytes that a value takes in a datum.
    bytes_min: usize,
    /// The bytes that an absent value takes in a column.
    width: u64,
}

impl Shape {
    fn new(kind: DataType, wire: impl Into<Value>, fit: Fit, bytes_min: usize, width: u64) -> Self {
        Self { kind, wire: wire.into(), fit, bytes_min, width }
    }
}

struct Shaper<'g> {
    graph: &'g Graph,
    open: Vec<Id>,
    names: usize,
    leaves: usize,
    widths: Vec<u64>,
    swell: u64,
}

impl Shaper<'_> {
    fn root(&mut self) -> Result<(Fields, Shape), String> {
        let shape = self.shape(self.graph.root)?;
        match &shape.kind {
            DataType::Struct(fields) if matches!(self.graph.node(self.graph.root), Node::Record(_)) => Ok((fields.clone(), shape)),
            _ => Err("its datums are no records".to_owned()),
        }
    }

    /// The column of a type, or why Delta can't hold it.
    fn shape(&mut self, id: Id) -> Result<Shape, String> {
        let shape = match self.graph.node(id) {
            Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => {
                if self.open.contains(&id) {
                    return Err("a record holds itself".to_owned());
                }
                if self.open.len() >= DEPTH_MAX {
                    return Err(format!("it nests deeper than {DEPTH_MAX}"));
                }
                self.open.push(id);
                let shape = self.nested(id)?;
                self.open.pop();
                shape
            }
            leaf => {
                self.leaves += 1;
                if self.leaves > LEAVES_MAX {
                    return Err(format!("it has more than {LEAVES_MAX} columns"));
                }
                let name = format!("t{}", self.names);
                self.names += 1;
                scalar(leaf, name)?
            }
        };
        self.widths[id] = shape.width;
        Ok(shape)
    }

    fn nested(&mut self, id: Id) -> Result<Shape, String> {
        let graph = self.graph;
        match graph.node(id) {
            Node::Array(items) => {
                let item = self.shape(*items)?;
                if item.bytes_min == 0 {
                    return Err("an array's items take no bytes".to_owned());
                }
                self.swell += item.width.div_ceil(item.bytes_min as u64);
                let kind = DataType::List(nullable("element", item.kind));
                Ok(Shape::new(kind, json!({"type": "array", "items": item.wire}), Fit::List(Box::new(item.fit)), 1, 4))
            }
            Node::Map(values) => {
                let value = self.shape(*values)?;
                if value.bytes_min == 0 {
                    return Err("a map's values take no bytes".to_owned());
                }
                self.swell += 8 + value.width;
                let key = Arc::new(Field::new("key", DataType::Utf8, false));
                let entries = DataType::Struct(Fields::from(vec![key, nullable("value", value.kind)]));
                let kind = DataType::Map(Arc::new(Field::new("key_value", entries, false)), false);
                Ok(Shape::new(kind, json!({"type": "map", "values": value.wire}), Fit::Map(Box::new(value.fit)), 1, 4))
            }
            Node::Union(branches) => {
                let [a, b] = branches[..] else { return Err(format!("a union has {} branches", branches.len())) };
                let null_first = match (graph.node(a), graph.node(b)) {
                    (Node::Null, Node::Null) | (Node::Union(_), _) | (_, Node::Union(_)) => {
                        return Err("a union holds unions or nulls".to_owned());
                    }
                    (Node::Null, _) => true,
                    (_, Node::Null) => false,
                    _ => return Err("a union has two branches that are not null".to_owned()),
                };
                let shape = self.shape(if null_first { b } else { a })?;
                let wire = if null_first { json!(["null", shape.wire]) } else { json!([shape.wire, "null"]) };
                Ok(Shape::new(shape.kind, wire, shape.fit, 1, shape.width))
            }
            Node::Record(fields) => self.record(fields),
            _ => unreachable!("scalars are shaped elsewhere"),
        }
    }

    fn record(&mut self, fields: &[(String, Id)]) -> Result<Shape, String> {
        if fields.is_empty() {
            return Err("a record has no fields".to_owned());
        }
        let mut seen = HashSet::new();
        if let Some((name, _)) = fields.iter().find(|(name, _)| !seen.insert(name.to_lowercase())) {
            return Err(format!("a record has more than one field {name:?}, but for case"));
        }
        let odd = |name: &str| name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if let Some((name, _)) = fields.iter().find(|(name, _)| odd(name)) {
            return Err(format!("a field has the name {name:?}"));
        }
        let name = format!("t{}", self.names);
        self.names += 1;
        let (mut columns, mut wires, mut fits, mut bytes_min, mut width) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
        for (name, id) in fields {
            let shape = self.shape(*id)?;
            columns.push(nullable(name, shape.kind));
            // A null takes no bytes; arrow-avro 60.1 can't finish a nested record that holds one.
            if !matches!(shape.fit, Fit::Null) {
                wires.push(json!({"name": name, "type": shape.wire}));
            }
            fits.push(shape.fit);
            bytes_min += shape.bytes_min;
            width += shape.width;
        }
        let wire = json!({"type": "record", "name": name, "fields": wires});
        Ok(Shape::new(DataType::Struct(columns.into()), wire, Fit::Struct(fits), bytes_min, width))
    }
}

fn nullable(name: &str, kind: DataType) -> FieldRef {
    Arc::new(Field::new(name, kind, true))
}

fn scalar(node: &Node, name: String) -> Result<Shape, String> {
    let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Ok(match node {
        // Delta has no null type; a column of any type will do that is always null.
        Node::Null => Shape::new(DataType::Utf8, "null", Fit::Null, 0, 4),
        Node::Boolean => Shape::new(DataType::Boolean, "boolean", Fit::Keep, 1, 1),
        Node::Int(Logical::Date) => Shape::new(DataType::Date32, json!({"type": "int", "logicalType": "date"}), Fit::Keep, 1, 4),
        Node::Int(_) => Shape::new(DataType::Int32, "int", Fit::Keep, 1, 4),
        Node::Long(Logical::TimestampMillis) => Shape::new(timestamp(), "long", Fit::Millis, 1, 8),
        Node::Long(Logical::TimestampMicros) => Shape::new(timestamp(), "long", Fit::Micros, 1, 8),
        Node::Long(_) => Shape::new(DataType::Int64, "long", Fit::Keep, 1, 8),
        Node::Float => Shape::new(DataType::Float32, "float", Fit::Keep, 4, 4),
        Node::Double => Shape::new(DataType::Float64, "double", Fit::Keep, 8, 8),
        Node::Bytes(Logical::Decimal(p, s)) => {
            let wire = json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": s});
            Shape::new(DataType::Decimal128(*p, *s), wire, Fit::Decimal, 1, 16)
        }
        Node::Bytes(_) => Shape::new(DataType::Binary, "bytes", Fit::Keep, 1, 4),
        Node::String => Shape::new(DataType::Utf8, "string", Fit::Keep, 1, 4),
        Node::Fixed(size, _) if *size == 0 || *size > FIXED_MAX => return Err(format!("a fixed type has {size} bytes")),
        Node::Fixed(size, Logical::Decimal(p, s)) => {
            let wire = json!({"type": "fixed", "name": name, "size": size, "logicalType": "decimal", "precision": p, "scale": s});
            Shape::new(DataType::Decimal128(*p, *s), wire, Fit::Decimal, *size, 16)
        }
        Node::Fixed(size, _) => {
            let wire = json!({"type": "fixed", "name": name, "size": size});
            Shape::new(DataType::Binary, wire, Fit::Fixed, *size, *size as u64)
        }
        Node::Enum(symbols) if symbols.is_empty() => return Err("an enum has no symbols".to_owned()),
        // An enum is an int on the wire; its symbols are set in later, and its range checked there.
        Node::Enum(symbols) => {
            let symbols = StringArray::from_iter_values(symbols);
            Shape::new(DataType::Utf8, "int", Fit::Symbols(Arc::new(symbols)), 1, 4)
        }
        Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => unreachable!("nested types are shaped elsewhere"),
    })
}
