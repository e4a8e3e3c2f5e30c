//! What the simulator costs: alerts made on one core, sent to a real Kafka from what was prepared, and its memory.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use fink_sources::simulator::generate::Edition;
use fink_sources::simulator::pace::Pace;
use fink_sources::simulator::seen::{SurveyOptions, Telescope};
use fink_sources::simulator::send::{Feed, SendOptions, send};
use fink_sources::simulator::{AlertOptions, Framing, Generator, Rate, SimulatorConfig};
use fink_tests::process::thread_cpu;
use fink_tests::servers::Kafka;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Arguments of `simulator`.
#[derive(Args)]
pub(crate) struct SimulatorArguments {
    /// Alerts that are made on one core
    #[arg(long, default_value_t = 5_000)]
    count: u64,
    /// Alerts of the visit that is prepared on disk, then sent
    #[arg(long, default_value_t = 10_000)]
    visit: u64,
    /// Alerts over which memory is looked at
    #[arg(long, default_value_t = 1_000_000)]
    long: u64,
    /// How often it is sent, and as often by a bare producer
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only make alerts: no Kafka
    #[arg(long)]
    without_kafka: bool,
}

fn config(alerts: AlertOptions) -> SimulatorConfig {
    // 2026-11-23.
    SimulatorConfig { alerts, ..SimulatorConfig::new(7, 1_795_460_400_000) }
}

/// Peak memory of this process, MB.
fn peak_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("kB") / 1000
}

/// Makes alerts on this thread, and prints what each costs: how many a second of CPU makes.
fn make(name: &str, alerts: AlertOptions, count: u64) -> f64 {
    let mut generator = Generator::new(&config(alerts));
    let _ = generator.tell(0, Edition::First);
    let (before, begin) = (thread_cpu(), Instant::now());
    let bytes: usize = (0..count).map(|number| generator.tell(number, Edition::First).0.len()).sum();
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), (thread_cpu() - before).as_secs_f64());
    let n = count as f64;
    println!(
        "{name}: {:.0} alerts/s of CPU on one core ({:.0}/s by the clock), {:.0} us and {:.0} bytes an alert",
        n / cpu,
        n / wall,
        cpu * 1e6 / n,
        bytes as f64 / n
    );
    n / cpu
}

/// All of it. The last line is JSON: alerts a second, and by how much memory grew in the second half of the long stream.
pub(crate) fn simulator(arguments: &SimulatorArguments) {
    // First, as what is looked at is this process's high-water mark.
    let growth = memory(arguments.long);
    let made = make("ZTF, full", AlertOptions::full(Telescope::Ztf), arguments.count);
    let _ = make("LSST, full", AlertOptions::full(Telescope::Lsst), arguments.count / 5);
    let _ = make("ZTF, small", AlertOptions::small(Telescope::Ztf), arguments.count);
    let [sent, bare] = if arguments.without_kafka { [f64::NAN; 2] } else { from_disk(arguments.visit, arguments.runs.max(1)) };
    println!("{}", serde_json::json!({ "made_per_s": made, "sent_per_s": sent, "bare_per_s": bare, "growth": growth }));
}

/// Memory over a long stream of a sky of 100,000 objects, with pictures of one pixel: what is looked at is the sky's and the histories'
/// memory. The peak at the end over that at half of the way.
fn memory(long: u64) -> f64 {
    let usual = AlertOptions::full(Telescope::Ztf);
    let survey = SurveyOptions { objects: 100_000, ..usual.survey.clone() };
    let mut generator = Generator::new(&config(AlertOptions { survey, stamp_side: 1, framing: Framing::Datum }));
    let begin = Instant::now();
    let mut peaks = Vec::new();
    for number in 0..long {
        let _ = generator.tell(number, Edition::First);
        if (number + 1) % (long / 10).max(1) == 0 {
            peaks.push(peak_mb());
        }
    }
    println!(
        "memory over {long} alerts of a sky of 100,000 objects, in ten parts: {peaks:?} MB peak; {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    peaks[peaks.len() - 1] as f64 / peaks[peaks.len() / 2] as f64
}

/// A visit prepared on disk and sent to a real Kafka, beside the same bytes by a bare producer, from memory: in turn, so that
/// what the machine does meanwhile falls on both. The median rates of both.
fn from_disk(visit: u64, runs: u32) -> [f64; 2] {
    let folder = fink_tests::places::scratch("bench");
    let config = config(AlertOptions::full(Telescope::Ztf));
    let mut generator = Generator::new(&config);
    let messages: Vec<Vec<u8>> = (0..visit).map(|number| generator.tell(number, Edition::First).0).collect();
    let bytes: u64 = messages.iter().map(|message| message.len() as u64).sum();
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    // A run to warm up, then those that count. Each has a Kafka of its own, so that none writes back what another left.
    for run in 0..=runs {
        let kafka = Kafka::start().expect("a benchmark needs Kafka");
        let send_prepared = || {
            let options = SendOptions {
                count: Some(visit),
                pace: Pace::Fast(Rate::default()),
                threads: 2,
                prepare: Some(folder.path().to_owned()),
                ..SendOptions::new(&kafka.brokers(), "prepared")
            };
            let sent = send(&Feed::Stream(config.clone(), 0), &options, |_| ControlFlow::Continue(())).expect("sent");
            assert_eq!((sent.sent, sent.failed, sent.bytes), (visit, 0, bytes), "the same bytes");
            visit as f64 / sent.seconds
        };
        let send_bare = || visit as f64 / bare(&kafka.brokers(), "bare", &config, &messages);
        // Who comes first changes from run to run.
        let (our, bare) = if run % 2 == 0 {
            let our = send_prepared();
            (our, send_bare())
        } else {
            let bare = send_bare();
            (send_prepared(), bare)
        };
        if run > 0 {
            ours.push(our);
            bares.push(bare);
            println!("run {run}: a visit prepared on disk {our:.0} alerts/s into Kafka; the same bytes by a bare producer {bare:.0}/s");
        }
    }
    let (our, bare) = (median(&mut ours), median(&mut bares));
    println!(
        "{visit} alerts of {:.0} bytes prepared on disk: {our:.0} alerts/s ({:.0} MB/s) into Kafka; the same bytes by a bare producer \
         {bare:.0}/s (medians of {runs})",
        bytes as f64 / visit as f64,
        our * bytes as f64 / visit as f64 / 1e6,
    );
    [our, bare]
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Seconds that a producer with the simulator's settings takes for these messages, each to its partition of four.
fn bare(brokers: &str, topic: &str, config: &SimulatorConfig, messages: &[Vec<u8>]) -> f64 {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("message.max.bytes", "20971520")
        .set("queue.buffering.max.kbytes", "131072")
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    // Made by an empty run, so that the topic is there.
    let nothing = SendOptions { count: Some(0), ..SendOptions::new(brokers, topic) };
    send(&Feed::Stream(config.clone(), 0), &nothing, |_| ControlFlow::Continue(())).expect("a topic");
    let begin = Instant::now();
    for (message, partition) in messages.iter().zip((0..4).cycle()) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition).payload(message);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            record = back;
            producer.poll(Duration::from_millis(50));
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).expect("all is taken");
    begin.elapsed().as_secs_f64()
}
