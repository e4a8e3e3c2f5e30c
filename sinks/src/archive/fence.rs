//! Who may write an archive: one process at a time, told apart by generation.
//!
//! A writer takes the archive by an entry that carries its identity and the next generation; from then on no entry of an
//! older generation fits. The fence alone makes two writers harmless; the judgement here, made *before* the fence is put,
//! keeps a second process from pushing a healthy one aside by accident.
//!
//! On the same host and boot, pid and start time say at once whether the holder lives, so a restart after a kill waits for
//! nothing. Of another host only the heartbeat is seen, by the store's clock: 30 s of silence, or `--take-over`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fink_dataflow::table::entry::Writer;

/// How often the writer says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// The silence after which a writer on another host is taken for dead.
pub const STALE: Duration = Duration::from_secs(30);
/// Clock ticks a second, as `/proc` counts them: the kernel's ABI fixes it on every platform that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The archives that this process writes now: two committers in one process are told apart by this alone.
static HELD: Mutex<BTreeSet<(String, u64)>> = Mutex::new(BTreeSet::new());

/// The archive is somebody else's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{archive} is written by {holder} ({since}); stop that one first, or start with --take-over, \
     which makes it stop by itself"
)]
pub struct Held {
    /// The archive.
    pub archive: String,
    /// Who holds it.
    pub holder: Holder,
    /// What is known of since when.
    pub since: String,
}

/// A writer, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder(pub Writer);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.0.pid, self.0.host)
    }
}

/// What is known of the holder when a second writer comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signs {
    /// Whether a process of the holder's pid and start time lives here; means something on its own host and boot only.
    pub lives: bool,
    /// Whether the holder is this very process, and still writes.
    pub ours: bool,
    /// How long ago it gave a sign of life, by the store's clock; `None` if it left none, as one that stopped in order.
    pub silent: Option<Duration>,
}

/// Whether `holder` may be replaced by `me`.
///
/// # Errors
/// [`Held`], when it may not.
pub fn judge(archive: &str, holder: Option<&Writer>, me: &Writer, signs: Signs) -> Result<(), Held> {
    let Some(holder) = holder else { return Ok(()) };
    let held = |since| Err(Held { archive: archive.to_owned(), holder: Holder(holder.clone()), since });
    if holder == me {
        return if signs.ours { held("this very process".to_owned()) } else { Ok(()) };
    }
    if (&holder.host, &holder.boot) == (&me.host, &me.boot) {
        return if signs.lives { held(running_since(holder)) } else { Ok(()) };
    }
    match signs.silent {
        Some(silent) if silent < STALE => {
            let (age, stale) = (silent.as_secs(), STALE.as_secs());
            held(format!("its last heartbeat was {age} s ago; after {stale} s of silence it is taken for dead"))
        }
        _ => Ok(()),
    }
}

/// This process.
///
/// # Errors
/// When `/proc` can't be read.
pub fn this_process() -> io::Result<Writer> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let pid = std::process::id();
    let started = start_time(pid)?.ok_or_else(|| io::Error::other("this process is not in /proc"))?;
    // A pid means nothing in another container either, whose host may have the same name.
    let namespace = fs::read_link("/proc/self/ns/pid")?;
    let boot = format!("{} {}", read("/proc/sys/kernel/random/boot_id")?, namespace.display());
    Ok(Writer { host: read("/proc/sys/kernel/hostname")?, boot, pid, started })
}

/// Whether the writer's process lives; it must be of this host and boot.
#[must_use]
pub fn lives(writer: &Writer) -> bool {
    // What can't be read is taken for alive: a person then decides.
    start_time(writer.pid).map_or(true, |started| started == Some(writer.started))
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`); `None` if there is no such process,
/// or only its remains.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    parse_stat(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat}")))
}

/// The start time in a line of `/proc/<pid>/stat`; `Some(None)` of a zombie. The second field is a name in brackets that
/// may itself hold brackets and spaces.
fn parse_stat(stat: &str) -> Option<Option<u64>> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state != "Z" && state != "X").then_some(started))
}

fn running_since(writer: &Writer) -> String {
    let uptime = fs::read_to_string("/proc/uptime").ok().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    #[allow(clippy::cast_precision_loss)] // a text for people
    match uptime {
        Some(uptime) => format!("running for {:.0} s", (uptime - writer.started as f64 / TICKS_PER_SECOND).max(0.0)),
        None => "running".to_owned(),
    }
}

/// Says that this process writes `archive` as `generation`, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold(String, u64);

impl Hold {
    pub(super) fn new(archive: &str, generation: u64) -> Self {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).insert((archive.to_owned(), generation));
        Self(archive.to_owned(), generation)
    }

    /// Whether this process writes `archive` as `generation`.
    pub(super) fn exists(archive: &str, generation: u64) -> bool {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).contains(&(archive.to_owned(), generation))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(&(std::mem::take(&mut self.0), self.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(host: &str, boot: &str, pid: u32) -> Writer {
        Writer { host: host.to_owned(), boot: boot.to_owned(), pid, started: 7 }
    }

    fn allowed(holder: &Writer, lives: bool, ours: bool, silent_s: Option<u64>) -> bool {
        let signs = Signs { lives, ours, silent: silent_s.map(Duration::from_secs) };
        judge("a", Some(holder), &writer("here", "b1", 1), signs).is_ok()
    }

    #[test]
    fn a_process_of_this_host_is_judged_by_its_life_alone() {
        let holder = writer("here", "b1", 2);
        assert!(allowed(&holder, false, false, Some(0)), "killed: its heartbeat is fresh still");
        assert!(!allowed(&holder, true, false, Some(1_000)), "stopped by a signal: alive, though silent");
    }

    #[test]
    fn a_process_of_another_host_or_boot_is_judged_by_its_heartbeat() {
        for holder in [writer("there", "b1", 2), writer("here", "b0", 2)] {
            assert!(!allowed(&holder, true, false, Some(29)));
            assert!(!allowed(&holder, false, false, Some(29)));
            assert!(allowed(&holder, true, false, Some(30)));
            assert!(allowed(&holder, true, false, None), "it stopped in order");
        }
    }

    #[test]
    fn this_process_may_write_again_once_it_has_stopped() {
        let me = writer("here", "b1", 1);
        assert!(!allowed(&me, true, true, Some(0)));
        assert!(allowed(&me, true, false, Some(0)));
    }

    #[test]
    fn nobody_holds_a_new_archive() {
        let signs = Signs { lives: true, ours: true, silent: Some(Duration::ZERO) };
        assert!(judge("a", None, &writer("here", "b1", 1), signs).is_ok());
    }

    #[test]
    fn the_refusal_says_who_and_what_to_do() {
        let signs = Signs { lives: false, ours: false, silent: Some(Duration::from_secs(3)) };
        let held = judge("file:///a", Some(&writer("there", "b", 42)), &writer("here", "b1", 1), signs).expect_err("it is held");
        let text = held.to_string();
        for part in ["file:///a", "process 42 on there", "3 s ago", "--take-over"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn start_times_are_read_whatever_the_process_is_called() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(parse_stat(&format!("12 (a) b (c) {tail}")), Some(Some(4711)));
        assert_eq!(parse_stat(&format!("12 (fink) {}", tail.replace('S', "Z"))), Some(None));
        assert_eq!(parse_stat("12 (fink) S 1"), None);
        let me = this_process().expect("this process is in /proc");
        assert!(lives(&me));
        assert!(!lives(&Writer { started: me.started + 1, ..me.clone() }), "the pid was used again");
        assert!(!lives(&Writer { pid: u32::MAX, ..me }));
    }
}
