//! Rubin's alerts in Confluent's framing, and a registry that is down.

use std::time::Duration;

use fink_tests::judge;
use fink_tests::lsst;
use fink_tests::places;
use fink_tests::process::until;
use fink_tests::servers::{Kafka, Registry, Signal};
use fink_tests::topic::{Fate, Topic};

use crate::room::{PATIENCE, Room};

#[test]
fn a_registry_that_is_down_delays_and_rejects_nothing() {
    let Some(files) = places::data("lsst/confluent-v7.4", "avro") else { return };
    let (Some(schema), Some(schema_file)) = (lsst::schema(7, 4), lsst::schema_file(7, 4)) else { return };
    let Some(kafka) = Kafka::start() else { return };
    let Some(registry) = Registry::start() else { return };
    let room = Room::new("registry");
    let id = registry.register("alerts-value", &schema);
    let configuration = room.configuration(&format!("[schemas]\nregistry = \"{}\"\nunknown_after_s = 2\n", registry.url()));
    let mut topic = Topic::create(&kafka.brokers(), "lsst", 2);
    let send = |topic: &mut Topic, partition: i32| {
        for file in &files {
            let payload = std::fs::read(file).expect("an alert can be read");
            topic.send_payload_of(partition, file, &lsst::framed(id, &payload[5..]), Some(&schema_file));
        }
        topic.flush();
    };
    let table = "alerts";
    let start = || room.fink(&kafka.brokers(), "lsst").with(&["-c", &configuration]).start();

    send(&mut topic, 0);
    let mut run = start();
    until("the first rows", PATIENCE, || judge::rows(&room.archive(), table) == 5);
    assert!(run.stop().success(), "{}", run.said());

    // It starts while the registry is away: it waits, longer than an unknown id may wait, and rejects nothing.
    registry.signal(Signal::Kill);
    send(&mut topic, 1);
    drop(run);
    let mut run = start();
    std::thread::sleep(Duration::from_secs(6));
    assert!(run.alive(), "it ended:\n{}", run.said());
    assert_eq!(judge::rows(&room.archive(), "rejects"), 0);
    registry.up();
    assert_eq!(registry.register("alerts-value", &schema), id, "the registry counts from 1 again");
    until("the rest", PATIENCE, || judge::rows(&room.archive(), table) == 10);

    // An id that it denies is rejected after its time, and its neighbours are not held up for ever.
    topic.send(0, &lsst::framed(id + 1000, b"whatever"), Fate::Rejected);
    send(&mut topic, 0);
    until("what came after an unknown id", PATIENCE, || judge::rows(&room.archive(), table) == 15);
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&room.archive(), &[&topic]);
    judge::equals(&room.archive(), &[&topic]);
}
