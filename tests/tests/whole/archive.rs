//! Real alerts through Kafka into an archive, and out again by other readers.

use std::path::PathBuf;
use std::time::Duration;

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::places;
use fink_tests::process::until;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room, templates};

/// Folders of alerts in Avro containers, and how many records they hold.
const CONTAINERS: [(&str, u64); 7] = [
    ("ztf/night-2018-11-29", 249),
    ("ztf/supernova-ZTF21abiuvdk", 34),
    ("ztf/classes", 139),
    ("ztf/forced-photometry", 12),
    ("ztf/enriched", 31),
    ("lsst/simulated-v9.0", 25),
    ("lsst/real-v10.0", 7),
];

fn send_all(kafka: &Kafka) -> Option<Vec<Topic>> {
    let send = |(folder, _): &(&str, u64)| {
        let files: Vec<PathBuf> = places::data(folder, "avro")?;
        let mut topic = Topic::create(&kafka.brokers(), &folder.replace('/', "_"), 3);
        for (k, file) in (0..).zip(&files) {
            topic.send_file(k % 3, file, None);
        }
        topic.flush();
        Some(topic)
    };
    CONTAINERS.iter().map(send).collect()
}

#[test]
fn real_alerts_are_archived_leaf_by_leaf() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("archive");
    let Some(topics) = send_all(&kafka) else { return };
    let topics: Vec<_> = topics.iter().collect();
    let names: Vec<_> = topics.iter().map(|t| t.name.as_str()).collect();
    room.catch_up(&kafka.brokers(), &names.join(","), &["--workers", "2"]);
    let read = judge::holds(&room.archive(), &topics);
    assert_eq!(read["alerts"].as_u64(), Some(CONTAINERS.iter().map(|(_, n)| n).sum()), "{read:#}");
    let equal = judge::equals(&room.archive(), &topics);
    assert!(equal["leaves"].as_u64() > Some(400_000), "{equal:#}");
    println!("{equal}");
    judge::checks(&room.logs(), &kafka.brokers(), &topics, &room.archive_text(), &[]);

    // A second run, with another number of workers, has nothing to do.
    room.catch_up(&kafka.brokers(), &names.join(","), &["--workers", "1"]);
    let again = judge::holds(&room.archive(), &topics);
    assert_eq!(read["tables"], again["tables"]);
}

#[test]
fn new_topics_and_partitions_are_picked_up_while_running() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("pattern");
    let mut first = Topic::create(&kafka.brokers(), "ztf_first", 1);
    flow::copies(&mut first, &templates, 20);
    let mut other = Topic::create(&kafka.brokers(), "other", 1);
    flow::copies(&mut other, &templates, 20);
    let mut run = room.fink(&kafka.brokers(), "^ztf_.*").start();
    let mut seen = Follower::new(&room.archive(), "alerts");
    let mut rows = 0;
    let mut wait_for = |count: usize| {
        until("rows", Duration::from_secs(60), || {
            rows += seen.poll().map_or(0, |commit| commit.rows.len());
            rows == count
        });
    };
    wait_for(20);
    let mut second = Topic::create(&kafka.brokers(), "ztf_second", 2);
    flow::copies(&mut second, &templates, 20);
    wait_for(40);
    first.grow(3);
    flow::copies(&mut first, &templates, 30);
    wait_for(70);
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&room.archive(), &[&first, &second]);
}

#[test]
fn a_stop_finishes_what_is_open() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("stop");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 2);
    flow::copies(&mut topic, &templates, 50);
    // An interval that does not end by itself during the test.
    let mut run = room.fink(&kafka.brokers(), "alerts").with(&["--commit-interval", "3600"]).start();
    until("the reading of all", Duration::from_secs(30), || run.usage().cpu > Duration::ZERO && run.age() > Duration::from_secs(5));
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&room.archive(), &[&topic]);
    drop(run);
    room.catch_up(&kafka.brokers(), "alerts", &[]);
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &room.archive_text(), &[]);
}

#[test]
fn a_broker_that_goes_away_and_comes_back_loses_nothing() {
    use fink_tests::servers::Signal;
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("broker");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 2);
    flow::copies(&mut topic, &templates, 40);
    let mut run = room.fink(&kafka.brokers(), "alerts").start();
    let mut seen = Follower::new(&room.archive(), "alerts");
    assert!(seen.wait(PATIENCE).is_some(), "nothing came");
    kafka.signal(Signal::Kill);
    std::thread::sleep(Duration::from_secs(3));
    assert!(run.alive(), "it ended: {}", run.said());
    kafka.up();
    flow::copies(&mut topic, &templates, 40);
    let mut rows = 0;
    until("the rest", Duration::from_secs(60), || {
        rows += seen.poll().map_or(0, |commit| commit.rows.len());
        judge::rows(&room.archive(), "alerts") == 80
    });
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&room.archive(), &[&topic]);
}
