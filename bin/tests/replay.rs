//! What is replayed of an archive is, row for row, what was decoded of the stream.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fink_dataflow::Message;
use fink_dataflow::budget::Budget;
use fink_dataflow::ports::{Source, Stretch};
use fink_dataflow::table::{Ledger, store};
use fink_operators::decode::{Decode, SchemaBook};
use fink_sources::archive::digest::Digest;
use fink_sources::archive::follow::{FollowError, Follower};
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
    let some = Selection { offsets: Some(100..250), topic: Some("simulator".to_owned()), ..Selection::default() };
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

/// What an archive held when it was opened, and all that was committed until `over`.
fn followed(archive: &str, over: &AtomicBool) -> Digest {
    let archive = store::open(archive, &BTreeMap::new()).expect("an archive");
    let (replay, mut follower) = loop {
        match Follower::open(&archive) {
            Ok(opened) => break opened,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let mut digest = Digest::default();
    let take = |batch| {
        digest.add(&batch).expect("a digest");
        ControlFlow::Continue(())
    };
    replay.run(1, take).expect("read");
    loop {
        let last = over.load(Ordering::Relaxed);
        match follower.poll().expect("followed") {
            Some(added) => added.alerts.iter().for_each(|batch| digest.add(batch).expect("a digest")),
            None if last => return digest,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The actions of a table's commits that hold these words.
fn actions(archive: &Path, words: &[&str]) -> usize {
    let commits = std::fs::read_dir(archive.join("alerts/_delta_log")).expect("a log").flatten();
    let texts = commits.filter_map(|commit| std::fs::read_to_string(commit.path()).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| words.iter().all(|word| line.contains(word)))
        .count()
}

#[test]
fn what_is_followed_is_each_row_once_while_files_are_merged_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = folder.path().join("fink.toml");
    std::fs::write(&configuration, "[archive]\ncompact_mib = 8\nvacuum_after_h = 0.001\n").expect("written");
    let (place, configuration) = (folder.path().join("archive"), configuration.to_string_lossy().into_owned());
    let archive = place.to_string_lossy().into_owned();
    let start = ["start", "archive", "--simulator", "--archive", &archive, "--config", &configuration, "--workers", "1"];
    let over = AtomicBool::new(false);
    let digests = std::thread::scope(|scope| {
        let follow = || scope.spawn(|| followed(&archive, &over));
        let early = follow();
        fink(&[&start[..], &["--rate", "200", "--backlog", "500", "--commit-interval", "0.1", "--exit-after", "4"]].concat());
        // Another generation, and someone who comes later, while files are merged.
        let late = follow();
        let again = [&start[..], &["--rate", "200", "--commit-interval", "0.1"]].concat();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut writer = std::process::Command::new(env!("CARGO_BIN_EXE_fink")).args(again).stderr(log).spawn().expect("it starts");
        let merged = || actions(&place, &["\"remove\"", "\"dataChange\":false"]) > 0;
        // It goes on until a merge was followed by commits.
        for _ in 0..600 {
            std::thread::sleep(Duration::from_millis(100));
            if merged() {
                break;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let asked = rustix::process::kill_process(rustix::process::Pid::from_child(&writer), rustix::process::Signal::TERM);
        let ended = writer.wait().expect("it ends");
        // Followers end in any case, or the test would not.
        over.store(true, Ordering::Relaxed);
        let digests = [early, late].map(|follower| follower.join().expect("followed"));
        assert!(asked.is_ok() && ended.success() && merged(), "nothing was merged: the test tests nothing");
        digests
    });
    let all = replayed(&archive, Selection::default());
    assert!(all.rows > 1_000, "{all}");
    assert_eq!(digests, [all; 2]);
}

#[test]
fn who_sleeps_too_long_is_told_that_it_lost_the_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("archive");
    let archive = place.to_string_lossy().into_owned();
    let start = ["start", "archive", "--simulator", "--archive", &archive, "--exit-after", "1", "--rate", "50", "--workers", "1"];
    fink(&start);
    let opened = store::open(&archive, &BTreeMap::new()).expect("an archive");
    let sleeper = || Follower::open(&opened).expect("opened").1;
    let (mut cleaned, mut vacuumed) = (sleeper(), sleeper());
    assert!(vacuumed.poll().expect("asked").is_none());
    fink(&start);
    // As vacuum does, once a merge has replaced a file.
    let next = |follower: &mut Follower| loop {
        match follower.poll() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    };
    let files: Vec<_> =
        walk(&place.join("alerts")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "parquet")).collect();
    files.iter().for_each(|file| std::fs::remove_file(file).expect("deleted"));
    let lost = next(&mut vacuumed);
    assert!(matches!(&lost, Some(FollowError::Lost(why)) if why.contains("was replaced and deleted")), "{lost:?}");
    // As the ledger is cleaned: what a snapshot holds.
    let (from, at) = (opened.clone(), cleaned.at());
    store::wait(async move {
        let (ledger, state) = Ledger::open(&from).await.expect("a ledger");
        ledger.snapshot(&state).await.expect("put");
    });
    std::fs::remove_file(place.join(format!("_fink/entries/{at:020}.json"))).expect("deleted");
    let lost = next(&mut cleaned);
    assert!(matches!(&lost, Some(FollowError::Lost(why)) if why.contains("was cleaned before it was read")), "{lost:?}");
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}
