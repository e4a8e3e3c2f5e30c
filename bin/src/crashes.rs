//! What panicked on this machine of late: a line for each, in the folder of status files.
//!
//! A panic ends its process, and whoever watches over it starts it again. Where a *service* panics at an alert, it does so at
//! each start, since it reads the archive again: after three such ends the archive is started without services, and says so.
//! A thread's name tells whose panic it was: decoding is caught elsewhere, so that on a worker little but services is left.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::rundir::{RunDir, now_ms};

/// How long a crash counts, in milliseconds.
const RECENT_MS: i64 = 600_000;
/// After so many the archive goes on without services.
const TOO_MANY: usize = 3;
/// Beyond so many bytes the file is begun anew.
const BYTES_MAX: u64 = 64 << 10;
/// How the threads begin that services have a part in: timely's workers, readers of history and of catalogues, the web server.
const SERVICES: [&str; 6] = ["timely", "history", "replay", "catalogues", "follow", "http"];

/// A process that ended by a panic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Crash {
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// What ran: `archive` or `services`.
    pub service: String,
    /// The archive.
    pub archive: String,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub thread: String,
    /// What it said.
    pub message: String,
}

/// What this process is, for the note that a panic leaves.
static SELF: Mutex<Option<(PathBuf, Crash)>> = Mutex::new(None);

/// Has a panic of this process noted from now on.
pub(crate) fn watch(run_dir: &RunDir, service: &str, archive: &str) {
    let crash = Crash {
        at_ms: 0,
        service: service.to_owned(),
        archive: archive.to_owned(),
        pid: std::process::id(),
        thread: String::new(),
        message: String::new(),
    };
    *SELF.lock().unwrap_or_else(PoisonError::into_inner) = Some((path(run_dir.folder()), crash));
}

/// Notes a panic; for the hook. What can't be written is not noted.
pub(crate) fn note(panic: &PanicHookInfo<'_>) {
    // Whoever holds it may be the one that panicked.
    let Some((path, crash)) = SELF.try_lock().ok().and_then(|known| known.clone()) else { return };
    let said = panic.payload_as_str().unwrap_or("a panic without words");
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let message = said.chars().take(300).collect::<String>() + &place;
    let _ = append(&path, &Crash { at_ms: now_ms(), thread, message, ..crash });
}

fn append(path: &Path, crash: &Crash) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > BYTES_MAX) {
        std::fs::remove_file(path)?;
    }
    // One write, so that lines of two processes do not mix.
    let line = serde_json::to_string(crash)? + "\n";
    std::fs::File::options().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

fn path(folder: &Path) -> PathBuf {
    folder.join("crashes.jsonl")
}

/// The crashes of the last ten minutes, oldest first.
#[must_use]
pub fn recent(run_dir: &RunDir) -> Vec<Crash> {
    let text = std::fs::read_to_string(path(run_dir.folder())).unwrap_or_default();
    let crashes = text.lines().filter_map(|line| serde_json::from_str::<Crash>(line).ok());
    let now_ms = now_ms();
    crashes.filter(|crash| (0..RECENT_MS).contains(&(now_ms - crash.at_ms))).collect()
}

/// Why the archive is to be started without services, if it is: they ended it too often.
#[must_use]
pub fn too_many(run_dir: &RunDir, archive: &str) -> Option<String> {
    let of_services = |crash: &Crash| SERVICES.iter().any(|name| crash.thread.starts_with(name));
    let crashes: Vec<_> =
        recent(run_dir).into_iter().filter(|crash| crash.service == "archive" && crash.archive == archive && of_services(crash)).collect();
    let last = crashes.last().filter(|_| crashes.len() >= TOO_MANY)?;
    Some(format!("services ended the archive {} times in ten minutes, the last time on {}: {}", crashes.len(), last.thread, last.message))
}

/// The same for a person: a line for each archive and service that crashed.
#[must_use]
pub fn lines(crashes: &[Crash], now_ms: i64) -> Vec<String> {
    let mut kinds: Vec<(&str, &str)> = crashes.iter().map(|crash| (crash.service.as_str(), crash.archive.as_str())).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let line = |(service, archive): (&str, &str)| {
        let of: Vec<_> = crashes.iter().filter(|crash| crash.service == service && crash.archive == archive).collect();
        let last = of.last()?;
        let ago = crate::commands::show::ago(now_ms - last.at_ms);
        let times = if of.len() == 1 { "once".to_owned() } else { format!("{} times", of.len()) };
        Some(format!(
            "{service} of {archive} panicked {times} in ten minutes, the last time {ago} ago, on {}: {}",
            last.thread, last.message
        ))
    };
    kinds.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(service: &str, thread: &str, age_ms: i64) -> Crash {
        let (service, thread) = (service.to_owned(), thread.to_owned());
        Crash { at_ms: now_ms() - age_ms, service, archive: "./a".to_owned(), pid: 7, thread, message: "no (x.rs:1)".to_owned() }
    }

    #[test]
    fn three_crashes_on_workers_within_ten_minutes_are_too_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let run_dir = RunDir::at(folder.path());
        let note = |crash: Crash| append(&path(folder.path()), &crash).expect("noted");
        assert_eq!((recent(&run_dir), too_many(&run_dir, "./a")), (Vec::new(), None));
        [crash("archive", "timely:work-0", 700_000), crash("archive", "timely:work-0", 50_000)].into_iter().for_each(note);
        // Neither a writer nor services elsewhere end the archive.
        [crash("archive", "writer-0", 40_000), crash("services", "timely:work-0", 30_000)].into_iter().for_each(note);
        note(crash("archive", "history", 20_000));
        assert_eq!((recent(&run_dir).len(), too_many(&run_dir, "./a")), (4, None));
        std::fs::File::options().append(true).open(path(folder.path())).expect("there").write_all(b"half a li\n").expect("written");
        note(crash("archive", "timely:work-1", 10_000));
        let why = too_many(&run_dir, "./a").expect("too many");
        assert!(why.contains("3 times") && why.ends_with("on timely:work-1: no (x.rs:1)"), "{why}");
        assert_eq!(too_many(&run_dir, "./b"), None);
        let lines = lines(&recent(&run_dir), now_ms());
        assert!(
            lines[0].starts_with("archive of ./a panicked 4 times") && lines[1].starts_with("services of ./a panicked once"),
            "{lines:?}"
        );
    }
}
