//! What lasts: memory under a backlog, and commits by the thousand.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
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
    /// How many times as fast the store's clock runs: at 20 the run is of two hours and more, and vacuum comes round twice
    #[arg(long, default_value_t = 20.0)]
    pace: f64,
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

/// A table as those see it who follow its log.
struct Watched {
    folder: PathBuf,
    next: u64,
    live: BTreeSet<String>,
    /// What was live when, of the last hour of the store's time.
    snapshots: VecDeque<(Instant, BTreeSet<String>)>,
    live_most: usize,
    removed: usize,
    /// Files that a snapshot of the last hour needed, and that were gone.
    missed: BTreeSet<String>,
}

impl Watched {
    fn new(folder: PathBuf) -> Self {
        let (live, missed) = (BTreeSet::new(), BTreeSet::new());
        Self { folder, next: 0, live, snapshots: VecDeque::new(), live_most: 0, removed: 0, missed }
    }

    /// Takes what was committed since, and looks whether all files are there that somebody may read.
    fn look(&mut self, hour: Duration) {
        while let Ok(text) = fs::read_to_string(self.folder.join(format!("_delta_log/{:020}.json", self.next))) {
            self.next += 1;
            for action in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
                if let Some(path) = action["add"]["path"].as_str() {
                    self.live.insert(path.to_owned());
                } else if let Some(path) = action["remove"]["path"].as_str() {
                    self.removed += usize::from(self.live.remove(path));
                }
            }
            self.live_most = self.live_most.max(self.live.len());
        }
        let now = Instant::now();
        if self.snapshots.back().is_none_or(|(at, _)| at.elapsed() >= hour / 60) {
            self.snapshots.push_back((now, self.live.clone()));
        }
        while self.snapshots.front().is_some_and(|(at, _)| at.elapsed() > hour) {
            self.snapshots.pop_front();
        }
        // Looked at youngest last: one that is an hour old by now may have lost a file just after it was passed over.
        let needed: BTreeSet<&String> = self.snapshots.iter().flat_map(|(_, live)| live).collect();
        let gone: Vec<String> = needed.into_iter().filter(|path| !self.folder.join(path).exists()).cloned().collect();
        self.missed.extend(gone);
    }

    /// Files that were taken out of the table and deleted.
    fn vacuumed(&self) -> usize {
        let there = walk(&self.folder);
        (self.live.len() + self.removed).saturating_sub(there)
    }
}

/// Data files below a table's folder.
fn walk(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = entries.map(|path| if path.is_dir() { walk(&path) } else { usize::from(path.extension().is_some_and(|e| e == "parquet")) });
    if folder.ends_with("_delta_log") { 0 } else { all.sum() }
}

/// Commits by the thousand, of simulated alerts, while hours pass by the store's clock.
pub(crate) fn commits(arguments: &CommitsArguments) {
    let folder = places::scratch("bench");
    let archive = folder.path().join("archive");
    let size = if arguments.full { "full" } else { "small" };
    let (rate, interval) = (arguments.rate.to_string(), arguments.interval.to_string());
    let configuration = folder.path().join("fink.toml");
    fs::write(&configuration, "[archive]\nvacuum_after_h = 1.0\n").expect("a configuration can be written");
    let (configuration, place) = (configuration.to_string_lossy(), archive.to_string_lossy());
    let pace = arguments.pace.max(1.0);
    let hour = Duration::from_secs(3600).div_f64(pace);
    let fink =
        Fink::new(folder.path(), &["start", "archive", "--simulator", "--rate", &rate, "--size", size, "--commit-interval", &interval]);
    let fink = fink.with(&["-c", &configuration, "--workers", "1", "--archive", &place]).set("FINK_STORE_PACE", &pace.to_string());
    let mut run = fink.start();
    let mut table = Watched::new(archive.join("alerts"));
    let mut log_most = 0;
    let (start, part) = (Instant::now(), arguments.count / 10);
    // CPU at each tenth of the commits.
    let mut at = vec![(0, Duration::ZERO)];
    while at.last().expect("one at least").0 < arguments.count {
        std::thread::sleep(Duration::from_millis(200));
        assert!(run.alive(), "it ended:\n{}", run.said());
        table.look(hour);
        log_most = log_most.max(count(&archive.join("alerts/_delta_log"))).max(count(&archive.join("_fink/entries")));
        let now = entries(&archive);
        if now >= at.last().expect("one at least").0 + part {
            at.push((now, cpu(run.pid()).expect("it runs")));
        }
    }
    assert!(run.stop().success(), "{}", run.said());
    table.look(hour);
    let costs: Vec<f64> = at.windows(2).map(|w| (w[1].1 - w[0].1).as_secs_f64() * 1e3 / (w[1].0 - w[0].0) as f64).collect();
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    let (rows, covered) = exact(folder.path(), &archive);
    let read = &judge::reads(&archive)["tables"]["alerts"];
    assert_eq!(read["rows"].as_u64(), Some(rows), "readers do not see what the ledger says: {read}");
    let sizes = sizes(&archive.join("alerts"), &table.live);
    println!(
        "{} commits of {size} alerts in {:.0} s, {:.0} min by the store's clock: {first:.2} ms CPU a commit at first, {last:.2} at last; at most {} live files and {log_most} files in any log; {} files vacuumed, {} too early; {rows} rows of {covered} messages; live files of {} kB to {} MB, the median {} kB",
        arguments.count,
        start.elapsed().as_secs_f64(),
        start.elapsed().as_secs_f64() * pace / 60.0,
        table.live_most,
        table.vacuumed(),
        table.missed.len(),
        sizes[0] >> 10,
        sizes[sizes.len() - 1] >> 20,
        sizes[sizes.len() / 2] >> 10,
    );
    println!(
        "{}",
        json!({
            "first_ms": first, "last_ms": last, "growth": last / first, "live_files": table.live_most, "log_files": log_most,
            "vacuumed": table.vacuumed(), "deleted": table.missed.len(), "rows": rows, "inexact": covered.abs_diff(rows),
        })
    );
}

/// What the archive's own check counts: rows of the alerts, and messages that are covered.
fn exact(logs: &Path, archive: &Path) -> (u64, u64) {
    let (status, said) = Fink::new(logs, &["check", "--json", "--archive", &archive.to_string_lossy()]).run();
    assert!(status.success(), "fink check does not agree:\n{said}");
    let json = said.find('{').map_or("", |start| &said[start..]);
    let report: Value = serde_json::Deserializer::from_str(json).into_iter().next().and_then(Result::ok).expect("fink check prints JSON");
    let sum = |list: &Value, key: &str| list.as_array().into_iter().flatten().filter_map(|each| each[key].as_u64()).sum();
    (sum(&report["tables"], "rows"), sum(&report["logs"], "messages"))
}

/// Sizes of files, in order: bytes.
fn sizes(table: &Path, files: &BTreeSet<String>) -> Vec<u64> {
    let mut sizes: Vec<u64> = files.iter().filter_map(|file| Some(fs::metadata(table.join(file)).ok()?.len())).collect();
    sizes.sort_unstable();
    sizes
}
