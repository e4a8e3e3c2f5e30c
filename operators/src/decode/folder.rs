//! Schemas that are split over files, as LSST's are: `<major>/<minor>/lsst.v<major>_<minor>.alert.avsc` names
//! `lsst.v<major>_<minor>.diaSource`, which stands in a file of its own. Files are read elsewhere; this puts them together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::avro::{full_name, primitive};
use super::fault::{Fault, SCHEMA_INVALID};

/// The schemas of a folder's alerts by registry id, `100 * major + minor`, from the names and texts of its files.
///
/// # Errors
/// When a file is not JSON, or a name that it refers to is in no file.
pub fn alerts<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<BTreeMap<u32, String>, Fault> {
    let mut texts = BTreeMap::new();
    for (name, text) in files {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        if let Some(name) = name.strip_suffix(".avsc") {
            texts.insert(name, text);
        }
    }
    let roots = texts.keys().filter_map(|name| Some((alert_id(name)?, *name)));
    roots.map(|(id, name)| Ok((id, joined(name, &texts)?))).collect()
}

/// `lsst.v7_4.alert` has the id 704.
fn alert_id(name: &str) -> Option<u32> {
    let (major, minor) = name.strip_suffix(".alert")?.rsplit_once(".v")?.1.split_once('_')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    if minor < 100 { major.checked_mul(100)?.checked_add(minor) } else { None }
}

/// The schema of a full name, with each other named type that it uses written out where it is first used.
///
/// # Errors
/// When a text is not JSON, or a name is in no text.
pub fn joined(name: &str, texts: &BTreeMap<&str, &str>) -> Result<String, Fault> {
    let mut defined = BTreeSet::new();
    let mut root = parse(name, texts)?;
    write_out(&mut root, "", &mut defined, texts)?;
    Ok(root.to_string())
}

fn parse(name: &str, texts: &BTreeMap<&str, &str>) -> Result<Value, Fault> {
    let text = texts.get(name).ok_or_else(|| Fault::new(SCHEMA_INVALID, format!("no file holds the schema {name}")))?;
    serde_json::from_str(text).map_err(|e| Fault::new(SCHEMA_INVALID, format!("the schema {name} is not JSON: {e}")))
}

/// Visits types in the order in which Avro defines them, and puts a file's schema where its name is first used.
fn write_out(value: &mut Value, namespace: &str, defined: &mut BTreeSet<String>, texts: &BTreeMap<&str, &str>) -> Result<(), Fault> {
    match value {
        Value::String(name) if primitive(name, None).is_none() => {
            let (full, _) = full_name(name, None, namespace);
            if defined.contains(&full) {
                return Ok(());
            }
            // What a file defines keeps its own namespace, or has none.
            *value = parse(&full, texts)?;
            write_out(value, "", defined, texts)
        }
        Value::Array(branches) => branches.iter_mut().try_for_each(|b| write_out(b, namespace, defined, texts)),
        Value::Object(object) => {
            let kind = object.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut inner = namespace.to_owned();
            if let ("record" | "error" | "enum" | "fixed", Some(name)) = (kind.as_str(), object.get("name").and_then(Value::as_str)) {
                let full;
                (full, inner) = full_name(name, object.get("namespace").and_then(Value::as_str), namespace);
                defined.insert(full);
            }
            match kind.as_str() {
                "record" | "error" => {
                    let fields = object.get_mut("fields").and_then(Value::as_array_mut);
                    let kinds = fields.into_iter().flatten().filter_map(|field| field.get_mut("type"));
                    kinds.into_iter().try_for_each(|kind| write_out(kind, &inner, defined, texts))
                }
                "enum" | "fixed" => Ok(()),
                "array" | "map" => {
                    let key = if kind == "array" { "items" } else { "values" };
                    object.get_mut(key).map_or(Ok(()), |kind| write_out(kind, &inner, defined, texts))
                }
                _ => object.get_mut("type").map_or(Ok(()), |kind| write_out(kind, &inner, defined, texts)),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::avro::Graph;
    use super::*;

    #[test]
    fn puts_files_together() {
        let files = [
            (
                "1/0/x.v1_0.alert.avsc",
                r#"{"type":"record","namespace":"x.v1_0","name":"alert","fields":[{"name":"a","type":["null",{"type":"array","items":"x.v1_0.source"}]},{"name":"b","type":"source"}]}"#,
            ),
            ("1/0/x.v1_0.source.avsc", r#"{"type":"record","namespace":"x.v1_0","name":"source","fields":[{"name":"id","type":"long"}]}"#),
            ("1/0/sample_data/alert.json", "{}"),
        ];
        let alerts = alerts(files).unwrap();
        assert_eq!(alerts.keys().collect::<Vec<_>>(), [&100]);
        let graph = Graph::parse(&alerts[&100]).unwrap();
        assert_eq!(graph.name, "x.v1_0.alert");
        assert_eq!(alerts[&100].matches(r#""id""#).count(), 1);
    }

    #[test]
    fn a_name_without_a_file_is_an_error() {
        let files = [("x.v1_0.alert.avsc", r#"{"type":"record","name":"alert","fields":[{"name":"a","type":"x.gone"}]}"#)];
        assert!(alerts(files).unwrap_err().reason.contains("x.gone"));
    }
}
