//! Two instances on one archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::process::until;
use fink_tests::servers::{Kafka, Signal};
use fink_tests::topic::Topic;
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room, templates};

/// Compaction and vacuum come round within seconds.
const QUICK: &str = "[archive]\ncompact_mib = 8\nvacuum_after_h = 0.002\n";

/// All files of a folder, but for what a put that stood still had staged (`NAME#1`): not seen by anybody else, its writer removes it
/// when it finds the name taken.
fn files(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        if file.path().is_dir() {
            files(&file.path(), into);
        } else if !file.file_name().to_string_lossy().contains('#') {
            into.insert(file.path());
        }
    }
}

#[test]
fn a_second_instance_is_refused() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("refused");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 1);
    flow::copies(&mut topic, &templates, 10);
    let mut first = room.fink(&kafka.brokers(), "alerts").start();
    assert!(Follower::new(&room.archive(), "alerts").wait(PATIENCE).is_some(), "nothing came");
    let mut second = room.fink(&kafka.brokers(), "alerts").start();
    let (status, _) = second.wait(Duration::from_secs(20));
    assert!(!status.success(), "the second was let in:\n{}", second.said());
    assert!(second.said().contains("take-over"), "it does not say how to go on:\n{}", second.said());
    assert!(first.alive(), "the first ended:\n{}", first.said());
    assert!(first.stop().success());
    judge::holds(&room.archive(), &[&topic]);
}

#[test]
fn one_that_was_taken_over_while_it_stood_still_changes_nothing() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    // Its third commit; and its first merge and first vacuum, of files that the second does not need either.
    let points = [("file-closed!stop", 3), ("ledger-put!stop", 3), ("table-commit!stop", 3), ("compaction!stop", 1), ("vacuum!stop", 1)];
    for (point, count) in points {
        let room = Room::new("takeover");
        let configuration = room.configuration(QUICK);
        let mut topic = Topic::create(&kafka.brokers(), &format!("alerts-{}", &point[..4]), 2);
        flow::copies(&mut topic, &templates, 20);
        let name = topic.name.clone();
        let mut first = room.fink(&kafka.brokers(), &name).with(&["-c", &configuration]).fails_at(point, count).start();
        for _ in 0..120 {
            if first.said().contains("failpoint") {
                break;
            }
            flow::copies(&mut topic, &templates, 10);
            std::thread::sleep(Duration::from_millis(500));
        }
        assert!(first.said().contains("failpoint"), "{point} was not reached:\n{}", first.said());
        let mut second = room.fink(&kafka.brokers(), &name).with(&["--take-over"]).start();
        flow::copies(&mut topic, &templates, 20);
        until("all rows", PATIENCE, || judge::rows(&room.archive(), "alerts") == topic.sent());
        assert!(second.stop().success(), "{}", second.said());
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        files(&room.archive(), &mut before);
        first.signal(Signal::Continue);
        let (status, _) = first.wait(Duration::from_secs(30));
        assert!(!status.success(), "the first ended as if nothing had happened:\n{}", first.said());
        files(&room.archive(), &mut after);
        let deleted: Vec<_> = before.difference(&after).collect();
        assert!(deleted.is_empty(), "the first deleted {deleted:?}");
        let logs: Vec<_> = after.difference(&before).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
        assert!(logs.is_empty(), "the first committed {logs:?}");
        judge::holds(&room.archive(), &[&topic]);
    }
}
