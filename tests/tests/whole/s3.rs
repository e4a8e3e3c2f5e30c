//! An archive on S3.

use std::sync::Arc;
use std::time::Duration;

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Kafka, S3, Signal};
use fink_tests::template::Noise;
use fink_tests::topic::Topic;

use crate::room::{PATIENCE, Room, templates};

#[test]
fn an_archive_on_s3_survives_kills() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let Some(s3) = S3::start() else { return };
    let room = Room::new("s3");
    let fink = |more: &[&str]| {
        let fink = Fink::archive(&room.logs(), &kafka.brokers(), "alerts", "s3://archive/fink").with(more);
        fink.set_all(s3.environment())
    };
    let flow = Flow::start(Topic::create(&kafka.brokers(), "alerts", 2), Arc::new(templates), 30);
    let mut noise = Noise::new(3);
    for round in 0..5 {
        let mut fink = fink(&["--workers", if round % 2 == 0 { "1" } else { "2" }]);
        if round == 1 || round == 3 {
            fink = fink.fails_at("ledger-put", 2);
        }
        let mut run = fink.start();
        std::thread::sleep(Duration::from_millis(4000 + u64::try_from(noise.below(2000)).expect("few")));
        if round == 2 {
            s3.signal(Signal::Kill);
            std::thread::sleep(Duration::from_secs(2));
            assert!(run.alive(), "it ended without its store:\n{}", run.said());
            s3.up();
            std::thread::sleep(Duration::from_secs(4));
        }
        run.signal(Signal::Kill);
    }
    let topic = flow.stop();
    // A generation of another host would wait for its heartbeat; this one was of this host and is dead.
    fink(&["--until-caught-up"]).start().succeed(PATIENCE);
    let archive = s3.bucket().join("fink");
    println!("{}", judge::holds(&archive, &[&topic]));
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], "s3://archive/fink", &s3.environment());
}
