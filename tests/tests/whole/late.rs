//! A backlog beside live alerts: archived bit by bit, and never in their way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_tests::flow::{self, Flow};
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::{Kafka, Signal};
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;
use serde_json::Value;

use crate::room::{PATIENCE, Room, templates};

const PARTITIONS: i32 = 4;
const BACKLOG: u64 = 8_000;

/// What the ledger covers of each partition.
fn covered(room: &Room) -> Vec<Vec<(i64, i64)>> {
    let (_, said) = Fink::new(&room.logs(), &["check", "--json", "--archive", &room.archive_text()]).run();
    let report: Value = serde_json::from_str(&said[said.find('{').unwrap_or(0)..]).unwrap_or_else(|e| panic!("{e}: {said}"));
    let logs = report["logs"].as_array().expect("a list of logs");
    logs.iter().map(|log| serde_json::from_value(log["covered"].clone()).expect("intervals")).collect()
}

/// Waits until a live alert is visible: one of an offset that the backlog does not hold. Rows seen until then.
fn first_live(seen: &mut Follower, border: i64, rows: &mut u64) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let Some(commit) = seen.wait(Duration::from_secs(5)) else { continue };
        *rows += u64::try_from(commit.rows.len()).expect("fits");
        if commit.rows.iter().any(|(_, offset)| *offset >= border) {
            return true;
        }
    }
    false
}

#[test]
fn live_alerts_are_visible_while_the_backlog_is_open_and_kill_9_loses_nothing_of_either() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("late");
    let brokers = kafka.brokers();
    let mut topic = Topic::create(&brokers, "alerts", PARTITIONS);
    flow::copies(&mut topic, &templates, BACKLOG);
    let border = i64::try_from(BACKLOG).expect("fits") / i64::from(PARTITIONS);
    let flow = Flow::start(topic, Arc::new(templates), 40);

    // Small groups, so that the backlog is durable bit by bit.
    let configuration = room.configuration("[archive]\ngroup_mib = 8\n");
    let mut apart = 0;
    let mut rows = 0;
    let mut seen = Follower::new(&room.archive(), "alerts");
    for round in 0..2_u64 {
        let mut run = room.fink(&brokers, "alerts").with(&["--workers", "2", "-c", &configuration]).start();
        assert!(first_live(&mut seen, border, &mut rows), "round {round}: no live alert\n{}", run.said());
        if round == 0 {
            assert!(rows < BACKLOG, "the backlog was archived before the first live alert: {rows} rows");
        }
        assert!(run.alive(), "round {round}: ended by itself\n{}", run.said());
        run.signal(Signal::Kill);
        apart += covered(&room).iter().filter(|spans| spans.len() > 1 || spans.first().is_some_and(|(from, _)| *from >= border)).count();
    }
    assert!(apart > 0, "no partition was covered in two parts: the test proves nothing");

    let topic = flow.stop();
    room.catch_up(&brokers, "alerts", &["--workers", "2"]);
    let grown = covered(&room);
    assert!(grown.iter().all(|spans| spans.len() == 1 && spans[0].0 == 0), "the intervals have not grown together: {grown:?}");
    judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &brokers, &[&topic], &room.archive_text(), &[]);
}

#[test]
fn a_stop_in_the_middle_of_a_backlog_keeps_what_was_read_and_one_lane_reads_the_rest() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("late-stop");
    let brokers = kafka.brokers();
    let mut topic = Topic::create(&brokers, "alerts", PARTITIONS);
    flow::copies(&mut topic, &templates, BACKLOG / 2);
    let mut run = room.fink(&brokers, "alerts").with(&["--workers", "1"]).start();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(run.stop().success(), "{}", run.said());
    flow::copies(&mut topic, &templates, 30);
    room.catch_up(&brokers, "alerts", &["--lanes", "1"]);
    judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &brokers, &[&topic], &room.archive_text(), &[]);
}
