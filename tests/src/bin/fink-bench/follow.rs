//! Services beside the archive: from Kafka's append to what a Delta reader sees and to what is answered, in one process and in
//! two; and what the archive's readers see while a service misbehaves in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fink_tests::answers::{address, counted, status};
use fink_tests::flow::Flow;
use fink_tests::places;
use fink_tests::process::{Fink, Run, until};
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use fink_tests::visible::{Follower, percentiles};
use serde_json::json;

use crate::path::templates;

/// Arguments of `follow`.
#[derive(Args)]
pub(crate) struct FollowArguments {
    /// How long each form runs, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Alerts a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Workers of each process
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// Leave out the services that misbehave
    #[arg(long)]
    well: bool,
}

/// Timestamps by the broker's clock at the append: the moment from which latency counts.
const APPENDED: [(&str, &str); 1] = [("message.timestamp.type", "LogAppendTime")];
/// The first seconds belong to the start: connections, the table's birth, history.
const START: Duration = Duration::from_secs(8);
/// How long a supervisor waits before it starts what ended.
const RESTART: Duration = Duration::from_secs(1);
/// What a service that eats memory may have, in kB.
const MEMORY_KB: u64 = 3_000_000;

/// How services run.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// There are none.
    None,
    /// In the archive's process.
    Within,
    /// In a process of their own, which misbehaves as `FINK_TEST_SERVICE` says, if at all.
    Beside(Option<&'static str>),
}

/// What was seen of one form.
struct Seen {
    /// From append to the Delta reader: median, 99th percentile, maximum, in milliseconds.
    archived: (i64, i64, i64),
    /// From append to the answer, likewise.
    answered: Option<(i64, i64, i64)>,
    /// How often the services' process was started again.
    restarts: u32,
    /// What `fink show` said of it at last.
    shown: String,
}

fn beside(folder: &Path, archive: &str, workers: &str, sick: Option<&str>, number: u32) -> Run {
    let Some(sick) = sick else {
        return Fink::new(folder, &["start", "services", "--archive", archive, "--workers", workers]).start();
    };
    let mut command = Command::new("sh");
    let line = format!("ulimit -v {MEMORY_KB}; exec \"$0\" \"$@\"");
    command.current_dir(folder).args(["-c", &line]).arg(places::program());
    command.args(["start", "services", "--archive", archive, "--workers", workers]);
    command.env("FINK_TEST_SERVICE", sick).env("NO_COLOR", "1").env("FINK_RUN_DIR", folder.join("run"));
    Run::of(command, &folder.join(format!("sick-{number}.log")))
}

/// Runs one form for a while, on what comes from now on. The topic has one partition: alerts are answered for in its order.
fn watch(folder: &Path, brokers: &str, form: Form, arguments: &FollowArguments) -> Seen {
    let archive = folder.join("archive");
    let _ = std::fs::remove_dir_all(&archive);
    let _ = std::fs::remove_file(folder.join("run/crashes.jsonl"));
    let (place, workers) = (archive.to_string_lossy().into_owned(), arguments.workers.to_string());
    let services: &[&str] = if form == Form::Within { &["services"] } else { &[] };
    let fink = Fink::new(folder, &["start", "archive"]).with(services);
    let mut run = fink.with(&["--brokers", brokers, "--topic", "alerts", "--archive", &place, "--workers", &workers]).start();
    let mut follower = Follower::new(&archive, "alerts");
    assert!(follower.wait(Duration::from_secs(60)).is_some(), "nothing came:\n{}", run.said());
    let sick = if let Form::Beside(sick) = form { sick } else { None };
    let mut own = matches!(form, Form::Beside(_)).then(|| beside(folder, &place, &workers, sick, 0));
    let name = if form == Form::Within { "archive" } else { "services" };
    // Who misbehaves can't be asked.
    let at = (form != Form::None && sick.is_none()).then(|| {
        until("services answer", Duration::from_secs(60), || address(folder, name).is_some_and(|at| counted(&at).is_some()));
        address(folder, name).expect("they answered")
    });
    let mut all = Follower::new(&archive, "alerts");
    let (mut appended, mut archived, mut told, mut shown) = (BTreeMap::new(), Vec::new(), Vec::new(), String::new());
    let (began, mut restarts, mut ended, mut looked) = (Instant::now(), 0, None::<Instant>, Instant::now());
    while began.elapsed() < START + Duration::from_secs(arguments.seconds) {
        while let Some(commit) = all.poll() {
            if began.elapsed() > START {
                archived.extend(commit.rows.iter().map(|(at, _)| commit.at_ms - at));
            }
            appended.extend(commit.rows.iter().map(|(at, offset)| (*offset, *at)));
        }
        if let Some((alerts, _, at_ms)) = at.as_deref().and_then(counted)
            && began.elapsed() > START
        {
            told.push((alerts, at_ms));
        }
        if let Some(process) = own.as_mut().filter(|_| sick.is_some()) {
            if !process.alive() {
                let since = *ended.get_or_insert_with(Instant::now);
                if since.elapsed() >= RESTART {
                    restarts += 1;
                    (own, ended) = (Some(beside(folder, &place, &workers, sick, restarts)), None);
                }
            }
            if looked.elapsed() > Duration::from_secs(2) {
                looked = Instant::now();
                let (_, said) = Fink::new(folder, &["show"]).run();
                let lines =
                    said.lines().filter(|line| line.starts_with("services") && (line.contains("panicked") || line.contains("stand still")));
                shown = lines.last().map(str::to_owned).unwrap_or(shown);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(run.alive(), "the archive ended:\n{}", run.said());
    let lag = status(folder, "archive").and_then(|status| status["figures"]["lag"].as_i64());
    assert!(lag.is_some_and(|lag| lag < i64::from(arguments.rate) * 10), "the archive is behind by {lag:?}");
    drop(own);
    assert!(run.stop().success(), "{}", run.said());
    let answered = answers(&appended, &told);
    Seen { archived: percentiles(archived), answered: (!answered.is_empty()).then(|| percentiles(answered)), restarts, shown }
}

/// From each alert's append to the first answer that has it. Of one partition, answers have the first so many.
fn answers(appended: &BTreeMap<i64, i64>, told: &[(i64, i64)]) -> Vec<i64> {
    let Some((first, _)) = appended.first_key_value() else { return Vec::new() };
    let of = |index: i64| appended.get(&(first + index)).copied();
    let steps = told.windows(2).map(|pair| (pair[0].0, pair[1].0, pair[1].1));
    steps.flat_map(|(before, now, at_ms)| (before..now).filter_map(move |index| Some(at_ms - of(index)?))).collect()
}

pub(crate) fn follow(arguments: &FollowArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench");
    let topic = Topic::create_with(&kafka.brokers(), "alerts", 1, &APPENDED);
    let flow = Flow::start(topic, Arc::new(templates()), arguments.rate);
    let see = |what: &str, form| {
        let seen = watch(folder.path(), &kafka.brokers(), form, arguments);
        let (median, p99, max) = seen.archived;
        let answers = seen.answered.map(|(median, p99, max)| format!("; answered {median} / {p99} / {max} ms")).unwrap_or_default();
        let again = if seen.restarts > 0 { format!("; started again {} times", seen.restarts) } else { String::new() };
        println!("{what}: visible {median} / {p99} / {max} ms{answers}{again}");
        if !seen.shown.is_empty() {
            println!("  fink show: {}", seen.shown);
        }
        seen
    };
    println!("median / p99 / max from Kafka's append, {} s at {}/s", arguments.seconds, arguments.rate);
    let alone = see("archive alone", Form::None);
    let within = see("services in its process", Form::Within);
    let beside = see("services in their own", Form::Beside(None));
    let mut worst = 0;
    if !arguments.well {
        // More than a run's alerts are read again at each start: one that panics at its 1,000th alert never gets further.
        for (what, sick) in
            [("panics at each 1,000th alert", "panic:1000"), ("blocks for 10 s", "block:200"), ("eats its memory", "eat:200")]
        {
            worst = worst.max(see(&format!("beside, a service {what}"), Form::Beside(Some(sick))).archived.1);
        }
    }
    let _ = flow.stop();
    let answered = |seen: &Seen| seen.answered.map_or(-1, |(_, p99, _)| p99);
    println!(
        "{}",
        json!({
            "archive_p99_ms": alone.archived.1, "within_p99_ms": within.archived.1, "beside_p99_ms": beside.archived.1,
            "answered_within_p99_ms": answered(&within), "answered_beside_p99_ms": answered(&beside),
            "answered_beside_median_ms": beside.answered.map_or(-1, |(median, ..)| median), "sick_p99_ms": worst,
        })
    );
}
