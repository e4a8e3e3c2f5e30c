//! The program as a child: started, watched, stopped, killed, its CPU and memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::places;
use crate::servers::Signal;

/// How to start the program.
#[derive(Clone, Debug, Default)]
pub struct Fink {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    logs: PathBuf,
    namespace: Option<String>,
}

impl Fink {
    /// The program with these arguments; what it says goes to a file in `logs`.
    #[must_use]
    pub fn new(logs: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Self { arguments, environment: environment(logs), logs: logs.to_path_buf(), namespace: None }
    }

    /// `fink start archive` of a topic from its beginning.
    #[must_use]
    pub fn archive(logs: &Path, brokers: &str, topic: &str, archive: &str) -> Self {
        Self::new(logs, &["start", "archive", "--brokers", brokers, "--topic", topic, "--from", "earliest", "--archive", archive])
    }

    /// With more arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// In a network namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// With an environment variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With environment variables.
    #[must_use]
    pub fn set_all(mut self, all: Vec<(String, String)>) -> Self {
        self.environment.extend(all);
        self
    }

    /// Dies by `kill -9` (or stands still: `name!stop`) when it passes this point of the code for the `count`-th time.
    #[must_use]
    pub fn fails_at(self, point: &str, count: u32) -> Self {
        self.set("FINK_FAILPOINT", &format!("{point}:{count}"))
    }

    fn command(&self) -> (Command, PathBuf) {
        static RUN: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(&self.logs).expect("the folder of the logs can be made");
        let log = self.logs.join(format!("fink-{}.log", RUN.fetch_add(1, Ordering::Relaxed)));
        let mut command = match &self.namespace {
            // It becomes the program: the pid is the program's.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(places::program());
                command
            }
            None => Command::new(places::program()),
        };
        command.current_dir(&self.logs).args(&self.arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        (command, log)
    }

    /// Starts it.
    #[must_use]
    pub fn start(&self) -> Run {
        let (mut command, log) = self.command();
        let mut file = File::create(&log).expect("a log can be made");
        writeln!(file, "# {:?} {:?}", self.arguments, self.environment).expect("a log can be written");
        command.stdout(file.try_clone().expect("a log can be shared")).stderr(file);
        let child = command.spawn().expect("the program can be started");
        Run::watch(child, log)
    }

    /// Runs it to its end: what it printed on stdout, if it succeeded.
    #[must_use]
    pub fn output(&self) -> Option<Vec<u8>> {
        let output = self.command().0.output().expect("the program can be started");
        output.status.success().then_some(output.stdout)
    }

    /// Runs it to its end: exit status, and what it printed on stdout and stderr together.
    #[must_use]
    pub fn run(&self) -> (ExitStatus, String) {
        let output = self.command().0.output().expect("the program can be started");
        (output.status, format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Of it, system time.
    pub system: Duration,
    /// User and system time of its children that have ended.
    pub children: Duration,
    /// The most memory that it held.
    pub peak_bytes: u64,
}

/// A program that runs, or ran. Killed when the value is dropped.
pub struct Run {
    child: Child,
    log: PathBuf,
    peak: Arc<AtomicU64>,
    started: Instant,
}

impl Run {
    /// Another program, watched as ours is.
    #[must_use]
    pub fn of(mut command: Command, log: &Path) -> Self {
        let file = File::create(log).expect("a log can be made");
        command.stdout(file.try_clone().expect("a log can be shared")).stderr(file).stdin(Stdio::null());
        Self::watch(command.spawn().expect("the program can be started"), log.to_path_buf())
    }

    fn watch(child: Child, log: PathBuf) -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let (pid, high) = (child.id(), Arc::clone(&peak));
        // A zombie's status has no memory any more: the high-water mark is read while it lives.
        thread::spawn(move || {
            while let Some(bytes) = high_water(pid) {
                high.fetch_max(bytes, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { child, log, peak, started: Instant::now() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How long ago it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// CPU so far, also after its end until it is waited for; the peak of memory.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (user, system, children) = times(self.pid()).unwrap_or_default();
        Usage { cpu: user + system, system, children, peak_bytes: self.peak.load(Ordering::Relaxed) }
    }

    /// Signals it; a kill is waited for.
    pub fn signal(&mut self, signal: Signal) {
        if matches!(signal, Signal::Kill) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            send(self.pid(), signal.name());
        }
    }

    /// Asks it to end (SIGTERM) and waits: its status.
    pub fn stop(&mut self) -> ExitStatus {
        if self.alive() {
            send(self.pid(), "TERM");
        }
        self.wait(Duration::from_secs(60)).0
    }

    /// Waits for its end: status and usage. Panics with the end of its log when it takes longer.
    pub fn wait(&mut self, at_most: Duration) -> (ExitStatus, Usage) {
        let until = Instant::now() + at_most;
        // Usage is read of the zombie, before it is reaped.
        while state(self.pid()).is_some_and(|s| s != 'Z') {
            assert!(Instant::now() < until, "still runs after {at_most:?}; it said:\n{}", tail(&self.said()));
            thread::sleep(Duration::from_millis(5));
        }
        let usage = self.usage();
        (self.child.wait().expect("a child can be waited for"), usage)
    }

    /// Waits for its end, which must be exit code 0.
    pub fn succeed(&mut self, at_most: Duration) -> Usage {
        let (status, usage) = self.wait(at_most);
        assert!(status.success(), "ended with {status}; it said:\n{}", tail(&self.said()));
        usage
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.said()));
        }
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Waits until something is so; panics when it takes longer.
pub fn until(what: &str, at_most: Duration, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + at_most;
    while !so() {
        assert!(Instant::now() < end, "{what}: not within {at_most:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command on some input; returns what it printed. Panics when it fails.
#[must_use]
pub fn pipe(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    child.stdin.take().expect("stdin is a pipe").write_all(input).expect("the command reads its input");
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().expect("kill is everywhere");
    assert!(status.success(), "could not send {signal} to {pid}");
}

/// The fields of `/proc/<pid>/stat` after the command's name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text[text.rfind(')')? + 2..].split(' ').map(str::to_owned).collect())
}

fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// User and system time of a process, and both of its children that have ended, to a hundredth of a second.
fn times(pid: u32) -> Option<(Duration, Duration, Duration)> {
    let fields = stat(pid)?;
    // USER_HZ is 100 on every Linux that Rust runs on.
    let time = |field: &str| Some(Duration::from_millis(field.parse::<u64>().ok()? * 10));
    Some((time(&fields[11])?, time(&fields[12])?, time(&fields[13])? + time(&fields[14])?))
}

/// Bytes that a process holds in memory.
pub fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the kernel counts");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

/// CPU of a process, to a hundredth of a second.
#[must_use]
pub fn cpu(pid: u32) -> Option<Duration> {
    times(pid).map(|(user, system, _)| user + system)
}

/// The threads of a process by name, and the CPU of each, to a nanosecond.
#[must_use]
pub fn thread_times(pid: u32) -> Vec<(String, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let time = |task: PathBuf| {
        let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        Some((name, Duration::from_nanos(text.split(' ').next()?.parse().ok()?)))
    };
    tasks.filter_map(|task| time(task.path())).collect()
}

/// CPU of this thread, to a nanosecond.
#[must_use]
pub fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).expect("nanoseconds"))
}

fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// No colours in logs, and status files of its own for each test.
fn environment(logs: &Path) -> Vec<(String, String)> {
    vec![("NO_COLOR".into(), "1".into()), ("FINK_RUN_DIR".into(), logs.join("run").to_string_lossy().into_owned())]
}
