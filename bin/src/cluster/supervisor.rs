//! The supervisor: starts processes of a cluster on this machine, and all of them again when one dies or is silent.
//!
//! It is the program itself, and reads no alert. A process that ends in order, or with an error that only a person can mend
//! (exit code 1), is not started again: then all end. After any other end, and after a silence, all are killed and started
//! again, at once the first time, later after a pause that doubles while they do not come to run.

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::pulse::{Heard, SUPERVISED, listen};
use crate::process::Process;
use crate::signals;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// The pause before a new start: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long those have who lost another before they are killed.
const SETTLES: Duration = Duration::from_millis(300);
/// How long processes have to end of themselves when one has ended with an error.
const GRACE: Duration = Duration::from_secs(10);

/// What is to be supervised.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The processes of this machine.
    pub processes: Vec<usize>,
    /// Where each process of the cluster listens; `None`: so many on this machine, at ports that are free.
    pub hosts: Hosts,
    /// What each is started with, beside its place.
    pub arguments: Vec<OsString>,
    /// What only the first start gets.
    pub once: Vec<OsString>,
    /// How long a process may say nothing.
    pub silence: Duration,
}

/// Where the processes listen.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// At free ports of this machine, new ones at each start.
    Here(usize),
    /// At these addresses.
    Given(Vec<String>),
}

impl Hosts {
    fn addresses(&self) -> std::io::Result<Vec<String>> {
        match self {
            Self::Given(addresses) => Ok(addresses.clone()),
            Self::Here(count) => {
                // Held together, so that no port comes twice. Should somebody else take one before its process does, that one
                // says so, and all begin again with others.
                let held: Vec<TcpListener> = (0..*count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
                held.iter().map(|listener| listener.local_addr().map(|address| address.to_string())).collect()
            }
        }
    }
}

/// A process that was started.
struct Running {
    process: usize,
    child: Child,
    heard: Arc<Mutex<Heard>>,
}

impl Running {
    fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a start went.
#[derive(Debug)]
enum Ended {
    /// All ended in order.
    InOrder,
    /// One ended with an error that a person must mend; the code to end with.
    Told(u8),
    /// This happened: all are to be started again. Whether they had come to run.
    Again { why: String, ran: bool },
}

/// Runs processes until they end in order, or can't go on.
///
/// # Errors
/// When none can be started.
pub fn supervise(plan: &Plan) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    signals::watch(stop.clone()).context("can't catch signals")?;
    let mut pause = PAUSE.0;
    let mut first = true;
    loop {
        let running = start(plan, first).context("no process can be started")?;
        first = false;
        let began = Instant::now();
        match attend(running, plan, &stop) {
            Ended::InOrder => return Ok(ExitCode::SUCCESS),
            Ended::Told(code) => return Ok(ExitCode::from(code)),
            Ended::Again { why, .. } if stop.load(Ordering::Relaxed) => {
                tracing::warn!("while all stopped: {why}; what is not committed yet is read again at the next start");
                return Ok(ExitCode::FAILURE);
            }
            Ended::Again { why, ran } => {
                pause = if ran { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
                let after = began.elapsed().as_secs();
                tracing::warn!(
                    "after {after} s: {why}. All processes of this machine were ended; they are started again in {pause:?}, and go on from what is durable"
                );
            }
        }
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if stop.load(Ordering::Relaxed) {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn start(plan: &Plan, first: bool) -> std::io::Result<Vec<Running>> {
    let addresses = plan.hosts.addresses()?;
    let program = std::env::current_exe()?;
    let mut all: Vec<Running> = Vec::new();
    for &process in &plan.processes {
        let (pipe, signs) = std::io::pipe()?;
        let mut command = Command::new(&program);
        command.args(&plan.arguments).args(if first { plan.once.as_slice() } else { &[] });
        command.args(["--mesh", &addresses.join(","), "--process", &process.to_string()]);
        command.env(SUPERVISED, process.to_string()).stdin(Stdio::from(signs));
        let started = command.spawn().and_then(|child| Ok((child, listen(pipe)?)));
        match started {
            Ok((child, heard)) => all.push(Running { process, child, heard }),
            Err(error) => {
                all.iter_mut().for_each(kill);
                return Err(error);
            }
        }
    }
    let pids: Vec<_> = all.iter().map(|running| running.child.id()).collect();
    tracing::info!(processes = ?plan.processes, ?pids, of = addresses.len(), "started");
    Ok(all)
}

/// Watches processes until all have ended.
fn attend(mut all: Vec<Running>, plan: &Plan, stop: &AtomicBool) -> Ended {
    let began = Instant::now();
    let (mut asked, mut ran) = (false, false);
    let mut ended: Vec<ExitStatus> = Vec::new();
    loop {
        if stop.load(Ordering::Relaxed) && !asked {
            asked = true;
            all.iter().for_each(terminate);
        }
        if !ran && ended.is_empty() && all.iter().all(|running| running.heard().runs) {
            ran = true;
            tracing::info!(after_s = began.elapsed().as_secs_f64(), "all processes run");
        }
        let mut why = None;
        let mut index = 0;
        while index < all.len() {
            let Running { process, child, .. } = &mut all[index];
            match child.try_wait() {
                Ok(Some(status)) if status.success() => {
                    all.swap_remove(index);
                    ended.push(status);
                    continue;
                }
                Ok(Some(status)) if status.code() == Some(1) => {
                    tracing::error!("process {process} has ended with the error above: a person must mend it, and all end");
                    end_with(all);
                    return Ended::Told(1);
                }
                Ok(Some(status)) => why = Some(format!("process {process} (pid {}) has ended by itself ({status})", child.id())),
                Ok(None) => {}
                Err(error) => why = Some(format!("process {process} (pid {}) can't be watched: {error}", child.id())),
            }
            let silent = all[index].heard().at.elapsed();
            if why.is_none() && silent >= plan.silence {
                let Running { process, child, .. } = &all[index];
                why = Some(format!("process {process} (pid {}) has given no sign of life for {} s", child.id(), silent.as_secs()));
            }
            if why.is_some() {
                break;
            }
            index += 1;
        }
        if let Some(why) = why {
            // Who was lost may be about to end with an error that a person must mend: that one counts.
            if settle(&mut all) {
                end_with(all);
                return Ended::Told(1);
            }
            all.iter_mut().for_each(kill);
            return Ended::Again { why, ran };
        }
        if all.is_empty() {
            return Ended::InOrder;
        }
        std::thread::sleep(LOOK);
    }
}

/// Lets those who have lost another end, for a moment; whether one of them did with an error that a person must mend.
fn settle(all: &mut [Running]) -> bool {
    let until = Instant::now() + SETTLES;
    loop {
        let ended: Vec<_> = all.iter_mut().map(|running| running.child.try_wait().ok().flatten()).collect();
        if ended.iter().flatten().any(|status| status.code() == Some(1)) {
            return true;
        }
        if ended.iter().all(Option::is_some) || Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK / 5);
    }
}

/// One has ended with an error: the others have lost it, and end too.
fn end_with(mut all: Vec<Running>) {
    let until = Instant::now() + GRACE;
    all.iter().for_each(terminate);
    while Instant::now() < until && all.iter_mut().any(|running| matches!(running.child.try_wait(), Ok(None))) {
        std::thread::sleep(LOOK);
    }
    all.iter_mut().for_each(kill);
}

fn terminate(running: &Running) {
    let result = Process::of(running.child.id()).map_or(Ok(false), |process| process.terminate());
    if let Err(error) = result {
        tracing::warn!(process = running.process, %error, "can't be asked to stop");
    }
}

/// Ends a process at once, also one that is stopped.
fn kill(running: &mut Running) {
    // It may have ended by itself.
    let _ = running.child.kill();
    let _ = running.child.wait();
}
