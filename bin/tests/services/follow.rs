//! Services in processes of their own: they follow an archive that another writes, and answer as services in its process do.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{archived, fink, json, kill, run, stop, timeless};
use crate::reference::{Reference, reference};

/// Starts a process that says what it does to `NAME.log`.
fn start(folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).expect("a log");
    let start = [&["start"], arguments, &["--archive", "./archive"]].concat();
    fink(folder).args(start).stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

/// The archive, whose files are merged and deleted while it is followed.
fn archive(folder: &Path, more: &[&str]) -> Child {
    let stream = ["archive", "--simulator", "--rate", "100", "--backlog", "600", "--workers", "2", "--commit-interval", "0.2"];
    start(folder, "archive", &[&stream[..], more].concat())
}

/// What runs by the name of `name`, as it says itself.
fn status(folder: &Path, name: &str) -> Option<Value> {
    let all: Value = serde_json::from_slice(&run(folder, &["show", "--json"]).stdout).expect("JSON");
    let called = |status: &&Value| status["name"].as_str().or(status["service"].as_str()) == Some(name);
    all.as_array().expect("a list").iter().find(called).cloned()
}

/// Waits until what runs by this name is as wanted.
fn wait(folder: &Path, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        match status(folder, name) {
            Some(status) if wanted(&status) => return status,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    panic!("{name} is {:?}\n{log}", status(folder, name));
}

/// What the follower of this name answers, when it knows all of a stopped archive.
fn counts(folder: &Path, name: &str, rows: i64) -> Value {
    let at = wait(folder, name, |status| status["http"].is_string())["http"].as_str().expect("an address").to_owned();
    for _ in 0..1_200 {
        if let Some(counts) = json(folder, &["counts", "--at", &at]) {
            let alerts: i64 = counts["nights"].as_array().expect("nights").iter().filter_map(|night| night["alerts"].as_i64()).sum();
            assert!(alerts <= rows, "some are counted twice: {counts}");
            if counts["complete"] == true && alerts == rows {
                return counts;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{name} has not all of {rows}: {}", std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default());
}

/// What is told of objects is what the archive's alerts come to.
fn compare(folder: &Path, name: &str, expected: &Reference) {
    let at = status(folder, name).expect("it runs")["http"].as_str().expect("an address").to_owned();
    for object in expected.objects.values().step_by(100) {
        let answer = json(folder, &["object", object.id.name(), "--at", &at]).expect("it is known");
        assert_eq!(answer["complete"], true);
        assert_eq!(answer["object"]["alerts"], object.summary.alerts, "{answer}");
        assert_eq!(answer["object"]["lightcurve"].as_array().map(Vec::len), Some(object.curve.len()), "{answer}");
    }
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&run(folder, arguments).stderr).into_owned()
}

#[test]
fn followers_answer_as_services_in_the_archives_process_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("fink.toml"), "[archive]\ncompact_mib = 8\nvacuum_after_h = 0.001\n").expect("written");
    // There is no archive yet.
    let first = start(folder, "services", &["services", "--workers", "2"]);
    wait(folder, "services", |status| status["figures"]["trouble"].as_str().is_some_and(|why| why.contains("there is no archive")));
    let writer = archive(folder, &[]);
    wait(folder, "services", |status| status["figures"]["messages"].as_u64() >= Some(100));
    let refused = said(folder, &["start", "services", "--archive", "./archive"]);
    assert!(refused.contains("follows ./archive already") && refused.contains("--name NAME"), "{refused}");
    let refused = said(folder, &["start", "archive", "--simulator", "--archive", "./archive"]);
    assert!(refused.contains("--take-over"), "{refused}");
    let refused = said(folder, &["start", "services", "--simulator", "--archive", "./archive"]);
    assert!(refused.contains("fink start archive services --simulator"), "{refused}");
    // One that comes later: part of it is history, part comes live, and files are merged meanwhile.
    std::thread::sleep(Duration::from_secs(5));
    let second = start(folder, "counts", &["monitor", "objects", "--name", "counts", "--workers", "1"]);
    wait(folder, "counts", |status| status["figures"]["services"]["until_ms"].is_i64());
    let many = said(folder, &["counts"]);
    assert!(many.contains("several processes answer") && many.contains("counts, ./archive"), "{many}");
    std::thread::sleep(Duration::from_secs(3));
    kill(writer);
    // Another generation goes on, and ends in order.
    assert!(archive(folder, &["--exit-after", "2"]).wait().expect("it ends").success());
    let agreed: Value = serde_json::from_slice(&run(folder, &["check", "--archive", "./archive", "--json"]).stdout).expect("JSON");
    let rows: i64 = agreed["logs"].as_array().expect("logs").iter().filter_map(|log| log["rows"].as_i64()).sum();
    assert!(rows > 1_000, "{agreed}");

    let [first_told, second_told] = ["services", "counts"].map(|name| timeless(counts(folder, name, rows)));
    for log in agreed["logs"].as_array().expect("logs") {
        let name = format!("{}/{}", log["topic"].as_str().expect("a topic"), log["partition"]);
        let nights = first_told["nights"].as_array().expect("nights");
        assert_eq!(log["rows"].as_i64(), Some(nights.iter().filter_map(|night| night["partitions"][&name].as_i64()).sum()), "{name}");
    }
    // The second runs no classes.
    let without = |mut counts: Value| {
        counts["nights"].as_array_mut().expect("nights").iter_mut().for_each(|night| drop(night["classes"].take()));
        counts
    };
    assert_eq!(without(second_told), without(first_told.clone()));
    let expected = reference(&archived(folder), &[], 1.5);
    compare(folder, "services", &expected);
    compare(folder, "counts", &expected);

    kill(first);
    let first = start(folder, "services", &["services", "--workers", "1"]);
    assert_eq!(timeless(counts(folder, "services", rows)), first_told);
    // Replayed into services of its own, it comes to the same; and a part of it to that part.
    let replay = fink(folder).args(["replay", "--all", "--archive", "./archive", "--into", "services"]).stdout(Stdio::null()).spawn();
    assert_eq!(timeless(counts(folder, "replay", rows)), first_told);
    stop(replay.expect("it starts"));
    let part = ["replay", "--topic", "simulator", "--offsets", "100..150", "--archive", "./archive", "--rate", "100", "--into", "monitor"];
    let replay = fink(folder).args(part).stdout(Stdio::null()).spawn();
    counts(folder, "replay", 4 * 50);
    stop(replay.expect("it starts"));
    let shown = String::from_utf8_lossy(&run(folder, &["show"]).stdout).into_owned();
    assert!(shown.contains("are in the answers") && shown.contains("counts  "), "{shown}");
    assert!(run(folder, &["stop", "counts"]).status.success());
    assert!(run(folder, &["stop", "services"]).status.success());
    drop((first, second));
    assert_eq!(status(folder, "services"), None);
}

/// As [`start`], with a service that panics at each worker's 300th alert.
fn sick(folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).expect("a log");
    let start = [&["start"], arguments, &["--archive", "./archive", "--workers", "1"]].concat();
    let mut command = fink(folder);
    command.env("FINK_TEST_SERVICE", "panic:300").args(start).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the program starts")
}

#[test]
fn services_that_panic_are_left_out_and_beside_the_archive_disturb_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let stream = ["archive", "services", "--simulator", "--rate", "0.001", "--backlog", "600"];
    for death in 1..=3 {
        assert_eq!(sick(folder, "archive", &stream).wait().expect("it ends").code(), Some(70), "{death}");
    }
    let writer = sick(folder, "archive", &stream);
    let left_out = wait(folder, "archive", |status| status["figures"]["lag"] == 0);
    let why = left_out["figures"]["services"]["left_out"].as_str().expect("left out").to_owned();
    assert!(why.contains("3 times") && why.contains("the test service panics at its alert 300"), "{why}");
    assert!(said(folder, &["counts"]).contains("runs without services"));
    let agreed: Value = serde_json::from_slice(&run(folder, &["check", "--archive", "./archive", "--json"]).stdout).expect("JSON");
    let rows: i64 = agreed["logs"].as_array().expect("logs").iter().filter_map(|log| log["rows"].as_i64()).sum();
    assert_eq!(rows, 601);

    let mut follower = sick(folder, "services", &["services"]);
    assert_eq!(follower.wait().expect("it ends").code(), Some(70));
    let shown = String::from_utf8_lossy(&run(folder, &["show"]).stdout).into_owned();
    assert!(shown.contains("services: LEFT OUT") && shown.contains("services of ./archive panicked once"), "{shown}");
    assert_eq!(status(folder, "archive").expect("it runs")["pid"], left_out["pid"]);
    stop(writer);
}
