//! Bites into messages and gives them to the decoder, between neighbours that must come through unharmed.
//!
//! Real and simulated alerts are cut, bent, spliced and lied about, most often in the parts that say how to read the rest:
//! the container's header, its schema, lengths and counts. Every batch is a function of its number, so a finding is
//! repeated by `--only`. It ends with exit code 1 when a message is lost or doubled, a neighbour is harmed, counts do not
//! add up, or decoding panicked (which the decoder contains, and which is a fault of ours all the same).

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use fink_dataflow::budget::Budget;
use fink_dataflow::message::{Chunk, Log, Message};
use fink_operators::decode::envelope::open;
use fink_operators::decode::{Decode, SchemaBook};
use fink_sources::simulator::{Generator, SimulatorConfig};
use fink_tests::datum::put_long;
use fink_tests::template::Noise;
use fink_tests::{lsst, places};

/// Bites into messages and gives them to the decoder.
#[derive(Parser)]
struct Arguments {
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first batch
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// This batch only
    #[arg(long)]
    only: Option<u64>,
    /// The envelope alone: many more bites a second
    #[arg(long)]
    envelope: bool,
}

/// The registry's id of the messages in `lsst/confluent-v7.4`.
const RUBIN: u32 = 704;

/// Messages that decode.
fn corpus() -> Vec<Vec<u8>> {
    let mut generator = Generator::new(&SimulatorConfig::new(7, 0));
    let mut all: Vec<_> = (0..20).map(|k| generator.message(k % 4, i64::from(k))).collect();
    let folders = ["ztf/night-2018-11-29", "ztf/classes", "ztf/forced-photometry", "lsst/simulated-v9.0", "lsst/confluent-v7.4"];
    for folder in folders {
        let files: Vec<PathBuf> = places::data(folder, "avro").unwrap_or_default();
        all.extend(files.iter().take(12).map(|f| fs::read(f).expect("an alert can be read")));
    }
    all
}

/// A number that lengths and counts should never be, or a plausible one.
fn odd_number(noise: &mut Noise) -> i64 {
    const ODD: [i64; 14] = [0, 1, -1, 2, 63, 64, 8192, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN, 1 << 40, -(1 << 20), 1 << 31];
    ODD[noise.below(ODD.len())]
}

/// Where to bite: the head of a message holds its schema, the middle its counts, the tail its sync marker.
fn place(message: &[u8], noise: &mut Noise) -> usize {
    match noise.below(4) {
        0 => noise.below(message.len().min(64)),
        1 => message.len().saturating_sub(1 + noise.below(32)),
        _ => noise.below(message.len()),
    }
    .min(message.len().saturating_sub(1))
}

fn bite(message: &mut Vec<u8>, other: &[u8], noise: &mut Noise) {
    if message.is_empty() {
        message.push(noise.bits().to_le_bytes()[0]);
        return;
    }
    let at = place(message, noise);
    let end = (at + 1 + noise.below(40)).min(message.len());
    match noise.below(10) {
        0 => message[at] ^= 1 << noise.below(8),
        1 => message[at] = noise.bits().to_le_bytes()[0],
        2 => message.truncate(at),
        3 => drop(message.drain(at..end)),
        4 => {
            let part = message[at..end].to_vec();
            message.splice(at..at, part);
        }
        5 => {
            let mut number = Vec::new();
            put_long(odd_number(noise), &mut number);
            let over = (at + number.len() * noise.below(2)).min(message.len());
            message.splice(at..over, number);
        }
        6 => {
            let from = noise.below(other.len());
            message.truncate(at);
            message.extend(&other[from..]);
        }
        7 => noise.fill(&mut message[at..end]),
        8 => {
            // A word of the schema becomes another.
            const WORDS: [&str; 12] =
                ["null", "long", "float", "double", "string", "bytes", "record", "array", "map", "enum", "fixed", "boolean"];
            let (from, to) = (format!("\"{}\"", WORDS[noise.below(12)]), format!("\"{}\"", WORDS[noise.below(12)]));
            let found: Vec<_> = message.windows(from.len()).enumerate().filter(|(_, w)| *w == from.as_bytes()).map(|(i, _)| i).collect();
            if let Some(&i) = found.get(noise.below(found.len())) {
                message.splice(i..i + from.len(), to.bytes());
            }
        }
        _ => message.extend(std::iter::repeat_n(noise.bits().to_le_bytes()[0], noise.below(1000))),
    }
}

struct Batch {
    messages: Vec<(bool, Vec<u8>)>,
}

impl Batch {
    /// Eight messages, of which up to four are bitten.
    fn new(number: u64, corpus: &[Vec<u8>]) -> Self {
        let mut noise = Noise::new(number);
        noise.bits();
        let messages = (0..8).map(|k| {
            let mut message = corpus[noise.below(corpus.len())].clone();
            let bitten = k % 2 == 1 && noise.below(8) > 0;
            if bitten {
                let other = &corpus[noise.below(corpus.len())];
                (0..=noise.below(4)).for_each(|_| bite(&mut message, other, &mut noise));
            }
            (bitten, message)
        });
        Self { messages: messages.collect() }
    }

    /// Decodes it: what is wrong, and how many of its messages were rejected.
    fn judge(&self, decode: &mut Decode, budget: &Budget) -> Result<usize, String> {
        let log = Arc::new(Log::new("fuzz", "alerts", 0, 0));
        let message = |(offset, (_, bytes)): (i64, &(bool, Vec<u8>))| Message {
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::copy_from_slice(bytes)),
        };
        let messages: Vec<_> = (0..).zip(&self.messages).map(message).collect();
        let chunk = Chunk { log, span: 0..8, messages, received_us: 0 };
        let claim = Arc::new(budget.take(chunk.bytes()));
        let decoded = catch_unwind(AssertUnwindSafe(|| decode.decode(vec![(chunk, claim)]))).map_err(|_| "a panic came out")?;
        let mut fates: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for batch in &decoded.alerts {
            if batch.rows.num_rows() != batch.places.len() || batch.nights.len() != batch.places.len() {
                return Err(format!("{} rows, {} places, {} nights", batch.rows.num_rows(), batch.places.len(), batch.nights.len()));
            }
            batch.places.iter().filter(|p| p.record == 0).for_each(|p| fates.entry(p.offset).or_default().push("archived"));
        }
        decoded.rejects.iter().for_each(|r| fates.entry(r.message.offset).or_default().push("rejected"));
        let tally = decoded.passed.first().ok_or("no span was passed")?.tally;
        if !tally.agrees() || tally.messages != 8 || tally.rejected != u64::try_from(decoded.rejects.len()).expect("few") {
            return Err(format!("{tally:?} with {} rejects", decoded.rejects.len()));
        }
        let empty = 8 - u64::try_from(fates.len()).expect("few");
        if fates.values().any(|f| f.len() != 1) || empty != tally.empty {
            return Err(format!("messages were lost or doubled: {fates:?}, {tally:?}"));
        }
        for (offset, (bitten, _)) in (0..).zip(&self.messages) {
            if !bitten && fates.get(&offset) != Some(&vec!["archived"]) {
                return Err(format!("the unharmed message {offset} was {:?}", fates.get(&offset)));
            }
        }
        match decoded.rejects.iter().find(|r| r.reason.contains("panicked")) {
            Some(reject) => Err(format!("message {}: {}", reject.message.offset, reject.reason)),
            None => Ok(decoded.rejects.len()),
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let corpus = corpus();
    let book = Arc::new(SchemaBook::new());
    if let Some(schema) = lsst::schema(7, 4) {
        book.know(RUBIN, &schema);
    }
    let mut decode = Decode::new(book);
    let budget = Budget::new(1 << 30);
    // Where it was, should it be killed by what it decodes.
    let last = places::scratch("fuzz").keep().join("last-batch");
    let (start, mut number) = (Instant::now(), arguments.only.unwrap_or(arguments.first));
    let (mut rejected, mut bitten, mut findings, mut slowest) = (0, 0, 0, Duration::ZERO);
    println!("{} messages to bite into; the batch at work is in {}", corpus.len(), last.display());
    while start.elapsed() < Duration::from_secs(arguments.seconds) && findings < 20 {
        fs::write(&last, number.to_string()).expect("the place can be kept");
        let batch = Batch::new(number, &corpus);
        bitten += batch.messages.iter().filter(|(b, _)| *b).count();
        let begun = Instant::now();
        if arguments.envelope {
            for (_, message) in &batch.messages {
                let bytes = Bytes::copy_from_slice(message);
                if catch_unwind(|| open(&bytes).is_ok()).is_err() {
                    findings += 1;
                    println!("batch {number}: the envelope panicked");
                }
            }
        } else {
            match batch.judge(&mut decode, &budget) {
                Ok(rejects) => rejected += rejects,
                Err(what) => {
                    findings += 1;
                    println!("batch {number}: {what}");
                }
            }
        }
        slowest = slowest.max(begun.elapsed());
        number += 1;
        if arguments.only.is_some() {
            break;
        }
    }
    let batches = number - arguments.only.unwrap_or(arguments.first);
    println!("{batches} batches, {bitten} messages bitten, {rejected} rejected, slowest batch {slowest:?}, {findings} findings");
    let _ = fs::remove_dir_all(last.parent().expect("it lies in a folder"));
    std::process::exit(i32::from(findings > 0));
}
