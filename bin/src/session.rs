//! A running service as its people see it: asked to stop by signals, and reporting what it does.
//!
//! The graph polls [`Session::stopping`], and hands its figures to [`Session::report`] about once a second; the status
//! file that `fink show` reads and the progress line are made of them here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cluster::crew::Member;
use crate::progress::{Deed, Progress};
use crate::rundir::{RunDir, Seat, StatusFile};
use crate::services::desk::Stand;
use crate::signals;
use crate::standing::Standing;

/// What a running service has done so far, and what is before it. Counts are since the process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages that are durable.
    pub messages: u64,
    /// Of these, archived.
    pub archived: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Of these, empty.
    pub empty: u64,
    /// Bytes of their keys and payloads.
    pub bytes: u64,
    /// Offsets that the logs hold and that are not durable yet; `None` while the source is not known.
    pub lag: Option<u64>,
    /// Of these, those that were there at the start: what `--until-caught-up` waits for.
    pub backlog: Option<u64>,
    /// Entries put.
    pub commits: u64,
    /// The last entry's number.
    pub entry: Option<u64>,
    /// When the last entry was put, in milliseconds since 1970 UTC.
    pub last_commit_ms: Option<i64>,
    /// The durable frontier, such as `0.17`.
    pub frontier: String,
    /// Bytes of messages in flight.
    pub in_flight_bytes: u64,
    /// What keeps it from going on, if anything does (`kafka: 127.0.0.1:9092 does not answer`).
    pub trouble: Option<String>,
    /// How far every part is.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// How far the services' answers are, if any run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Stand>,
    /// All processes of the cluster, as the leading one knows them: then the figures above are of all, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// What a process of services is called that follow an archive.
pub const FOLLOWERS: &str = "services";

/// A running service.
pub struct Session {
    stop: Arc<AtomicBool>,
    reporter: Option<Mutex<Reporter>>,
}

impl Session {
    /// A session that nothing but `stop` ends, and that reports nowhere: for tests and libraries.
    #[must_use]
    pub fn quiet(stop: Arc<AtomicBool>) -> Self {
        Self { stop, reporter: None }
    }

    /// The session of this process: signals end it, `fink show` sees it, and so do people on standard error.
    ///
    /// # Errors
    /// When signals can't be caught. (Without a status file it goes on, and says so.)
    pub fn start(run_dir: &RunDir, service: &str, input: &str, output: &str) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        signals::watch(stop.clone())?;
        crate::crashes::watch(run_dir, service, output);
        let file = run_dir
            .enter(service, input, output)
            .inspect_err(
                |error| tracing::warn!(folder = %run_dir.folder().display(), %error, "`fink show` will not see this: no status file"),
            )
            .ok();
        let reporter = Reporter {
            file,
            progress: Some(Progress::start(match service {
                "simulator" => Deed::Send,
                FOLLOWERS | "replay" => Deed::Follow,
                _ => Deed::Archive,
            })),
            recent: VecDeque::new(),
        };
        Ok(Self { stop, reporter: Some(Mutex::new(reporter)) })
    }

    /// Asks the run to stop, as a signal does.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The flag that a stop sets.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Tells which process of a cluster this is. Only the leading one speaks for all on the terminal.
    pub fn sit(&self, seat: Seat) {
        if let Some(reporter) = &self.reporter {
            let mut reporter = reporter.lock().unwrap_or_else(PoisonError::into_inner);
            if seat.process > 0 {
                reporter.progress = None;
            }
            if let Some(file) = &mut reporter.file {
                file.status.seat = Some(seat);
            }
        }
    }

    /// Whether the run was asked to stop (SIGTERM, Ctrl-C): it finishes what is open, and ends.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells what this process is called.
    pub fn call(&self, name: &str) {
        if let Some(reporter) = &self.reporter
            && let Some(file) = &mut reporter.lock().unwrap_or_else(PoisonError::into_inner).file
        {
            file.status.name = Some(name.to_owned());
        }
    }

    /// Tells where the web server listens, and which services answer there.
    pub fn serve(&self, address: SocketAddr, services: &[String]) {
        if let Some(reporter) = &self.reporter
            && let Some(file) = &mut reporter.lock().unwrap_or_else(PoisonError::into_inner).file
        {
            (file.status.http, file.status.services) = (Some(address.to_string()), services.to_vec());
        }
    }

    /// Tells people what the run does; to be called about once a second.
    pub fn report(&self, figures: &Figures) {
        if let Some(reporter) = &self.reporter {
            reporter.lock().unwrap_or_else(PoisonError::into_inner).report(figures, self.stopping());
        }
    }
}

/// Over how long rates are taken.
const RATES_OVER: Duration = Duration::from_secs(10);

struct Reporter {
    file: Option<StatusFile>,
    progress: Option<Progress>,
    /// Messages and bytes of the last seconds.
    recent: VecDeque<(Instant, u64, u64)>,
}

impl Reporter {
    fn report(&mut self, figures: &Figures, stopping: bool) {
        let now = Instant::now();
        self.recent.push_back((now, figures.messages, figures.bytes));
        while self.recent.len() > 2 && now - self.recent[1].0 >= RATES_OVER {
            self.recent.pop_front();
        }
        let (then, messages, bytes) = self.recent[0];
        let seconds = (now - then).as_secs_f64().max(0.001);
        let rate = |new: u64, old: u64| if self.recent.len() > 1 { new.saturating_sub(old) as f64 / seconds } else { 0.0 };
        let (messages_per_s, bytes_per_s) = (rate(figures.messages, messages), rate(figures.bytes, bytes));
        self.progress.iter_mut().for_each(|progress| progress.show(figures, messages_per_s, bytes_per_s));
        if let Some(file) = &mut self.file {
            let status = &mut file.status;
            status.figures.clone_from(figures);
            (status.messages_per_s, status.bytes_per_s, status.stopping) = (messages_per_s, bytes_per_s, stopping);
            if let Err(error) = file.update() {
                tracing::debug!(%error, "can't write the status file");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_to_the_status_file() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::at(folder.path());
        let file = run_dir.enter("archive", "in", "out").ok();
        let stop = Arc::new(AtomicBool::new(false));
        let reporter = Some(Mutex::new(Reporter { file, progress: Some(Progress::start(Deed::Archive)), recent: VecDeque::new() }));
        let session = Session { stop: stop.clone(), reporter };
        session.report(&Figures::default());
        stop.store(true, Ordering::Relaxed);
        let figures = Figures { messages: 12, archived: 12, lag: Some(3), ..Figures::default() };
        session.report(&figures);
        let status = run_dir.running().remove(0);
        assert_eq!(status.figures, figures);
        assert!(status.stopping && status.messages_per_s > 0.0);
    }
}
