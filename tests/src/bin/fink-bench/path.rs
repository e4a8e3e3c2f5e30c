//! The whole path against its floors: (a) a bare consumer, (b) decoder and Parquet writer in memory, (c) the program.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use fink::allocator::KEEP_FREED_MS;
use fink_dataflow::budget::Budget;
use fink_dataflow::message::{Chunk, Log, Message};
use fink_dataflow::table::entry::State;
use fink_operators::decode::{Decode, SchemaBook};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::routes::Routes;
use fink_tests::flow;
use fink_tests::places;
use fink_tests::process::{Fink, Run, Usage, thread_cpu};
use fink_tests::servers::{Hdfs, Kafka};
use fink_tests::template::Template;
use fink_tests::topic::Topic;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

/// Arguments of `path`.
#[derive(Args)]
pub(crate) struct PathArguments {
    /// Alerts, all different
    #[arg(long, default_value_t = 60_000)]
    count: u64,
    /// Workers of the program
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Also on a real HDFS of three data nodes
    #[arg(long)]
    hdfs: bool,
    /// How often each is run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Arguments of `drain`.
#[derive(Args)]
pub(crate) struct DrainArguments {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
}

/// Arguments of `fill`.
#[derive(Args)]
pub(crate) struct FillArguments {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
    /// Alerts
    #[arg(long, default_value_t = 20_000)]
    count: u64,
}

/// Arguments of `encode`.
#[derive(Args)]
pub(crate) struct EncodeArguments {
    #[arg(long)]
    count: u64,
}

/// Real alerts to make copies of.
pub(crate) fn templates() -> Vec<Template> {
    Template::folder("ztf/night-2018-11-29").expect("a benchmark needs real alerts")
}

struct Figure {
    cpu_us: f64,
    system_us: f64,
    per_second: f64,
    peak_mb: f64,
}

impl Figure {
    fn new(count: u64, usage: Usage, wall: Duration) -> Self {
        let (count, peak_bytes) = (count as f64, usage.peak_bytes);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
        Self {
            cpu_us: each(usage.cpu),
            system_us: each(usage.system),
            per_second: count / wall.as_secs_f64(),
            peak_mb: peak_bytes as f64 / 1e6,
        }
    }

    fn print(&self, what: &str) {
        println!("{what:<44} {:>9.1} us CPU/alert {:>9.0} alerts/s {:>8.0} MB peak", self.cpu_us, self.per_second, self.peak_mb);
    }
}

fn least(runs: Vec<Figure>) -> Figure {
    runs.into_iter().min_by(|x, y| x.cpu_us.total_cmp(&y.cpu_us)).expect("one run at least")
}

fn itself(log: &Path, arguments: &[&str]) -> (serde_json::Value, Usage, Duration) {
    let mut command = Command::new(std::env::current_exe().expect("a process knows its program"));
    // The program gives itself this setting of the allocator: (b) is to have it too. What it tells librdkafka's is its own doing,
    // and no part of a bare consumer (a).
    command.args(arguments).env(KEEP_FREED_MS.0, KEEP_FREED_MS.1);
    let mut run = Run::of(command, log);
    let usage = run.succeed(Duration::from_secs(600));
    let wall = run.age();
    (serde_json::from_str(run.said().trim()).expect("it prints JSON"), usage, wall)
}

fn seconds(value: &serde_json::Value, name: &str) -> Duration {
    Duration::from_secs_f64(value[name].as_f64().expect("a number of seconds"))
}

/// Runs (a), (b) and (c) and prints them, and c / (a + b).
pub(crate) fn run(arguments: &PathArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let count = arguments.count;
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 4);
    flow::copies(&mut topic, &templates(), count);

    // Each of the three by turns, and the least CPU of each counts: what else the machine does only ever adds.
    let log = folder.path().join("floor.log");
    let workers = arguments.workers.to_string();
    let whole = |fink: Fink| {
        let mut run = fink.with(&["--workers", &workers, "--until-caught-up"]).start();
        let usage = run.succeed(Duration::from_secs(600));
        Figure::new(count, usage, run.age())
    };
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    let mut about = String::new();
    for n in 0..arguments.runs {
        let (said, usage, wall) = itself(&log, &["drain", "--brokers", &kafka.brokers(), "--topic", "alerts"]);
        assert_eq!(said["messages"].as_u64(), Some(count), "the drain lost messages");
        let bytes = said["bytes"].as_f64().expect("bytes") / count as f64;
        a.push(Figure::new(count, usage, wall));
        let (said, usage, _) = itself(&log, &["encode", "--count", &count.to_string()]);
        assert_eq!(said["rows"].as_u64(), Some(count), "(b) lost rows");
        let cpu = seconds(&said, "cpu");
        b.push(Figure::new(count, Usage { cpu, system: Duration::ZERO, ..usage }, cpu));
        let decode = seconds(&said, "decode").as_secs_f64() * 1e6 / count as f64;
        let parquet = said["parquet_bytes"].as_f64().unwrap_or_default() / count as f64;
        about = format!("{bytes:.0} bytes an alert in Kafka, {parquet:.0} in Parquet; decode alone {decode:.1} us in the last run");
        let archive = folder.path().join(format!("archive-{n}"));
        c.push(whole(Fink::archive(folder.path(), &kafka.brokers(), "alerts", &archive.to_string_lossy())));
        println!(
            "    run {n}: a {:.1}, b {:.1}, c {:.1} us (of it {:.1} in the kernel)",
            a[a.len() - 1].cpu_us,
            b[b.len() - 1].cpu_us,
            c[c.len() - 1].cpu_us,
            c[c.len() - 1].system_us
        );
        // The disk is not to be full of archives.
        let _ = std::fs::remove_dir_all(archive);
    }
    let (a, b, c) = (least(a), least(b), least(c));
    println!("{count} alerts, all different; {about}; {} workers, least of {} runs", arguments.workers, arguments.runs);
    a.print("(a) bare rdkafka consumer");
    b.print("(b) decode and Parquet into memory, 1 thread");
    c.print("(c) fink start archive, local disk");
    let ratio = c.cpu_us / (a.cpu_us + b.cpu_us);
    println!("    c / (a + b) = {ratio:.2}");
    let mut line =
        json!({ "count": count, "a": a.cpu_us, "b": b.cpu_us, "c": c.cpu_us, "ratio": ratio, "peak_mb": c.peak_mb, "per_s": c.per_second });
    if arguments.hdfs {
        let hdfs = Hdfs::start(3, 2).expect("the benchmark was asked to use HDFS");
        let conf = hdfs.configuration().to_string_lossy().into_owned();
        let one = |n| {
            let url = hdfs.url(&format!("bench/{n}"));
            whole(Fink::archive(folder.path(), &kafka.brokers(), "alerts", &url).set("HADOOP_CONF_DIR", &conf))
        };
        let c = least((0..arguments.runs).map(one).collect());
        c.print("(c) fink start archive, HDFS, 3 nodes, 2 copies");
        println!("    c / (a + b) = {:.2}", c.cpu_us / (a.cpu_us + b.cpu_us));
        line["c_hdfs"] = json!(c.cpu_us);
    }
    println!("{line}");
}

/// A topic to look at the program with by hand.
pub(crate) fn fill(arguments: &FillArguments) {
    flow::copies(&mut Topic::create(&arguments.brokers, &arguments.topic, 4), &templates(), arguments.count);
}

/// (a): all partitions from their beginning to their end, with the program's settings, nothing done with the messages.
pub(crate) fn drain(arguments: &DrainArguments) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &arguments.brokers).set("group.id", "fink-bench").set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error").set("check.crcs", "true").set("enable.partition.eof", "true");
    config.set("queued.max.messages.kbytes", "16384").set("fetch.queue.backoff.ms", "2").set("broker.address.family", "v4");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let metadata = consumer.fetch_metadata(Some(&arguments.topic), Duration::from_secs(20)).expect("the broker answers");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(&arguments.topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    let mut open = list.count();
    consumer.assign(&list).expect("partitions can be assigned");
    let (mut messages, mut bytes) = (0_u64, 0);
    while open > 0 {
        match consumer.poll(Duration::from_secs(20)).expect("messages come") {
            Ok(message) => {
                messages += 1;
                bytes += message.payload_len();
            }
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{}", json!({ "messages": messages, "bytes": bytes }));
}

/// Messages of a chunk, as the program's sources hand them over.
const CHUNK: u64 = 128;
/// Bytes of a group, as the program's own.
const GROUP: usize = 128 << 20;

/// (b): the product's decoder and file writer on one thread; the copies are made by another, and not counted.
pub(crate) fn encode(arguments: &EncodeArguments) {
    let (send, chunks) = sync_channel::<Chunk>(4);
    let count = arguments.count;
    let maker = std::thread::spawn(move || {
        let templates = templates();
        let log = Arc::new(Log::new("bench", "alerts", 0, 0));
        for first in (0..count).step_by(usize::try_from(CHUNK).expect("small")) {
            let message = |k: u64| Message {
                offset: k.cast_signed(),
                timestamp_ms: Some(1_700_000_000_000),
                key: None,
                payload: Some(Bytes::from(templates[usize::try_from(k).expect("fits") % templates.len()].message(k + 1))),
            };
            let until = (first + CHUNK).min(count);
            let messages = (first..until).map(message).collect();
            let span = first.cast_signed()..until.cast_signed();
            if send.send(Chunk { log: Arc::clone(&log), span, messages, received_us: 0 }).is_err() {
                return;
            }
        }
    });
    let mut decode = Decode::new(Arc::new(SchemaBook::new()));
    let routes = Arc::new(Routes::new(&State::default()).expect("no tables yet"));
    let mut files = Files::new(routes, Memory::new(160 << 20, 1), 0);
    let budget = Budget::new(48 << 20);
    let (mut rows, mut parquet_bytes) = (0, 0);
    let (mut decoding, mut writing) = (Duration::ZERO, Duration::ZERO);
    let started = Instant::now();
    let mut close = |files: &mut Files| {
        while let Some(closed) = files.close_largest().expect("a file can be closed") {
            rows += closed.file.rows;
            parquet_bytes += closed.file.size;
        }
    };
    while let Ok(chunk) = chunks.recv() {
        let claim = Arc::new(budget.take(chunk.bytes()));
        let start = thread_cpu();
        let decoded = decode.decode(vec![(chunk, claim)]);
        let middle = thread_cpu();
        assert!(decoded.rejects.is_empty(), "a copy was rejected: {}", decoded.rejects[0].reason);
        decoded.alerts.iter().for_each(|batch| files.alerts(batch).expect("alerts fit their schema"));
        drop(decoded);
        if files.held() >= GROUP {
            close(&mut files);
        }
        decoding += middle - start;
        writing += thread_cpu() - middle;
    }
    let start = thread_cpu();
    close(&mut files);
    writing += thread_cpu() - start;
    maker.join().expect("copies can be made");
    let cpu = decoding + writing;
    println!(
        "{}",
        json!({ "rows": rows, "parquet_bytes": parquet_bytes, "cpu": cpu.as_secs_f64(), "decode": decoding.as_secs_f64(), "wall": started.elapsed().as_secs_f64() })
    );
}
