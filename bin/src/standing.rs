//! How far every part of a running service is: each lane and each log as Moment, as offsets and as time, and in a line that a
//! person understands.
//!
//! A log's time is that of its source (Kafka's timestamp) at the first offset that is not archived; where nothing is missing,
//! the time at which the source was last asked how far the log reaches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fink_dataflow::table::entry::State;
use fink_sources::progress::{Progress, ReaderState};
use indicatif::{HumanCount, HumanDuration};
use serde::{Deserialize, Serialize};

use crate::gauges::{Frontiers, to_come};

/// Over how long it is looked how fast what is behind becomes less.
const TREND: Duration = Duration::from_secs(15);

/// How far everything is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Who the source is, once known.
    pub source: Option<String>,
    /// `starting`, `reading`, `retrying: …`, `stopped: …` or `ended`.
    pub reading: String,
    /// The lanes.
    pub lanes: Vec<LaneStanding>,
    /// The Moment of which all is durable, as `epoch.tick`.
    pub durable: String,
    /// All that the source had by then is archived, in milliseconds since 1970 UTC; `None`: not known, or nothing.
    pub archived_until_ms: Option<i64>,
    /// Offsets that the source no longer held when they should have been read.
    pub holes: u64,
    /// The logs.
    pub logs: Vec<LogStanding>,
}

/// How far a lane is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneStanding {
    /// `live` or `backlog`.
    pub lane: String,
    /// The Moment up to which the graph has its data, as `epoch.tick`.
    pub frontier: Option<String>,
    /// Offsets that are not durable yet.
    pub behind: u64,
    /// All of its logs are archived up to then, in milliseconds since 1970 UTC.
    pub archived_until_ms: Option<i64>,
    /// The latest time of observation of what it archived since the start, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub observed_until_ms: Option<i64>,
    /// When it will have caught up, in seconds, as it went lately; 0 where nothing is behind, `None` where it does not get nearer.
    pub caught_up_in_s: Option<f64>,
}

/// How far a log is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogStanding {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The topic's incarnation.
    pub incarnation: u32,
    /// The first offset that the source holds, and the one after its last.
    pub held: (i64, i64),
    /// The first offset that is not archived.
    pub archived_to: i64,
    /// All below that were sent by then, in milliseconds since 1970 UTC.
    pub archived_until_ms: Option<i64>,
    /// The offset that the live lane reads next.
    pub live: i64,
    /// Offsets that the backlog lane has yet to read.
    pub backlog: i64,
    /// Messages a second.
    pub messages_per_s: f64,
    /// Offsets lost, as half-open intervals.
    pub holes: Vec<(i64, i64)>,
    /// Why reading of it waits.
    pub waits: Option<String>,
}

/// How much was behind in the last seconds, lane by lane.
#[derive(Debug, Default)]
pub struct Trend {
    samples: VecDeque<(Instant, [u64; 2])>,
}

impl Trend {
    fn note(&mut self, now: Instant, behind: [u64; 2]) {
        self.samples.push_back((now, behind));
        while self.samples.len() > 2 && now - self.samples[1].0 >= TREND {
            self.samples.pop_front();
        }
    }

    /// When a lane's backlog will be gone, in seconds.
    fn gone_in_s(&self, lane: usize) -> Option<f64> {
        // Since it was most: at the start the source may not have been seen yet, and what is behind grows from nothing.
        let ((first, before), (last, now)) = (self.samples.iter().max_by_key(|(_, behind)| behind[lane])?, self.samples.back()?);
        if now[lane] == 0 {
            return Some(0.0);
        }
        let less = before[lane].checked_sub(now[lane]).filter(|less| *less > 0)?;
        Some(now[lane] as f64 * (*last - *first).as_secs_f64() / less as f64)
    }
}

impl Standing {
    /// Of what is durable, what was read, and how far the graph is.
    pub(crate) fn of(state: &State, progress: &Progress, frontiers: Frontiers, trend: &mut Trend) -> Self {
        let mut logs = Vec::new();
        let (mut behind, mut until, mut live_until) = ([0, 0], Least::default(), Least::default());
        let mut late = false;
        for (log, at) in &progress.logs {
            let Some(stored) = state.stored(log) else { continue };
            let missing = to_come(&stored, Some(at), at.high);
            for gap in &missing {
                behind[0] += (gap.end - gap.start.max(at.begun)).max(0).unsigned_abs();
                behind[1] += (gap.end.min(at.begun) - gap.start).max(0).unsigned_abs();
            }
            late |= at.backlog > 0;
            let archived_to = missing.first().map_or(at.high, |gap| gap.start);
            let archived_until_ms = if missing.is_empty() { progress.looked_ms } else { at.trail.before(archived_to) };
            until.note(archived_until_ms);
            live_until.note(match missing.iter().find(|gap| gap.end > at.begun).map(|gap| gap.start.max(at.begun)) {
                None => progress.looked_ms,
                // Nothing of it yet: what lies below the border is the backlog's.
                Some(first) if first == at.begun && behind[1] > 0 => None,
                Some(first) => at.trail.before(first),
            });
            logs.push(LogStanding {
                topic: log.topic.to_string(),
                partition: log.partition,
                incarnation: log.incarnation,
                held: (at.low, at.high),
                archived_to,
                archived_until_ms,
                live: at.position,
                backlog: at.backlog,
                messages_per_s: at.messages_per_s,
                holes: at.holes.clone().into(),
                waits: at.waits.clone(),
            });
        }
        trend.note(Instant::now(), behind);
        let lane = |index: usize, lane: &str, frontier: Option<String>, archived_until_ms| LaneStanding {
            lane: lane.to_owned(),
            frontier,
            behind: behind[index],
            archived_until_ms,
            observed_until_ms: None,
            caught_up_in_s: trend.gone_in_s(index),
        };
        let mut lanes = vec![lane(0, "live", Some(frontiers.live.to_string()), live_until.get())];
        if let Some(frontier) = frontiers.late.filter(|_| late || behind[1] > 0) {
            lanes.push(lane(1, "backlog", Some(frontier.to_string()), until.get()));
        }
        Self {
            source: progress.source.as_ref().map(ToString::to_string),
            reading: reading(&progress.state),
            lanes,
            durable: frontiers.durable.to_string(),
            archived_until_ms: until.get(),
            holes: progress.logs.values().map(|at| at.holes.len()).sum(),
            logs,
        }
    }

    /// With the latest times of observation, live and of a backlog.
    pub(crate) fn observed(mut self, until_ms: [Option<i64>; 2]) -> Self {
        self.lanes.iter_mut().zip(until_ms).for_each(|(lane, until)| lane.observed_until_ms = until);
        self
    }

    /// Adds how far another process of the cluster is, which reads other logs.
    pub(crate) fn add(&mut self, other: &Self) {
        for theirs in &other.lanes {
            match self.lanes.iter_mut().find(|lane| lane.lane == theirs.lane) {
                Some(lane) => {
                    lane.behind += theirs.behind;
                    lane.archived_until_ms = earlier(lane.archived_until_ms, theirs.archived_until_ms);
                    lane.observed_until_ms = lane.observed_until_ms.max(theirs.observed_until_ms);
                    // Caught up when the last is; unknown where one does not get nearer.
                    lane.caught_up_in_s = lane.caught_up_in_s.zip(theirs.caught_up_in_s).map(|(a, b)| a.max(b));
                }
                None => self.lanes.push(theirs.clone()),
            }
        }
        // A process without a log of its own holds up nobody.
        self.archived_until_ms = match (self.logs.is_empty(), other.logs.is_empty()) {
            (_, true) => self.archived_until_ms,
            (true, false) => other.archived_until_ms,
            (false, false) => earlier(self.archived_until_ms, other.archived_until_ms),
        };
        self.holes += other.holes;
        self.logs.extend(other.logs.iter().cloned());
        self.logs.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    }

    /// The same for a person, in a line or two.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let backlog = self.lanes.iter().find(|lane| lane.lane == "backlog" && lane.behind > 0);
        let live = self.lanes.first().and_then(|lane| lane.archived_until_ms).or(self.archived_until_ms);
        let observed = |lane: Option<&LaneStanding>| {
            let until = lane.and_then(|lane| lane.observed_until_ms).and_then(time);
            until.map_or(String::new(), |time| format!("; the last observed at {time}"))
        };
        let seen = observed(self.lanes.first());
        match (backlog, live.and_then(time)) {
            (None, Some(time)) => lines.push(format!("all alerts up to {time} are archived{seen}")),
            (Some(_), Some(time)) => lines.push(format!("live alerts up to {time} are archived{seen}")),
            (_, None) => {}
        }
        if let Some(backlog) = backlog {
            let when = match backlog.caught_up_in_s {
                Some(s) => format!("done in about {}", HumanDuration(Duration::try_from_secs_f64(s.max(1.0)).unwrap_or(Duration::MAX))),
                None => "not getting less".to_owned(),
            };
            let whole = self.archived_until_ms.and_then(time).map_or(String::new(), |time| format!("; without a gap up to {time}"));
            let seen = observed(Some(backlog));
            lines.push(format!("backlog: {} to come, {when}{whole}{seen}", HumanCount(backlog.behind)));
        }
        if self.holes > 0 {
            lines.push(format!("{} offsets were lost before they were read: fink hole list", HumanCount(self.holes)));
        }
        lines
    }
}

/// The earlier of two times, if both are known.
fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.zip(b).map(|(a, b)| a.min(b))
}

/// The least of some times; none where one of them is not known.
#[derive(Default)]
struct Least {
    least: Option<i64>,
    unknown: bool,
}

impl Least {
    fn note(&mut self, time: Option<i64>) {
        self.unknown |= time.is_none();
        self.least = self.least.into_iter().chain(time).min();
    }

    fn get(&self) -> Option<i64> {
        self.least.filter(|_| !self.unknown)
    }
}

fn reading(state: &ReaderState) -> String {
    match state {
        ReaderState::Starting => "starting".to_owned(),
        ReaderState::Reading => "reading".to_owned(),
        ReaderState::Retrying(why) => format!("retrying: {why}"),
        ReaderState::Stopped(why) => format!("stopped: {why}"),
        ReaderState::Ended => "ended".to_owned(),
    }
}

/// A time for a person.
pub(crate) fn time(ms: i64) -> Option<String> {
    Some(DateTime::<Utc>::from_timestamp_millis(ms)?.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fink_dataflow::table::entry::LogState;
    use fink_dataflow::{Log, Moment};
    use fink_sources::progress::LogProgress;

    use super::*;

    /// A log of 100 offsets of which live began at 80, with this covered.
    fn standing(covered: &[std::ops::Range<i64>], trend: &mut Trend) -> Standing {
        let log = Log::new("kafka:x", "ztf", 0, 3);
        let (mut state, mut progress) = (State::default(), Progress::default());
        state.logs.insert(log.clone(), LogState { origin: 0, ..LogState::default() });
        covered.iter().for_each(|span| {
            state.coverage.insert(&log, span.clone());
        });
        let mut at = LogProgress::default();
        (at.high, at.position, at.begun, at.backlog) = (100, 90, 80, 50);
        progress.logs.insert(Arc::new(log), at);
        progress.looked_ms = Some(1_700_000_000_000);
        let frontiers = Frontiers { live: Moment::new(0, 7), late: Some(Moment::new(1, 6)), durable: Moment::new(0, 5) };
        Standing::of(&state, &progress, frontiers, trend)
    }

    #[test]
    fn a_cluster_is_as_far_as_its_last_process() {
        let (mut trend, mut whole) = (Trend::default(), standing(&[0..30, 80..95], &mut Trend::default()));
        whole.add(&standing(&[0..100], &mut trend));
        assert_eq!((whole.lanes[0].behind, whole.lanes[1].behind, whole.logs.len()), (5, 50, 2));
        assert_eq!(whole.archived_until_ms, None, "of the first it is not known");
        whole.add(&standing(&[0..100], &mut trend).observed([Some(7), None]));
        assert_eq!(whole.lanes[0].observed_until_ms, Some(7), "the latest of them");
        let mut done = standing(&[0..100], &mut trend);
        done.add(&Standing::default());
        assert_eq!(done.archived_until_ms, Some(1_700_000_000_000), "one without logs holds up nobody");
        let mut none = Standing::default();
        none.add(&done);
        assert_eq!((none.archived_until_ms, none.lanes.len()), (Some(1_700_000_000_000), 2));
    }

    #[test]
    fn what_is_behind_is_told_apart_by_lane() {
        let mut trend = Trend::default();
        let both = standing(&[0..30, 80..95], &mut trend);
        assert_eq!(both.lanes.iter().map(|lane| (lane.lane.as_str(), lane.behind)).collect::<Vec<_>>(), [("live", 5), ("backlog", 50)]);
        assert_eq!((both.logs[0].archived_to, both.lanes[1].frontier.as_deref()), (30, Some("1.6")));
        let later = standing(&[0..50, 80..100], &mut trend);
        assert_eq!(later.lanes[0].caught_up_in_s, Some(0.0));
        assert!(later.lanes[1].caught_up_in_s.is_some(), "{later:?}");
        assert_eq!(later.lines()[0], "live alerts up to 2023-11-14 22:13:20 UTC are archived");
        assert!(later.lines()[1].starts_with("backlog: 30 to come, done in about "), "{:?}", later.lines());
        let done = standing(&[0..100], &mut trend);
        assert_eq!(done.lines(), ["all alerts up to 2023-11-14 22:13:20 UTC are archived"]);
        let seen = standing(&[0..100], &mut trend).observed([Some(1_699_990_000_000), None]);
        assert_eq!(seen.lines(), ["all alerts up to 2023-11-14 22:13:20 UTC are archived; the last observed at 2023-11-14 19:26:40 UTC"]);
        let stuck = standing(&[0..20], &mut Trend::default());
        assert!(stuck.lines()[0].starts_with("backlog: 60 to come, not getting less"), "{:?}", stuck.lines());
    }
}
