//! Where the leaves of an Avro datum lie: a walk over the bytes that remembers positions and builds nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

/// The leaves of a datum that can be changed without moving any other byte.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    /// Positions of 32-bit floats.
    pub floats: Vec<usize>,
    /// Positions of 64-bit floats.
    pub doubles: Vec<usize>,
    /// Bytes of ints and longs.
    pub longs: Vec<Range<usize>>,
    /// Contents of byte fields.
    pub blobs: Vec<Range<usize>>,
    /// Position of the first leaf at each path, such as `candidate.jd`.
    pub paths: BTreeMap<String, usize>,
}

/// Reads a variable-length integer; returns it and the position after it.
#[must_use]
pub fn long(bytes: &[u8], at: usize) -> (i64, usize) {
    let (mut value, mut shift, mut next) = (0_u64, 0, at);
    loop {
        let byte = bytes[next];
        next += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return ((value >> 1).cast_signed() ^ -(value & 1).cast_signed(), next);
        }
        shift += 7;
    }
}

/// Writes a variable-length integer.
pub fn put_long(value: i64, to: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        to.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    to.push(rest.to_le_bytes()[0]);
}

fn size(bytes: &[u8], at: usize) -> (usize, usize) {
    let (value, next) = long(bytes, at);
    (usize::try_from(value).expect("a length is not negative"), next)
}

/// Walks a datum by its writer's schema; returns its leaves and where it ends. Panics on a datum that does not fit.
#[must_use]
pub fn walk(schema: &Value, bytes: &[u8]) -> (Leaves, usize) {
    let mut walker = Walker { bytes, named: BTreeMap::new(), leaves: Leaves::default(), path: Vec::new() };
    name(schema, "", &mut walker.named);
    let end = walker.value(schema, 0);
    (walker.leaves, end)
}

/// Collects the named types of a schema, under their short and their full names.
fn name<'a>(schema: &'a Value, above: &str, named: &mut BTreeMap<String, &'a Value>) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|b| name(b, above, named)),
        Value::Object(object) => {
            let space = object.get("namespace").and_then(Value::as_str).unwrap_or(above);
            if let Some(given) = object.get("name").and_then(Value::as_str) {
                named.insert(given.to_owned(), schema);
                named.insert(format!("{space}.{given}"), schema);
                if let Some((_, short)) = given.rsplit_once('.') {
                    named.entry(short.to_owned()).or_insert(schema);
                }
            }
            for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                name(&field["type"], space, named);
            }
            for key in ["items", "values", "type"] {
                if let Some(inner) = object.get(key).filter(|v| !v.is_string()) {
                    name(inner, space, named);
                }
            }
        }
        _ => {}
    }
}

struct Walker<'a> {
    bytes: &'a [u8],
    named: BTreeMap<String, &'a Value>,
    leaves: Leaves,
    path: Vec<String>,
}

impl<'a> Walker<'a> {
    fn leaf(&mut self, at: usize) {
        self.leaves.paths.entry(self.path.join(".")).or_insert(at);
    }

    fn value(&mut self, schema: &'a Value, at: usize) -> usize {
        match schema {
            Value::String(kind) => self.primitive(kind, at),
            Value::Array(branches) => {
                let (branch, next) = size(self.bytes, at);
                self.value(&branches[branch], next)
            }
            Value::Object(object) => match object["type"].as_str() {
                Some("record" | "error") => {
                    let fields = object["fields"].as_array().expect("a record has fields");
                    fields.iter().fold(at, |at, field| {
                        self.path.push(field["name"].as_str().expect("a field has a name").to_owned());
                        let next = self.value(&field["type"], at);
                        self.path.pop();
                        next
                    })
                }
                Some("array") => self.blocks(at, |walker, at| walker.value(&object["items"], at)),
                Some("map") => self.blocks(at, |walker, at| {
                    let at = walker.primitive("string", at);
                    walker.value(&object["values"], at)
                }),
                Some("enum") => long(self.bytes, at).1,
                Some("fixed") => at + usize::try_from(object["size"].as_u64().expect("a size")).expect("fits"),
                Some(kind) => self.primitive(kind, at),
                None => self.value(&object["type"], at),
            },
            other => panic!("not a schema: {other}"),
        }
    }

    fn blocks(&mut self, mut at: usize, mut item: impl FnMut(&mut Self, usize) -> usize) -> usize {
        loop {
            let (count, next) = long(self.bytes, at);
            at = next;
            if count == 0 {
                return at;
            }
            if count < 0 {
                at = long(self.bytes, at).1;
            }
            for _ in 0..count.unsigned_abs() {
                at = item(self, at);
            }
        }
    }

    fn primitive(&mut self, kind: &str, at: usize) -> usize {
        self.leaf(at);
        match kind {
            "null" => at,
            "boolean" => at + 1,
            "float" => {
                self.leaves.floats.push(at);
                at + 4
            }
            "double" => {
                self.leaves.doubles.push(at);
                at + 8
            }
            "int" | "long" => {
                let end = long(self.bytes, at).1;
                self.leaves.longs.push(at..end);
                end
            }
            "bytes" | "string" => {
                let (length, start) = size(self.bytes, at);
                if kind == "bytes" {
                    self.leaves.blobs.push(start..start + length);
                }
                start + length
            }
            other => {
                let schema = *self.named.get(other).unwrap_or_else(|| panic!("no type {other}"));
                self.value(schema, at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_round_trip() {
        for value in [0, 1, -1, 63, 64, -65, 1 << 40, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_long(value, &mut bytes);
            assert_eq!(long(&bytes, 0), (value, bytes.len()));
        }
    }

    #[test]
    fn leaves_are_found() {
        let schema = serde_json::json!({"type": "record", "name": "a.r", "fields": [
            {"name": "id", "type": "long"},
            {"name": "inner", "type": ["null", {"type": "record", "name": "i", "fields": [{"name": "x", "type": "float"}]}]},
            {"name": "more", "type": {"type": "array", "items": "i"}},
            {"name": "stamp", "type": ["null", "bytes"]}]});
        let mut bytes = Vec::new();
        put_long(300, &mut bytes);
        put_long(1, &mut bytes);
        bytes.extend(1.5_f32.to_le_bytes());
        put_long(2, &mut bytes);
        bytes.extend([2.5_f32.to_le_bytes(), 3.5_f32.to_le_bytes()].concat());
        put_long(0, &mut bytes);
        put_long(1, &mut bytes);
        put_long(3, &mut bytes);
        bytes.extend(b"abc");
        let (leaves, end) = walk(&schema, &bytes);
        assert_eq!(end, bytes.len());
        assert_eq!(leaves.longs, vec![0..2]);
        assert_eq!(leaves.floats, vec![3, 8, 12]);
        assert_eq!(leaves.blobs, vec![end - 3..end]);
        assert_eq!(leaves.paths["inner.x"], 3);
    }
}
