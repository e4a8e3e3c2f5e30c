//! An archived night read again, against its first reading from Kafka.

use std::time::{Duration, Instant};

use clap::Args;
use fink_tests::answers::{address, counted};
use fink_tests::flow;
use fink_tests::places;
use fink_tests::process::{Fink, until};
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use serde_json::{Value, json};

use crate::path::templates;

/// Arguments of `replay`.
#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// Alerts of the night
    #[arg(long, default_value_t = 30_000)]
    count: u64,
    /// Workers of the program, and threads that read again
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// How often each is done; the fastest of each counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// From the topic to its end, all durable, in seconds; with services also answered for.
fn first(folder: &std::path::Path, brokers: &str, archive: &str, services: bool, workers: &str) -> f64 {
    let more: &[&str] = if services { &["services"] } else { &[] };
    let fink = Fink::new(folder, &["start", "archive"]).with(more);
    let fink = fink.with(&["--brokers", brokers, "--topic", "alerts", "--from", "earliest", "--archive", archive]);
    let began = Instant::now();
    fink.with(&["--workers", workers, "--until-caught-up"]).start().succeed(Duration::from_secs(600));
    began.elapsed().as_secs_f64()
}

/// Reads the archive again, to light rows: the alerts, and seconds of the whole process.
fn again(folder: &std::path::Path, archive: &str, threads: &str) -> (u64, f64) {
    let began = Instant::now();
    let (status, said) = Fink::new(folder, &["replay", "--all", "--json", "--archive", archive, "--threads", threads]).run();
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.success(), "{said}");
    let told: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).expect("JSON")).expect("JSON");
    (told["rows"].as_u64().expect("rows"), seconds)
}

/// From the start of services on an archive until their answers know all of it, in seconds.
fn answered(folder: &std::path::Path, archive: &str, count: u64, workers: &str) -> f64 {
    let began = Instant::now();
    let mut run = Fink::new(folder, &["start", "services", "--archive", archive, "--workers", workers]).start();
    let mut at = None;
    let all = i64::try_from(count).expect("fits");
    until("all is answered for", Duration::from_secs(600), || {
        at = at.take().or_else(|| address(folder, "services"));
        at.as_deref().and_then(counted).is_some_and(|(alerts, complete, _)| complete && alerts == all)
    });
    let seconds = began.elapsed().as_secs_f64();
    assert!(run.stop().success(), "{}", run.said());
    seconds
}

pub(crate) fn replay(arguments: &ReplayArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let (count, workers) = (arguments.count, arguments.workers.to_string());
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 4);
    flow::copies(&mut topic, &templates(), count);
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    // By turns, and the least of each: what else the machine does only ever adds.
    let (mut read, mut reread) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
    for run in 0..arguments.runs.max(1) {
        for (services, least) in [true, false].into_iter().zip(&mut read) {
            let _ = std::fs::remove_dir_all(&archive);
            let seconds = first(folder.path(), &kafka.brokers(), &archive, services, &workers);
            println!("    run {run}: first reading{}: {seconds:.2} s", if services { ", services on" } else { "" });
            *least = least.min(seconds);
        }
        let (rows, seconds) = again(folder.path(), &archive, &workers);
        assert_eq!(rows, count, "a replay has each row once");
        let with = answered(folder.path(), &archive, count, &workers);
        println!("    run {run}: replay: {seconds:.2} s; into services, until they answer for all: {with:.2} s");
        reread = [reread[0].min(with), reread[1].min(seconds)];
    }
    let [ratio_services, ratio] = [read[0] / reread[0], read[1] / reread[1]];
    let per_s = |seconds: f64| count as f64 / seconds;
    println!(
        "{count} alerts, services off: first {:.0}/s, again {:.0}/s: {ratio:.1} times as fast; services on: first {:.0}/s, again {:.0}/s: {ratio_services:.1}",
        per_s(read[1]),
        per_s(reread[1]),
        per_s(read[0]),
        per_s(reread[0])
    );
    println!(
        "{}",
        json!({ "ratio": ratio, "ratio_services": ratio_services, "first_per_s": per_s(read[1]), "replay_per_s": per_s(reread[1]) })
    );
}
