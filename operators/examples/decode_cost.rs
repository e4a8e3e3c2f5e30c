//! What decoding costs: CPU per alert for envelope, schema comparison, decoding and fitting of real alerts that all
//! differ. `cargo run --release -p fink-operators --example decode_cost -- FOLDER [COPIES [BATCH]]`
//!
//! The allocator keeps its memory (mimalloc), as the one of `fink` does.

use std::sync::Arc;

use bytes::Bytes;
use fink_dataflow::budget::Budget;
use fink_dataflow::{Chunk, Log, Message};
use fink_operators::decode::{Decode, SchemaBook};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fibonacci hashing's multiplier: noise that depends on the index alone.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder of Avro files");
    let copies: u64 = arguments.next().map_or(8, |n| n.parse().expect("how many copies"));
    let batch: usize = arguments.next().map_or(256, |n| n.parse().expect("how many messages a batch"));
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let originals: Vec<_> = files.iter().map(|f| std::fs::read(f).expect("a file")).collect();
    let alerts: Vec<Bytes> = (0..copies).flat_map(|copy| originals.iter().map(move |alert| perturbed(alert, copy).into())).collect();
    let bytes: usize = alerts.iter().map(Bytes::len).sum();
    println!("{} alerts, {} bytes each", alerts.len(), bytes / alerts.len());
    let log = Arc::new(Log::new("bench", "ztf", 0, 0));
    for _ in 0..7 {
        let mut decoder = Decode::new(Arc::new(SchemaBook::new()));
        let chunks: Vec<_> = alerts.chunks(batch).map(|part| chunk(&log, part)).collect();
        let (cpu, faults) = (cpu_us(), page_faults());
        let (mut rows, mut rejects) = (0, 0);
        for chunk in chunks {
            let decoded = decoder.decode(vec![(chunk, Arc::new(Budget::new(1).take(0)))]);
            rows += decoded.alerts.iter().map(|b| b.rows.num_rows()).sum::<usize>();
            rejects += decoded.rejects.len();
        }
        let (cpu, faults) = (cpu_us() - cpu, page_faults() - faults);
        println!("{:.1} us an alert, {rows} rows, {rejects} rejects, {faults} page faults", cpu / alerts.len() as f64);
    }
}

/// A copy whose cutouts differ, and nothing else: their lengths stand right before their gzip magic.
fn perturbed(alert: &[u8], copy: u64) -> Vec<u8> {
    let mut alert = alert.to_vec();
    let gzip: Vec<_> = alert.windows(3).enumerate().filter(|(_, w)| *w == [0x1f, 0x8b, 0x08]).map(|(at, _)| at).collect();
    for at in gzip {
        // A length of 2 or 3 bytes, as Avro writes it: 8 kB and more take three.
        let length = match alert[at - 3..at] {
            [a, b, c] if a > 127 && b > 127 && c < 128 => (usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7 | usize::from(c) << 14) / 2,
            [_, a, b] if a > 127 && b < 128 => (usize::from(a & 0x7f) | usize::from(b) << 7) / 2,
            _ => 0,
        };
        let end = (at + length.saturating_sub(8)).min(alert.len());
        for (index, byte) in (0u64..).zip(alert.iter_mut().take(end).skip(at + 100)) {
            *byte ^= (MIX.wrapping_mul(copy * 8_191 + index) >> 56) as u8;
        }
    }
    alert
}

fn chunk(log: &Arc<Log>, payloads: &[Bytes]) -> Chunk {
    let message = |(offset, payload): (i64, &Bytes)| Message { offset, timestamp_ms: None, key: None, payload: Some(payload.clone()) };
    let messages: Vec<_> = (0..).zip(payloads).map(message).collect();
    Chunk { log: Arc::clone(log), span: 0..messages.len() as i64, messages, received_us: 0 }
}

/// CPU time of this process in microseconds, from the scheduler's own nanoseconds.
fn cpu_us() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e3
}

fn page_faults() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    text.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok()).expect("a number")
}
