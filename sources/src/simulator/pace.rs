//! When each alert of a stream is due.

use std::time::Duration;

use super::config::Rate;

/// How fast to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// As fast as Kafka takes them; where an order of time matters (what is delayed), as if at this rate.
    Fast(Rate),
    /// Evenly.
    Rate(Rate),
    /// In visits: so many alerts, in bursts, then nothing until the next visit.
    Visits(Visits),
    /// At the times of the sky's own visits: the pause after each visit, in order.
    Sky {
        /// Alerts of a visit.
        alerts: u64,
        /// When each visit's alerts come, after the first's. The last pause is repeated for ever.
        begins: Vec<Duration>,
    },
}

/// The shape of visits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visits {
    /// Alerts of a visit.
    pub alerts: u64,
    /// From one visit's first alert to the next's.
    pub every: Duration,
    /// From a visit's first burst to the end of its last.
    pub within: Duration,
    /// In how many bursts a visit's alerts come (a CCD's each).
    pub bursts: u64,
}

impl Visits {
    /// Rubin's shape: 10,000 alerts every 37 s, within 3 s, in 189 bursts, one for each CCD.
    pub const RUBIN: Self = Self { alerts: 10_000, every: Duration::from_secs(37), within: Duration::from_secs(3), bursts: 189 };

    /// So many alerts at once, so often.
    #[must_use]
    pub fn at_once(alerts: u64, every: Duration) -> Self {
        Self { alerts, every, within: Duration::ZERO, bursts: 1 }
    }
}

impl Pace {
    /// How long after the first message the one of this index is due.
    #[must_use]
    pub fn due(&self, index: u64) -> Duration {
        match self {
            Self::Fast(rate) | Self::Rate(rate) => Duration::from_millis(rate.due_ms(index as i64).unsigned_abs()),
            Self::Visits(visits) => {
                let alerts = visits.alerts.max(1);
                let burst = index % alerts * visits.bursts.max(1) / alerts;
                times(visits.every, index / alerts) + visits.within.mul_f64(burst as f64 / visits.bursts.max(1) as f64)
            }
            Self::Sky { alerts, begins } => {
                let (visit, last) = (index / (*alerts).max(1), begins.len().saturating_sub(1) as u64);
                match begins.get(visit as usize) {
                    Some(begin) => *begin,
                    None => {
                        let at = |index: u64| begins.get(index as usize).copied().unwrap_or_default();
                        at(last) + times(at(last).saturating_sub(at(last.saturating_sub(1))), visit - last)
                    }
                }
            }
        }
    }

    /// Whether to wait until a message is due.
    #[must_use]
    pub fn waits(&self) -> bool {
        !matches!(self, Self::Fast(_))
    }
}

fn times(every: Duration, count: u64) -> Duration {
    every.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_tell_when_each_message_is_due() {
        let due = |pace: &Pace, index| pace.due(index).as_millis();
        let rate = Rate::per_second(4.0).unwrap();
        assert_eq!(due(&Pace::Rate(rate), 9), 2250);
        assert!(Pace::Rate(rate).waits() && !Pace::Fast(rate).waits());
        let visits = Pace::Visits(Visits::at_once(3, Duration::from_secs(5)));
        assert_eq!([0, 2, 3, 5, 6].map(|index| due(&visits, index)), [0, 0, 5000, 5000, 10_000]);
        let seconds = |seconds: &[u64]| seconds.iter().map(|at| Duration::from_secs(*at)).collect();
        let sky = Pace::Sky { alerts: 2, begins: seconds(&[0, 40, 90]) };
        assert_eq!([0, 1, 2, 4, 5, 6, 8].map(|index| due(&sky, index) / 1000), [0, 0, 40, 90, 90, 140, 190]);
    }

    #[test]
    fn rubin_s_visits_come_in_189_bursts_within_three_seconds() {
        let pace = Pace::Visits(Visits::RUBIN);
        let visit: Vec<Duration> = (0..10_000).map(|index| pace.due(index)).collect();
        assert!(visit.is_sorted());
        assert_eq!(visit.chunk_by(|a, b| a == b).count(), 189);
        assert!(visit[9_999] < Duration::from_secs(3) && visit[9_999] > Duration::from_millis(2_900));
        assert_eq!(pace.due(10_000), Duration::from_secs(37));
    }
}
