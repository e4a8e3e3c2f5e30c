//! Readers that loop over the archive while it is written, compacted and vacuumed.

use std::sync::Arc;
use std::time::Duration;

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::places;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room, templates};

#[test]
fn readers_never_meet_an_error_or_a_wrong_count() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("readers");
    // Files that were replaced stay for 36 s: readers here hold a version for 3 s at most.
    let configuration = room.configuration("[archive]\ncompact_mib = 8\nvacuum_after_h = 0.01\n");
    let flow = Flow::start(Topic::create(&kafka.brokers(), "alerts", 2), Arc::new(templates), 30);
    let mut run = room.fink(&kafka.brokers(), "alerts").with(&["-c", &configuration]).start();
    assert!(Follower::new(&room.archive(), "alerts").wait(PATIENCE).is_some(), "nothing came:\n{}", run.said());
    let readers = judge::Readers::start(&room.archive(), 8, &room.folder());
    std::thread::sleep(Duration::from_secs(if places::full() { 600 } else { 60 }));
    let verdict = readers.end();
    println!("{verdict}");
    let topic = flow.stop();
    assert!(run.stop().success(), "{}", run.said());
    drop(run);
    room.catch_up(&kafka.brokers(), "alerts", &["-c", &configuration]);
    let read = judge::holds(&room.archive(), &[&topic]);
    let files = read["tables"]["alerts"]["files"].as_u64().expect("a number of files");
    let version = read["tables"]["alerts"]["version"].as_u64().expect("a version");
    assert!(files < version / 2, "nothing was compacted: {read:#}");
}
