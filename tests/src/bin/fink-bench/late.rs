//! A backlog beside live alerts: what each costs the other.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fink_tests::flow::{self, Flow};
use fink_tests::places;
use fink_tests::process::Fink;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use fink_tests::visible::{Follower, now_ms, percentiles};
use serde_json::json;

use crate::path::templates;

/// Arguments of `late`.
#[derive(Args)]
pub(crate) struct LateArguments {
    /// Alerts of the backlog
    #[arg(long, default_value_t = 50_000)]
    backlog: u64,
    /// Live alerts a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Rounds go on until so many live alerts were seen under backlog
    #[arg(long, default_value_t = 3_000)]
    live: usize,
    /// Workers of the program
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Leave out the run with one ordered lane
    #[arg(long)]
    no_ordered: bool,
}

/// Timestamps by the broker's clock at the append: the moment from which latency counts.
const APPENDED: [(&str, &str); 1] = [("message.timestamp.type", "LogAppendTime")];
/// Live alerts of the first seconds belong to the start of the program: connections, the table's birth.
const START_MS: i64 = 2_000;
/// After the backlog, merges begin; what live alerts see then is counted from here on, as without a backlog.
const AFTER_MS: i64 = 1_000;

/// What a run saw.
#[derive(Default)]
struct Round {
    /// Latencies of live alerts while the backlog was open, and after it.
    under: Vec<i64>,
    after: Vec<i64>,
    /// From the first commit of the backlog to its last, in seconds, and how many alerts came between.
    drain_s: f64,
    drained: u64,
}

impl Round {
    fn per_s(&self) -> f64 {
        self.drained as f64 / self.drain_s
    }
}

/// Runs the program on a topic whose messages up to now are the backlog, until the backlog is visible and as many live alerts
/// were seen after it as under it.
fn round(folder: &Path, brokers: &str, backlog: u64, live: bool, arguments: &LateArguments, more: &[&str]) -> Round {
    let archive = folder.join("archive");
    let _ = std::fs::remove_dir_all(&archive);
    let workers = arguments.workers.to_string();
    let fink = Fink::archive(folder, brokers, "alerts", &archive.to_string_lossy()).with(&["--workers", &workers]).with(more);
    let began = now_ms();
    let mut run = fink.start();
    let mut follower = Follower::new(&archive, "alerts");
    let (mut seen, mut first, mut last) = (0, None, None::<(Instant, i64)>);
    let (mut round, mut all) = (Round::default(), Vec::new());
    loop {
        let Some(commit) = follower.wait(Duration::from_secs(120)) else { panic!("nothing came for two minutes:\n{}", run.said()) };
        let old = u64::try_from(commit.rows.iter().filter(|(appended, _)| *appended < began).count()).expect("fits");
        if old > 0 && last.is_none() {
            seen += old;
            let (_, before) = *first.get_or_insert((Instant::now(), old));
            if seen >= backlog {
                last = Some((Instant::now(), commit.at_ms));
                round.drained = seen - before;
            }
        }
        all.extend(commit.rows.iter().map(|(appended, _)| (*appended, commit.at_ms - appended)));
        // By when Kafka had them, not by when they were seen: with one ordered lane that is after the backlog.
        let of = |from: i64, until: i64| all.iter().filter(move |(at, _)| (from..until).contains(at)).map(|(_, late)| *late).collect();
        if let Some((_, done_ms)) = last {
            round.under = of(began + START_MS, done_ms);
            round.after = of(done_ms + AFTER_MS, i64::MAX);
            if !live || (commit.at_ms > done_ms + AFTER_MS && round.after.len() >= round.under.len()) {
                break;
            }
        }
    }
    if let (Some((first, _)), Some((last, _))) = (first, last) {
        round.drain_s = (last - first).as_secs_f64().max(0.001);
    }
    assert!(run.stop().success(), "{}", run.said());
    round
}

/// The bar's run.
pub(crate) fn late(arguments: &LateArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let mut topic = Topic::create_with(&kafka.brokers(), "alerts", 4, &APPENDED);
    let templates = Arc::new(templates());
    flow::copies(&mut topic, &templates, arguments.backlog);
    let go = |backlog, live, more: &[&str]| round(folder.path(), &kafka.brokers(), backlog, live, arguments, more);

    let alone = go(arguments.backlog, false, &[]);
    println!("alone: {} alerts drained at {:.0}/s", alone.drained, alone.per_s());
    let flow = Flow::start(topic, Arc::clone(&templates), arguments.rate);
    let (mut under, mut after, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    while under.len() < arguments.live {
        let seen = go(arguments.backlog + flow.sent(), true, &[]);
        println!("round {}: {} live alerts under backlog, drained at {:.0}/s", speeds.len() + 1, seen.under.len(), seen.per_s());
        speeds.push(seen.per_s());
        under.extend(seen.under);
        after.extend(seen.after);
    }
    let ordered = (!arguments.no_ordered).then(|| go(arguments.backlog + flow.sent(), true, &["--lanes", "1"]));
    let again = {
        let sent = flow.sent();
        let _ = flow.stop();
        go(arguments.backlog + sent, false, &[])
    };
    println!("alone again: {} alerts drained at {:.0}/s", again.drained, again.per_s());

    let (rows, rounds) = (under.len(), speeds.len());
    let (median, p99, max) = percentiles(under);
    let (median_after, p99_after, max_after) = percentiles(after);
    let (ratio, speed) = (p99 as f64 / p99_after as f64, speeds.iter().sum::<f64>() / rounds as f64);
    let alone = (alone.per_s() + again.per_s()) / 2.0;
    println!(
        "{rows} live alerts at {}/s under a backlog of {}, in {rounds} rounds, {} workers:",
        arguments.rate, arguments.backlog, arguments.workers
    );
    println!("    visible after, under backlog: median {median} ms, p99 {p99} ms, max {max} ms");
    println!("    the same process, after it:   median {median_after} ms, p99 {p99_after} ms, max {max_after} ms");
    println!("    p99 under / after = {ratio:.2}");
    println!("    backlog drained at {speed:.0}/s, alone at {alone:.0}/s: {:.2}", speed / alone);
    let mut line = json!({ "p99_ms": p99, "p99_after_ms": p99_after, "p99_ratio": ratio, "drain_ratio": speed / alone, "live": rows });
    if let Some(ordered) = ordered.filter(|ordered| !ordered.under.is_empty()) {
        let (median, p99, max) = percentiles(ordered.under.clone());
        println!(
            "    one ordered lane: median {median} ms, p99 {p99} ms, max {max} ms over {} live alerts, drained at {:.0}/s",
            ordered.under.len(),
            ordered.per_s()
        );
        line["ordered_p99_ms"] = json!(p99);
    }
    println!("{line}");
}
