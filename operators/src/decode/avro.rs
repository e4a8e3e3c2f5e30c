//! An Avro schema as a graph: names resolved, recursion possible, JSON forgotten.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::fault::{Fault, SCHEMA_INVALID, TOO_DEEP, TOO_LARGE};

/// The longest schema that is looked at, in bytes of JSON.
const JSON_BYTES_MAX: usize = 8 << 20;

/// A type's index in its [`Graph`].
pub type Id = usize;

/// One type.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Avro's `null`.
    Null,
    /// Avro's `boolean`.
    Boolean,
    /// Avro's `int`, maybe a date.
    Int(Logical),
    /// Avro's `long`, maybe a time.
    Long(Logical),
    /// Avro's `float`.
    Float,
    /// Avro's `double`.
    Double,
    /// Avro's `bytes`, maybe a decimal.
    Bytes(Logical),
    /// Avro's `string`.
    String,
    /// So many bytes, maybe a decimal.
    Fixed(usize, Logical),
    /// One of these symbols.
    Enum(Vec<String>),
    /// Items of one type.
    Array(Id),
    /// Values of one type, by strings.
    Map(Id),
    /// One of these types.
    Union(Vec<Id>),
    /// Fields.
    Record(Vec<(String, Id)>),
}

/// What a value means beyond its encoding, as far as it matters to columns; whatever else a schema says is ignored, as
/// Avro's specification asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Logical {
    /// Nothing.
    Plain,
    /// Days since 1970.
    Date,
    /// Milliseconds since 1970 UTC.
    TimestampMillis,
    /// Microseconds since 1970 UTC.
    TimestampMicros,
    /// A big-endian number of so many digits, the last so many behind the point.
    Decimal(u8, i8),
}

/// A schema's types.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    /// The type of a datum.
    pub root: Id,
    /// The full name of the root, or its type's name where it has none.
    pub name: String,
}

impl Graph {
    /// Reads a schema's JSON.
    ///
    /// # Errors
    /// When it is not JSON, not a schema, or larger or deeper than anything sensible.
    pub fn parse(json: &str) -> Result<Self, Fault> {
        if json.len() > JSON_BYTES_MAX {
            return Err(Fault::new(TOO_LARGE, format!("a schema of {} bytes", json.len())));
        }
        // serde_json itself stops at 128 levels, so what follows may recurse.
        let value: Value = match serde_json::from_str(json) {
            Ok(value) => value,
            Err(e) if e.to_string().contains("recursion limit") => return Err(Fault::new(TOO_DEEP, "the schema nests deeper than 128")),
            // A registry may hold the bare name of a primitive, as Avro's Java does.
            Err(_) if json.bytes().all(|b| b.is_ascii_lowercase()) && !json.is_empty() => Value::String(json.to_owned()),
            Err(e) => return Err(Fault::new(SCHEMA_INVALID, format!("the schema is not JSON: {e}"))),
        };
        let mut parser = Parser { nodes: Vec::new(), named: HashMap::new() };
        let root = parser.of(&value, "")?;
        let named = parser.named.iter().find(|(_, id)| **id == root).map(|(name, _)| name.clone());
        let name = named.or_else(|| type_name(&value)).unwrap_or_else(|| "union".to_owned());
        Ok(Self { nodes: parser.nodes, root, name })
    }

    /// The type of an index.
    #[must_use]
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// How many types there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// The full name and the namespace for what stands inside, of a named type or a reference.
pub(super) fn full_name(name: &str, namespace: Option<&str>, enclosing: &str) -> (String, String) {
    if let Some((namespace, _)) = name.rsplit_once('.') {
        return (name.to_owned(), namespace.to_owned());
    }
    match namespace.unwrap_or(enclosing) {
        "" => (name.to_owned(), String::new()),
        namespace => (format!("{namespace}.{name}"), namespace.to_owned()),
    }
}

fn type_name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(object) => type_name(object.get("type")?),
        _ => None,
    }
}

fn invalid(reason: impl Into<String>) -> Fault {
    Fault::new(SCHEMA_INVALID, reason)
}

struct Parser {
    nodes: Vec<Node>,
    named: HashMap<String, Id>,
}

impl Parser {
    fn push(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn of(&mut self, value: &Value, enclosing: &str) -> Result<Id, Fault> {
        match value {
            Value::String(name) => match primitive(name, None) {
                Some(node) => Ok(self.push(node)),
                None => {
                    let (full, _) = full_name(name, None, enclosing);
                    let found = self.named.get(&full).or_else(|| self.named.get(name));
                    found.copied().ok_or_else(|| invalid(format!("the schema names {name}, which it does not define")))
                }
            },
            Value::Array(branches) => {
                let branches = branches.iter().map(|b| self.of(b, enclosing)).collect::<Result<_, _>>()?;
                Ok(self.push(Node::Union(branches)))
            }
            Value::Object(object) => self.object(object, enclosing),
            other => Err(invalid(format!("the schema has {other} in the place of a type"))),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, enclosing: &str) -> Result<Id, Fault> {
        let of = |key: &str| object.get(key).ok_or_else(|| invalid(format!("a type of the schema has no {key:?}")));
        let kind = match of("type")? {
            Value::String(kind) => kind.as_str(),
            nested => return self.of(nested, enclosing),
        };
        match kind {
            "array" => {
                let items = self.of(of("items")?, enclosing)?;
                Ok(self.push(Node::Array(items)))
            }
            "map" => {
                let values = self.of(of("values")?, enclosing)?;
                Ok(self.push(Node::Map(values)))
            }
            "record" | "error" | "enum" | "fixed" => {
                let name = of("name")?.as_str().ok_or_else(|| invalid("a name of the schema is no string"))?;
                let (full, namespace) = full_name(name, object.get("namespace").and_then(Value::as_str), enclosing);
                // Entered before its fields are read, which may refer to it.
                let id = self.push(Node::Null);
                self.named.insert(full, id);
                self.nodes[id] = match kind {
                    "enum" => Node::Enum(symbols(of("symbols")?)?),
                    "fixed" => fixed(of("size")?, object)?,
                    _ => Node::Record(self.fields(of("fields")?, &namespace)?),
                };
                Ok(id)
            }
            name => match primitive(name, Some(object)) {
                Some(node) => Ok(self.push(node)),
                None => self.of(&Value::String(name.to_owned()), enclosing),
            },
        }
    }

    fn fields(&mut self, fields: &Value, namespace: &str) -> Result<Vec<(String, Id)>, Fault> {
        let fields = fields.as_array().ok_or_else(|| invalid("a record's fields are no array"))?;
        let field = |field: &Value| {
            let name = field.get("name").and_then(Value::as_str).ok_or_else(|| invalid("a field of the schema has no name"))?;
            let kind = field.get("type").ok_or_else(|| invalid(format!("the field {name} has no type")))?;
            Ok((name.to_owned(), self.of(kind, namespace)?))
        };
        fields.iter().map(field).collect()
    }
}

fn symbols(symbols: &Value) -> Result<Vec<String>, Fault> {
    let symbols = symbols.as_array().ok_or_else(|| invalid("an enum's symbols are no array"))?;
    let symbol = |s: &Value| s.as_str().map(str::to_owned).ok_or_else(|| invalid("an enum's symbol is no string"));
    symbols.iter().map(symbol).collect()
}

fn fixed(size: &Value, object: &Map<String, Value>) -> Result<Node, Fault> {
    let size = size.as_u64().and_then(|s| i32::try_from(s).ok()).ok_or_else(|| invalid("a fixed type has no size"))?;
    let size = usize::try_from(size).map_err(|_| invalid("a fixed type has no size"))?;
    Ok(Node::Fixed(size, logical(Some(object), "fixed", Some(size))))
}

pub(super) fn primitive(name: &str, object: Option<&Map<String, Value>>) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int(logical(object, name, None)),
        "long" => Node::Long(logical(object, name, None)),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(logical(object, name, None)),
        "string" => Node::String,
        _ => return None,
    })
}

/// A logical type that fits the type below it; any other is none, as the specification has it.
fn logical(object: Option<&Map<String, Value>>, kind: &str, size: Option<usize>) -> Logical {
    let Some(object) = object else { return Logical::Plain };
    match (kind, object.get("logicalType").and_then(Value::as_str)) {
        ("int", Some("date")) => Logical::Date,
        ("long", Some("timestamp-millis")) => Logical::TimestampMillis,
        ("long", Some("timestamp-micros")) => Logical::TimestampMicros,
        ("bytes" | "fixed", Some("decimal")) => decimal(object, size).unwrap_or(Logical::Plain),
        _ => Logical::Plain,
    }
}

/// A decimal that Delta can hold: at most 38 digits.
fn decimal(object: &Map<String, Value>, size: Option<usize>) -> Option<Logical> {
    let precision = u8::try_from(object.get("precision")?.as_u64()?).ok()?;
    let scale = object.get("scale").map_or(Some(0), Value::as_u64).and_then(|s| u8::try_from(s).ok())?;
    // The most digits that fit into a fixed type of so many bytes: floor(log10(2^(8n - 1) - 1)).
    let most = size.map_or(38, |n| ((8.0 * n as f64 - 1.0) * std::f64::consts::LOG10_2).floor() as u64);
    let sane = (1..=38).contains(&precision) && scale <= precision && u64::from(precision) <= most && size.is_none_or(|n| n <= 32);
    sane.then(|| Logical::Decimal(precision, scale.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_names_as_avro_does() {
        let graph = Graph::parse(
            r#"{"type":"record","name":"lsst.v1.alert","fields":[
                {"name":"a","type":{"type":"record","name":"source","fields":[{"name":"e","type":{"type":"enum","name":"Band","symbols":["g"]}}]}},
                {"name":"b","type":["null","lsst.v1.source"]},
                {"name":"c","type":"Band"},
                {"name":"d","type":{"type":"fixed","namespace":"other","name":"Id","size":2}},
                {"name":"self","type":["null",{"type":"other.Id"},{"type":"array","items":"alert"}]}]}"#,
        )
        .unwrap();
        assert_eq!(graph.name, "lsst.v1.alert");
        let Node::Record(fields) = graph.node(graph.root) else { panic!("{graph:?}") };
        let Node::Union(b) = graph.node(fields[1].1) else { panic!("{graph:?}") };
        assert_eq!(b[1], fields[0].1);
        assert_eq!(graph.node(fields[2].1), &Node::Enum(vec!["g".into()]));
        let Node::Union(own) = graph.node(fields[4].1) else { panic!("{graph:?}") };
        assert_eq!(own[1], fields[3].1);
        assert_eq!(graph.node(own[2]), &Node::Array(graph.root));
    }

    #[test]
    fn logical_types_that_do_not_fit_are_none() {
        let node = |json: &str| {
            let graph = Graph::parse(json).unwrap();
            graph.node(graph.root).clone()
        };
        assert_eq!(node(r#"{"type":"long","logicalType":"timestamp-millis"}"#), Node::Long(Logical::TimestampMillis));
        assert_eq!(node(r#"{"type":"int","logicalType":"timestamp-millis"}"#), Node::Int(Logical::Plain));
        assert_eq!(node(r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#), Node::Bytes(Logical::Decimal(4, 2)));
        assert_eq!(node(r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":5}"#), Node::Bytes(Logical::Plain));
        assert_eq!(
            node(r#"{"type":"fixed","name":"x","size":2,"logicalType":"decimal","precision":4}"#),
            Node::Fixed(2, Logical::Decimal(4, 0))
        );
        assert_eq!(node(r#"{"type":"fixed","name":"x","size":2,"logicalType":"decimal","precision":5}"#), Node::Fixed(2, Logical::Plain));
        assert_eq!(node("string"), Node::String);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let word = |json: &str| Graph::parse(json).unwrap_err().word;
        assert_eq!(word("{"), SCHEMA_INVALID);
        assert_eq!(word("7"), SCHEMA_INVALID);
        assert_eq!(word(r#""nosuchtype""#), SCHEMA_INVALID);
        assert_eq!(word(r#"{"type":"record","name":"x"}"#), SCHEMA_INVALID);
        assert_eq!(word(r#"{"type":"fixed","name":"x","size":-1}"#), SCHEMA_INVALID);
        assert_eq!(word(&format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(1000), "}".repeat(1000))), TOO_DEEP);
    }
}
