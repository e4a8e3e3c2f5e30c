//! What a reader says of itself: how far it is, how fast, and what keeps it from going on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fink_dataflow::coverage::Intervals;
use fink_dataflow::message::Log;

use crate::lanes::Lane;

/// How a reader stands. A snapshot: cheap enough to take every second.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Who the source is, once known.
    pub source: Option<Arc<str>>,
    /// What it is doing.
    pub state: ReaderState,
    /// What each lane tries again for.
    pub troubles: BTreeMap<Lane, String>,
    /// Its logs.
    pub logs: BTreeMap<Arc<Log>, LogProgress>,
    /// How far each log reached when the run first saw it at the start; `None` until then.
    pub goals: Option<Vec<(Log, i64)>>,
    /// Whether all that the logs held at the start has been sent on.
    pub caught_up: bool,
    /// Messages sent on since the start.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Progress {
    /// Messages not sent on yet, over all logs; offsets that hold none count too.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.logs.values().map(LogProgress::lag).sum()
    }

    /// Of these, what the live lane (or the only one) is behind.
    #[must_use]
    pub fn live_lag(&self) -> i64 {
        self.logs.values().map(LogProgress::live_lag).sum()
    }

    /// Messages a second, over all logs.
    #[must_use]
    pub fn messages_per_s(&self) -> f64 {
        self.logs.values().map(|log| log.messages_per_s).sum()
    }
}

/// What a reader is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ReaderState {
    /// Looking at the source and the ledger.
    #[default]
    Starting,
    /// Reading.
    Reading,
    /// Can't reach the source, for this reason, and tries again.
    Retrying(String),
    /// Gave up, for this reason: a person must change something.
    Stopped(String),
    /// Told to stop, and did.
    Ended,
}

/// How one log stands.
#[derive(Clone, Debug, Default)]
pub struct LogProgress {
    /// The offset that is sent on next; with two lanes, by the live one.
    pub position: i64,
    /// Offsets that the backlog lane has yet to send on; 0 where there is one lane.
    pub backlog: i64,
    /// The first offset that the source holds.
    pub low: i64,
    /// The offset after its last.
    pub high: i64,
    /// Messages sent on since the start.
    pub messages: u64,
    /// Messages a second, smoothed over some seconds.
    pub messages_per_s: f64,
    /// Bytes a second, smoothed likewise.
    pub bytes_per_s: f64,
    /// Why reading of it waits.
    pub waits: Option<String>,
    /// Offsets that the source held no more when they should have been read.
    pub holes: Intervals,
    pub(crate) recent: (u64, u64),
}

impl LogProgress {
    /// Offsets not sent on yet.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.live_lag() + self.backlog
    }

    /// Of these, those at the end, which the live lane (or the only one) is to read.
    #[must_use]
    pub fn live_lag(&self) -> i64 {
        (self.high - self.position).max(0)
    }
}

impl Progress {
    pub(crate) fn sent(&mut self, lane: Lane, log: &Arc<Log>, span: &Range<i64>, (messages, bytes): (u64, u64)) {
        let entry = self.logs.entry(log.clone()).or_default();
        if lane == Lane::Live {
            entry.position = entry.position.max(span.end);
        }
        entry.high = entry.high.max(span.end);
        entry.messages += messages;
        entry.recent.0 += messages;
        entry.recent.1 += bytes;
        self.messages += messages;
        self.bytes += bytes;
    }

    /// Notes what a lane tries again for, or that it goes on.
    pub(crate) fn trouble(&mut self, lane: Lane, reason: Option<String>) {
        match reason {
            Some(reason) => self.troubles.insert(lane, reason),
            None => self.troubles.remove(&lane),
        };
        if matches!(self.state, ReaderState::Starting | ReaderState::Reading | ReaderState::Retrying(_)) {
            self.state = match self.troubles.values().next() {
                Some(reason) => ReaderState::Retrying(reason.clone()),
                None => ReaderState::Reading,
            };
        }
    }

    /// Takes the counts since the last call, `elapsed_s` ago, into the rates.
    pub(crate) fn measure(&mut self, elapsed_s: f64) {
        // Half of a rate is that of the last two seconds or so.
        let weight = (elapsed_s / 2.0).min(1.0);
        for log in self.logs.values_mut() {
            let (messages, bytes) = std::mem::take(&mut log.recent);
            log.messages_per_s += weight * (messages as f64 / elapsed_s - log.messages_per_s);
            log.bytes_per_s += weight * (bytes as f64 / elapsed_s - log.bytes_per_s);
        }
    }
}
