//! `kill -9` of a process with services: at every version, the tables' sums of differences are the batch answer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fink::rundir::RunDir;
use fink::services::desk::Stand;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::table::store;
use fink_sources::archive::{Replay, Selection, Wanted};
use serde_json::Value;

use crate::reference::reference;
use crate::tables::{Held, Published, expected, follow, same};

/// How a life ends.
const ENDS: [&str; 7] = ["rolling", "output-entry", "output-files", "hydrating", "table-commit", "ledger-put", "random"];

fn start(folder: &Path, workers: &str, failpoint: Option<&str>) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fink"));
    command.env("FINK_RUN_DIR", folder.join("run")).current_dir(folder).stdout(Stdio::null()).stderr(log);
    command.args([
        "start",
        "archive",
        "services",
        "--simulator",
        "--rate",
        "8",
        "--backlog",
        "600",
        "--lanes",
        "1",
        "--archive",
        "./archive",
    ]);
    command.args(["--workers", workers, "-c", "fink.toml"]);
    if let Some(failpoint) = failpoint {
        command.env("FINK_FAILPOINT", failpoint);
    }
    command.spawn().expect("the program starts")
}

/// What the services of the process say, as of a second ago.
fn stand(folder: &Path) -> Option<Stand> {
    RunDir::at(&folder.join("run")).running().pop()?.figures.services
}

/// Waits until the services are as told, or the process has ended; whether they came to be.
fn wait(folder: &Path, child: &mut Child, what: impl Fn(&Stand) -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(90);
    while Instant::now() < end {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        if stand(folder).is_some_and(|stand| what(&stand)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 90 s: {:?}\n{}", stand(folder), std::fs::read_to_string(folder.join("log")).unwrap_or_default());
}

fn published(stand: &Stand) -> bool {
    stand.tables.as_ref().is_some_and(|tables| tables.moment.is_some() && tables.publications > 1)
}

/// Lets a process live, and kills it.
fn life(folder: &Path, round: usize, end: &str) {
    let failpoint = match end {
        "output-entry" | "output-files" => Some(format!("{end}:{}", 1 + round % 3)),
        "table-commit" | "ledger-put" => Some(format!("{end}:{}", 8 + 5 * (round % 4))),
        _ => None,
    };
    let mut child = start(folder, "1", failpoint.as_deref());
    match end {
        // While history is being read, or what was read rolls in.
        "hydrating" => {
            wait(folder, &mut child, |stand| stand.history.is_some() && !stand.complete);
        }
        "rolling" => {
            wait(folder, &mut child, |stand| stand.complete || stand.history.is_some_and(|(read, of)| read == of));
        }
        "random" => {
            wait(folder, &mut child, published);
            std::thread::sleep(Duration::from_millis(137 * (round as u64 % 9)));
        }
        // It kills itself.
        _ => {
            wait(folder, &mut child, |_| false);
        }
    }
    // It has ended if it can't be killed.
    let _ = child.kill();
    child.wait().expect("it ended");
}

/// Alerts of the archive, by partition, in order.
fn archived(folder: &Path) -> BTreeMap<i32, Vec<AlertBatch>> {
    let archive = store::open(&folder.join("archive").to_string_lossy(), &Default::default()).expect("an archive");
    let mut rows = BTreeMap::<(i32, i64), AlertBatch>::new();
    let take = |batch: AlertBatch| {
        for row in 0..batch.places.len() {
            let place = batch.places[row].clone();
            let one = AlertBatch {
                schema: batch.schema.clone(),
                rows: batch.rows.slice(row, 1),
                nights: vec![batch.nights[row]],
                observed_ms: None,
                places: vec![place.clone()],
            };
            assert!(rows.insert((place.log.partition, place.offset), one).is_none(), "it is archived twice");
        }
        ControlFlow::Continue(())
    };
    Replay::open(&archive, Selection::default(), Wanted::Light).expect("opened").run(1, take).expect("read");
    let mut partitions = BTreeMap::<i32, Vec<AlertBatch>>::new();
    for ((partition, offset), batch) in rows {
        let alerts = partitions.entry(partition).or_default();
        assert_eq!(alerts.len() as i64, offset, "the stream has no holes");
        alerts.push(batch);
    }
    partitions
}

/// How many alerts of each partition a version of the counts knows.
fn counted(counts: &Held) -> BTreeMap<i32, usize> {
    let mut known = BTreeMap::new();
    for (row, count) in counts {
        let row: Value = serde_json::from_str(row).expect("JSON");
        if row["kind"] == "partition" {
            let partition = i32::try_from(row["partition"].as_i64().expect("a partition")).expect("small");
            *known.entry(partition).or_insert(0) += usize::try_from(*count).expect("counts are positive");
        }
    }
    known
}

#[test]
fn at_every_version_the_tables_are_the_batch_answer_whatever_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("fink.toml"), "[services]\ntables_every_s = 1\n").expect("written");
    let mut child = start(folder, "1", None);
    assert!(wait(folder, &mut child, published));
    child.kill().expect("killed");
    child.wait().expect("it ended");
    let full = std::env::var_os("FINK_FULL").is_some_and(|value| value != "0");
    let rounds = if full { 20 } else { 3 };
    for round in 0..rounds {
        life(folder, round, ENDS[round % ENDS.len()]);
    }
    // Two workers find what one has left.
    let mut child = start(folder, "2", None);
    assert!(wait(folder, &mut child, published));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(child.wait().expect("it ends").success());

    let archive = store::open(&folder.join("archive").to_string_lossy(), &Default::default()).expect("an archive");
    let alerts = archived(folder);
    let (mut last, mut checked) = (BTreeMap::new(), 0);
    let met = follow(&archive, |Published { moment, generation, tables }: &Published<'_>| {
        let known = counted(&tables["counts"]);
        last = known.clone();
        // One worker reads each partition in order: what it knows is the beginning of each.
        if *generation <= rounds as u64 + 1 {
            let there: Vec<AlertBatch> = known.iter().flat_map(|(partition, count)| alerts[partition][..*count].to_vec()).collect();
            same(tables, &expected(&reference(&there, &[], 1.5)), &format!("at {moment} of generation {generation}"));
            checked += 1;
        }
    });
    let whole: BTreeMap<i32, usize> = alerts.iter().map(|(partition, alerts)| (*partition, alerts.len())).collect();
    assert_eq!(last, whole, "the end knows all that is archived");
    println!("{rounds} kills, {checked} versions checked, {met:?}");
    assert!(met.generations.len() > rounds / 2, "{met:?}");
    let checked = Command::new(env!("CARGO_BIN_EXE_fink")).current_dir(folder).args(["check", "--archive", "./archive"]).output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
