//! `kill -9` at every phase of the commit path, and at random.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::places;
use fink_tests::servers::{Kafka, Signal};
use fink_tests::template::Noise;
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;

use crate::room::{Room, templates};

/// Compaction and vacuum come round within seconds.
const QUICK: &str = "[archive]\ncompact_mib = 8\nvacuum_after_h = 0.002\n";

/// Phases to die in; `random` is a kill from outside.
fn phases() -> Vec<&'static str> {
    let named = ["mid-file", "file-closed", "ledger-put", "compaction", "vacuum"];
    if places::full() {
        let often = named.iter().flat_map(|phase| [*phase; 5]);
        often.chain(["table-commit", "checkpoint", "random", "random", "random", "random", "random"]).collect()
    } else {
        named.into_iter().chain(["table-commit", "random", "random"]).collect()
    }
}

#[test]
fn kill_9_at_every_phase_loses_and_doubles_nothing() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("kills");
    let configuration = room.configuration(QUICK);
    let brokers = kafka.brokers();
    let mut noise = Noise::new(std::env::var("FINK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7));
    let flow = Flow::start(Topic::create(&brokers, "alerts", 4), Arc::new(templates), 40);
    let mut unreached = Vec::new();
    let mut slowest = Duration::ZERO;
    for (round, phase) in phases().into_iter().enumerate() {
        let workers = (1 + noise.below(3)).to_string();
        let mut fink = room.fink(&brokers, "alerts").with(&["--workers", &workers, "-c", &configuration]);
        if phase != "random" {
            let passes = if matches!(phase, "compaction" | "vacuum" | "checkpoint") { 1 } else { 1 + noise.below(8) };
            fink = fink.fails_at(phase, u32::try_from(passes).expect("few"));
        }
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        let mut run = fink.start();
        if phase == "random" {
            let first = seen.wait(Duration::from_secs(30));
            assert!(first.is_some(), "round {round}: nothing new within 30 s\n{}", run.said());
            slowest = slowest.max(run.age());
            std::thread::sleep(Duration::from_millis(u64::try_from(noise.below(3000)).expect("few")));
            assert!(run.alive(), "round {round}: ended by itself\n{}", run.said());
            run.signal(Signal::Kill);
        } else {
            let end = Instant::now() + Duration::from_secs(60);
            while run.alive() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            if run.alive() {
                unreached.push(phase);
                run.signal(Signal::Kill);
            } else {
                assert!(run.said().contains(&format!("failpoint {phase}")), "round {round}: not by {phase}\n{}", run.said());
            }
        }
    }
    let topic = flow.stop();
    room.catch_up(&brokers, "alerts", &["--workers", "2", "-c", &configuration]);
    let read = judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &brokers, &[&topic], &room.archive_text(), &[]);
    println!("{} kills, {} alerts, restart to first row at most {} ms; {read}", phases().len(), topic.sent(), slowest.as_millis());
    assert!(unreached.is_empty(), "these phases were not reached within a minute: {unreached:?}");
}
