//! What lasts: memory under a backlog, and commits by the thousand.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use fink_tests::judge;
use fink_tests::places;
use fink_tests::process::{Fink, cpu};
use fink_tests::servers::Kafka;
use fink_tests::topic::{Fate, Topic};
use serde_json::{Value, json};

use crate::path::templates;

/// Arguments of `memory`.
#[derive(Args)]
pub(crate) struct MemoryArguments {
    /// Alerts
    #[arg(long, default_value_t = 30_000)]
    count: u64,
    /// Observing nights, by turns
    #[arg(long, default_value_t = 30)]
    nights: u64,
    /// Bytes of an alert
    #[arg(long, default_value_t = 100_000)]
    bytes: usize,
    /// Workers of the program
    #[arg(long, default_value_t = 3)]
    workers: u32,
}

/// Arguments of `commits`.
#[derive(Args)]
pub(crate) struct CommitsArguments {
    /// Commits
    #[arg(long, default_value_t = 5_000)]
    count: u64,
    /// Seconds between commits
    #[arg(long, default_value_t = 0.1)]
    interval: f64,
    /// Simulated alerts a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// As big as ZTF's, instead of 2 kB
    #[arg(long)]
    full: bool,
}

/// A backlog of many nights interleaved: the most memory that the program takes.
pub(crate) fn memory(arguments: &MemoryArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 4);
    let templates: Vec<_> = templates().into_iter().take(40).map(|t| t.grown_to(arguments.bytes)).collect();
    for k in 0..arguments.count {
        let template = &templates[usize::try_from(k).expect("fits") % templates.len()];
        let jd = template.double("candidate.jd") + (k % arguments.nights) as f64;
        let message = template.message_with(k + 1, &[("candidate.jd", jd)]);
        topic.send(i32::try_from(k % 4).expect("small"), &message, Fate::Records(1));
    }
    topic.flush();
    let archive = folder.path().join("archive");
    let workers = arguments.workers.to_string();
    let fink = Fink::archive(folder.path(), &kafka.brokers(), "alerts", &archive.to_string_lossy());
    let mut run = fink.with(&["--workers", &workers, "--until-caught-up"]).start();
    let usage = run.succeed(Duration::from_secs(900));
    let read = judge::holds(&archive, &[&topic]);
    let peak = usage.peak_bytes as f64 / 1e6;
    println!(
        "{} alerts of {} bytes over {} nights, {workers} workers: {peak:.0} MB peak, {:.0} us CPU/alert, {} files",
        arguments.count,
        arguments.bytes,
        arguments.nights,
        usage.cpu.as_secs_f64() * 1e6 / arguments.count as f64,
        read["tables"]["alerts"]["files"]
    );
    println!("{}", json!({ "peak_mb": peak, "count": arguments.count }));
}

/// Files in a folder.
fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// The highest number that the ledger's folder holds.
fn entries(archive: &Path) -> u64 {
    let list = fs::read_dir(archive.join("_fink/entries")).into_iter().flatten().flatten();
    let numbers = list.filter_map(|f| f.file_name().into_string().ok()?.split('.').next()?.parse::<u64>().ok());
    numbers.max().map_or(0, |n| n + 1)
}

/// Files that a version of the table named, and that are gone.
fn deleted(table: &Path) -> usize {
    let mut named = BTreeSet::new();
    for log in fs::read_dir(table.join("_delta_log")).into_iter().flatten().flatten().map(|f| f.path()) {
        if log.extension().is_some_and(|e| e == "json") {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let actions = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
            named.extend(actions.filter_map(|a| Some(a["add"]["path"].as_str()?.to_owned())));
        }
    }
    named.iter().filter(|path| !table.join(path).exists()).count()
}

/// Commits by the thousand, of simulated alerts.
pub(crate) fn commits(arguments: &CommitsArguments) {
    let folder = places::scratch("bench");
    let archive = folder.path().join("archive");
    let size = if arguments.full { "full" } else { "small" };
    let (rate, interval) = (arguments.rate.to_string(), arguments.interval.to_string());
    let fink =
        Fink::new(folder.path(), &["start", "archive", "--simulator", "--rate", &rate, "--size", size, "--commit-interval", &interval]);
    let mut run = fink.with(&["--workers", "1", "--archive", &archive.to_string_lossy()]).start();
    let (start, part) = (Instant::now(), arguments.count / 10);
    // CPU at each tenth of the commits.
    let mut at = vec![(0, Duration::ZERO)];
    while at.last().expect("one at least").0 < arguments.count {
        std::thread::sleep(Duration::from_millis(50));
        assert!(run.alive(), "it ended:\n{}", run.said());
        let now = entries(&archive);
        if now >= at.last().expect("one at least").0 + part {
            at.push((now, cpu(run.pid()).expect("it runs")));
        }
    }
    assert!(run.stop().success(), "{}", run.said());
    let costs: Vec<f64> = at.windows(2).map(|w| (w[1].1 - w[0].1).as_secs_f64() * 1e3 / (w[1].0 - w[0].0) as f64).collect();
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    let read = judge::reads(&archive);
    let logs = [count(&archive.join("alerts/_delta_log")), count(&archive.join("_fink/entries"))];
    let gone = deleted(&archive.join("alerts"));
    println!(
        "{} commits of {size} alerts in {:.0} s: {first:.2} ms CPU a commit at first, {last:.2} at last; {} live files, {} and {} files in the logs of table and ledger, {gone} files gone that a version of the last hour names",
        arguments.count,
        start.elapsed().as_secs_f64(),
        read["tables"]["alerts"]["files"],
        logs[0],
        logs[1]
    );
    println!(
        "{}",
        json!({ "first_ms": first, "last_ms": last, "growth": last / first, "live_files": read["tables"]["alerts"]["files"], "log_files": logs.iter().max(), "deleted": gone, "rows": read["alerts"] })
    );
}
