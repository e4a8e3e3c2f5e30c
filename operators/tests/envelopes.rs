//! Envelopes: every codec, several records, none, and all the ways in which a container can be wrong.

mod common;

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::{CODECS, SYNC, alone, bytes, container, decode, decode_with, framed, long, pack, rows};
use fink_operators::decode::{SchemaBook, decode_alone};

const SCHEMA: &str =
    r#"{"type":"record","name":"x.alert","fields":[{"name":"id","type":"long"},{"name":"cutout","type":["null","bytes"]}]}"#;

fn datum(id: i64) -> Vec<u8> {
    let mut out = Vec::new();
    long(&mut out, id);
    if id % 3 == 0 {
        long(&mut out, 0);
    } else {
        long(&mut out, 1);
        bytes(&mut out, &[id as u8; 40]);
    }
    out
}

fn datums(ids: std::ops::Range<i64>) -> (i64, Vec<u8>) {
    (ids.end - ids.start, ids.flat_map(datum).collect())
}

#[test]
fn every_codec_with_several_blocks_of_several_records() {
    for codec in CODECS {
        let decoded =
            decode(&[container(SCHEMA, codec, &[datums(0..5), datums(5..6), datums(6..300)]), container(SCHEMA, codec, &[datums(7..8)])]);
        let tally = decoded.passed[0].tally;
        assert_eq!((tally.archived, tally.rows), (2, 301), "{codec}");
        let rows = rows(&decoded);
        for ((offset, record), (_, night, row)) in &rows {
            let id = row.column(0).as_primitive::<Int64Type>().value(0);
            assert_eq!((id, *night), (i64::from(*record) + 7 * offset, None));
            let cutout = row.column(1);
            assert_eq!(cutout.is_null(0), id % 3 == 0);
            if id % 3 != 0 {
                assert_eq!(cutout.as_binary::<i32>().value(0), [id as u8; 40]);
            }
        }
        assert_eq!(rows.len(), 301);
    }
}

#[test]
fn a_container_without_records_is_empty() {
    for codec in CODECS {
        for blocks in [vec![], vec![(0, Vec::new())], vec![(0, Vec::new()), (0, Vec::new())]] {
            let decoded = decode(&[container(SCHEMA, codec, &blocks)]);
            let tally = decoded.passed[0].tally;
            assert!(tally.agrees());
            assert_eq!((tally.empty, decoded.alerts.len(), decoded.rejects.len()), (1, 0, 0), "{codec}");
        }
    }
}

#[test]
fn no_payload_and_no_bytes_are_rejected() {
    let (mut chunk, claim) = common::chunk("t", 5, &[Vec::new(), Vec::new()]);
    chunk.messages[1].payload = None;
    chunk.span = 3..9;
    let decoded = fink_operators::decode::Decode::new(Arc::new(SchemaBook::new())).decode(vec![(chunk, claim)]);
    assert_eq!(decoded.rejects.iter().map(|r| (r.message.offset, r.fault)).collect::<Vec<_>>(), [(5, "empty"), (6, "empty")]);
    assert_eq!((decoded.passed[0].span.clone(), decoded.passed[0].mark.unwrap().offset), (3..9, 6));
    assert_eq!(decoded.claims.len(), 1);
}

#[test]
fn framed_and_bare_datums_find_their_schemas() {
    let book = Arc::new(SchemaBook::new());
    book.know(704, SCHEMA);
    book.deny(705);
    let decoded = decode_with(&book, &[framed(704, &datum(1)), framed(705, &datum(1)), framed(706, &datum(1)), datum(1), vec![0, 0]]);
    assert_eq!(decoded.passed[0].tally.archived, 1);
    let faults: Vec<_> = decoded.rejects.iter().map(|r| r.fault).collect();
    assert_eq!(faults, ["schema-unknown", "schema-unknown", "envelope-unknown", "envelope-unknown"]);
    // Id 0 and a null cutout: looks framed, but the topic says what it is.
    book.set_bare("t", SCHEMA);
    let decoded = decode_with(&book, &[datum(0), datum(1), container(SCHEMA, "null", &[datums(2..3)]), vec![0, 0, 0, 2, 192]]);
    assert_eq!((decoded.passed[0].tally.archived, decoded.rejects[0].fault), (3, "garbled"));
    assert_eq!(decoded.alerts.len(), 1, "one schema, one batch");
    assert_eq!(decode_alone(datum(4).into(), "t", Arc::clone(&book)), Ok(1));
    assert_eq!(decode_alone(vec![1, 2].into(), "t", book).unwrap_err().word, "truncated");
}

#[test]
fn truncated_at_every_byte() {
    for codec in CODECS {
        let whole = container(SCHEMA, codec, &[datums(0..2), datums(2..3)]);
        let first = container(SCHEMA, codec, &[datums(0..2)]).len();
        let header = container(SCHEMA, codec, &[]).len();
        for length in 1..whole.len() {
            let result = alone(&whole[..length]);
            match length {
                // What ends between two blocks is a container of its own.
                _ if length == header => assert_eq!(result, Ok(0)),
                _ if length == first => assert_eq!(result, Ok(2)),
                0..4 => assert_eq!(result, Err("envelope-unknown")),
                _ => assert_eq!(result, Err("truncated"), "{codec} {length}"),
            }
        }
        assert_eq!(alone(&whole), Ok(3));
    }
}

#[test]
fn a_datum_truncated_at_every_byte() {
    let book = Arc::new(SchemaBook::new());
    book.know(1, SCHEMA);
    let datum = datum(70);
    for length in 0..datum.len() {
        let decoded = decode_with(&book, &[framed(1, &datum[..length])]);
        assert!(["truncated", "garbled"].contains(&decoded.rejects[0].fault), "{length}");
    }
    let longer = [&datum[..], &[0]].concat();
    assert_eq!(decode_with(&book, &[framed(1, &longer)]).rejects[0].fault, "garbled");
}

#[test]
fn every_garbled_byte_is_survived() {
    for codec in CODECS {
        let whole = container(SCHEMA, codec, &[datums(0..2), datums(2..3)]);
        let mut payloads = Vec::new();
        for at in 0..whole.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut garbled = whole.clone();
                garbled[at] ^= flip;
                assert_ne!(alone(&garbled), Err("crashed"), "{codec} {at}");
                payloads.push(garbled);
            }
        }
        // Together they fare as they did alone, and good neighbours stay good.
        payloads.push(whole);
        let decoded = decode(&payloads);
        assert!(decoded.passed[0].tally.agrees());
        let good: Vec<_> = payloads.iter().filter_map(|p| alone(p).ok()).collect();
        assert_eq!(decoded.passed[0].tally.rows, good.iter().sum::<u64>());
        assert_eq!(decoded.rejects.len(), payloads.len() - good.len());
        assert!(rows(&decoded).contains_key(&(payloads.len() as i64 - 1, 2)));
    }
}

/// A container whose only block is given byte by byte.
fn block(codec: &str, build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = container(SCHEMA, codec, &[]);
    build(&mut out);
    out
}

#[test]
fn lengths_that_lie() {
    let datum = datum(70);
    for lie in [i64::MIN, -1, 1 << 20, 1 << 40, i64::MAX] {
        let sized = block("null", |out| {
            long(out, 1);
            long(out, lie);
            out.extend_from_slice(&datum);
            out.extend_from_slice(&SYNC);
        });
        assert!(["truncated", "garbled"].contains(&alone(&sized).unwrap_err()), "a block of {lie} bytes");
        let counted = container(SCHEMA, "null", &[(lie, datum.clone())]);
        assert_eq!(alone(&counted), Err("garbled"), "a block of {lie} records");
        let mut cutout = Vec::new();
        long(&mut cutout, 1);
        long(&mut cutout, 1);
        long(&mut cutout, lie);
        assert!(
            ["truncated", "garbled"].contains(&alone(&container(SCHEMA, "null", &[(1, cutout)])).unwrap_err()),
            "a cutout of {lie} bytes"
        );
        let mut header = b"Obj\x01".to_vec();
        long(&mut header, lie);
        bytes(&mut header, b"avro.schema");
        bytes(&mut header, SCHEMA.as_bytes());
        assert!(["truncated", "garbled"].contains(&alone(&header).unwrap_err()), "a header of {lie} entries");
    }
    assert_eq!(alone(&container(SCHEMA, "null", &[(2, datum.clone())])), Err("truncated"));
    assert_eq!(alone(&container(SCHEMA, "null", &[(0, datum.clone())])), Err("garbled"));
    let records = container(SCHEMA, "null", &[(2, [&datum[..], &datum, &datum].concat())]);
    assert_eq!(alone(&records), Err("garbled"));
}

#[test]
fn other_containers_that_are_wrong() {
    assert_eq!(alone(&container(SCHEMA, "bzip2", &[datums(0..1)])), Err("codec-unknown"));
    assert_eq!(alone(&container("{", "null", &[datums(0..1)])), Err("schema-invalid"));
    assert_eq!(alone(&[b"Obj\x01\0", &SYNC[..]].concat()), Err("garbled"));
    assert_eq!(alone(b"not Avro at all"), Err("envelope-unknown"));
    let mut snapped = container(SCHEMA, "snappy", &[datums(0..1)]);
    let crc = snapped.len() - 17;
    snapped[crc] ^= 1;
    assert_eq!(alone(&snapped), Err("garbled"));
}

#[test]
fn bombs_that_inflate_are_refused_before_they_do() {
    for codec in ["deflate", "zstandard"] {
        let mut bomb = Vec::new();
        long(&mut bomb, 1);
        long(&mut bomb, 1);
        bytes(&mut bomb, &vec![0; 200 << 20]);
        assert_eq!(alone(&container(SCHEMA, codec, &[(1, bomb)])), Err("too-large"), "{codec}");
    }
    let promise = block("snappy", |out| {
        long(out, 1);
        let packed = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 9]].concat();
        bytes(out, &packed);
        out.extend_from_slice(&SYNC);
    });
    assert_eq!(alone(&promise), Err("too-large"));
}

#[test]
fn a_message_of_20_megabytes_is_archived() {
    let mut large = Vec::new();
    long(&mut large, 1);
    long(&mut large, 1);
    bytes(&mut large, &vec![7; 20 << 20]);
    for codec in CODECS {
        assert_eq!(alone(&container(SCHEMA, codec, &[datums(0..1), (1, large.clone()), datums(1..2)])), Ok(3), "{codec}");
    }
    assert!(pack("deflate", &large).len() < 1 << 20);
}

#[test]
fn marks_and_places_say_where_it_came_from() {
    let payload = container(SCHEMA, "null", &[datums(0..2)]);
    let decoded = decode(&[payload.clone(), payload.clone()]);
    let mark = decoded.passed[0].mark.unwrap();
    assert_eq!((mark.offset, mark.timestamp_ms, mark.hash), (1, Some(1_700_000_000_001), xxhash_rust::xxh3::xxh3_64(&payload)));
    let place = &decoded.alerts[0].places[3];
    assert_eq!((place.offset, place.record, place.timestamp_ms, place.received_us), (1, 1, Some(1_700_000_000_001), 1_700_000_000_000_000));
    assert_eq!(&*place.log.topic, "t");
}
