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
    /// When the logs' ends were last asked for, in milliseconds since 1970 UTC.
    pub looked_ms: Option<i64>,
    /// How far each log of the start reached when the run first saw it; `None` until then.
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
    /// Where the live lane (or the only one) began.
    pub begun: i64,
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
    /// When messages were sent to the source that were sent on since the start.
    pub trail: Trail,
    pub(crate) recent: (u64, u64),
}

/// Times of some of a log's messages, at most one a second.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The offset after a message, and its time in milliseconds since 1970 UTC.
    times: BTreeMap<i64, i64>,
}

impl Trail {
    /// How many times are kept; beyond, those of the lowest offsets are forgotten.
    const KEPT: usize = 1_024;

    /// Notes the time of the message before `end`.
    pub(crate) fn note(&mut self, end: i64, time_ms: i64) {
        // A message of the same second as the one before it tells nothing new, but for where that second ends.
        let before = self.times.range(..end).next_back().map(|(end, time)| (*end, *time));
        if let Some((known, time)) = before
            && time / 1_000 == time_ms / 1_000
        {
            self.times.remove(&known);
        }
        self.times.insert(end, time_ms);
        if self.times.len() > Self::KEPT {
            self.times.pop_first();
        }
    }

    /// The time of the last message noted below `offset`.
    #[must_use]
    pub fn before(&self, offset: i64) -> Option<i64> {
        self.times.range(..=offset).next_back().map(|(_, time)| *time)
    }
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
    pub(crate) fn sent(&mut self, lane: Lane, log: &Arc<Log>, span: &Range<i64>, (messages, bytes): (u64, u64), time_ms: Option<i64>) {
        let entry = self.logs.entry(log.clone()).or_default();
        if lane == Lane::Live {
            entry.position = entry.position.max(span.end);
        }
        entry.high = entry.high.max(span.end);
        if let Some(time_ms) = time_ms {
            entry.trail.note(span.end, time_ms);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_tells_the_time_of_what_lies_below_an_offset() {
        let mut trail = Trail::default();
        for (end, time_ms) in [(10, 1_000), (20, 1_500), (30, 2_500), (25, 2_400)] {
            trail.note(end, time_ms);
        }
        assert_eq!([5, 19, 20, 27, 99].map(|offset| trail.before(offset)), [None, None, Some(1_500), Some(2_400), Some(2_500)]);
        (0..5_000).for_each(|second| trail.note(100 + second, 10_000 + second * 1_000));
        assert_eq!((trail.times.len(), trail.before(5_000)), (Trail::KEPT, Some(4_910_000)));
    }
}
