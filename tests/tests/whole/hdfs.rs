//! Real HDFS: a data node killed in mid-write, the NameNode killed and restarted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Hdfs, Kafka, Signal};
use fink_tests::topic::Topic;
use fink_tests::visible::{Follower, now_ms};

use crate::room::{Room, templates};

/// A NameNode that was killed begins in safe mode, for half a minute.
const GOES_ON: Duration = Duration::from_secs(120);

fn survives(replication: u16) {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let Some(hdfs) = Hdfs::start(3, replication) else { return };
    let room = Room::new("hdfs");
    let url = hdfs.url("fink/archive");
    let fink = |more: &[&str]| {
        let conf = hdfs.configuration().to_string_lossy().into_owned();
        Fink::archive(&room.logs(), &kafka.brokers(), "alerts", &url).with(more).set("HADOOP_CONF_DIR", &conf)
    };
    let flow = Flow::start(Topic::create(&kafka.brokers(), "alerts", 2), Arc::new(templates), 30);
    let mut run = fink(&["--workers", "2"]).start();
    let mut seen = Follower::of(&url, "alerts");
    // It goes on by itself: alerts that were sent after the disturbance are in the table, by the same process.
    let mut goes_on = |after: &str| {
        let from = now_ms();
        let end = Instant::now() + GOES_ON;
        while !seen.wait(Duration::from_millis(500)).is_some_and(|seen| seen.rows.iter().any(|(sent, _)| *sent > from)) {
            assert!(Instant::now() < end, "nothing new within {GOES_ON:?} after {after}:\n{}", run.said());
            assert!(run.alive(), "it ended after {after}:\n{}", run.said());
        }
        println!("goes on after {after}: {} ms", now_ms() - from);
    };
    goes_on("the start");
    hdfs.signal("dn1", Signal::Kill);
    goes_on("the death of a data node");
    std::thread::sleep(Duration::from_secs(15));
    hdfs.up("dn1");
    goes_on("its return");
    hdfs.signal("nn", Signal::Kill);
    std::thread::sleep(Duration::from_secs(5));
    hdfs.up("nn");
    goes_on("the death and return of the NameNode");
    std::thread::sleep(Duration::from_secs(5));
    goes_on("a while");
    let topic = flow.stop();
    run.signal(Signal::Kill);
    fink(&["--until-caught-up"]).start().succeed(Duration::from_secs(240));
    hdfs.copy_out("/fink/archive", &room.archive());
    let read = judge::holds(&room.archive(), &[&topic]);
    println!("replication {replication}: {} alerts; {read}", topic.sent());
    let environment = [("HADOOP_CONF_DIR".to_owned(), hdfs.configuration().to_string_lossy().into_owned())];
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &url, &environment);
    assert!(hdfs.fsck().contains("is HEALTHY"), "{}", hdfs.fsck());
}

#[test]
fn deaths_of_daemons_lose_nothing_with_two_copies() {
    survives(2);
}

#[test]
fn deaths_of_daemons_lose_nothing_with_three_copies_on_three_nodes() {
    survives(3);
}
