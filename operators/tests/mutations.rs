//! A fuzzer: random schemas, random datums of theirs, real alerts, and all of them bitten, cut, spliced and repeated.
//!
//! Runs a fixed number of rounds from a fixed seed; `FINK_FUZZ_SECONDS` makes it run that long, `FINK_FUZZ_SEED` from
//! another seed. What must hold of any bytes: nothing panics, every message is accounted for once, and
//! each fares alone as it does among others. What must hold of valid bytes: they are archived.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{chunk, container, files, framed, long, rows, shared};
use fink_dataflow::alerts::Form;
use fink_operators::decode::{Decode, SchemaBook, schema::understand};

/// SplitMix64: enough chance, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

enum Type {
    Leaf(&'static str),
    Fixed(String, usize),
    Enum(String, usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(String, Vec<Type>),
    /// The root again, in a union with null.
    Root,
}

const LEAVES: [&str; 12] = [
    r#""boolean""#,
    r#""int""#,
    r#""long""#,
    r#""float""#,
    r#""double""#,
    r#""bytes""#,
    r#""string""#,
    r#"{"type":"int","logicalType":"date"}"#,
    r#"{"type":"long","logicalType":"timestamp-micros"}"#,
    r#"{"type":"long","logicalType":"timestamp-millis"}"#,
    r#"{"type":"int","logicalType":"time-millis"}"#,
    r#"{"type":"string","logicalType":"uuid"}"#,
];

impl Type {
    fn random(chance: &mut Chance, names: &mut usize, depth: usize) -> Self {
        *names += 1;
        let name = format!("n{names}");
        let kinds = if depth == 0 { 12 } else { 22 };
        match chance.below(kinds) {
            0 => Self::Fixed(name, chance.below(20)),
            1 => Self::Enum(name, 1 + chance.below(5)),
            12 | 13 => Self::Array(Box::new(Self::random(chance, names, depth - 1))),
            14 => Self::Map(Box::new(Self::random(chance, names, depth - 1))),
            15..18 => {
                let mut inner = Self::random(chance, names, depth - 1);
                if matches!(inner, Self::Union(_) | Self::Root) {
                    inner = Self::Leaf(LEAVES[2]);
                }
                let null = Self::Leaf(r#""null""#);
                Self::Union(if chance.one_in(3) { vec![inner, null] } else { vec![null, inner] })
            }
            18 if chance.one_in(5) => Self::Union(vec![Self::Leaf(r#""null""#), Self::Leaf(LEAVES[1]), Self::Leaf(LEAVES[6])]),
            19 if chance.one_in(8) => Self::Root,
            18..22 => Self::record(name, chance, names, depth),
            n => Self::Leaf(if chance.one_in(15) { r#""null""# } else { LEAVES[n % 12] }),
        }
    }

    fn record(name: String, chance: &mut Chance, names: &mut usize, depth: usize) -> Self {
        let least = usize::from(!chance.one_in(20));
        let fields = least + chance.below(5);
        Self::Record(name, (0..fields).map(|_| Self::random(chance, names, depth - 1)).collect())
    }

    fn json(&self) -> String {
        match self {
            Self::Leaf(leaf) => (*leaf).to_owned(),
            Self::Fixed(name, size) => format!(r#"{{"type":"fixed","name":"{name}","size":{size}}}"#),
            Self::Enum(name, n) => {
                let symbols: Vec<_> = (0..*n).map(|i| format!("\"s{i}\"")).collect();
                format!(r#"{{"type":"enum","name":"a.b.{name}","symbols":[{}]}}"#, symbols.join(","))
            }
            Self::Array(items) => format!(r#"{{"type":"array","items":{}}}"#, items.json()),
            Self::Map(values) => format!(r#"{{"type":"map","values":{}}}"#, values.json()),
            Self::Union(branches) => format!("[{}]", branches.iter().map(Self::json).collect::<Vec<_>>().join(",")),
            Self::Record(name, fields) => {
                let fields: Vec<_> = fields.iter().enumerate().map(|(i, f)| format!(r#"{{"name":"f{i}","type":{}}}"#, f.json())).collect();
                format!(r#"{{"type":"record","name":"x.{name}","fields":[{}]}}"#, fields.join(","))
            }
            Self::Root => r#"["null","x.root"]"#.to_owned(),
        }
    }

    fn datum(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(r#""null""#) => {}
            Self::Leaf(r#""boolean""#) => out.push(chance.below(2) as u8),
            Self::Leaf(r#""float""#) => out.extend_from_slice(&(chance.next() as u32).to_le_bytes()),
            Self::Leaf(r#""double""#) => out.extend_from_slice(&chance.next().to_le_bytes()),
            Self::Leaf(r#""bytes""#) => {
                let blob: Vec<_> = (0..chance.below(40)).map(|_| chance.next() as u8).collect();
                common::bytes(out, &blob);
            }
            Self::Leaf(leaf) if leaf.contains("string") => common::bytes(out, "grß🔭".repeat(chance.below(4)).as_bytes()),
            Self::Leaf(leaf) if leaf.contains("int") => long(out, i64::from(chance.next() as i32 >> chance.below(32))),
            // Milliseconds must fit as microseconds.
            Self::Leaf(_) => long(out, chance.next() as i64 >> (10 + chance.below(54))),
            Self::Fixed(_, size) => (0..*size).for_each(|_| out.push(chance.next() as u8)),
            Self::Enum(_, n) => long(out, chance.below(*n) as i64),
            Self::Array(items) => Self::blocks(chance, out, |chance, out| items.datum(chance, out)),
            Self::Map(values) => Self::blocks(chance, out, |chance, out| {
                let key = format!("k{}", chance.next());
                common::bytes(out, key.as_bytes());
                values.datum(chance, out);
            }),
            Self::Union(branches) => {
                let branch = chance.below(branches.len());
                long(out, branch as i64);
                branches[branch].datum(chance, out);
            }
            Self::Record(_, fields) => fields.iter().for_each(|f| f.datum(chance, out)),
            Self::Root => long(out, 0),
        }
    }

    fn blocks(chance: &mut Chance, out: &mut Vec<u8>, mut item: impl FnMut(&mut Chance, &mut Vec<u8>)) {
        for _ in 0..chance.below(3) {
            let count = 1 + chance.below(4);
            let mut items = Vec::new();
            (0..count).for_each(|_| item(chance, &mut items));
            if chance.one_in(2) {
                long(out, -(count as i64));
                long(out, items.len() as i64);
            } else {
                long(out, count as i64);
            }
            out.extend_from_slice(&items);
        }
        long(out, 0);
    }
}

/// Bites, cuts, splices and repeats.
fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(bytes.len());
        match chance.below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][chance.below(6)],
            3 => {
                let mut lie = Vec::new();
                long(&mut lie, [i64::MIN, -1, 1 << 20, 1 << 33, i64::MAX][chance.below(5)]);
                bytes.splice(at..at, lie);
            }
            4 => {
                let from = chance.below(other.len());
                let piece = &other[from..(from + chance.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            5 => {
                let piece = bytes[at..(at + chance.below(64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.drain(at..(at + chance.below(16)).min(bytes.len()))),
        }
    }
}

/// What became of some messages: each one's rows, or its fault.
fn fates(book: &Arc<SchemaBook>, payloads: &[Vec<u8>]) -> Vec<Result<usize, (&'static str, String)>> {
    let decoded = Decode::new(Arc::clone(book)).decode(vec![chunk("t", 0, payloads)]);
    let tally = decoded.passed[0].tally;
    assert!(tally.agrees(), "{tally:?}");
    let mut fates = vec![Ok(0); payloads.len()];
    for (offset, _) in rows(&decoded).keys() {
        fates[*offset as usize] = fates[*offset as usize].clone().map(|n| n + 1);
    }
    for reject in decoded.rejects {
        assert_ne!(reject.fault, "crashed", "{}", reject.reason);
        fates[reject.message.offset as usize] = Err((reject.fault, reject.reason));
    }
    fates
}

fn round(chance: &mut Chance, corpus: &[Vec<u8>]) {
    let book = Arc::new(SchemaBook::new());
    let (mut valid, mut counts) = (Vec::new(), Vec::new());
    for id in 0..3 {
        let depth = 1 + id as usize + chance.below(3);
        let schema = Type::record("root".to_owned(), chance, &mut 0, depth);
        let json = schema.json();
        let understood = understand(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
        if let Form::Raw(reason) = &understood.schema.form {
            assert!(!reason.contains("arrow") && !reason.contains("arse"), "{reason}: {json}");
        }
        book.know(id, &json);
        for _ in 0..4 {
            let datums: Vec<_> = (0..chance.below(4))
                .map(|_| {
                    let mut datum = Vec::new();
                    schema.datum(chance, &mut datum);
                    datum
                })
                .collect();
            if let Some(datum) = datums.first() {
                valid.push(framed(id, datum));
                counts.push((1, json.clone()));
            }
            let codec = common::CODECS[chance.below(4)];
            valid.push(container(&json, codec, &[(datums.len() as i64, datums.concat())]));
            counts.push((datums.len(), json.clone()));
        }
    }
    for (fate, (count, json)) in fates(&book, &valid).into_iter().zip(counts) {
        assert_eq!(fate, Ok(count), "{json}");
    }
    let mut payloads = Vec::new();
    for n in 0..40 {
        let pick = |chance: &mut Chance| {
            if n % 8 == 0 && !corpus.is_empty() {
                corpus[chance.below(corpus.len())].clone()
            } else {
                valid[chance.below(valid.len())].clone()
            }
        };
        let (mut payload, other) = (pick(chance), pick(chance));
        mutate(chance, &mut payload, &other);
        payloads.push(payload);
    }
    payloads.extend(valid);
    let together = fates(&book, &payloads);
    for (payload, fate) in payloads.iter().zip(together) {
        assert_eq!(fates(&book, std::slice::from_ref(payload)), [fate]);
    }
}

#[test]
fn nothing_that_anybody_sends_breaks_decoding() {
    let corpus: Vec<_> = shared().map_or(Vec::new(), |folder| {
        let small = |f: &std::path::PathBuf| f.metadata().is_ok_and(|m| m.len() < 100_000);
        files(&folder, ".avro").into_iter().filter(small).step_by(9).map(|f| std::fs::read(f).unwrap()).collect()
    });
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let seconds = number("FINK_FUZZ_SECONDS");
    let seed = number("FINK_FUZZ_SEED").unwrap_or(1);
    let start = Instant::now();
    let mut rounds = 0;
    while seconds.map_or(rounds < 60, |s| start.elapsed() < Duration::from_secs(s)) {
        // Each round has a seed of its own, to be repeated alone.
        let seed = seed + rounds;
        let result = std::panic::catch_unwind(|| round(&mut Chance(seed), &corpus));
        assert!(result.is_ok(), "repeat with FINK_FUZZ_SEED={seed}");
        rounds += 1;
    }
    println!("{rounds} rounds");
}
