//! Several processes, one archive: killed, stopped, cut off from each other, in mid-burst.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_tests::flow::Flow;
use fink_tests::judge;
use fink_tests::namespaces::Network;
use fink_tests::places;
use fink_tests::process::{Fink, Run, until};
use fink_tests::servers::{Kafka, Signal};
use fink_tests::template::Noise;
use fink_tests::topic::{Fate, Topic};
use fink_tests::visible::Follower;

use crate::room::{PATIENCE, Room, templates};

/// In CI a silence is short; in the long form it is what people have.
fn configuration(room: &Room, more: &str) -> String {
    let silence = if places::full() { String::new() } else { "[cluster]\nsilence_s = 5\n".to_owned() };
    room.configuration(&format!("{silence}{more}"))
}

fn noise() -> Noise {
    Noise::new(std::env::var("FINK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7))
}

/// How often a supervisor has said that its processes run.
fn ran(run: &Run) -> usize {
    run.said().matches("all processes run").count()
}

/// How often a supervisor has started its processes.
fn starts(run: &Run) -> usize {
    run.said().matches("started processes=").count()
}

/// The pids of a supervisor's processes, in order.
fn pids(run: &Run) -> Vec<u32> {
    let said = run.said();
    let list = said.rsplit("pids=[").next().and_then(|rest| rest.split(']').next()).expect("it says whom it started");
    list.split(", ").map(|pid| pid.parse().expect("a pid")).collect()
}

/// The longest time of a kind of round, in milliseconds.
#[derive(Default)]
struct Slowest(u128);

impl Slowest {
    fn note(&mut self, since: Instant) {
        self.0 = self.0.max(since.elapsed().as_millis());
    }
}

#[test]
fn a_cluster_goes_on_after_deaths_and_silences() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("cluster");
    let (brokers, configuration) = (kafka.brokers(), configuration(&room, "[archive]\ncompact_mib = 8\n"));
    let mut topic = Topic::create(&brokers, "alerts", 5);
    // Rejects of several processes, and what is empty, are counted too.
    for partition in 0..5 {
        topic.send(partition, b"no alert", Fate::Rejected);
    }
    let flow = Flow::start(topic, Arc::new(templates), 40);
    let mut noise = noise();
    let mut run = room.fink(&brokers, "alerts").with(&["--processes", "3", "--workers", "1", "-c", &configuration]).start();
    let rounds = if places::full() { 20 } else { 1 };
    let (mut deaths, mut silences) = (Slowest::default(), Slowest::default());
    for round in 0..2 * rounds {
        until("the processes run", PATIENCE, || ran(&run) > round);
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        assert!(seen.wait(PATIENCE).is_some(), "round {round}: nothing comes\n{}", run.said());
        std::thread::sleep(Duration::from_millis(u64::try_from(noise.below(2500)).expect("few")));
        let victim = pids(&run)[noise.below(3)];
        let (signal, slowest) = if round % 2 == 0 { ("KILL", &mut deaths) } else { ("STOP", &mut silences) };
        fink_tests::process::send(victim, signal);
        let since = Instant::now();
        until("the processes run again", PATIENCE, || ran(&run) > round + 1);
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        assert!(seen.wait(PATIENCE).is_some(), "round {round}: nothing comes after {signal}\n{}", run.said());
        slowest.note(since);
        assert!(run.alive(), "round {round}: the supervisor ended\n{}", run.said());
    }
    let topic = flow.stop();
    assert!(run.stop().success(), "it does not end in order:\n{}", run.said());
    // Another number of processes shares what is left; and then there is nothing left for one.
    room.catch_up(&brokers, "alerts", &["--processes", "2", "--workers", "1", "-c", &configuration]);
    room.catch_up(&brokers, "alerts", &["--workers", "1", "-c", &configuration]);
    let read = judge::holds(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &brokers, &[&topic], &room.archive_text(), &[]);
    println!(
        "{rounds} kills, runs again after at most {} ms; {rounds} silences, after at most {} ms; {} alerts; {read}",
        deaths.0,
        silences.0,
        topic.sent()
    );
}

#[test]
fn a_cluster_goes_on_after_its_network_was_cut() {
    let Some(network) = Network::start(3) else { return };
    let room = Room::new("cut");
    let configuration = configuration(&room, "[simulator]\nrate = 60\npartitions = 6\nbacklog = 300\n");
    let hosts = room.folder().join("hosts.txt");
    let text: String = (0..3).map(|machine| format!("{}:2101\n", network.address(machine))).collect();
    std::fs::write(&hosts, text).expect("written");
    let (hosts, archive) = (hosts.to_string_lossy().into_owned(), room.archive_text());
    let listen = ["start", "archive", "--simulator", "--archive", &archive, "-c", &configuration, "--workers", "1"];
    let member = |machine: usize| {
        let process = machine.to_string();
        let place = ["--hosts", &hosts, "--process", &process, "--supervise", "--mesh-public"];
        Fink::new(&room.logs().join(&process), &listen).with(&place).within(network.name(machine)).start()
    };
    let mut runs: Vec<Run> = (0..3).map(member).collect();
    let (rounds, mut noise, mut slowest) = (if places::full() { 20 } else { 1 }, noise(), Slowest::default());
    let mut restarted = 0;
    for round in 0..rounds {
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        assert!(seen.wait(PATIENCE).is_some(), "round {round}: nothing comes\n{}", runs[0].said());
        std::thread::sleep(Duration::from_millis(u64::try_from(noise.below(2500)).expect("few")));
        let first = noise.below(3);
        let second = (first + 1 + noise.below(2)) % 3;
        let before = starts(&runs[0]);
        network.cut(first, second);
        let since = Instant::now();
        // Some are over before anybody takes the other for silent; in CI none is.
        let lasts = if places::full() { 1_000 + noise.below(19_000) } else { 9_000 };
        std::thread::sleep(Duration::from_millis(u64::try_from(lasts).expect("few")));
        network.mend(first, second);
        // What was under way when it was cut may become visible still: what counts is what comes from now on.
        let mut seen = Follower::new(&room.archive(), "alerts").from_now();
        assert!(seen.wait(PATIENCE).is_some(), "round {round}: nothing comes after {first}-{second} were cut\n{}", runs[0].said());
        slowest.note(since);
        restarted += usize::from(starts(&runs[0]) > before);
    }
    assert!(restarted > 0, "no cut was long enough to be noticed: the test proves nothing");
    // One is asked to stop, and all do.
    assert!(runs[1].stop().success(), "{}", runs[1].said());
    for run in [0, 2] {
        let (status, _) = runs[run].wait(PATIENCE);
        assert!(status.success(), "process {run} does not end in order:\n{}", runs[run].said());
    }
    let undisturbed = Fink::new(&room.logs(), &listen).with(&["--until-caught-up"]).start();
    { undisturbed }.succeed(PATIENCE);
    let read = judge::reads(&room.archive());
    let (status, said) = Fink::new(&room.logs(), &["check", "--archive", &archive]).run();
    assert!(status.success(), "{said}");
    println!("{rounds} cuts of the network, {restarted} noticed; runs again after at most {} ms; {read}", slowest.0);
}

#[test]
fn who_can_not_reach_the_others_says_so_and_waits_and_one_unlike_them_is_refused() {
    let room = Room::new("waits");
    let port = places::ports(2);
    let hosts = room.folder().join("hosts.txt");
    std::fs::write(&hosts, format!("127.0.0.1:{port}\n127.0.0.1:{}\n", port + 1)).expect("written");
    let (hosts, archive) = (hosts.to_string_lossy().into_owned(), room.archive_text());
    let start = |process: &str, more: &[&str]| {
        let listen = ["start", "archive", "--simulator", "--archive", &archive, "--workers", "1", "--hosts", &hosts, "--process", process];
        Fink::new(&room.logs(), &listen).with(more).start()
    };
    let mut second = start("1", &[]);
    until("it says for whom it waits", PATIENCE, || second.said().contains(&format!("waits for process 0 at 127.0.0.1:{port}")));
    let mut other = start("0", &["--rate", "99"]);
    let (status, _) = second.wait(PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", second.said());
    assert!(second.said().contains("does not fit"), "{}", second.said());
    assert!(other.said().contains("was not let in") && other.alive(), "{}", other.said());
    assert!(other.stop().success(), "one that waits can be stopped:\n{}", other.said());
    let mut both = [start("0", &[]), start("1", &[])];
    let seen = Follower::new(&room.archive(), "alerts").wait(PATIENCE);
    assert!(seen.is_some(), "nothing comes:\n{}", both[0].said());
    // A death takes the other along, with a word and the code that says so.
    both[0].signal(Signal::Kill);
    let (status, _) = both[1].wait(PATIENCE);
    assert_eq!(status.code(), Some(75), "{}", both[1].said());
    assert!(both[1].said().contains("lost another process of the cluster"), "{}", both[1].said());
}
