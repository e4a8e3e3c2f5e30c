//! Rubin's schemas and messages. A schema is split over files, one a record: here they are put together as one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::places;

/// The file of the alert's schema of a version, such as `9_0`.
#[must_use]
pub fn schema_file(major: u32, minor: u32) -> Option<PathBuf> {
    let folder = places::shared()?.join(format!("data/lsst/schemas/{major}/{minor}"));
    Some(folder.join(format!("lsst.v{major}_{minor}.alert.avsc")))
}

/// The whole schema of a version, as a registry holds it.
#[must_use]
pub fn schema(major: u32, minor: u32) -> Option<String> {
    let file = schema_file(major, minor)?;
    Some(inline(&read(&file), file.parent().expect("a file lies in a folder"), &mut BTreeSet::new()).to_string())
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Replaces the first mention of a type that has a file by what the file says.
fn inline(schema: &Value, folder: &Path, known: &mut BTreeSet<String>) -> Value {
    match schema {
        Value::String(name) if name.contains('.') => {
            if known.insert(name.clone()) {
                inline(&read(&folder.join(format!("{name}.avsc"))), folder, known)
            } else {
                schema.clone()
            }
        }
        Value::Array(branches) => branches.iter().map(|b| inline(b, folder, known)).collect(),
        Value::Object(object) => {
            let mut object = object.clone();
            for key in ["fields", "type", "items", "values"] {
                if let Some(inner) = object.get(key) {
                    let inner = inline(inner, folder, known);
                    object.insert(key.to_owned(), inner);
                }
            }
            Value::Object(object)
        }
        other => other.clone(),
    }
}

/// Confluent's framing of a datum.
#[must_use]
pub fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(id.to_be_bytes());
    message.extend(datum);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_whole() {
        for (major, minor) in [(7, 3), (7, 4), (9, 0), (10, 0), (11, 0)] {
            let Some(schema) = schema(major, minor) else { return };
            apache_avro::Schema::parse_str(&schema).unwrap_or_else(|e| panic!("{major}.{minor}: {e}"));
        }
    }
}
