//! A topic that is no longer the one that was archived, and messages that Kafka no longer holds.

use std::time::Duration;

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;

use crate::room::{Room, templates};

#[test]
fn a_topic_that_was_recreated_stops_until_it_is_accepted_as_new() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("identity");
    let brokers = kafka.brokers();
    let mut first = Topic::create(&brokers, "alerts", 1);
    flow::copies(&mut first, &templates, 30);
    room.catch_up(&brokers, "alerts", &[]);
    Topic::delete(&brokers, "alerts");
    std::thread::sleep(Duration::from_secs(1));
    let mut second = Topic::create(&brokers, "alerts", 1);
    let others: Vec<_> = templates.into_iter().rev().collect();
    flow::copies(&mut second, &others, 40);
    let mut run = room.fink(&brokers, "alerts").with(&["--until-caught-up"]).start();
    let (status, _) = run.wait(Duration::from_secs(60));
    assert!(!status.success(), "it went on with another topic:\n{}", run.said());
    assert!(run.said().contains("--new-incarnation"), "it does not say how to go on:\n{}", run.said());
    judge::holds(&room.archive(), &[&first]);
    room.catch_up(&brokers, "alerts", &["--new-incarnation"]);
    // The same places twice, once in each life of the topic.
    judge::holds(&room.archive(), &[&first, &second]);
}

#[test]
fn what_kafka_no_longer_holds_is_a_hole_until_a_person_accepts_it() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("hole");
    let brokers = kafka.brokers();
    let mut topic = Topic::create(&brokers, "alerts", 1);
    flow::copies(&mut topic, &templates, 100);
    room.catch_up(&brokers, "alerts", &[]);
    flow::copies(&mut topic, &templates, 50);
    topic.forget_before(0, 120, 100);
    room.catch_up(&brokers, "alerts", &[]);
    judge::holds(&room.archive(), &[&topic]);
    let archive = room.archive_text();
    // The books agree, and there is a hole.
    judge::checks(&room.logs(), &brokers, &[&topic], &archive, &[]);
    let (all, said) = judge::whole(&room.logs(), &brokers, &topic, &archive);
    assert!(!all && said.contains("100") && said.contains("120"), "a hole was not reported:\n{said}");
    let hole = ["hole", "accept", "alerts/0", "100", "120", "--archive", &archive];
    let (status, said) = Fink::new(&room.logs(), &hole).run();
    assert!(!status.success() && said.contains("--brokers"), "accepted without asking Kafka:\n{said}");
    let (status, said) = Fink::new(&room.logs(), &hole).with(&["--brokers", &brokers]).run();
    assert!(status.success(), "{said}");
    let (all, said) = judge::whole(&room.logs(), &brokers, &topic, &archive);
    assert!(all, "{said}");
}
