//! All real alerts decode, and every leaf of theirs equals what fastavro reads.

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::ipc::writer::FileWriter;
use common::{chunk, files, lsst_book, shared};
use fink_dataflow::alerts::{Decoded, Form};
use fink_operators::decode::Decode;

/// Every type of Avro's, with values at their ends, written by Avro's own library.
const TYPES: &str = r#"{"type":"record","name":"x.every.type","fields":[
    {"name":"nothing","type":"null"},
    {"name":"flag","type":"boolean"},
    {"name":"small","type":["int","null"]},
    {"name":"big","type":["null","long"]},
    {"name":"single","type":"float"},
    {"name":"wide","type":"double"},
    {"name":"blob","type":"bytes"},
    {"name":"text","type":"string"},
    {"name":"four","type":["null",{"type":"fixed","name":"four","size":4}]},
    {"name":"band","type":{"type":"enum","name":"band","symbols":["g","r","i"]}},
    {"name":"bands","type":{"type":"array","items":["null","band"]}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"millis","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"micros","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"clock","type":{"type":"int","logicalType":"time-millis"}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}},
    {"name":"tags","type":{"type":"map","values":["null","double"]}},
    {"name":"nested","type":["null",{"type":"record","name":"inner","fields":[
        {"name":"list","type":{"type":"array","items":{"type":"array","items":"int"}}},
        {"name":"when","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
        {"name":"of","type":["null","four"]}]}]},
    {"name":"more","type":{"type":"array","items":"inner"}}]}"#;

fn every_type() -> Vec<u8> {
    use apache_avro::types::Value::{self, *};
    let some = |v: Value| Union(1, Box::new(v));
    let none = || Union(0, Box::new(Null));
    let inner = |n: i32| {
        let list = Array((0..n).map(|i| Array((0..i).map(Int).collect())).collect());
        let of = if n % 2 == 0 { none() } else { some(Fixed(4, vec![n as u8; 4])) };
        Record(vec![("list".into(), list), ("when".into(), some(TimestampMillis(i64::from(n) - 5))), ("of".into(), of)])
    };
    let record = |n: i32| {
        let even = n % 2 == 0;
        Record(vec![
            ("nothing".into(), Null),
            ("flag".into(), Boolean(even)),
            ("small".into(), if even { Union(0, Box::new(Int(i32::MIN + n))) } else { Union(1, Box::new(Null)) }),
            ("big".into(), if even { none() } else { some(Long(i64::MAX - i64::from(n))) }),
            ("single".into(), Float(n as f32 / 3.0)),
            ("wide".into(), Double(if n == 3 { f64::INFINITY } else { f64::from(n) / 7.0 })),
            ("blob".into(), Bytes(vec![0xff; n as usize * 100])),
            ("text".into(), String("ä\u{0}🔭".repeat(n as usize))),
            ("four".into(), if even { some(Fixed(4, vec![n as u8, 0, 1, 2])) } else { none() }),
            ("band".into(), Enum(n as u32 % 3, ["g", "r", "i"][n as usize % 3].into())),
            (
                "bands".into(),
                Array(
                    (0..n as u32)
                        .map(|i| if i == 1 { none() } else { some(Enum(i % 3, ["g", "r", "i"][i as usize % 3].into())) })
                        .collect(),
                ),
            ),
            ("day".into(), Date(n * 4000 - 9000)),
            ("millis".into(), if even { some(TimestampMillis(1_700_000_000_123 * i64::from(n - 3))) } else { none() }),
            ("micros".into(), TimestampMicros(i64::from(n) - 5)),
            ("clock".into(), TimeMillis(n * 1001)),
            ("price".into(), Decimal((i64::from(n - 5) * 123_456_789).to_be_bytes().as_slice().into())),
            (
                "tags".into(),
                Map([("k".to_owned(), if even { none() } else { some(Double(f64::from(n))) })].into_iter().take(n as usize).collect()),
            ),
            ("nested".into(), if even { some(inner(n)) } else { none() }),
            ("more".into(), Array((0..n).map(inner).collect())),
        ])
    };
    let schema = apache_avro::Schema::parse_str(TYPES).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    (0..12).for_each(|n| assert!(writer.append(record(n)).is_ok()));
    writer.into_inner().unwrap()
}

fn write(decoded: &Decoded, path: &Path) {
    let schema = &decoded.alerts[0].schema;
    assert_eq!(schema.form, Form::Columns, "{}", path.display());
    let mut writer = FileWriter::try_new(std::fs::File::create(path).unwrap(), &schema.columns).unwrap();
    decoded.alerts.iter().for_each(|batch| writer.write(&batch.rows).unwrap());
    writer.finish().unwrap();
}

/// Hands pairs of Avro and Arrow files to fastavro and pyarrow.
fn compare(folder: &Path, list: &str, expected: usize) {
    let python = std::env::var("FINK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ready = Command::new(&python).args(["-c", "import fastavro, pyarrow"]).output().is_ok_and(|o| o.status.success());
    if !ready {
        println!("skipped: {python} lacks fastavro or pyarrow (set FINK_PYTHON)");
        return;
    }
    let list_path = folder.join("list");
    std::fs::write(&list_path, list).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/equal_to_fastavro.py");
    let output = Command::new(&python).arg(script).arg(&list_path).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains(&format!("{expected} rows equal")), "{text}");
}

#[test]
fn every_leaf_of_every_real_alert_equals_fastavros() {
    let Some(shared) = shared() else { return };
    let book = lsst_book(&shared);
    let folder = tempfile::tempdir().unwrap();
    let (mut list, mut rows) = (String::new(), 0);
    let mut decoder = Decode::new(Arc::clone(&book));
    for (index, path) in files(&shared, ".avro").into_iter().enumerate() {
        let payload = std::fs::read(&path).unwrap();
        let sample = !payload.starts_with(b"Obj\x01") && path.parent().is_some_and(|p| p.ends_with("sample_data"));
        let (payload, id) = match (payload[0], sample) {
            // LSST's samples are bare datums: the folder tells the schema.
            (_, true) => {
                let folder = path.strip_prefix(shared.join("lsst/schemas")).unwrap();
                let number = |n: usize| folder.iter().nth(n).unwrap().to_string_lossy().parse::<u32>().unwrap();
                let id = 100 * number(0) + number(1);
                (common::framed(id, &payload), Some(id))
            }
            (0, _) => (payload.clone(), Some(u32::from_be_bytes(payload[1..5].try_into().unwrap()))),
            _ => (payload, None),
        };
        let decoded = decoder.decode(vec![chunk("t", 0, std::slice::from_ref(&payload))]);
        let tally = decoded.passed[0].tally;
        assert_eq!(tally.archived, 1, "{}: {:?}", path.display(), decoded.rejects.first().map(|r| &r.reason));
        rows += tally.rows as usize;
        let arrow = folder.path().join(format!("{index}.arrow"));
        write(&decoded, &arrow);
        let (avro, schema) = match id {
            Some(id) => {
                let (datum, schema) = (folder.path().join(format!("{index}.datum")), folder.path().join(format!("{id}.avsc")));
                std::fs::write(&datum, &payload[5..]).unwrap();
                let Some(fink_operators::decode::Entry::Known(json)) = book.id(id) else { panic!("{id}") };
                std::fs::write(&schema, &*json).unwrap();
                (datum, schema.display().to_string())
            }
            None => (path.clone(), String::new()),
        };
        writeln!(list, "{}\t{}\t{}", avro.display(), arrow.display(), schema).unwrap();
        // Samples are zeroes; every real alert has a night.
        let nights = decoded.alerts.iter().flat_map(|b| &b.nights);
        assert!(nights.into_iter().all(|n| n.is_some() || path.ends_with("fakeAlert.avro")), "{}", path.display());
    }
    assert!(rows > 450, "{rows} rows");
    compare(folder.path(), &list, rows);
}

#[test]
fn every_type_equals_fastavros() {
    let folder = tempfile::tempdir().unwrap();
    let (avro, arrow) = (folder.path().join("types.avro"), folder.path().join("types.arrow"));
    let payload = every_type();
    let decoded = common::decode(std::slice::from_ref(&payload));
    assert_eq!(decoded.passed[0].tally.rows, 12, "{:?}", decoded.rejects.first().map(|r| &r.reason));
    std::fs::write(&avro, payload).unwrap();
    write(&decoded, &arrow);
    compare(folder.path(), &format!("{}\t{}\t\n", avro.display(), arrow.display()), 12);
}

#[test]
fn nights_are_the_surveys() {
    let Some(shared) = shared() else { return };
    let night = |path: &str| {
        let folder = shared.join(path);
        let payloads: Vec<_> = files(&folder, ".avro").iter().map(|p| std::fs::read(p).unwrap()).collect();
        let decoded = common::decode(&payloads);
        let mut nights: Vec<_> = decoded.alerts.iter().flat_map(|b| b.nights.clone()).collect();
        nights.sort_unstable();
        nights.dedup();
        nights
    };
    // 2018-11-28: its alerts are of 2018-11-29 UTC, before Palomar's noon.
    assert_eq!(night("ztf/night-2018-11-29"), [Some(17_863)]);
    assert!(night("ztf/enriched").iter().all(Option::is_some));
    assert!(night("ztf/supernova-ZTF21abiuvdk").len() > 20);
}
