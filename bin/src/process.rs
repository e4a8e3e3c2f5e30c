//! Processes of this machine: which one a pid names, and how to end it.

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, told from a later one with the same pid.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Its start in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub started: u64,
    /// The kernel's boot id: after a reboot a pid means nothing.
    pub boot: String,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { pid, started: started(pid).unwrap_or_default(), boot: boot() }
    }

    /// The process that has this pid now; `None`: there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)?, boot: boot() })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == boot() && started(self.pid) == Some(self.started)
    }

    /// Sends SIGTERM. `false`: it has ended already, and nobody was sent anything.
    ///
    /// # Errors
    /// When this user may not.
    pub fn terminate(&self) -> std::io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        // The descriptor holds the process: what is checked after it was opened stays true of it.
        let held = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            other => other?,
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&held, Signal::TERM) {
            Err(rustix::io::Errno::SRCH) => Ok(false),
            other => other.map(|()| true).map_err(Into::into),
        }
    }

    /// Waits until it has ended, and calls `waiting` a few times a second. `false`: it runs on after `timeout`.
    pub fn wait(&self, timeout: Duration, mut waiting: impl FnMut()) -> bool {
        let start = std::time::Instant::now();
        while self.is_alive() {
            if start.elapsed() > timeout {
                return false;
            }
            waiting();
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

/// When a process started; `None` for one that has ended, whether or not its parent has taken note.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ended = ["Z", "X", "x"].contains(fields.first()?);
    if ended { None } else { fields.get(19)?.parse().ok() }
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_alive_and_its_pid_at_another_time_is_not() {
        let current = Process::current();
        assert!(current.started > 0 && current.is_alive());
        let earlier = Process { started: current.started - 1, ..current.clone() };
        assert!(!earlier.is_alive());
        assert!(!earlier.terminate().unwrap(), "nobody is sent a signal for a pid that was used again");
        assert!(!Process { boot: "another".to_owned(), ..current }.is_alive());
    }

    #[test]
    fn ends_a_child_by_its_pid() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process { pid: child.id(), started: started(child.id()).unwrap(), boot: boot() };
        assert!(!process.wait(Duration::ZERO, || ()));
        assert!(process.terminate().unwrap());
        // It ends though nobody has waited for it: a zombie does not run.
        assert!(process.wait(Duration::from_secs(60), || ()));
        assert!(!process.terminate().unwrap());
        assert!(!child.wait().unwrap().success());
    }
}
