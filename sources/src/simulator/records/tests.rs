//! What is written is what was seen, in a schema that the surveys' own readers take.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use apache_avro::{Reader, Schema, from_avro_datum};

use super::frame::{Frame, Framing};
use super::*;
use crate::simulator::example::example;

fn cutouts() -> [Vec<u8>; 3] {
    [vec![1, 2, 3], vec![4], vec![]]
}

fn datum(telescope: Telescope, seen: &Seen) -> Vec<u8> {
    let mut datum = Vec::new();
    encode(telescope, seen, &cutouts(), &mut datum);
    datum
}

fn fields(value: &Value) -> BTreeMap<&str, &Value> {
    match value {
        Value::Record(fields) => fields.iter().map(|(name, value)| (name.as_str(), plain(value))).collect(),
        other => panic!("not a record: {other:?}"),
    }
}

fn plain(value: &Value) -> &Value {
    if let Value::Union(_, inner) = value { inner } else { value }
}

fn rows(value: &Value) -> &[Value] {
    match value {
        Value::Array(rows) => rows,
        Value::Null => &[],
        other => panic!("not an array: {other:?}"),
    }
}

#[test]
fn what_is_encoded_by_hand_is_what_avro_reads() {
    for telescope in [Telescope::Ztf, Telescope::Lsst] {
        let schema = Schema::parse_str(schema(telescope)).unwrap();
        for seed in 0..40 {
            let seen = example(telescope, seed);
            let datum = datum(telescope, &seen);
            let mut rest = &datum[..];
            let value = from_avro_datum(&schema, &mut rest, None).unwrap();
            assert!(rest.is_empty(), "{telescope:?} {seed}: {} bytes are left", rest.len());
            let alert = fields(&value);
            match telescope {
                Telescope::Ztf => assert_ztf(&alert, &seen),
                Telescope::Lsst => assert_lsst(&alert, &seen),
            }
        }
    }
}

fn assert_ztf(alert: &BTreeMap<&str, &Value>, seen: &Seen) {
    let candidate = fields(alert["candidate"]);
    let jd = |mjd_tai: f64| mjd_tai + 2_400_000.5 - (37.0 + 15.0) / 86_400.0;
    assert_eq!(*alert["objectId"], Value::String(object_name(Telescope::Ztf, seen)));
    assert_eq!(*candidate["candid"], Value::Long(alert_id(Telescope::Ztf, seen)));
    assert_eq!(*candidate["ra"], Value::Double(seen.detection.ra_deg));
    let Value::Double(at) = candidate["jd"] else { panic!() };
    assert!((at - jd(seen.visit.mjd_tai)).abs() < 1e-8);
    let Value::Float(magpsf) = candidate["magpsf"] else { panic!() };
    assert!((f64::from(*magpsf) - (31.4 - 2.5 * seen.detection.difference_njy.abs().log10())).abs() < 1e-4);
    let positive = if seen.detection.difference_njy >= 0.0 { "t" } else { "f" };
    assert_eq!(*candidate["isdiffpos"], Value::String(positive.to_owned()));
    let history = rows(alert["prv_candidates"]);
    assert_eq!(history.len(), seen.history.len());
    for (told, past) in history.iter().zip(&seen.history) {
        let told = fields(told);
        match &past.detection {
            Some(detection) => assert_eq!(*told["ra"], Value::Double(detection.ra_deg)),
            None => assert_eq!((told["magpsf"], told["candid"]), (&Value::Null, &Value::Null)),
        }
        assert_eq!(*told["diffmaglim"], Value::Float(past.visit.depth_mag as f32));
    }
    assert_eq!(rows(alert["fp_hists"]).len(), seen.history.len());
    let stamp = fields(alert["cutoutScience"]);
    assert_eq!(*stamp["stampData"], Value::Bytes(cutouts()[0].clone()));
}

fn assert_lsst(alert: &BTreeMap<&str, &Value>, seen: &Seen) {
    let source = fields(alert["diaSource"]);
    assert_eq!(*source["diaSourceId"], Value::Long(alert_id(Telescope::Lsst, seen)));
    assert_eq!(*source["psfFlux"], Value::Float(seen.detection.difference_njy as f32));
    assert_eq!(*source["band"], Value::String(seen.visit.band.letter().to_owned()));
    let detected: Vec<&crate::simulator::seen::Past> = seen.history.iter().filter(|past| past.detection.is_some()).collect();
    let before = rows(alert["prvDiaSources"]);
    assert_eq!(before.len(), detected.len());
    for (told, past) in before.iter().zip(detected) {
        assert_eq!(*fields(told)["midpointMjdTai"], Value::Double(past.visit.mjd_tai));
    }
    assert_eq!(rows(alert["prvDiaForcedSources"]).len(), seen.history.len());
    let moving = seen.moving.is_some();
    assert_eq!((*alert["diaObject"] == Value::Null, *alert["ssSource"] == Value::Null), (moving, !moving));
    assert_eq!(*alert["cutoutScience"], Value::Bytes(cutouts()[0].clone()));
}

#[test]
fn a_message_is_framed_as_asked() {
    let (schema, seen) = (schema(Telescope::Ztf), example(Telescope::Ztf, 1));
    let datum = datum(Telescope::Ztf, &seen);
    let frame = |framing| Frame::new(framing, schema, 0x0102_0304, 7).message(&datum);
    assert_eq!(frame(Framing::Datum), datum);
    assert_eq!(frame(Framing::Confluent), [&[0, 1, 2, 3, 4], &datum[..]].concat());
    let container = frame(Framing::Container);
    let mut records = Reader::new(&container[..]).unwrap();
    let read = records.next().expect("one record").unwrap();
    assert!(records.next().is_none());
    assert_eq!(read, from_avro_datum(&Schema::parse_str(schema).unwrap(), &mut &datum[..], None).unwrap());
}

/// Reads alerts of ours by the survey's own schema: what is not null for us must not be null for the survey's reader, and
/// equal. Names that we know nothing of, and those that the survey has without us, are printed.
const RESOLVE: &str = include_str!("../../../tests/sky/resolve.py");

#[test]
fn the_surveys_own_schemas_read_every_field() {
    let Ok(python) = std::env::var("FINK_PYTHON") else { return println!("skipped: FINK_PYTHON is not set") };
    let shared = std::env::var("FINK_SHARED")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = tempfile::tempdir().unwrap();
    let schemas = [
        (Telescope::Ztf, "ztf", "data/ztf/schema-v4.02/alert.avsc"),
        (Telescope::Lsst, "lsst", "data/lsst/schemas/11/0/lsst.v11_0.alert.avsc"),
    ];
    for (telescope, name, path) in schemas {
        let path = shared.join(path);
        if !path.is_file() {
            println!("skipped: there is no {}", path.display());
            continue;
        }
        std::fs::write(folder.path().join(format!("{name}.avsc")), schema(telescope)).unwrap();
        for seed in 0..30 {
            std::fs::write(folder.path().join(format!("{name}-{seed}.datum")), datum(telescope, &example(telescope, seed))).unwrap();
        }
        let output = std::process::Command::new(&python).args(["-c", RESOLVE]).arg(folder.path()).arg(name).arg(&path).output().unwrap();
        if output.status.code() == Some(77) {
            return println!("skipped: {}", String::from_utf8_lossy(&output.stdout));
        }
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "30");
    }
}

/// Names, types and order of the fields of a schema, record by record, without what people read.
fn shape(schema: &serde_json::Value, records: &mut BTreeMap<String, Vec<(String, String)>>) -> String {
    use serde_json::Value as Json;
    match schema {
        Json::String(name) => name.rsplit('.').next().unwrap_or(name).to_owned(),
        Json::Array(union) => union.iter().map(|branch| shape(branch, records)).collect::<Vec<_>>().join("|"),
        Json::Object(object) => match object["type"].as_str() {
            Some("record") => {
                let name = object["name"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
                let fields = object["fields"].as_array().unwrap();
                let fields = fields.iter().map(|field| (field["name"].as_str().unwrap().to_owned(), shape(&field["type"], records)));
                let fields = fields.collect();
                records.insert(name.clone(), fields);
                name
            }
            Some("array") => format!("[{}]", shape(&object["items"], records)),
            _ => shape(&object["type"], records),
        },
        other => panic!("no schema: {other}"),
    }
}

#[test]
fn fields_have_the_surveys_names_types_and_order() {
    let shared = std::env::var("FINK_SHARED")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    for (telescope, folder) in [(Telescope::Ztf, "data/ztf/schema-v4.02"), (Telescope::Lsst, "data/lsst/schemas/11/0")] {
        let Ok(files) = std::fs::read_dir(shared.join(folder)) else {
            println!("skipped: there is no {folder}");
            continue;
        };
        let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
        for file in files.flatten().filter(|file| file.path().extension().is_some_and(|extension| extension == "avsc")) {
            let text = std::fs::read_to_string(file.path()).unwrap();
            shape(&serde_json::from_str(&text).unwrap(), &mut theirs);
        }
        shape(&serde_json::from_str(schema(telescope)).unwrap(), &mut ours);
        for (record, fields) in &ours {
            assert_eq!(fields, &theirs[record], "{record}");
        }
    }
}
