//! What it costs to be several processes, and whether all cores work where partitions are few.

use std::time::Duration;

use clap::Args;
use fink_tests::flow;
use fink_tests::places;
use fink_tests::process::{Fink, thread_times};
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use serde_json::json;

use super::path::templates;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Arguments of `cluster`.
#[derive(Args)]
pub(crate) struct ClusterArguments {
    /// Alerts, all different
    #[arg(long, default_value_t = 60_000)]
    count: u64,
    /// How often each is run, by turns; the least of each counts
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// CPU an alert in microseconds, of the process and all its children.
fn drained(fink: Fink, count: u64) -> f64 {
    let usage = fink.with(&["--until-caught-up"]).start().succeed(PATIENCE);
    (usage.cpu + usage.children).as_secs_f64() * 1e6 / count as f64
}

/// The CPU of each worker and its writers while one process with two workers drains a topic, the less busy first; and the cores
/// that were busy on average.
fn shared(fink: Fink) -> ([Duration; 2], f64) {
    let mut run = fink.with(&["--until-caught-up", "--workers", "2"]).start();
    let mut each = [Duration::ZERO; 2];
    let mut cores: f64 = 0.0;
    while run.alive() {
        let mut now = [Duration::ZERO; 2];
        for (name, time) in thread_times(run.pid()) {
            for (worker, sum) in now.iter_mut().enumerate() {
                let ours = [format!("timely:work-{worker}"), format!("writer-{worker}"), format!("writer-{worker}-late")];
                *sum += if ours.contains(&name) { time } else { Duration::ZERO };
            }
        }
        // The last look may find threads that have ended already.
        if now.iter().sum::<Duration>() >= each.iter().sum() {
            each = now;
        }
        cores = cores.max(run.usage().cpu.as_secs_f64() / run.age().as_secs_f64());
        std::thread::sleep(Duration::from_millis(20));
    }
    run.succeed(PATIENCE);
    each.sort();
    (each, cores)
}

/// Runs and prints them, by turns.
pub(crate) fn cluster(arguments: &ClusterArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let count = arguments.count;
    let (mut four, mut one) = (Topic::create(&kafka.brokers(), "four", 4), Topic::create(&kafka.brokers(), "one", 1));
    flow::copies(&mut four, &templates(), count);
    flow::copies(&mut one, &templates(), count / 2);
    let fink = |topic: &str, name: &str| {
        let archive = folder.path().join(name);
        let _ = std::fs::remove_dir_all(&archive);
        Fink::archive(folder.path(), &kafka.brokers(), topic, &archive.to_string_lossy())
    };
    let (mut alone, mut both) = (f64::MAX, f64::MAX);
    for run in 0..arguments.runs {
        let once = drained(fink("four", "threads").with(&["--workers", "2"]), count);
        let twice = drained(fink("four", "processes").with(&["--processes", "2", "--workers", "1"]), count);
        println!("run {run}: 1 process of 2 workers {once:.1} us, 2 processes of 1 worker {twice:.1} us CPU an alert");
        (alone, both) = (alone.min(once), both.min(twice));
    }
    let ratio = both / alone;
    println!(
        "{count} alerts of 4 partitions, least of {} runs by turns: 1 x 2 {alone:.1} us, 2 x 1 {both:.1} us: {ratio:.3}",
        arguments.runs
    );
    let ([less, more], cores) = shared(fink("one", "one"));
    let balance = less.as_secs_f64() / more.as_secs_f64().max(1e-9);
    println!(
        "{} alerts of 1 partition, 2 workers: their CPU {:.2} and {:.2} s: {balance:.2}; {cores:.2} cores busy in all",
        count / 2,
        less.as_secs_f64(),
        more.as_secs_f64()
    );
    println!(
        "{}",
        json!({ "count": count, "threads_us": alone, "processes_us": both, "ratio": ratio, "balance": balance, "cores": cores })
    );
}
