//! Messages that kill the process that decodes them.

use std::time::{Duration, Instant};

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Kafka, Signal};
use fink_tests::topic::{Fate, Topic};

use crate::room::{PATIENCE, Room, templates};

/// A payload that brings `FINK_FAILPOINT=decode@DEADLY` about.
const DEADLY: &[u8] = b"DEADLY";

#[test]
fn what_kills_the_process_is_rejected_by_the_third_and_its_neighbours_are_archived() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("deadly");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 2);
    flow::copies(&mut topic, &templates, 40);
    topic.send(1, DEADLY, Fate::Rejected);
    flow::copies(&mut topic, &templates, 40);
    topic.flush();
    let fink = || room.fink(&kafka.brokers(), "alerts").with(&["--until-caught-up"]).set("FINK_FAILPOINT", "decode@DEADLY");
    for death in 1..=2 {
        let mut run = fink().start();
        let end = Instant::now() + PATIENCE;
        while run.alive() {
            assert!(Instant::now() < end, "death {death} does not come\n{}", run.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(run.said().contains("failpoint decode"), "death {death}\n{}", run.said());
    }
    fink().start().succeed(PATIENCE);
    judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &room.archive_text(), &[]);
    let (status, said) = Fink::new(&room.logs(), &["rejects", "list", "--archive", &room.archive_text()]).run();
    assert!(status.success() && said.contains("crashed") && said.contains("signal: 9"), "{said}");
}

#[test]
fn what_holds_the_process_up_for_ever_is_rejected_too() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("hanging");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 1);
    topic.send(0, DEADLY, Fate::Rejected);
    flow::copies(&mut topic, &templates, 20);
    topic.flush();
    let fink = || room.fink(&kafka.brokers(), "alerts").with(&["--until-caught-up"]).set("FINK_FAILPOINT", "decode!hang@DEADLY");
    for _ in 0..2 {
        let mut run = fink().start();
        fink_tests::process::until("it hangs", PATIENCE, || run.said().contains("failpoint decode"));
        run.signal(Signal::Kill);
    }
    fink().start().succeed(PATIENCE * 2);
    judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &room.archive_text(), &[]);
}
