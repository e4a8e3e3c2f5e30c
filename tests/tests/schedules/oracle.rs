//! What came to the graph, all of it, and what it must become: as decoded at once, in order, by one decoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use fink_dataflow::alerts::{Decoded, Tally};
use fink_dataflow::budget::Budget;
use fink_dataflow::message::{Chunk, Log, Message};
use fink_operators::decode::{Decode, SchemaBook};

use super::chance::Chance;

/// A survey's schema in small.
const SCHEMA: &str = r#"{"type":"record","name":"alert","namespace":"ztf","fields":[{"name":"objectId","type":"string"},
    {"name":"candidate","type":{"type":"record","name":"candidate","fields":[{"name":"jd","type":"double"},{"name":"fid","type":"int"},
        {"name":"candid","type":"long"},{"name":"ra","type":"double"},{"name":"dec","type":"double"},
        {"name":"magpsf","type":"double"},{"name":"sigmapsf","type":"double"}]}},
    {"name":"prv_candidates","type":{"type":"array","items":"candidate"}},
    {"name":"prv","type":{"type":"array","items":"long"}}]}"#;

/// How many objects there are.
pub const OBJECTS: u64 = 8;
/// How many different detections of one; some are sent again.
const DETECTIONS: u64 = 40;

/// A row, or a reject: log, offset, record; and what it is, in text.
pub type Rows = BTreeMap<(Log, i64, i32), String>;

/// What came, all of it, and what it must become.
pub struct Oracle {
    pub logs: Vec<(Arc<Log>, Vec<Message>)>,
    pub rows: Rows,
    pub tallies: BTreeMap<Log, Tally>,
    pub book: Arc<SchemaBook>,
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("seven bits"));
}

/// A detection of an object: the same for the same number.
fn candidate(datum: &mut Vec<u8>, object: u64, number: u64) {
    datum.extend_from_slice(&(2_461_000.5 + (number * 7 % DETECTIONS) as f64 / 10.0).to_le_bytes());
    long(datum, (1 + number % 2).cast_signed());
    long(datum, (1 + object * DETECTIONS + number).cast_signed());
    let scatter = number as f64 * 1e-5;
    for value in [10.0 + object as f64 + scatter, object as f64 - scatter, 18.0 + (number % 9) as f64 / 10.0, 0.1] {
        datum.extend_from_slice(&value.to_le_bytes());
    }
}

/// A message: mostly an alert, at times what can't be decoded.
fn message(offset: i64, chance: &mut Chance) -> Message {
    let object = chance.below(OBJECTS);
    let name = format!("ZTF{object}");
    let mut datum = Vec::new();
    long(&mut datum, i64::try_from(name.len()).expect("small"));
    datum.extend_from_slice(name.as_bytes());
    let number = chance.below(DETECTIONS);
    candidate(&mut datum, object, number);
    let before = chance.below(3).min(number);
    if before > 0 {
        long(&mut datum, before.cast_signed());
        (1..=before).for_each(|back| candidate(&mut datum, object, number - back));
    }
    long(&mut datum, 0);
    let previous = chance.below(4).cast_signed();
    if previous > 0 {
        long(&mut datum, previous);
        (0..previous).for_each(|n| long(&mut datum, offset * 10 + n));
    }
    long(&mut datum, 0);
    if chance.permille(60) {
        datum.truncate(datum.len() / 2);
    }
    let payload = (!chance.permille(20)).then(|| Bytes::from(datum));
    Message { offset, timestamp_ms: Some(1_780_000_000_000 + offset), key: None, payload }
}

pub fn oracle(chance: &mut Chance) -> Oracle {
    let book = Arc::new(SchemaBook::new());
    book.set_bare("*", SCHEMA);
    let (mut logs, mut rows, mut tallies) = (Vec::new(), Rows::new(), BTreeMap::new());
    for partition in 0..chance.between(1, 4) {
        let log = Arc::new(Log::new("test", "ztf", 0, i32::try_from(partition).expect("small")));
        // Every seventh offset is none that a consumer sees.
        let offsets = (0..chance.between(5, 120).cast_signed()).filter(|offset| offset % 7 != 3);
        let messages: Vec<Message> = offsets.map(|offset| message(offset, chance)).collect();
        let claim = Arc::new(Budget::new(1).take(0));
        let end = messages.last().map_or(0, |last| last.offset + 1);
        let chunk = Chunk { log: log.clone(), span: 0..end, messages: messages.clone(), received_us: 0 };
        let decoded = Decode::new(book.clone()).decode(vec![(chunk, claim)]);
        tallies.insert((*log).clone(), decoded.passed[0].tally);
        note(&decoded, &mut rows).expect("each once");
        logs.push((log, messages));
    }
    Oracle { logs, rows, tallies, book }
}

/// Notes the rows and rejects of what was decoded.
pub fn note(decoded: &Decoded, rows: &mut Rows) -> Result<(), String> {
    let mut enter = |key: (Log, i64, i32), text| match rows.insert(key.clone(), text) {
        None => Ok(()),
        Some(_) => Err(format!("{} {}:{} is there twice", key.0, key.1, key.2)),
    };
    for batch in &decoded.alerts {
        let options = FormatOptions::default();
        let formats: Vec<_> =
            batch.rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a text for it")).collect();
        for (row, (place, night)) in batch.places.iter().zip(&batch.nights).enumerate() {
            let columns: Vec<String> = formats.iter().map(|format| format.value(row).to_string()).collect();
            let text = format!("{} {night:?} {:?} {columns:?}", batch.schema.fingerprint, place.timestamp_ms);
            enter(((*place.log).clone(), place.offset, place.record), text)?;
        }
    }
    for reject in &decoded.rejects {
        enter(((*reject.log).clone(), reject.message.offset, -1), format!("{} {}", reject.fault, reject.reason))?;
    }
    Ok(())
}
