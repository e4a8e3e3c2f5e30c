//! Late epochs roll in at the same Moment on every worker: exact against an oracle, in one process and in two.

use std::process::Command;

use fink_tests::epochs::{Checked, Play, Seen, check, run};
use fink_tests::places;
use timely::{CommunicationConfig, Config, WorkerConfig};

/// Seeds of each kind; `FINK_FULL=1` runs more, and `FINK_SEED` names the first.
fn seeds() -> std::ops::Range<u64> {
    let first = std::env::var("FINK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    first..first + if places::full() { 100 } else { 8 }
}

fn exact(name: &str, config: impl Fn() -> Config, peers: usize) {
    let (mut all, mut rolls) = (Checked::default(), 0);
    for seed in seeds() {
        let seen = run(config(), Play::random(seed), |_| {});
        rolls += seen.rolls;
        let checked = check(&[seen], peers).unwrap_or_else(|wrong| panic!("{name}, seed {seed}: {wrong}"));
        (all.rows, all.answers, all.hidden) = (all.rows + checked.rows, all.answers + checked.answers, all.hidden + checked.hidden);
    }
    assert!(rolls > 0 && all.hidden > 0, "{name}: nothing rolled, or nothing was hidden: the test proves nothing");
    println!("{name}: {} rows, {rolls} rolls, {} answers ({} with late rows to hide): exact", all.rows, all.answers, all.hidden);
}

#[test]
fn one_worker() {
    exact("1 worker", || Config::process(1), 1);
}

#[test]
fn two_workers() {
    exact("2 workers", || Config::process(2), 2);
}

#[test]
fn four_workers() {
    exact("4 workers", || Config::process(4), 4);
}

#[test]
fn two_workers_that_serialise() {
    exact("2 workers, serialised", || Config { communication: CommunicationConfig::ProcessBinary(2), worker: WorkerConfig::default() }, 2);
}

/// What tells a child which process of which cluster it is: index, first port, seed, and the file for what it saw.
const CHILD: &str = "FINK_TEST_CLUSTER";

/// Not a test of its own: a process of the next one's cluster.
#[test]
fn member_of_a_cluster() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let mut words = what.split(' ');
    let mut word = || words.next().expect("four words");
    let (process, port, seed) = (word().parse().expect("index"), word().parse::<u16>().expect("port"), word().parse().expect("seed"));
    let addresses = (port..port + 2).map(|port| format!("127.0.0.1:{port}")).collect();
    let communication = CommunicationConfig::Cluster { threads: 1, process, addresses, report: false, zerocopy: false };
    let seen = run(Config { communication, worker: WorkerConfig::default() }, Play::random(seed), |_| {});
    std::fs::write(word(), seen.to_json().to_string()).expect("written");
}

#[test]
fn two_processes() {
    let (mut all, mut rolls) = (Checked::default(), 0);
    let folder = places::scratch("epochs");
    for seed in seeds().take(if places::full() { 20 } else { 3 }) {
        let port = places::ports(2);
        let file = |process: usize| folder.path().join(format!("{seed}-{process}.json"));
        let member = |process: usize| {
            let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
            command.args(["--exact", "member_of_a_cluster", "--nocapture"]);
            command.env(CHILD, format!("{process} {port} {seed} {}", file(process).display()));
            command.stdout(std::process::Stdio::null()).spawn().expect("started")
        };
        for mut child in [member(0), member(1)] {
            assert!(child.wait().expect("waited for").success(), "seed {seed}: a process failed");
        }
        let read = |process| {
            let text = std::fs::read_to_string(file(process)).expect("written");
            Seen::from_json(serde_json::from_str(&text).expect("JSON"))
        };
        let seen = [read(0), read(1)];
        rolls += seen.iter().map(|seen| seen.rolls).max().unwrap_or(0);
        let checked = check(&seen, 2).unwrap_or_else(|wrong| panic!("2 processes, seed {seed}: {wrong}"));
        (all.rows, all.answers, all.hidden) = (all.rows + checked.rows, all.answers + checked.answers, all.hidden + checked.hidden);
    }
    assert!(rolls > 0 && all.hidden > 0, "nothing rolled, or nothing was hidden: the test proves nothing");
    println!("2 processes: {} rows, {rolls} rolls, {} answers ({} with late rows to hide): exact", all.rows, all.answers, all.hidden);
}
