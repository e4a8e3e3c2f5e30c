//! What the tests of decoding share: containers and chunks of bytes of their own making, and where real alerts are.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use fink_dataflow::alerts::{Decoded, Tally};
use fink_dataflow::budget::{Budget, Claim};
use fink_dataflow::{Chunk, Log, Message};
use fink_operators::decode::{Decode, SchemaBook};

/// The container's codecs.
pub const CODECS: [&str; 4] = ["null", "deflate", "snappy", "zstandard"];
/// The sync marker of all our containers.
pub const SYNC: [u8; 16] = *b"0123456789abcdef";

/// Appends a long.
pub fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes with their length.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    long(out, value.len() as i64);
    out.extend_from_slice(value);
}

/// Packs a block as a codec does.
pub fn pack(codec: &str, data: &[u8]) -> Vec<u8> {
    match codec {
        "deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "snappy" => {
            let mut packed = snap::raw::Encoder::new().compress_vec(data).unwrap();
            packed.extend_from_slice(&crc32fast::hash(data).to_be_bytes());
            packed
        }
        "zstandard" => zstd::encode_all(data, 1).unwrap(),
        _ => data.to_vec(),
    }
}

/// A container of these blocks: each a count and its datums.
pub fn container(schema: &str, codec: &str, blocks: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"Obj\x01".to_vec();
    long(&mut out, 2);
    bytes(&mut out, b"avro.schema");
    bytes(&mut out, schema.as_bytes());
    bytes(&mut out, b"avro.codec");
    bytes(&mut out, codec.as_bytes());
    long(&mut out, 0);
    out.extend_from_slice(&SYNC);
    for (count, data) in blocks {
        long(&mut out, *count);
        bytes(&mut out, &pack(codec, data));
        out.extend_from_slice(&SYNC);
    }
    out
}

/// A message in Confluent's framing.
pub fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

/// A chunk of these payloads, from offset `first` on.
pub fn chunk(topic: &str, first: i64, payloads: &[Vec<u8>]) -> (Chunk, Arc<Claim>) {
    let log = Arc::new(Log::new("test", topic, 0, 0));
    let message = |(offset, payload): (i64, &Vec<u8>)| {
        let payload = Some(Bytes::from(payload.clone()));
        Message { offset, timestamp_ms: Some(1_700_000_000_000 + offset), key: None, payload }
    };
    let messages: Vec<_> = (first..).zip(payloads).map(message).collect();
    let chunk = Chunk { log, span: first..first + messages.len() as i64, messages, received_us: 1_700_000_000_000_000 };
    let claim = Budget::new(1).take(chunk.bytes());
    (chunk, Arc::new(claim))
}

/// Decodes payloads as one batch with a decoder of their own.
pub fn decode(payloads: &[Vec<u8>]) -> Decoded {
    decode_with(&Arc::new(SchemaBook::new()), payloads)
}

/// Decodes payloads as one batch, with this book; the topic is `t`.
pub fn decode_with(book: &Arc<SchemaBook>, payloads: &[Vec<u8>]) -> Decoded {
    Decode::new(Arc::clone(book)).decode(vec![chunk("t", 0, payloads)])
}

/// What became of one payload: how many rows, or the fault.
pub fn alone(payload: &[u8]) -> Result<u64, &'static str> {
    let decoded = decode(&[payload.to_vec()]);
    assert!(decoded.passed[0].tally.agrees(), "{:?}", decoded.passed[0].tally);
    match decoded.rejects.first() {
        Some(reject) => {
            assert_eq!(decoded.passed[0].tally, Tally { messages: 1, rejected: 1, bytes: payload.len() as u64, ..Tally::default() });
            assert!(!reject.reason.is_empty());
            Err(reject.fault)
        }
        None => Ok(decoded.passed[0].tally.rows),
    }
}

/// Each row by its offset and record, with its schema's fingerprint and night.
pub fn rows(decoded: &Decoded) -> BTreeMap<(i64, i32), (String, Option<i32>, RecordBatch)> {
    let mut rows = BTreeMap::new();
    for batch in &decoded.alerts {
        assert_eq!(batch.rows.schema(), batch.schema.columns);
        assert_eq!((batch.rows.num_rows(), batch.rows.num_rows()), (batch.places.len(), batch.nights.len()));
        for (row, (place, night)) in batch.places.iter().zip(&batch.nights).enumerate() {
            let value = (batch.schema.fingerprint.to_string(), *night, batch.rows.slice(row, 1));
            assert!(rows.insert((place.offset, place.record), value).is_none());
        }
    }
    rows
}

/// The folder of real alerts, if there is one.
pub fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("FINK_SHARED").map_or(beside, PathBuf::from).join("data");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no real alerts at {} (set FINK_SHARED)", folder.display());
    None
}

/// All files below a folder that end so, in order.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A book of the schemas of LSST's folder.
pub fn lsst_book(shared: &Path) -> Arc<SchemaBook> {
    let texts: Vec<_> = files(&shared.join("lsst/schemas"), ".avsc")
        .into_iter()
        .map(|path| (path.to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    let book = SchemaBook::new();
    for (id, json) in fink_operators::decode::folder::alerts(texts.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap() {
        book.know(id, &json);
    }
    Arc::new(book)
}
