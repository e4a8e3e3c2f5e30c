//! Checks of an archive by the program itself, and by deltalake, polars, pyarrow and fastavro.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::places;
use crate::process::Fink;
use crate::topic::Topic;

/// The Python of the environment with the readers; made at first use.
#[must_use]
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new(script("setup.sh")).stderr(Stdio::inherit()).output().expect("a script of ours can be run");
        assert!(output.status.success(), "the Python environment could not be made");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

fn script(name: &str) -> PathBuf {
    places::root().join("tests/python").join(name)
}

fn judged(mut command: Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().expect("Python can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let verdict: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{command:?}: {e}: {text}"));
    assert!(output.status.success(), "{command:?}: {verdict:#}");
    verdict
}

fn python_command(name: &str, archive: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(script(name)).arg(archive);
    command
}

/// Every table of an archive reads the same by three readers, and holds exactly what was sent to these topics: what was read.
pub fn holds(archive: &Path, topics: &[&Topic]) -> Value {
    let account = Topic::write_account(topics, archive.parent().expect("an archive lies in a folder"));
    let mut command = python_command("verify.py", archive);
    command.arg("--expect").arg(account);
    judged(command)
}

/// As [`holds`], where what was sent is not on account: rows, files and versions of each table.
pub fn reads(archive: &Path) -> Value {
    judged(python_command("verify.py", archive))
}

/// The alerts are, leaf by leaf, what fastavro reads of the files that were sent.
pub fn equals(archive: &Path, topics: &[&Topic]) -> Value {
    let files = Topic::write_files(topics, archive.parent().expect("an archive lies in a folder"));
    let mut command = python_command("compare.py", archive);
    command.arg(files);
    judged(command)
}

/// Rows and rejects of an archive are, one to one, what the truth beside a simulated stream says: what was counted.
#[must_use]
pub fn joins(archive: &Path, truth: &Path) -> Value {
    let mut command = python_command("truth.py", archive);
    command.arg(truth);
    judged(command)
}

/// `fink check` agrees: exit code 0; what it printed.
pub fn checks(logs: &Path, brokers: &str, topics: &[&Topic], archive: &str, environment: &[(String, String)]) -> String {
    let (good, said) = try_check(logs, brokers, topics, archive, environment);
    assert!(good, "fink check does not agree:\n{said}");
    said
}

/// Runs `fink check --holes`: whether all is there, and what it printed.
#[must_use]
pub fn whole(logs: &Path, brokers: &str, topic: &Topic, archive: &str) -> (bool, String) {
    let (status, said) = Fink::new(logs, &["check", "--holes", "--brokers", brokers, "--topic", &topic.name, "--archive", archive]).run();
    (status.success(), said)
}

/// Runs `fink check`: whether it agrees, and what it printed.
#[must_use]
pub fn try_check(logs: &Path, brokers: &str, topics: &[&Topic], archive: &str, environment: &[(String, String)]) -> (bool, String) {
    let names: Vec<_> = topics.iter().map(|t| t.name.as_str()).collect();
    let check = Fink::new(logs, &["check", "--brokers", brokers, "--topic", &names.join(","), "--archive", archive]);
    let (status, said) = check.set_all(environment.to_vec()).run();
    (status.success(), said)
}

/// Readers in Python that loop over a table while it is written.
pub struct Readers {
    child: Child,
    end: PathBuf,
}

impl Readers {
    /// Starts so many.
    #[must_use]
    pub fn start(archive: &Path, count: usize, folder: &Path) -> Self {
        let end = folder.join("readers-end");
        let mut command = python_command("readers.py", archive);
        command.arg("--until").arg(&end).args(["--readers", &count.to_string()]).stdout(Stdio::piped());
        Self { child: command.spawn().expect("Python can be run"), end }
    }

    /// Ends them: what they counted. Panics if any had an error, or read nothing.
    pub fn end(self) -> Value {
        fs::write(&self.end, "").expect("the file that ends them can be written");
        let output = self.child.wait_with_output().expect("a child can be waited for");
        let text = String::from_utf8_lossy(&output.stdout);
        let verdict: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("the readers: {e}: {text}"));
        assert!(output.status.success(), "the readers met errors: {verdict:#}");
        verdict
    }
}

/// The rows that a local table's Delta log says are there; 0 where there is no table.
#[must_use]
pub fn rows(archive: &Path, table: &str) -> u64 {
    let folder = archive.join(table).join("_delta_log");
    let mut logs: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path()).collect();
    logs.retain(|p| p.extension().is_some_and(|e| e == "json"));
    let mut rows = 0;
    // Only commits that add rows count, and none of ours takes any away; a log that was cleaned would count too few.
    for log in logs {
        let text = fs::read_to_string(log).unwrap_or_default();
        for action in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            if action["add"]["dataChange"] == Value::Bool(true) {
                let stats: Value = serde_json::from_str(action["add"]["stats"].as_str().unwrap_or("{}")).unwrap_or_default();
                rows += stats["numRecords"].as_u64().unwrap_or(0);
            }
        }
    }
    rows
}

/// As [`rows`], over all alert tables.
#[must_use]
pub fn all_rows(archive: &Path) -> u64 {
    let tables = fs::read_dir(archive).into_iter().flatten().flatten().filter_map(|f| f.file_name().into_string().ok());
    tables.filter(|name| name == "alerts" || name.starts_with("alerts_")).map(|name| rows(archive, &name)).sum()
}
