//! Real HDFS: a data node killed in mid-write, the NameNode killed and restarted.

use std::sync::Arc;
use std::time::Duration;

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Hdfs, Kafka, Signal};
use fink_tests::topic::Topic;

use crate::room::{Room, templates};

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
    let mut disturb = |what: &str, seconds: u64| {
        println!("{what}");
        std::thread::sleep(Duration::from_secs(seconds));
        assert!(run.alive(), "it ended after {what}:\n{}", run.said());
    };
    disturb("the start", 8);
    hdfs.signal("dn1", Signal::Kill);
    disturb("the death of a data node", 20);
    hdfs.up("dn1");
    disturb("its return", 5);
    hdfs.signal("nn", Signal::Kill);
    disturb("the death of the NameNode", 5);
    hdfs.up("nn");
    disturb("its return", 10);
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
