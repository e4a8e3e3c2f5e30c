//! The stream that lives in the process: nothing needs to be installed, and it is replayable as Kafka is.

use std::time::Duration;

use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Kafka, Registry, Signal};
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room};

#[test]
fn the_simulator_survives_a_kill() {
    let room = Room::new("simulator");
    let configuration = room.configuration("[simulator]\nrate = 200\nbacklog = 500\n");
    let archive = room.archive_text();
    let start = |more: &[&str]| {
        Fink::new(&room.logs(), &["start", "archive", "--simulator", "--archive", &archive, "-c", &configuration]).with(more).start()
    };
    for _ in 0..3 {
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        let mut run = start(&[]);
        assert!(seen.wait(PATIENCE).is_some(), "nothing came:\n{}", run.said());
        std::thread::sleep(Duration::from_millis(1500));
        run.signal(Signal::Kill);
    }
    start(&["--until-caught-up"]).succeed(PATIENCE);
    let read = judge::reads(&room.archive());
    assert!(read["alerts"].as_u64() > Some(500), "{read:#}");
    assert_eq!(read["rejects"], 0, "{read:#}");
}

/// Alerts of the sky through a real Kafka into the archive, with trouble: the truth finds each of them there.
fn all_is_there(survey: &str, more: &[&str], listen: &[&str]) {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new(survey);
    let truth = room.logs().join("truth.parquet").display().to_string();
    let archive = room.archive_text();
    let brokers = kafka.brokers();
    let send = ["start", "simulator", "--brokers", &brokers, "--topic", "sky", "--survey", survey, "--truth", &truth, "--count", "300"];
    let trouble = ["--as-fast-as-possible", "--duplicated", "0.1", "--truncated", "0.05", "--delayed", "0.1", "--disordered", "0.2"];
    Fink::new(&room.logs(), &[&send[..], &trouble, more].concat()).start().succeed(PATIENCE);
    let read = Fink::archive(&room.logs(), &brokers, "sky", &archive);
    read.with(listen).with(&["--until-caught-up"]).start().succeed(PATIENCE);
    let (status, said) = Fink::new(&room.logs(), &["simulator", "score", &truth, "--archive", &archive]).run();
    assert!(status.success(), "{said}");
    assert!(said.contains("all that was sent is there, once"), "{said}");
    let all = said.lines().find(|line| line.starts_with("all ")).expect("a line of all");
    let sent: u64 = all.split_whitespace().nth(1).and_then(|sent| sent.parse().ok()).expect("a number");
    assert!((310..=360).contains(&sent), "300 alerts and their duplicates: {all}");
    let harmed = all.split_whitespace().nth(4).and_then(|harmed| harmed.parse::<u64>().ok());
    assert!(harmed.is_some_and(|harmed| harmed > 3), "{all}");
}

#[test]
fn what_ztf_would_send_is_archived_and_scored() {
    all_is_there("ztf", &["--schema-change-at", "200"], &[]);
}

#[test]
fn what_lsst_would_send_is_archived_and_scored() {
    let Some(registry) = Registry::start() else { return };
    let url = registry.url();
    all_is_there("lsst", &["--registry", &url, "--alerts-per-visit", "100"], &["--registry", &url]);
}
