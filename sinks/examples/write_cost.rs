//! What it costs to write alerts of ZTF's size: `cargo run --release -p fink-sinks --example write_cost`.
//!
//! The rows are synthetic: 160 numbers and texts in structs and a list of structs, and three binaries of 13 kB.
//! Prints CPU time of this thread, the least of several rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array as _, ArrayRef, BinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use fink_dataflow::alerts::Place;
use fink_dataflow::message::Log;
use fink_sinks::archive::columns::{Names, with_own};
use fink_sinks::archive::encode::Encoder;
use fink_sinks::archive::properties::{Grain, Layout};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A small generator of numbers that do not compress.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn numbers(noise: &mut Noise, count: usize, rows: usize) -> Vec<(Arc<Field>, ArrayRef)> {
    let column = |i: usize, noise: &mut Noise| -> (Arc<Field>, ArrayRef) {
        let (name, array): (String, ArrayRef) = match i {
            0 => ("jd".into(), Arc::new(Float64Array::from_iter_values((0..rows).map(|_| 2_460_000.0 + noise.unit())))),
            1 => ("ra".into(), Arc::new(Float64Array::from_iter_values((0..rows).map(|_| 360.0 * noise.unit())))),
            i if i % 5 == 0 => (format!("n{i}"), Arc::new(Int32Array::from_iter_values((0..rows).map(|_| (noise.next() % 1000) as i32)))),
            i if i % 17 == 0 => {
                (format!("t{i}"), Arc::new(StringArray::from_iter_values((0..rows).map(|_| format!("ztf_{}", noise.next() % 50)))))
            }
            i => (
                format!("x{i}"),
                Arc::new(Float32Array::from_iter((0..rows).map(|_| (!noise.next().is_multiple_of(9)).then(|| noise.unit() as f32)))),
            ),
        };
        (Arc::new(Field::new(name, array.data_type().clone(), true)), array)
    };
    (0..count).map(|i| column(i, noise)).collect()
}

fn alerts(noise: &mut Noise, rows: usize) -> RecordBatch {
    let candidate = StructArray::from(numbers(noise, 100, rows));
    let previous = StructArray::from(numbers(noise, 50, rows * 15));
    let element = Arc::new(Field::new("element", previous.data_type().clone(), true));
    let list = ListArray::new(element, OffsetBuffer::from_lengths(vec![15; rows]), Arc::new(previous), None);
    let cutout = |noise: &mut Noise| -> ArrayRef {
        let bytes: Vec<Vec<u8>> = (0..rows).map(|_| (0..13_372 / 8 + 1).flat_map(|_| noise.next().to_le_bytes()).collect()).collect();
        let data: ArrayRef = Arc::new(BinaryArray::from_iter_values(&bytes));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("cutout_{i}.fits.gz"))));
        let fields: Fields = vec![Field::new("fileName", DataType::Utf8, true), Field::new("stampData", DataType::Binary, true)].into();
        Arc::new(StructArray::new(fields, vec![names, data], None))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("objectId", Arc::new(StringArray::from_iter_values((0..rows).map(|_| format!("ZTF26{:07x}", noise.next() % (1 << 28)))))),
        ("candid", Arc::new(Int64Array::from_iter_values((0..rows).map(|_| (noise.next() >> 1) as i64)))),
        ("candidate", Arc::new(candidate)),
        ("prv_candidates", Arc::new(list)),
        ("cutoutScience", cutout(noise)),
        ("cutoutTemplate", cutout(noise)),
        ("cutoutDifference", cutout(noise)),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).expect("made to fit")
}

fn rows(noise: &mut Noise, count: usize) -> RecordBatch {
    let alerts = alerts(noise, count);
    let log = Arc::new(Log::new("kafka:x", "ztf", 0, 3));
    let places: Vec<Place> = (0..count)
        .map(|i| Place {
            log: Arc::clone(&log),
            offset: i as i64,
            record: 0,
            timestamp_ms: Some(1_780_000_000_000 + i as i64),
            received_us: 1_780_000_000_000_000,
        })
        .collect();
    let schema = Names::default().file_schema(alerts.schema().fields());
    with_own(&schema, &alerts, &places, "0123456789abcdef").expect("made to fit")
}

/// The CPU time of this thread. The kernel brings it up to date at each tick only (4 ms), so many runs are timed together.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    Duration::from_nanos(text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("its first field"))
}

/// CPU and wall time of one run: the least mean of five rounds, each of `times` runs.
fn least(times: u32, mut run: impl FnMut()) -> (Duration, Duration) {
    let round = |run: &mut dyn FnMut()| {
        let (wall, start) = (Instant::now(), cpu());
        (0..times).for_each(|_| run());
        ((cpu() - start) / times, wall.elapsed() / times)
    };
    (0..5).map(|_| round(&mut run)).min().expect("at least once")
}

fn main() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let batch = rows(&mut noise, 256);
    let layout = Layout::new(&batch.schema()).expect("Parquet has these types");
    println!("{} leaf columns", layout.parquet().num_columns());
    let many: Vec<RecordBatch> = (0..8).map(|_| rows(&mut noise, 256)).collect();
    let count: usize = many.iter().map(RecordBatch::num_rows).sum();
    let write = |batches: &[RecordBatch], grain| {
        let mut encoder = Encoder::new(&layout, grain).expect("fits");
        batches.iter().for_each(|batch| encoder.write(batch).expect("fits"));
        encoder.finish().expect("fits")
    };
    for grain in [Grain::Coarse, Grain::Fine] {
        let mut size = 0;
        let (cpu, wall) = least(3, || size = write(&many, grain).0.into_bytes().iter().map(bytes::Bytes::len).sum());
        println!(
            "{count} rows, {grain:?}, into memory: {:.1} us CPU, {:.1} us wall an alert, {} B an alert",
            cpu.as_secs_f64() * 1e6 / count as f64,
            wall.as_secs_f64() * 1e6 / count as f64,
            size / count
        );
    }
    let file = std::env::temp_dir().join(format!("fink-write-cost-{}", std::process::id()));
    let (cpu, wall) = least(3, || {
        let payload = write(&many, Grain::Coarse).0.into_bytes();
        let mut out = std::fs::File::create(&file).expect("the temporary folder takes files");
        for piece in payload {
            std::io::Write::write_all(&mut out, &piece).expect("there is room");
        }
        out.sync_all().expect("synced");
    });
    println!(
        "{count} rows, Coarse, to local disk: {:.1} us CPU, {:.1} us wall an alert",
        cpu.as_secs_f64() * 1e6 / count as f64,
        wall.as_secs_f64() * 1e6 / count as f64
    );
    drop(std::fs::remove_file(&file));
    for rows in [1, 10, 50, 256] {
        for grain in [Grain::Fine, Grain::Coarse] {
            let small = batch.slice(0, rows);
            let mut size = 0;
            let (encode, _) = least(100, || {
                let (pieces, metadata) = write(std::slice::from_ref(&small), grain);
                size = pieces.into_bytes().iter().map(bytes::Bytes::len).sum::<usize>() + layout.stats(&metadata).len();
            });
            println!("{rows} rows, {grain:?}: {:.2} ms CPU a file, {size} B", encode.as_secs_f64() * 1e3);
        }
    }
}
