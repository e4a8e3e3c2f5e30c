//! The stream that lives in the process: nothing needs to be installed, and it is replayable as Kafka is.

use std::time::Duration;

use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::Signal;
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room};

#[test]
fn the_simulator_survives_a_kill() {
    let room = Room::new("simulator");
    let configuration = room.configuration("[simulator]\nrate = 200\nbacklog = 500\n");
    let archive = room.archive_text();
    let start = |more: &[&str]| {
        Fink::new(&room.logs(), &["start", "archive", "--simulator", "--archive", &archive, "-c", &configuration]).with(more).start()
    };
    for _ in 0..3 {
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        let mut run = start(&[]);
        assert!(seen.wait(PATIENCE).is_some(), "nothing came:\n{}", run.said());
        std::thread::sleep(Duration::from_millis(1500));
        run.signal(Signal::Kill);
    }
    start(&["--until-caught-up"]).succeed(PATIENCE);
    let read = judge::reads(&room.archive());
    assert!(read["alerts"].as_u64() > Some(500), "{read:#}");
    assert_eq!(read["rejects"], 0, "{read:#}");
}
