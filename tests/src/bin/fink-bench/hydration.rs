//! A restart over a large archive: how long until live alerts are answered for, and until all of history is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fink::repair::take;
use fink::services::roll::{Rows, edit};
use fink_dataflow::alerts::{Place, Tally};
use fink_dataflow::table::store;
use fink_dataflow::{Coverage, Log};
use fink_operators::surveys::stored::Stored;
use fink_sinks::archive::committer::{Edit, Request};
use fink_tests::places;
use fink_tests::process::{Fink, resident, until};
use serde_json::{Value, json};

use super::services::World;

/// Arguments of `hydration`.
#[derive(Args)]
pub(crate) struct HydrationArguments {
    /// Archived alerts, as many different detections
    #[arg(long, default_value_t = 10_000_000)]
    alerts: u32,
    /// Objects that they are about, each once a night
    #[arg(long, default_value_t = 1_000_000)]
    objects: u32,
    /// Points that an alert repeats at most, every other one an upper limit
    #[arg(long, default_value_t = 0)]
    history: u32,
    /// Workers
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Light curves of objects that were last seen before so many nights leave memory; nine of ten objects are not seen in these
    #[arg(long)]
    memory_nights: Option<u32>,
    /// Live alerts a second, meanwhile
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// Rows that are handed to the writer at once.
const ROWS: u32 = 50_000;

pub(crate) fn run(arguments: &HydrationArguments) {
    let folder = places::scratch("bench-hydration");
    let place = folder.path().join("archive");
    let began = Instant::now();
    let (files, bytes) = write(&place.to_string_lossy(), arguments);
    let wrote = began.elapsed().as_secs_f64();
    let alerts = arguments.archived();
    println!(
        "{alerts} light rows of {} objects, at most {} points of history each, written in {wrote:.0} s: {:.1} us an alert, {files} files, {:.0} bytes an alert",
        arguments.objects,
        arguments.history,
        wrote * 1e6 / f64::from(alerts),
        bytes as f64 / f64::from(alerts)
    );
    let alerts = arguments.archived();
    let configuration = folder.path().join("fink.toml");
    let bound = arguments.memory_nights.map_or(String::new(), |nights| format!("memory_nights = {nights}\n"));
    std::fs::write(&configuration, format!("[services]\n{bound}")).expect("written");
    let configuration = configuration.to_string_lossy().into_owned();
    let start = ["start", "archive", "services", "--simulator", "-c", &configuration, "--rate", &arguments.rate.to_string()];
    let fink = Fink::new(folder.path(), &start);
    // Whoever wrote it is this very process, which lives on.
    let mut run = fink.with(&["--archive", &place.to_string_lossy(), "--workers", &arguments.workers.to_string(), "--take-over"]).start();
    let began = Instant::now();
    // The generator's nights are older than the simulator's: the last is the live one's.
    let live = || {
        counts(folder.path())
            .is_some_and(|counts| nights(&counts).last().is_some_and(|(night, alerts)| night.as_str() > "2025" && *alerts > 0))
    };
    until("a live alert is counted", Duration::from_secs(120), live);
    let live_s = began.elapsed().as_secs_f64();
    println!("a live alert is answered for {live_s:.1} s after the start");
    let mut last = Value::Null;
    until("all of history is known", Duration::from_secs(3_600), || {
        assert!(run.alive(), "{}", run.said());
        last = counts(folder.path()).unwrap_or(Value::Null);
        std::thread::sleep(Duration::from_millis(200));
        last["complete"] == true
    });
    let (took, usage) = (began.elapsed().as_secs_f64(), run.usage());
    let old: i64 = nights(&last).iter().filter(|(night, _)| night.as_str() <= "2025").map(|(_, alerts)| alerts).sum();
    assert_eq!(old, i64::from(alerts), "each archived alert is counted once");
    println!(
        "complete after {took:.0} s (bar: 180), {:.0} s of CPU, {:.1} us an alert; {:.1} GB at most, {:.0} bytes an alert",
        usage.cpu.as_secs_f64(),
        usage.cpu.as_secs_f64() * 1e6 / f64::from(alerts),
        usage.peak_bytes as f64 / 1e9,
        usage.peak_bytes as f64 / f64::from(alerts)
    );
    let back = arguments.memory_nights.map(|_| away(arguments, folder.path(), run.pid()));
    assert!(run.stop().success());
    println!("{}", json!({ "live_s": live_s, "complete_s": took, "peak_gb": usage.peak_bytes as f64 / 1e9, "back": back }));
}

impl HydrationArguments {
    /// Whether an alert is archived: nine of ten objects are not seen in the last nights, if these are all that stays in memory.
    fn is_archived(&self, number: u32) -> bool {
        let (object, round) = (number % self.objects, number / self.objects);
        let rounds = self.alerts.div_ceil(self.objects);
        round + self.memory_nights.unwrap_or(0) < rounds || object.is_multiple_of(10)
    }

    fn archived(&self) -> u32 {
        (0..self.alerts).filter(|number| self.is_archived(*number)).count() as u32
    }
}

/// Asks for objects that have left memory, and says what is left of them there.
fn away(arguments: &HydrationArguments, folder: &std::path::Path, pid: u32) -> Value {
    let stand = || -> Option<Value> {
        let all: Value = serde_json::from_slice(&Fink::new(folder, &["show", "--json"]).output()?).ok()?;
        all.as_array()?.iter().map(|each| each["figures"]["services"]["away"].clone()).find(|away| !away.is_null())
    };
    let gone = u64::from(arguments.objects - arguments.objects.div_ceil(10));
    let mut last = Value::Null;
    // The simulator's nights are later than all others: before long nobody stays but those of the live night.
    until("light curves have left", Duration::from_secs(600), || {
        last = stand().unwrap_or(Value::Null);
        std::thread::sleep(Duration::from_millis(500));
        last["objects"].as_u64().is_some_and(|objects| objects >= gone)
    });
    std::thread::sleep(Duration::from_secs(30));
    let resident = resident(pid);
    println!(
        "{} light curves are in the archive alone; {:.1} GB are left in memory, {:.0} bytes an object",
        last["objects"],
        resident as f64 / 1e9,
        resident as f64 / f64::from(arguments.objects)
    );
    let mut took = Vec::new();
    for number in 0..200 {
        let object = 1 + number * (arguments.objects / 200) / 10 * 10;
        let name = format!("ZTF26{object:07}");
        let began = Instant::now();
        let answer = Fink::new(folder, &["object", &name, "--json"]).output().expect("it is known");
        took.push(began.elapsed().as_secs_f64() * 1e3);
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let alerts = (0..arguments.alerts).skip(object as usize).step_by(arguments.objects as usize).filter(|n| arguments.is_archived(*n));
        assert_eq!(answer["object"]["alerts"], alerts.count(), "{name}");
    }
    took.sort_by(f64::total_cmp);
    println!(
        "asked for by `fink object`: median {:.0} ms, p99 {:.0} ms, at most {:.0} ms (bar: 200)",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
    json!({ "away": last["objects"], "resident_gb": resident as f64 / 1e9, "p99_ms": took[took.len() * 99 / 100], "max_ms": took[took.len() - 1] })
}

/// Writes an archive whose light rows are these, as the program would; the number of files, and their bytes.
fn write(place: &str, arguments: &HydrationArguments) -> (usize, u64) {
    let archive = store::open(place, &std::collections::BTreeMap::default()).expect("a folder");
    let (committer, routes) = take(&archive).expect("nobody else writes it");
    let mut rows = Rows::new(&archive, &routes, committer.state().generation).expect("a new table");
    let log = Arc::new(Log::new("bench", "alerts", 0, 0));
    let world = World { objects: arguments.objects, history: arguments.history, log: log.clone().into() };
    let mut at = 0;
    while at < arguments.alerts {
        // A night is a round over all objects.
        let round = at / arguments.objects;
        let end = arguments.alerts.min(at + ROWS).min((round + 1) * arguments.objects);
        let stored = |number| {
            let alert = world.alert(number);
            let place = Place { log: log.clone(), offset: i64::from(number), record: 0, timestamp_ms: None, received_us: 0 };
            Stored { row: Ok(alert), place }
        };
        rows.add(Some(20_000 + round as i32), (at..end).filter(|number| arguments.is_archived(*number)).map(stored).collect())
            .expect("written");
        at = end;
    }
    let files = rows.finish().expect("written");
    let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum());
    let mut covered = Coverage::default();
    covered.insert(&log, 0..i64::from(arguments.alerts));
    let (all, rows) = (u64::from(arguments.alerts), u64::from(arguments.archived()));
    let tally = Tally { messages: all, archived: rows, empty: all - rows, rows, ..Tally::default() };
    let whole = Edit { covered: covered.clone(), tallies: vec![((*log).clone(), tally)], ..edit(files, covered) };
    committer.request(Request::Edit(whole)).expect("granted");
    committer.stop().expect("committed");
    (count, bytes)
}

fn counts(folder: &std::path::Path) -> Option<Value> {
    let output = Fink::new(folder, &["counts", "--json"]).output()?;
    serde_json::from_slice(&output).ok()
}

/// Alerts by night.
fn nights(counts: &Value) -> Vec<(String, i64)> {
    let nights = counts["nights"].as_array().into_iter().flatten();
    nights.filter_map(|night| Some((night["night"].as_str()?.to_owned(), night["alerts"].as_i64()?))).collect()
}
