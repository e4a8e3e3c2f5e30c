//! The program: asked by its own commands and over HTTP, killed, and asked again.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::table::store::wait;
use fink_dataflow::table::{Archive, Ledger, light, store};
use fink_sources::archive::{Replay, Selection, Wanted};
use serde_json::Value;

use crate::reference::{Reference, reference};

/// The alerts of the stream: the first at its start, the others before the test, and the next long after.
pub(crate) const ALERTS: i64 = 2_501;

pub(crate) fn fink(folder: &Path) -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_fink")), folder)
}

fn program(path: &Path, folder: &Path) -> Command {
    let mut command = Command::new(path);
    command.env("FINK_RUN_DIR", folder.join("run")).current_dir(folder);
    command
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    fink(folder).args(arguments).output().expect("the program runs")
}

pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Option<Value> {
    let output = run(folder, &[arguments, &["--json"]].concat());
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

pub fn start(folder: &Path, what: &[&str]) -> Child {
    start_program(Path::new(env!("CARGO_BIN_EXE_fink")), folder, what)
}

pub(crate) fn start_program(path: &Path, folder: &Path, what: &[&str]) -> Child {
    let stream = ["--simulator", "--rate", "0.001", "--backlog", "2500", "--workers", "2", "--archive", "./archive"];
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    program(path, folder).arg("start").args(what).args(stream).stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

/// The same, rolling light rows as soon as 500 alerts wait, and killed at a point of the code.
fn start_rolling(folder: &Path, failpoint: &str) -> Child {
    std::fs::write(folder.join("rolling.toml"), "[services]\nlight_rows = 500\n").expect("written");
    let stream = ["--simulator", "--rate", "0.001", "--backlog", "2500", "--workers", "2", "--archive", "./archive"];
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut command = fink(folder);
    command.env("FINK_FAILPOINT", failpoint).args(["start", "archive", "services", "--config", "rolling.toml"]).args(stream);
    command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

pub(crate) fn stop(mut child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(child.wait().expect("it ends").success());
}

pub(crate) fn kill(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("it ended");
}

/// Waits until the services know so many alerts, and all of history; returns the counts.
pub fn caught_up(folder: &Path) -> Value {
    for _ in 0..1_200 {
        if let Some(counts) = json(folder, &["counts"]) {
            let alerts: i64 = counts["nights"].as_array().expect("nights").iter().filter_map(|night| night["alerts"].as_i64()).sum();
            assert!(alerts <= ALERTS, "some are counted twice: {counts}");
            if counts["complete"] == true && alerts == ALERTS {
                return counts;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not caught up: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
}

fn archive(folder: &Path) -> Archive {
    store::open(&folder.join("archive").to_string_lossy(), &Default::default()).expect("an archive")
}

/// A replay's alerts.
fn replayed(replay: Replay) -> Vec<AlertBatch> {
    let mut batches: Vec<AlertBatch> = Vec::new();
    let take = |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    };
    replay.run(1, take).expect("read");
    batches
}

/// The archive's alerts, read again.
pub(crate) fn archived(folder: &Path) -> Vec<AlertBatch> {
    replayed(Replay::open(&archive(folder), Selection::default(), Wanted::Light).expect("opened"))
}

/// Light rows are rolled once, whatever the roll is killed at, and history comes from them.
fn rolled_by_and_by(folder: &Path, expected: &Reference) {
    for (point, lacks) in [("light-rows", true), ("light-rolled", false)] {
        let mut child = start_rolling(folder, point);
        let mut patience = 2_400;
        while child.try_wait().expect("it can be asked").is_none() {
            patience -= 1;
            assert!(patience > 0, "{point} is not reached: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(said.contains(&format!("failpoint {point}")), "{said}");
        let there = archive(folder);
        let (_, state) = wait(async move { Ledger::open(&there).await }).expect("a ledger");
        assert_eq!(light::rows_lacking(&state) > 0, lacks, "after {point}");
        assert_eq!(state.light.is_empty(), lacks, "after {point}");
    }
    // Killed before the table took the entry: until a start brings it forward, all is read from the alerts.
    let history = Replay::history(&archive(folder)).expect("opened");
    assert_eq!(&reference(&replayed(history), &[], 1.5), expected, "alerts alone");
    let child = start(folder, &["archive", "services"]);
    caught_up(folder);
    stop(child);
    let history = Replay::history(&archive(folder)).expect("opened");
    assert!(history.versions().iter().any(|(table, _)| **table == *light::TABLE));
    assert_eq!(&reference(&replayed(history), &[], 1.5), expected, "light rows, and the alerts that have none yet");
    assert!(run(folder, &["check", "--archive", "./archive"]).status.success());
}

/// What is told of some objects is what the archive's alerts come to.
fn compare(folder: &Path, expected: &Reference) {
    let often = expected.objects.values().filter(|object| object.summary.alerts > 1).take(5);
    for object in expected.objects.values().step_by(200).chain(often) {
        let answer = json(folder, &["object", object.id.name()]).expect("it is known");
        let told = &answer["object"];
        assert_eq!(answer["complete"], true);
        assert_eq!(told["alerts"], object.summary.alerts, "{told}");
        assert_eq!(told["detections"], object.summary.detections, "{told}");
        assert_eq!(told["lightcurve"].as_array().map(Vec::len), Some(object.curve.len()), "{told}");
        let class = object.classes.as_ref().and_then(|classes| classes.current()).map(|change| change.class().to_string());
        assert_eq!(told["class"].as_str(), class.as_deref());
        let Some(place) = object.summary.position else { continue };
        let place = [place.ra_deg.0.to_string(), place.dec_deg.0.to_string()];
        let cone = json(folder, &["cone", &place[0], &place[1], "1"]).expect("answered");
        assert_eq!(cone["objects"][0]["objectId"], object.id.name(), "{cone}");
    }
}

/// Counts without the Moment, which goes on.
pub(crate) fn timeless(mut counts: Value) -> Value {
    counts["moment"].take();
    counts
}

/// What readers of Delta make of the tables is what the archive's alerts come to.
fn readers(folder: &Path, expected: &Reference) {
    let Ok(python) = std::env::var("FINK_PYTHON") else { return println!("skipped: FINK_PYTHON is not set") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/tables.py");
    let output = Command::new(python).arg(script).arg(folder.join("archive")).output().expect("python runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (reader, told) in told.as_object().expect("readers") {
        assert_eq!(told["objects"].as_object().map(serde_json::Map::len), Some(expected.objects.len()), "{reader}");
        for object in expected.objects.values() {
            assert_eq!(told["objects"][object.id.name()], object.summary.alerts, "{reader}: {:?}", object.id);
            let class = object.classes.as_ref().and_then(|classes| classes.current()).map(|change| change.class().to_string());
            assert_eq!(told["classes"][object.id.name()].as_str(), class.as_deref(), "{reader}: {:?}", object.id);
        }
        assert_eq!(told["counts"]["partition"], ALERTS, "{reader}");
    }
}

#[test]
fn answers_agree_with_the_archive_and_are_the_same_after_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let child = start(folder, &["archive", "services"]);
    let counts = caught_up(folder);
    let agreed = run(folder, &["check", "--archive", "./archive", "--json"]);
    assert!(agreed.status.success());
    let agreed: Value = serde_json::from_slice(&agreed.stdout).expect("JSON");
    for log in agreed["logs"].as_array().expect("logs") {
        let name = format!("{}/{}", log["topic"].as_str().expect("a topic"), log["partition"]);
        let counted: i64 =
            counts["nights"].as_array().expect("nights").iter().filter_map(|night| night["partitions"][&name].as_i64()).sum();
        assert_eq!(log["rows"].as_i64(), Some(counted), "{name}");
    }
    let expected = reference(&archived(folder), &[], 1.5);
    compare(folder, &expected);
    let unknown = run(folder, &["object", "ZTF00nothing"]);
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("no object ZTF00nothing is known"));
    let drawn = run(folder, &["object", expected.objects.values().next().expect("objects").id.name(), "--plot", "--points"]);
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    assert!(drawn.contains("mag +---") && drawn.contains("at Moment"), "{drawn}");
    kill(child);
    // In mid-hydration, at the latest.
    for wait_ms in [50, 300, 900] {
        let child = start(folder, &["all"]);
        std::thread::sleep(Duration::from_millis(wait_ms));
        kill(child);
    }
    let child = start(folder, &["archive", "services"]);
    assert_eq!(timeless(caught_up(folder)), timeless(counts.clone()));
    compare(folder, &expected);
    stop(child);
    rolled_by_and_by(folder, &expected);
    let child = start(folder, &["archive", "services"]);
    assert_eq!(timeless(caught_up(folder)), timeless(counts));
    compare(folder, &expected);
    stop(child);
    readers(folder, &expected);

    let child = start(folder, &["archive"]);
    while run(folder, &["show", "--json"]).stdout.len() < 10 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = run(folder, &["counts"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("runs without services"), "{refused:?}");
    stop(child);
    let nobody = run(folder, &["counts"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no services run on this machine"), "{nobody:?}");
}
