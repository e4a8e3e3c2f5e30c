//! How many alerts came in and were answered for, and how long that took: the services' own watch.
//!
//! An alert is answered for when the Moment at which it came is closed on all workers: from then on who asks is told of it.
//! `batch` is the time from when fink's source took its message to then; `end_to_end` that from the message's own timestamp,
//! which Kafka sets when it is produced or, where the topic is so configured, appended. Only live alerts are watched: late ones are
//! as old as they are. Taken over the last minute; of a Moment that has more, the first few thousand alerts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::Moment;
use fink_dataflow::alerts::Decoded;
use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;

/// Over how long it is looked.
const OVER: Duration = Duration::from_secs(60);
/// Over how long rates are taken.
const RATES_OVER: Duration = Duration::from_secs(10);
/// Alerts of a Moment that are timed, at most.
const TIMED_MAX: usize = 4_096;
/// Timed alerts that are remembered, at most.
const REMEMBERED_MAX: usize = 1 << 16;

/// What the services' watch says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Live alerts that came in since the start.
    pub alerts_in: u64,
    /// Of these, those that answers know.
    pub alerts_answered: u64,
    /// Alerts a second that came in, over the last ten.
    pub in_per_s: f64,
    /// Alerts a second that became known.
    pub answered_per_s: f64,
    /// From the source's taking a message to its answer, over the last minute.
    pub batch: Option<Latency>,
    /// From the message's timestamp to its answer.
    pub end_to_end: Option<Latency>,
    /// The latest time of observation of live alerts that answers know, in milliseconds since 1970 UTC; older ones may follow.
    #[serde(default)]
    pub observed_until_ms: Option<i64>,
}

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them took no longer, in milliseconds.
    pub median_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// None took longer.
    pub max_ms: f64,
}

impl Latency {
    fn of(mut all_ms: Vec<f64>) -> Option<Self> {
        all_ms.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| all_ms.get((all_ms.len() * part).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { median_ms: at(50)?, p99_ms: at(99)?, max_ms: at(100)? })
    }
}

/// When an alert was sent and taken, in microseconds since 1970 UTC.
type Times = (Option<i64>, i64);

#[derive(Default)]
struct Open {
    alerts: u64,
    timed: Vec<Times>,
    observed_ms: Option<i64>,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<Moment, Open>,
    alerts_in: u64,
    alerts_answered: u64,
    observed_ms: Option<i64>,
    /// When alerts were answered for, and after how long: end to end, and batch, in milliseconds.
    took: VecDeque<(Instant, Option<f64>, f64)>,
    counts: VecDeque<(Instant, u64, u64)>,
}

/// The watch. Clones are the same.
#[derive(Clone, Default)]
pub struct Watch {
    inner: Arc<Mutex<Inner>>,
}

impl Watch {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Live alerts came in at a Moment.
    pub fn came(&self, moment: Moment, decoded: &[Decoded]) {
        let mut inner = self.inner();
        let places = || decoded.iter().flat_map(|each| &each.alerts).flat_map(|batch| &batch.places);
        let alerts = places().count() as u64;
        inner.alerts_in += alerts;
        let open = inner.open.entry(moment).or_default();
        open.alerts += alerts;
        open.observed_ms = open.observed_ms.max(decoded.iter().flat_map(|each| &each.alerts).filter_map(|batch| batch.observed_ms).max());
        let room = TIMED_MAX.saturating_sub(open.timed.len());
        open.timed.extend(places().take(room).map(|place| (place.timestamp_ms.map(|ms| ms * 1_000), place.received_us)));
    }

    /// All workers have closed this Moment.
    pub fn closed(&self, floor: Moment, now_us: i64) {
        let (mut inner, now) = (self.inner(), Instant::now());
        let Inner { open, alerts_answered, observed_ms, took, .. } = &mut *inner;
        let ms = |then_us: i64| (now_us - then_us) as f64 / 1e3;
        open.retain(|moment, open| {
            let closed = moment.less_equal(&floor);
            if closed {
                *alerts_answered += open.alerts;
                *observed_ms = (*observed_ms).max(open.observed_ms);
                took.extend(open.timed.drain(..).map(|(sent, taken)| (now, sent.map(ms), ms(taken))));
            }
            !closed
        });
        while took.len() > REMEMBERED_MAX || took.front().is_some_and(|(at, ..)| now - *at > OVER) {
            took.pop_front();
        }
    }

    /// What it says now; to be asked about once a second.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let (mut inner, now) = (self.inner(), Instant::now());
        let Inner { alerts_in, alerts_answered, observed_ms, took, counts, .. } = &mut *inner;
        counts.push_back((now, *alerts_in, *alerts_answered));
        while counts.len() > 2 && now - counts[1].0 >= RATES_OVER {
            counts.pop_front();
        }
        let (then, came, answered) = counts[0];
        let seconds = (now - then).as_secs_f64().max(1e-3);
        let per_s = |new: u64, old: u64| if counts.len() > 1 { (new - old) as f64 / seconds } else { 0.0 };
        let recent = || took.iter().filter(|(at, ..)| now - *at <= OVER);
        Pace {
            alerts_in: *alerts_in,
            alerts_answered: *alerts_answered,
            in_per_s: per_s(*alerts_in, came),
            answered_per_s: per_s(*alerts_answered, answered),
            batch: Latency::of(recent().map(|(.., batch)| *batch).collect()),
            end_to_end: Latency::of(recent().filter_map(|(_, end_to_end, _)| *end_to_end).collect()),
            observed_until_ms: *observed_ms,
        }
    }
}

impl Pace {
    /// The same for a person; nothing where nothing came.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let batch = self.batch.as_ref()?;
        let mut line = format!("{:.1} alerts a second come in, {:.1} are answered for: ", self.in_per_s, self.answered_per_s);
        if let Some(Latency { median_ms, p99_ms, .. }) = &self.end_to_end {
            line += &format!("{median_ms:.0} ms (p99 {p99_ms:.0} ms) after they were sent, ");
        }
        Some(line + &format!("{:.0} ms (p99 {:.0} ms) after they were taken", batch.median_ms, batch.p99_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_answered_for_when_its_moment_is_closed() {
        let watch = Watch::default();
        let open = |alerts, timed| Open { alerts, timed, observed_ms: Some(alerts.cast_signed() * 1_000) };
        watch.inner().alerts_in = 5;
        watch.inner().open.insert(Moment::new(0, 7), open(2, vec![(Some(1_000_000), 1_400_000), (None, 1_500_000)]));
        watch.inner().open.insert(Moment::new(0, 8), open(3, vec![(Some(1_900_000), 1_900_000)]));
        watch.closed(Moment::new(1, 7), 2_000_000);
        let pace = watch.pace();
        assert_eq!((pace.alerts_in, pace.alerts_answered, pace.observed_until_ms), (5, 2, Some(2_000)));
        assert_eq!(pace.end_to_end, Some(Latency { median_ms: 1_000.0, p99_ms: 1_000.0, max_ms: 1_000.0 }));
        assert_eq!(pace.batch, Some(Latency { median_ms: 500.0, p99_ms: 600.0, max_ms: 600.0 }));
        watch.closed(Moment::new(1, 8), 3_000_000);
        let pace = watch.pace();
        assert_eq!((pace.alerts_answered, pace.observed_until_ms), (5, Some(3_000)));
        assert_eq!(pace.end_to_end.map(|latency| latency.max_ms), Some(1_100.0));
        assert_eq!(Latency::of(Vec::new()), None);
        assert_eq!(Watch::default().pace().line(), None);
    }
}
