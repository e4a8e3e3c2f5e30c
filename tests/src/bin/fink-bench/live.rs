//! What live alerts see: latency, a visit at once, and what it costs to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::places;
use fink_tests::process::{Fink, cpu};
use fink_tests::servers::{Hdfs, Kafka};
use fink_tests::topic::{Fate, Topic};
use fink_tests::visible::{Follower, now_ms, percentiles};
use serde_json::json;

use crate::path::templates;

/// Arguments of `latency`.
#[derive(Args)]
pub(crate) struct LatencyArguments {
    /// How long, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Alerts a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Workers of the program
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// On a real HDFS of three data nodes, instead of the local disk
    #[arg(long)]
    hdfs: bool,
    /// More arguments for the program
    #[arg(last = true)]
    more: Vec<String>,
}

/// Arguments of `visit`.
#[derive(Args)]
pub(crate) struct VisitArguments {
    /// Alerts
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Sent within so many seconds
    #[arg(long, default_value_t = 3.0)]
    within: f64,
    /// Workers of the program
    #[arg(long, default_value_t = 2)]
    workers: u32,
}

/// Arguments of `idle`.
#[derive(Args)]
pub(crate) struct IdleArguments {
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Timestamps by the broker's clock at the append: the moment from which latency counts.
const APPENDED: [(&str, &str); 1] = [("message.timestamp.type", "LogAppendTime")];

/// CPU of a process over a time, as a part of one core.
fn share(pid: u32, since: (Duration, Instant)) -> f64 {
    (cpu(pid).expect("it runs") - since.0).as_secs_f64() / since.1.elapsed().as_secs_f64()
}

/// A steady stream for a while.
pub(crate) fn latency(arguments: &LatencyArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let hdfs = arguments.hdfs.then(|| Hdfs::start(3, 2).expect("the benchmark was asked to use HDFS"));
    let folder = places::scratch("bench");
    let local = folder.path().join("archive");
    let archive = hdfs.as_ref().map_or_else(|| local.to_string_lossy().into_owned(), |h| h.url("bench"));
    let topic = Topic::create_with(&kafka.brokers(), "alerts", 4, &APPENDED);
    let workers = arguments.workers.to_string();
    let mut fink = Fink::archive(folder.path(), &kafka.brokers(), "alerts", &archive).with(&["--workers", &workers]);
    let more: Vec<_> = arguments.more.iter().map(String::as_str).collect();
    fink = fink.with(&more);
    if let Some(hdfs) = &hdfs {
        fink = fink.set("HADOOP_CONF_DIR", &hdfs.configuration().to_string_lossy());
    }
    let mut run = fink.start();
    let mut follower = hdfs.as_ref().map_or_else(|| Follower::new(&local, "alerts"), |_| Follower::of(&archive, "alerts"));
    let flow = Flow::start(topic, Arc::new(templates()), arguments.rate);
    let first = follower.wait(Duration::from_secs(60));
    assert!(first.is_some(), "nothing came:\n{}", run.said());
    // The first seconds belong to the start: connections, the table's birth.
    std::thread::sleep(Duration::from_secs(5));
    while follower.poll().is_some() {}
    let since = (cpu(run.pid()).expect("it runs"), Instant::now());
    let (mut late, mut commits) = (Vec::new(), 0);
    while since.1.elapsed() < Duration::from_secs(arguments.seconds) {
        let Some(seen) = follower.wait(Duration::from_secs(60)) else { panic!("nothing came for a minute:\n{}", run.said()) };
        commits += 1;
        late.extend(seen.rows.iter().map(|(appended, _)| seen.at_ms - appended));
    }
    let core = share(run.pid(), since);
    let peak = run.usage().peak_bytes;
    let topic = flow.stop();
    assert!(run.stop().success(), "{}", run.said());
    drop(run);
    fink.with(&["--until-caught-up"]).start().succeed(Duration::from_secs(120));
    let configuration = hdfs.as_ref().map(|hdfs| hdfs.configuration().to_string_lossy().into_owned());
    let environment: Vec<_> = configuration.map(|folder| ("HADOOP_CONF_DIR".to_owned(), folder)).into_iter().collect();
    judge::checks(folder.path(), &kafka.brokers(), &[&topic], &archive, &environment);
    if hdfs.is_none() {
        judge::holds(&local, &[&topic]);
    }
    let rows = late.len();
    let (median, p99, max) = percentiles(late);
    println!(
        "{} s at {}/s on {}: median {median} ms, p99 {p99} ms, max {max} ms over {rows} alerts in {commits} commits; {:.2} % of one core, {:.0} MB peak",
        arguments.seconds,
        arguments.rate,
        if arguments.hdfs { "HDFS" } else { "local disk" },
        core * 100.0,
        peak as f64 / 1e6
    );
    println!("{}", json!({ "median_ms": median, "p99_ms": p99, "max_ms": max, "rows": rows, "commits": commits, "core": core }));
}

/// Many alerts at once, and when all are visible.
pub(crate) fn visit(arguments: &VisitArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let archive = folder.path().join("archive");
    let mut topic = Topic::create_with(&kafka.brokers(), "alerts", 4, &APPENDED);
    let templates = templates();
    let workers = arguments.workers.to_string();
    let fink = Fink::archive(folder.path(), &kafka.brokers(), "alerts", &archive.to_string_lossy()).with(&["--workers", &workers]);
    let mut run = fink.start();
    let mut follower = Follower::new(&archive, "alerts");
    // One alert before: what is measured is a visit, not a start.
    topic.send(0, &templates[0].message(u64::MAX), Fate::Records(1));
    topic.flush();
    assert!(follower.wait(Duration::from_secs(60)).is_some(), "nothing came:\n{}", run.said());
    // Copies are made before the clock starts: noise costs as much CPU as fink does.
    let copy = |k: u64| templates[usize::try_from(k).expect("fits") % templates.len()].message(k + 1);
    let messages: Vec<_> = (0..arguments.count).map(copy).collect();
    let (start, start_ms) = (Instant::now(), now_ms());
    let sender = std::thread::spawn({
        let (within, count) = (arguments.within, arguments.count);
        move || {
            for (k, message) in (0_u32..).zip(&messages) {
                let due = Duration::from_secs_f64(within * f64::from(k) / count as f64);
                std::thread::sleep((start + due).saturating_duration_since(Instant::now()));
                topic.send(i32::try_from(k % 4).expect("small"), message, Fate::Records(1));
            }
            topic.flush();
            (start.elapsed(), topic)
        }
    });
    let (mut rows, mut last_ms, mut last_append) = (0, 0, 0);
    while rows < arguments.count {
        let Some(seen) = follower.wait(Duration::from_secs(60)) else { panic!("{rows} came, then nothing:\n{}", run.said()) };
        rows += u64::try_from(seen.rows.len()).expect("fits");
        last_ms = seen.at_ms;
        last_append = seen.rows.iter().map(|r| r.0).max().unwrap_or(0).max(last_append);
    }
    let (sent, topic) = sender.join().expect("the sender does not panic");
    let (all, after) = ((last_ms - start_ms) as f64 / 1e3, (last_ms - last_append) as f64 / 1e3);
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&archive, &[&topic]);
    println!(
        "{} alerts sent in {:.2} s: all visible {all:.2} s after the first was sent, {after:.2} s after Kafka had the last",
        arguments.count,
        sent.as_secs_f64()
    );
    println!("{}", json!({ "count": rows, "sent_s": sent.as_secs_f64(), "visible_s": all, "after_last_append_s": after }));
}

/// Nothing comes.
pub(crate) fn idle(arguments: &IdleArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let archive = folder.path().join("archive");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 4);
    fink_tests::flow::copies(&mut topic, &templates(), 100);
    let mut run = Fink::archive(folder.path(), &kafka.brokers(), "alerts", &archive.to_string_lossy()).start();
    assert!(Follower::new(&archive, "alerts").wait(Duration::from_secs(60)).is_some(), "nothing came:\n{}", run.said());
    std::thread::sleep(Duration::from_secs(10));
    let since = (cpu(run.pid()).expect("it runs"), Instant::now());
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let core = share(run.pid(), since);
    assert!(run.stop().success(), "{}", run.said());
    println!("idle for {} s: {:.2} % of one core", arguments.seconds, core * 100.0);
    println!("{}", json!({ "core": core }));
}
