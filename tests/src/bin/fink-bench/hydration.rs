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
use fink_tests::process::{Fink, until};
use serde_json::Value;

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
    /// Live alerts a second, meanwhile
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// Rows that are handed to the writer at once.
const ROWS: u32 = 50_000;

pub(crate) fn run(arguments: &HydrationArguments) {
    let folder = places::scratch("bench-hydration");
    let place = folder.path().join("archive");
    let (alerts, began) = (arguments.alerts, Instant::now());
    let (files, bytes) = write(&place.to_string_lossy(), arguments);
    let wrote = began.elapsed().as_secs_f64();
    println!(
        "{alerts} light rows of {} objects, at most {} points of history each, written in {wrote:.0} s: {:.1} us an alert, {files} files, {:.0} bytes an alert",
        arguments.objects,
        arguments.history,
        wrote * 1e6 / f64::from(alerts),
        bytes as f64 / f64::from(alerts)
    );
    let fink = Fink::new(folder.path(), &["start", "archive", "services", "--simulator", "--rate", &arguments.rate.to_string()]);
    // Whoever wrote it is this very process, which lives on.
    let mut run = fink.with(&["--archive", &place.to_string_lossy(), "--workers", &arguments.workers.to_string(), "--take-over"]).start();
    let began = Instant::now();
    // The generator's nights are older than the simulator's: the last is the live one's.
    let live = || {
        counts(folder.path())
            .is_some_and(|counts| nights(&counts).last().is_some_and(|(night, alerts)| night.as_str() > "2025" && *alerts > 0))
    };
    until("a live alert is counted", Duration::from_secs(120), live);
    println!("a live alert is answered for {:.1} s after the start", began.elapsed().as_secs_f64());
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
    assert!(run.stop().success());
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
        rows.add(Some(20_000 - 9_000 + round as i32), (at..end).map(stored).collect()).expect("written");
        at = end;
    }
    let files = rows.finish().expect("written");
    let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum());
    let mut covered = Coverage::default();
    covered.insert(&log, 0..i64::from(arguments.alerts));
    let all = u64::from(arguments.alerts);
    let tally = Tally { messages: all, archived: all, rows: all, ..Tally::default() };
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
