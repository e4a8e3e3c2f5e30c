//! The program as a person or a script meets it: help texts, exit codes, and what goes to which stream.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `fink` with a run folder of its own, in `folder`.
fn fink(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fink"));
    command.args(arguments).current_dir(folder).env("FINK_RUN_DIR", folder.join("run")).env_remove("FINK_CONFIG");
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn alone_it_prints_help_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let alone = fink(folder.path(), &[]);
    assert_eq!(code(&alone), 1);
    for word in ["init", "start", "stop", "show", "check", "rejects", "hole", "--simulator"] {
        assert!(out(&alone).contains(word), "{word}");
    }
    assert_eq!(err(&alone), "");
}

#[test]
fn help_and_version_exit_0() {
    let folder = tempfile::tempdir().unwrap();
    let version = fink(folder.path(), &["--version"]);
    assert_eq!((code(&version), out(&version)), (0, format!("fink {}\n", env!("CARGO_PKG_VERSION"))));
    for command in ["init", "start", "stop", "show", "check", "rejects", "hole"] {
        let help = fink(folder.path(), &[command, "--help"]);
        assert_eq!(code(&help), 0, "{command}");
        assert!(out(&help).contains("Examples:"), "{command}: help teaches by examples");
        assert!(out(&help).lines().all(|line| line.chars().count() <= 110), "{command}");
    }
}

#[test]
fn help_teaches_the_simulators_flags() {
    let folder = tempfile::tempdir().unwrap();
    let help = fink(folder.path(), &["start", "simulator", "--help"]);
    assert_eq!(code(&help), 0);
    let text = out(&help);
    let flags = "brokers topic survey format seed count rate visits as-fast-as-possible truth night nights speed from fresh pool interval \
                 per-interval first-records objects alerts-per-visit size registry threads ahead prepare delayed delay-from delay-to \
                 duplicated disordered garbled truncated schema-change-at outage-at outage resend partitions";
    for flag in flags.split_whitespace() {
        let lines: Vec<&str> = text.lines().skip_while(|line| !format!("{line} ").contains(&format!(" --{flag} "))).take(2).collect();
        // A flag's words stand below it, or beside it.
        assert!(!lines.is_empty() && lines.concat().split_whitespace().count() > 4, "--{flag}: {lines:?}");
    }
    for example in ["--visits", "--night 2026-11-22 --nights 3", "--from ./alerts", "--duplicated", "--truth", "simulator score"] {
        assert!(text.split("Examples:").nth(1).is_some_and(|examples| examples.contains(example)), "{example}");
    }
}

#[test]
fn whoever_listens_no_more_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fink"));
    let output = command.arg("show").env("FINK_RUN_DIR", folder.path()).stdout(writer).output().unwrap();
    assert_eq!((code(&output), err(&output)), (141, String::new()));
}

#[test]
fn flags_of_another_service_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = fink(folder.path(), &["start", "archive", "--simulator", "--count", "10"]);
    assert_eq!(code(&wrong), 1);
    assert!(err(&wrong).contains("--count is for the simulator that sends to a Kafka"), "{}", err(&wrong));
}

#[test]
fn start_names_the_services_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let none = fink(folder.path(), &["start"]);
    assert_eq!(code(&none), 1);
    assert!(err(&none).starts_with("start requires an argument. Available services are:\n  archive "), "{}", err(&none));
    let unknown = fink(folder.path(), &["start", "archiv"]);
    assert_eq!((code(&unknown), out(&unknown)), (1, String::new()));
    assert!(err(&unknown).starts_with("unknown service: archiv\nAvailable services are:\n  archive "), "{}", err(&unknown));
    assert_eq!(code(&fink(folder.path(), &["start", "archive", "--fromm", "x"])), 1);
    assert_eq!(code(&fink(folder.path(), &["start", "archive", "simulator"])), 1);
}

#[test]
fn a_wrong_configuration_is_told_by_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fink.toml"), "[archive]\npath = \"a\"\ncommit_intervals = 3\n").unwrap();
    let wrong = fink(folder.path(), &["start", "archive", "--simulator", "--check-config"]);
    assert_eq!((code(&wrong), out(&wrong)), (1, String::new()));
    let last = err(&wrong).lines().last().unwrap().to_owned();
    assert_eq!(last, "fink: fink.toml:3: unknown key `commit_intervals` in [archive]; did you mean `commit_interval_s`?");
    let missing = fink(folder.path(), &["start", "archive", "-c", "other.toml", "--simulator"]);
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("other.toml") && err(&missing).contains("fink init"), "{}", err(&missing));
    let flag = fink(folder.path(), &["start", "archive", "-c", "/dev/null", "--brokers", "h", "--topic", "t"]);
    assert_eq!(err(&flag), "fink: --brokers: `h` is not host:port\n");
}

#[test]
fn the_written_configuration_is_right_and_flags_win_over_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&fink(folder.path(), &["init"])), 0);
    let again = fink(folder.path(), &["init"]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("fink.toml is there already"), "{}", err(&again));
    assert_eq!(out(&fink(folder.path(), &["init", "--print"])), std::fs::read_to_string(folder.path().join("fink.toml")).unwrap());
    let arguments = ["start", "archive", "--simulator", "--archive", "./elsewhere", "--workers", "3", "--check-config"];
    let checked = fink(folder.path(), &arguments);
    assert_eq!(code(&checked), 0, "{}", err(&checked));
    assert!(out(&checked).contains("to        ./elsewhere\nworkers   3\n"), "{}", out(&checked));
}

#[test]
fn a_secret_is_refused_on_the_command_line_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = ["start", "archive", "--brokers", "h:9", "--topic", "t", "--check-config"];
    for property in ["sasl.password=hunter2", "sasl.oauthbearer.client.secret=hunter2"] {
        let clear = fink(folder.path(), &[&kafka[..], &["--property", property]].concat());
        assert_eq!(code(&clear), 1);
        assert!(!err(&clear).contains("hunter2"), "{}", err(&clear));
    }
    std::fs::write(folder.path().join("password"), "hunter2").unwrap();
    let sasl = ["--security", "sasl_plaintext", "--username", "reader", "--password-file", "password"];
    let kept = fink(folder.path(), &[&kafka[..], &sasl].concat());
    assert_eq!(code(&kept), 0, "{}", err(&kept));
    assert!(out(&kept).contains("as reader") && !out(&kept).contains("hunter2"), "{}", out(&kept));
    let missing = fink(folder.path(), &[&kafka[..], &sasl[..4], &["--password-env", "FINK_NO_SUCH_VARIABLE"]].concat());
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("--password-env: ") && err(&missing).contains("FINK_NO_SUCH_VARIABLE"), "{}", err(&missing));
}

#[test]
fn shows_nothing_and_stops_nothing_where_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let show = fink(folder.path(), &["show"]);
    assert_eq!(code(&show), 0);
    assert!(out(&show).starts_with("0 Fink service(s) running:\n"));
    assert_eq!(out(&fink(folder.path(), &["show", "--json"])), "[]\n");
    let stop = fink(folder.path(), &["stop", "archive"]);
    assert_eq!((code(&stop), out(&stop)), (1, "No fink archive service to stop\n".to_owned()));
}

/// A status file as a running service writes it, for the process `pid`.
fn status_of(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let started = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().nth(19).unwrap().to_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!(
        r#"{{"service": "archive", "pid": {pid}, "started": {started}, "boot": "{}", "version": "0", "output": "./archive",
            "input": "simulator", "since_ms": 0, "updated_ms": 0, "stopping": false, "messages_per_s": 0, "bytes_per_s": 0,
            "figures": {{"messages": 4, "archived": 4, "rejected": 0, "empty": 0, "bytes": 9, "lag": 1, "backlog": null, "commits": 1,
                "entry": 3, "last_commit_ms": null, "frontier": "0.1", "in_flight_bytes": 0, "trouble": null}}}}"#,
        boot.trim()
    )
}

#[test]
fn stops_a_real_process_by_its_pid_and_forgets_one_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(run.join("archive-1.json"), status_of(child.id())).unwrap();
    let mut killed = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(run.join("archive-2.json"), status_of(killed.id())).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();

    let show = fink(folder.path(), &["show"]);
    assert!(out(&show).starts_with("1 Fink service(s) running:\n"), "{}", out(&show));
    assert!(out(&show).contains(&child.id().to_string()));
    let stop = fink(folder.path(), &["stop", "simulator"]);
    assert_eq!(code(&stop), 1, "another service is not touched");
    let stop = fink(folder.path(), &["stop", "archive"]);
    assert_eq!(code(&stop), 0, "{}", err(&stop));
    let pid = child.id();
    assert!(out(&stop).starts_with(&format!("Stopping archive (pid {pid})...\nStopped archive (pid {pid})")), "{}", out(&stop));
    assert!(!child.wait().unwrap().success());
    assert!(out(&fink(folder.path(), &["show"])).starts_with("0 Fink service(s) running:\n"));
}

#[test]
fn a_cluster_is_refused_with_a_word_where_it_can_not_be() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hosts"), "127.0.0.1:2101\n192.0.2.1:2101\n").unwrap();
    std::fs::create_dir(folder.path().join("alerts")).unwrap();
    for (arguments, said) in [
        ("--simulator --hosts hosts --process 1", "give --mesh-public"),
        ("--simulator --hosts hosts --process 2", "there are 2 hosts"),
        ("--simulator --hosts none --process 0", "none can't be read"),
        ("--simulator --process 0", "which of what?"),
        ("--simulator --hosts hosts --process 0,1 --mesh-public", "--supervise"),
        ("--files alerts --processes 2", "which one process reads"),
        ("--simulator --processes 2 --new-incarnation", "start one process with it"),
        ("services --simulator --processes 2", "services run in one process"),
    ] {
        let all: Vec<&str> = ["start", "archive"].into_iter().chain(arguments.split(' ')).collect();
        let refused = fink(folder.path(), &all);
        assert!(code(&refused) == 1 && err(&refused).contains(said), "{arguments}: {}", err(&refused));
    }
    let right = fink(folder.path(), &["start", "archive", "--simulator", "--processes", "3", "--check-config"]);
    assert!(code(&right) == 0 && out(&right).contains("processes 3"), "{}{}", out(&right), err(&right));
}

#[test]
fn two_processes_archive_and_end_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let start = "start archive --simulator --processes 2 --workers 1 --archive a -c fink.toml --until-caught-up";
    std::fs::write(folder.path().join("fink.toml"), "[simulator]\nbacklog = 300\npartitions = 3\n").unwrap();
    for _ in 0..2 {
        let ended = fink(folder.path(), &start.split(' ').collect::<Vec<_>>());
        assert_eq!(code(&ended), 0, "{}", err(&ended));
        assert!(err(&ended).contains("all processes run"), "{}", err(&ended));
        // One speaks for both.
        assert_eq!(out(&ended).lines().count(), 1, "{}", out(&ended));
    }
    let check = fink(folder.path(), &["check", "--archive", "a"]);
    assert_eq!(code(&check), 0, "{}{}", out(&check), err(&check));
}
