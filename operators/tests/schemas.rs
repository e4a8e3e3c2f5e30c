//! Any schema that Avro allows becomes columns or is kept raw; bombs are refused.

mod common;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit};
use common::{alone, bytes, container, decode, framed, long, rows};
use fink_dataflow::alerts::Form;
use fink_operators::decode::SchemaBook;
use fink_operators::decode::schema::{fingerprint, understand};

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"x.alert","fields":[{fields}]}}"#)
}

fn field(kind: &str) -> String {
    record(&format!(r#"{{"name":"f","type":{kind}}}"#))
}

fn column(kind: &str) -> DataType {
    let understood = understand(&field(kind)).unwrap();
    assert_eq!(understood.schema.form, Form::Columns, "{kind}");
    let field = understood.schema.columns.field(0).clone();
    assert!(field.is_nullable() && field.metadata().is_empty());
    field.data_type().clone()
}

#[test]
fn columns_are_of_types_that_delta_can_hold() {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (kind, expected) in [
        (r#""null""#, DataType::Utf8),
        (r#""boolean""#, DataType::Boolean),
        (r#"["null","int"]"#, DataType::Int32),
        (r#"["long","null"]"#, DataType::Int64),
        (r#"{"type":"string","logicalType":"uuid"}"#, DataType::Utf8),
        (r#"{"type":"enum","name":"e","symbols":["a"]}"#, DataType::Utf8),
        (r#"{"type":"fixed","name":"e","size":3}"#, DataType::Binary),
        (r#"{"type":"fixed","name":"e","size":12,"logicalType":"duration"}"#, DataType::Binary),
        (r#"{"type":"fixed","name":"e","size":16,"logicalType":"uuid"}"#, DataType::Binary),
        (r#"{"type":"int","logicalType":"date"}"#, DataType::Date32),
        (r#"{"type":"int","logicalType":"time-millis"}"#, DataType::Int32),
        (r#"{"type":"long","logicalType":"time-micros"}"#, DataType::Int64),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, utc.clone()),
        (r#"{"type":"long","logicalType":"timestamp-micros"}"#, utc),
        (r#"{"type":"long","logicalType":"timestamp-nanos"}"#, DataType::Int64),
        (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, DataType::Int64),
        (r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}"#, DataType::Decimal128(38, 2)),
        (r#"{"type":"bytes","logicalType":"decimal","precision":39}"#, DataType::Binary),
        (r#"{"type":"fixed","name":"d","size":20,"logicalType":"decimal","precision":9}"#, DataType::Decimal128(9, 0)),
        (r#"{"type":"string","logicalType":"of-our-own"}"#, DataType::Utf8),
    ] {
        assert_eq!(column(kind), expected, "{kind}");
    }
    let DataType::List(item) = column(r#"{"type":"array","items":"float"}"#) else { panic!() };
    assert_eq!((item.name().as_str(), item.is_nullable()), ("element", true));
    let DataType::Map(entries, false) = column(r#"{"type":"map","values":"float"}"#) else { panic!() };
    assert_eq!(entries.name(), "key_value");
}

#[test]
fn what_delta_cannot_hold_is_kept_raw() {
    let datum = |kind: &str, datum: &[u8]| {
        let decoded = decode(&[container(kind, "null", &[(2, [datum, datum].concat())])]);
        let batch = decoded.alerts.first().unwrap_or_else(|| panic!("{kind}: {:?}", decoded.rejects[0].reason));
        assert!(matches!(&batch.schema.form, Form::Raw(reason) if !reason.is_empty()), "{kind}");
        assert_eq!((batch.schema.columns.fields().len(), batch.schema.columns.field(0).name().as_str()), (1, "datum"));
        let column = batch.rows.column(0).as_binary::<i32>();
        assert_eq!((column.len(), column.value(0), column.value(1)), (2, datum, datum), "{kind}");
    };
    // A list of three: 1, 2, and no more.
    datum(r#"{"type":"record","name":"list","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","list"]}]}"#, &[2, 2, 4, 0]);
    datum(&field(r#"["null","int","string"]"#), &[4, 2, b'x']);
    datum(&field(r#"["int","string"]"#), &[0, 2]);
    datum(&field(r#"["string"]"#), &[0, 2, b'x']);
    datum(&field(r#"{"type":"record","name":"none","fields":[]}"#), &[]);
    datum(&record(""), &[]);
    datum(&record(r#"{"name":"mag","type":"int"},{"name":"Mag","type":"int"}"#), &[2, 4]);
    datum(&field(r#"{"type":"record","name":"in","fields":[{"name":"a","type":"int"},{"name":"A","type":"int"}]}"#), &[2, 4]);
    datum(&record(r#"{"name":"a b","type":"int"}"#), &[2]);
    datum(&field(r#"{"type":"array","items":"null"}"#), &[6, 0]);
    datum(&field(r#"{"type":"map","values":"null"}"#), &[2, 2, b'k', 0]);
    datum(&field(r#"{"type":"fixed","name":"e","size":0}"#), &[]);
    datum(r#"{"type":"map","values":"double"}"#, &[2, 2, b'k', 0, 0, 0, 0, 0, 0, 240, 63, 0]);
    datum(r#""string""#, &[2, b'x']);
    datum(r#"{"type":"enum","name":"e","symbols":["a","b"]}"#, &[2]);
}

#[test]
fn fields_that_hold_nothing_are_columns_of_nulls() {
    let inner =
        r#"{"type":"record","name":"in","fields":[{"name":"a","type":"null"},{"name":"b","type":"int"},{"name":"c","type":"null"}]}"#;
    let only = r#"{"type":"record","name":"only","fields":[{"name":"a","type":"null"}]}"#;
    let schema = record(&format!(r#"{{"name":"x","type":"null"}},{{"name":"y","type":{inner}}},{{"name":"z","type":["null",{only}]}}"#));
    let decoded = decode(&[container(&schema, "null", &[(2, vec![4, 2, 6, 0])])]);
    let rows = &decoded.alerts[0].rows;
    let y = rows.column(1).as_struct();
    assert_eq!((rows.column(0).null_count(), y.column(0).null_count(), y.column(2).null_count()), (2, 2, 2));
    assert_eq!(y.column(1).as_primitive::<arrow::datatypes::Int32Type>().values(), &[2, 3]);
    let z = rows.column(2).as_struct();
    assert_eq!((z.is_valid(0), z.is_null(1), z.column(0).null_count()), (true, true, 2));
}

#[test]
fn a_raw_datum_that_is_not_its_schemas_is_rejected() {
    let schema = field(r#"["null","int","string"]"#);
    for (datum, fault) in
        [(&[4u8, 4, b'x'][..], "truncated"), (&[6], "garbled"), (&[1], "garbled"), (&[4, 2, 0xff], "garbled"), (&[0, 0], "garbled")]
    {
        assert_eq!(alone(&container(&schema, "null", &[(1, datum.to_vec())])), Err(fault), "{datum:?}");
    }
}

#[test]
fn values_without_a_place_in_their_column_are_rejected() {
    for (kind, good, bad) in [
        (r#"{"type":"enum","name":"e","symbols":["a","b"]}"#, vec![2], vec![4]),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, vec![2], vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        (r#"{"type":"bytes","logicalType":"decimal","precision":2}"#, vec![2, 99], vec![2, 100]),
        (r#""string""#, vec![2, b'x'], vec![2, 0xff]),
        (r#""int""#, vec![2], vec![0xfe, 0xff, 0xff, 0xff, 0xff, 1]),
    ] {
        let message = |datum: &[u8]| container(&field(kind), "null", &[(1, datum.to_vec())]);
        assert_eq!((alone(&message(&good)), alone(&message(&bad))), (Ok(1), Err("garbled")), "{kind}");
        let decoded = decode(&[message(&good), message(&bad), message(&good)]);
        assert_eq!(rows(&decoded).into_keys().collect::<Vec<_>>(), [(0, 0), (2, 0)], "{kind}");
    }
}

#[test]
fn nesting_bombs() {
    // A schema that nests: refused. One that is recursive, and a datum that nests: the datum is refused.
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(5000), "}".repeat(5000));
    assert_eq!(alone(&container(&field(&deep), "null", &[(1, vec![0])])), Err("too-deep"));
    let list = r#"{"type":"record","name":"list","fields":[{"name":"next","type":["null","list"]}]}"#;
    assert_eq!(alone(&container(list, "null", &[(1, [vec![2; 20], vec![0]].concat())])), Ok(1));
    assert_eq!(alone(&container(list, "null", &[(1, [vec![2; 1_000_000], vec![0]].concat())])), Err("too-deep"));
    let endless = r#"{"type":"record","name":"self","fields":[{"name":"next","type":"self"}]}"#;
    assert_eq!(alone(&container(endless, "null", &[(1, vec![])])), Err("too-deep"));
    // Deep, yet sane.
    let nested = (0..15).fold(r#""int""#.to_owned(), |inner, n| {
        format!(r#"["null",{{"type":"record","name":"r{n}","fields":[{{"name":"f","type":{inner}}}]}}]"#)
    });
    assert_eq!(understand(&field(&nested)).unwrap().schema.form, Form::Columns);
    assert_eq!(alone(&container(&field(&nested), "null", &[(1, [vec![2; 15], vec![8]].concat())])), Ok(1));
}

#[test]
fn a_schema_that_multiplies_is_kept_raw_and_its_datums_are_bounded() {
    // Each record holds the one before ten times: 10^12 columns in 2 kB.
    let bomb = |leaf: &str| {
        (0..12).fold(leaf.to_owned(), |inner, n| {
            let fields: Vec<_> = (0..10)
                .map(|f| format!(r#"{{"name":"f{f}","type":{}}}"#, if f == 0 { inner.clone() } else { type_name(&inner, n) }))
                .collect();
            format!(r#"{{"type":"record","name":"r{n}","fields":[{}]}}"#, fields.join(","))
        })
    };
    fn type_name(inner: &str, n: usize) -> String {
        if n == 0 { inner.to_owned() } else { format!("\"r{}\"", n - 1) }
    }
    assert!(matches!(understand(&bomb("\"int\"")).unwrap().schema.form, Form::Raw(_)));
    assert_eq!(alone(&container(&bomb("\"null\""), "null", &[(1, vec![])])), Err("too-large"));
    assert_eq!(alone(&container(&bomb("\"int\""), "null", &[(1, vec![0; 1000])])), Err("truncated"));
}

#[test]
fn items_and_records_without_bytes_are_bounded() {
    let mut many = Vec::new();
    long(&mut many, 1 << 40);
    many.push(0);
    assert_eq!(alone(&container(&field(r#"{"type":"array","items":"null"}"#), "null", &[(1, many)])), Err("too-large"));
    assert_eq!(alone(&container(&field("\"null\""), "null", &[(1 << 40, vec![])])), Err("garbled"));
    assert_eq!(alone(&container(&field("\"null\""), "null", &[(3, vec![])])), Ok(3));
}

#[test]
fn a_few_bytes_do_not_become_gigabytes_of_columns() {
    // An absent record of many columns takes one byte in a datum and 32 kB in a batch.
    let wide: Vec<_> = (0..4000).map(|n| format!(r#"{{"name":"c{n}","type":"double"}}"#)).collect();
    let items = format!(r#"{{"type":"array","items":["null",{{"type":"record","name":"w","fields":[{}]}}]}}"#, wide.join(","));
    let datum = |count: usize| {
        let mut datum = Vec::new();
        long(&mut datum, count as i64);
        datum.extend(vec![0; count]);
        datum.push(0);
        container(&field(&items), "null", &[(1, datum)])
    };
    assert_eq!(alone(&datum(20)), Ok(1));
    assert_eq!(alone(&datum(10_000)), Ok(1));
    assert_eq!(alone(&datum(1 << 20)), Err("too-large"));
}

#[test]
fn duplicate_and_unknown_things_in_schemas() {
    assert_eq!(alone(&container(&field("\"nosuch\""), "null", &[(1, vec![0])])), Err("schema-invalid"));
    let extras = r#"{"type":"record","name":"alert","namespace":"x","doc":"\"quoted\" \u00e4","aliases":["old"],"version":"3.3","fields":[
        {"name":"f","type":"int","doc":"a \\ b","default":3,"order":"ignore","aliases":["g"],"unit":"mag"}]}"#;
    assert_eq!(alone(&container(extras, "null", &[(1, vec![2])])), Ok(1));
    let understood = understand(extras).unwrap();
    assert_eq!((understood.schema.name.as_str(), &*understood.schema.json), ("x.alert", extras));
    assert_eq!(*understood.schema.fingerprint, fingerprint(extras));
    assert_eq!(fingerprint(""), "e3b0c44298fc1c149afbf4c8996fb924");
}

#[test]
fn many_schemas_in_turn_are_all_remembered_or_read_anew() {
    let book = Arc::new(SchemaBook::new());
    let mut decoder = fink_operators::decode::Decode::new(Arc::clone(&book));
    let mut payloads = Vec::new();
    for n in 0..100u32 {
        let schema = record(&format!(r#"{{"name":"f{n}","type":"string"}}"#));
        book.know(n, &schema);
        let mut datum = Vec::new();
        bytes(&mut datum, b"text");
        payloads.push(container(&schema, "null", &[(1, datum.clone())]));
        payloads.push(framed(n, &datum));
    }
    for round in 0..3 {
        for part in payloads.chunks(10) {
            let decoded = decoder.decode(vec![common::chunk("t", round, part)]);
            assert_eq!((decoded.passed[0].tally.archived, decoded.alerts.len()), (10, 5));
        }
    }
}
