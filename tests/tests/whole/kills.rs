//! `kill -9` at every phase of the commit path, and at random.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::lsst;
use fink_tests::places;
use fink_tests::servers::{Kafka, Registry, Signal};
use fink_tests::template::Noise;
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;

use crate::room::{Room, templates};

/// Compaction and vacuum come round within seconds.
const QUICK: &str = "[archive]\ncompact_mib = 8\nvacuum_after_h = 0.002\n";
/// A few of Rubin's alerts before each start, but the first, which makes `alerts` ZTF's.
const TOPICS: [&str; 2] = ["--topic", "rubin"];

/// Alerts whose schema only a registry has, which now and then has lost it when the program starts.
struct Framed {
    registry: Registry,
    topic: Topic,
    files: Vec<PathBuf>,
    schema: String,
    schema_file: PathBuf,
    id: u32,
}

impl Framed {
    fn new(brokers: &str) -> Option<Self> {
        let files = places::data("lsst/confluent-v7.4", "avro")?;
        let (schema, schema_file) = (lsst::schema(7, 4)?, lsst::schema_file(7, 4)?);
        let registry = Registry::start()?;
        let id = registry.register("alerts-value", &schema);
        Some(Self { registry, topic: Topic::create(brokers, "rubin", 2), files, schema, schema_file, id })
    }

    fn configuration(&self, room: &Room) -> String {
        room.configuration(&format!("{QUICK}[schemas]\nregistry = \"{}\"\nunknown_after_s = 60\n", self.registry.url()))
    }

    fn send(&mut self, round: usize) {
        for file in &self.files {
            let payload = std::fs::read(file).expect("an alert can be read");
            let partition = i32::try_from(round % 2).expect("small");
            self.topic.send_payload_of(partition, file, &lsst::framed(self.id, &payload[5..]), Some(&self.schema_file));
        }
        self.topic.flush();
    }

    fn forget(&self) {
        self.registry.signal(Signal::Kill);
        self.registry.up();
    }

    fn learn_again(&self) {
        assert_eq!(self.registry.register("alerts-value", &self.schema), self.id, "an empty registry counts from 1 again");
    }
}

/// In what time a phase is reached. A table's log has its checkpoint once in a hundred commits, of which one comes a second.
fn patience(phase: &str) -> Duration {
    Duration::from_secs(if phase == "checkpoint" { 180 } else { 60 })
}

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
    let brokers = kafka.brokers();
    let Some(mut framed) = Framed::new(&brokers) else { return };
    let configuration = framed.configuration(&room);
    let mut noise = Noise::new(std::env::var("FINK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7));
    let flow = Flow::start(Topic::create(&brokers, "alerts", 4), Arc::new(templates), 40);
    let mut unreached = Vec::new();
    let mut slowest = Duration::ZERO;
    for (round, phase) in phases().into_iter().enumerate() {
        let workers = (1 + round % 3).to_string();
        let mut fink = room.fink(&brokers, "alerts").with(&TOPICS).with(&["--workers", &workers, "-c", &configuration]);
        let empty = round % 4 == 3;
        if empty {
            framed.forget();
        }
        if round > 0 {
            framed.send(round);
        }
        if phase != "random" {
            let passes = if matches!(phase, "compaction" | "vacuum" | "checkpoint") { 1 } else { 1 + noise.below(8) };
            fink = fink.fails_at(phase, u32::try_from(passes).expect("few"));
        }
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        let mut run = fink.start();
        if empty {
            std::thread::sleep(Duration::from_secs(2));
            framed.learn_again();
        }
        if phase == "random" {
            let first = seen.wait(Duration::from_secs(30));
            assert!(first.is_some(), "round {round}: nothing new within 30 s\n{}", run.said());
            if !empty {
                slowest = slowest.max(run.age());
            }
            std::thread::sleep(Duration::from_millis(u64::try_from(noise.below(3000)).expect("few")));
            assert!(run.alive(), "round {round}: ended by itself\n{}", run.said());
            run.signal(Signal::Kill);
        } else {
            let end = Instant::now() + patience(phase);
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
    framed.topic.flush();
    room.catch_up(&brokers, "alerts", &["--workers", "2", "-c", &configuration, TOPICS[0], TOPICS[1]]);
    let topics = [&topic, &framed.topic];
    let read = judge::holds(&room.archive(), &topics);
    judge::equals(&room.archive(), &[&framed.topic]);
    judge::checks(&room.logs(), &brokers, &topics, &room.archive_text(), &[]);
    let sent = topic.sent() + framed.topic.sent();
    println!("{} kills, {sent} alerts, restart to first row at most {} ms; {read}", phases().len(), slowest.as_millis());
    assert!(unreached.is_empty(), "these phases were not reached within a minute (checkpoints: three): {unreached:?}");
}
