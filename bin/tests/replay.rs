//! What is replayed of an archive is, row for row, what was decoded of the stream.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::Message;
use fink_dataflow::budget::Budget;
use fink_dataflow::ports::{Source, Stretch};
use fink_dataflow::table::{Ledger, store};
use fink_operators::decode::{Decode, SchemaBook};
use fink_sources::archive::digest::Digest;
use fink_sources::archive::{Replay, Selection, Wanted};
use fink_sources::simulator::{Simulator, SimulatorConfig, system_clock};

/// Runs the program.
fn fink(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_fink")).args(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn replayed(archive: &str, selection: Selection) -> Digest {
    let archive = store::open(archive, &BTreeMap::new()).expect("an archive");
    let mut digest = Digest::default();
    let replay = Replay::open(&archive, selection, Wanted::Light).expect("opened");
    let take = |batch| {
        digest.add(&batch).expect("a digest");
        ControlFlow::Continue(())
    };
    replay.run(2, take).expect("read");
    digest
}

/// What decoding makes of all that the archive covers, read of the stream anew.
fn decoded(archive: &str, takes: impl Fn(i64) -> bool) -> Digest {
    let archive = store::open(archive, &BTreeMap::new()).expect("an archive");
    let (_, state) = store::wait(async move { Ledger::open(&archive).await }).expect("a ledger");
    let (mut digest, mut decode) = (Digest::default(), Decode::new(Arc::new(SchemaBook::new())));
    for (log, covered) in state.coverage.iter() {
        let config = SimulatorConfig::parse(&log.source).expect("a simulator");
        let mut simulator = Simulator::new(SimulatorConfig { topic: log.topic.to_string(), ..config }, system_clock).expect("a stream");
        for span in covered.iter() {
            let mut at = span.start;
            simulator.read(&[Stretch { log: Arc::new(log.clone()), from: span.start, until: Some(span.end) }]).expect("read");
            while at < span.end {
                let Some(mut chunk) = simulator.poll(Duration::from_secs(1)).expect("polled") else { continue };
                at = chunk.span.end;
                chunk.messages.retain(|message: &Message| takes(message.offset));
                let claim = Arc::new(Budget::new(1).take(0));
                for batch in decode.decode(vec![(chunk, claim)]).alerts {
                    digest.add(&batch).expect("a digest");
                }
            }
        }
    }
    digest
}

#[test]
fn the_same_rows_come_again_whatever_the_batches_lanes_and_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    let start = ["start", "archive", "--simulator", "--archive", &archive, "--until-caught-up"];
    fink(&[&start[..], &["--backlog", "3000", "--rate", "200", "--workers", "2"]].concat());
    // Another run, with another number of workers: other files.
    fink(&[&start[..5], &["--exit-after", "2", "--workers", "1"]].concat());

    let all = replayed(&archive, Selection::default());
    assert!(all.rows >= 3_000, "{all}");
    assert_eq!(all, decoded(&archive, |_| true));
    let some = Selection { offsets: Some(100..250), topic: Some("simulator".to_owned()), nights: None };
    let part = replayed(&archive, some.clone());
    assert_eq!(part.rows, 4 * 150);
    assert_eq!(part, decoded(&archive, |offset| (100..250).contains(&offset)));
    assert_eq!(replayed(&archive, Selection { nights: Some(-5..=-1), ..some }).rows, 0);

    let said = fink(&["replay", "--all", "--digest", "--json", "--archive", &archive]);
    assert!(said.contains(&all.to_string()), "{said} has not {all}");
}

#[test]
fn a_replay_can_be_broken_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    fink(&["start", "archive", "--simulator", "--backlog", "4000", "--rate", "100", "--archive", &archive, "--until-caught-up"]);
    let archive = store::open(&archive, &BTreeMap::new()).expect("an archive");
    let replay = Replay::open(&archive, Selection::default(), Wanted::All).expect("opened");
    let mut batches = 0;
    let broken = |_| {
        batches += 1;
        ControlFlow::Break(())
    };
    replay.run(2, broken).expect("read");
    assert_eq!(batches, 1);
}
