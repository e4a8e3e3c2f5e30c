//! Schemas that change in mid-stream.

use fink_tests::judge;
use fink_tests::places;
use fink_tests::process::until;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;

use crate::room::{PATIENCE, Room};

#[test]
fn a_schema_that_changes_in_mid_stream_loses_nothing() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("schemas");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 2);
    let mut run = room.fink(&kafka.brokers(), "alerts").with(&["--workers", "2"]).start();
    // ZTF 3.1, 3.3, 4.02 with a new array, re-encoded ones, Rubin's; and back again.
    let order = ["night-2018-11-29", "supernova-ZTF21abiuvdk", "forced-photometry", "classes"].map(|f| format!("ztf/{f}"));
    let order = order.into_iter().chain(["lsst/simulated-v9.0".into(), "ztf/night-2018-11-29".into()]);
    let mut sent = 0;
    for folder in order {
        let Some(files) = places::data(&folder, "avro") else { return };
        for (k, file) in (0..).zip(files.iter().take(12)) {
            topic.send_file(k % 2, file, None);
            sent += 1;
        }
        topic.flush();
        until("its rows", PATIENCE, || judge::all_rows(&room.archive()) == sent);
    }
    assert!(run.stop().success(), "{}", run.said());
    println!("{}", judge::holds(&room.archive(), &[&topic]));
    judge::equals(&room.archive(), &[&topic]);
}
