//! Rejects that are retried, in an archive that the program itself wrote.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use fink_sources::simulator::seen::Telescope;
use fink_sources::simulator::{AlertOptions, Framing, Generator, SimulatorConfig};

fn fink(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fink"));
    command.args(arguments).current_dir(folder).env("FINK_RUN_DIR", folder.join("run")).env_remove("FINK_CONFIG");
    command.output().unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = fink(folder, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
    out
}

/// The one log's counts: messages, archived, rejected, and rows in the tables.
fn counts(folder: &Path) -> [u64; 4] {
    let report: serde_json::Value = serde_json::from_str(&done(folder, &["check", "--json"])).unwrap();
    assert_eq!(report["agrees"], true);
    let log = &report["logs"][0];
    ["messages", "archived", "rejected", "rows_in_tables"].map(|count| log[count].as_u64().unwrap())
}

/// Files of a minute ago: younger ones may still be written.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join("files").join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

#[test]
fn a_retry_moves_what_now_decodes_and_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("files")).unwrap();
    let alerts = AlertOptions { framing: Framing::Datum, ..AlertOptions::small(Telescope::Ztf) };
    let mut generator = Generator::new(&SimulatorConfig { alerts, ..SimulatorConfig::new(1, 0) });
    for offset in 0..3 {
        let message = generator.message(0, offset);
        put(folder, &format!("{offset}.avro"), &message);
    }
    put(folder, "garbled.avro", b"Obj\x01garbage");

    // Bare datums without a schema, and a container that is none: all four are rejected, whole.
    done(folder, &["start", "archive", "--files", "files", "--until-caught-up"]);
    assert_eq!(counts(folder), [4, 0, 4, 0]);
    let list = done(folder, &["rejects", "list"]);
    assert!(list.contains("files/0/1 ") && list.ends_with(" in the table\n") && list.contains("4 rejects (4 shown)"), "{list}");
    let shown = done(folder, &["rejects", "show", "files/0/3", "--payload", "payload"]);
    assert!(shown.contains("payload  11 bytes"), "{shown}");
    assert_eq!(std::fs::read(folder.join("payload")).unwrap(), b"Obj\x01garbage");

    std::fs::write(folder.join("schema.avsc"), fink_sources::simulator::records::schema(Telescope::Ztf)).unwrap();
    let retry = ["rejects", "retry", "--schema", "schema.avsc"];
    let one = done(folder, &[&retry[..], &["files/0/1"]].concat());
    assert_eq!(one, "1 rejects tried: 1 moved to the alerts, 0 are still rejected\n");
    assert_eq!(counts(folder), [4, 1, 3, 1]);
    assert_eq!(done(folder, &retry), "3 rejects tried: 2 moved to the alerts, 1 are still rejected\n");
    assert_eq!(counts(folder), [4, 3, 1, 3]);
    assert_eq!(done(folder, &retry), "1 rejects tried: 0 moved to the alerts, 1 are still rejected\n");
    assert_eq!(counts(folder), [4, 3, 1, 3]);

    // The archive goes on from there: what was dealt with is not read again.
    put(folder, "z.avro", &generator.message(0, 3));
    done(folder, &["start", "archive", "--files", "files", "--until-caught-up", "--schema", "schema.avsc"]);
    assert_eq!(counts(folder), [5, 4, 1, 4]);
    let accept = fink(folder, &["hole", "accept", "files/0", "0", "3"]);
    assert!(!accept.status.success(), "what is archived is no hole");
}

#[test]
fn a_file_of_many_rejects_is_retried_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("files")).unwrap();
    std::fs::write(folder.join("fink.toml"), "[archive]\ngroup_mib = 1\n").unwrap();
    let alerts = AlertOptions { framing: Framing::Datum, ..AlertOptions::small(Telescope::Ztf) };
    let mut generator = Generator::new(&SimulatorConfig { alerts, ..SimulatorConfig::new(1, 0) });
    let garbled = [&b"Obj\x01"[..], &[7; 200_000]].concat();
    for number in 0..24 {
        let bytes = if number % 2 == 0 { generator.message(0, number) } else { garbled.clone() };
        put(folder, &format!("{number:02}.avro"), &bytes);
    }
    done(folder, &["start", "archive", "--files", "files", "--until-caught-up"]);
    assert_eq!(counts(folder), [24, 0, 24, 0]);
    std::fs::write(folder.join("schema.avsc"), fink_sources::simulator::records::schema(Telescope::Ztf)).unwrap();
    let retry = ["rejects", "retry", "--schema", "schema.avsc"];
    assert_eq!(done(folder, &retry), "24 rejects tried: 12 moved to the alerts, 12 are still rejected\n");
    assert_eq!(counts(folder), [24, 12, 12, 12]);
    let list = done(folder, &["rejects", "list"]);
    assert!((1..24).step_by(2).all(|offset| list.contains(&format!("files/0/{offset} "))), "{list}");
}
