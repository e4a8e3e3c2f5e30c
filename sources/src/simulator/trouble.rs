//! Trouble on request: what a stream does to its listeners on a bad night. Each trouble is a function of the seed and the
//! alert's index, and each is told in the truth.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::dice::Dice;
use super::pace::Pace;

const DELAY: u64 = 11;
const ORDER: u64 = 12;
const DUPLICATE: u64 = 13;
const GARBLE: u64 = 14;
/// Alerts out of order come at most so much later.
const DISORDER_S: f64 = 5.0;
/// A duplicate comes at most so much later than the first.
const AGAIN_S: f64 = 60.0;

/// Which trouble, and how much. Shares are of all alerts, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// The share that comes late.
    pub delayed: f64,
    /// How late: from, to; evenly in the logarithm.
    pub delay: (Duration, Duration),
    /// The share that is sent once more, within a minute.
    pub duplicated: f64,
    /// The share that comes up to 5 s after its turn.
    pub disordered: f64,
    /// The share in which some bytes are wrong.
    pub garbled: f64,
    /// The share that is cut short.
    pub truncated: f64,
    /// From this alert on, records have one field more.
    pub schema_change_at: Option<u64>,
    /// At this alert nothing is sent for so long, then all that was due.
    pub outage: Option<(u64, Duration)>,
    /// At the end, all is sent once more.
    pub resent: bool,
}

/// A sending of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// When, after the first.
    pub at: Duration,
    /// Which alert, from 0.
    pub index: u64,
    /// The how-manieth time.
    pub sending: Sending,
    /// How much later than it was due.
    pub late: Duration,
}

/// Which sending of an alert this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sending {
    /// The first.
    First,
    /// Once more, soon after.
    Duplicate,
    /// With all others, at the end.
    Resent,
}

impl Sending {
    /// As the truth says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Duplicate => "duplicate",
            Self::Resent => "resent",
        }
    }
}

/// What happened to a message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing.
    None,
    /// Some bytes are wrong.
    Garbled,
    /// It is cut short.
    Truncated,
}

impl Harm {
    /// As the truth says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Garbled => "garbled",
            Self::Truncated => "truncated",
        }
    }
}

impl Trouble {
    fn dice(seed: u64, what: u64, index: u64) -> Dice {
        Dice::new(&[seed, what, index])
    }

    /// How much later than due alert `index` is sent.
    fn late(&self, seed: u64, index: u64) -> Duration {
        let mut dice = Self::dice(seed, DELAY, index);
        if dice.within(0.0, 1.0) < self.delayed {
            let [from, to] = [self.delay.0, self.delay.1].map(|bound| libm::log(bound.as_secs_f64().max(1e-3)));
            return Duration::from_secs_f64(libm::exp(dice.within(from, to.max(from))));
        }
        let mut dice = Self::dice(seed, ORDER, index);
        if dice.within(0.0, 1.0) < self.disordered { Duration::from_secs_f64(dice.within(0.0, DISORDER_S)) } else { Duration::ZERO }
    }

    /// How much later than the first alert `index` is sent again, if it is.
    fn again(&self, seed: u64, index: u64) -> Option<Duration> {
        let mut dice = Self::dice(seed, DUPLICATE, index);
        (dice.within(0.0, 1.0) < self.duplicated).then(|| Duration::from_secs_f64(dice.within(0.0, AGAIN_S)))
    }

    /// Harms the bytes of a message, where that is its fate. Only first sendings are harmed.
    pub fn harm(&self, seed: u64, event: &Event, message: &mut Vec<u8>) -> Harm {
        let mut dice = Self::dice(seed, GARBLE, event.index);
        let fate = dice.within(0.0, 1.0);
        if event.sending != Sending::First || message.is_empty() || fate >= self.garbled + self.truncated {
            return Harm::None;
        }
        if fate < self.truncated {
            message.truncate(dice.below(message.len() as u64) as usize);
            return Harm::Truncated;
        }
        for _ in 0..1 + dice.below(8) {
            let at = dice.below(message.len() as u64) as usize;
            message[at] ^= 1 + dice.below(255) as u8;
        }
        Harm::Garbled
    }

    /// Whether alert `index` has the record of after the change.
    #[must_use]
    pub fn changed(&self, index: u64) -> bool {
        self.schema_change_at.is_some_and(|at| index >= at)
    }
}

/// All sendings of a stream, in order of time. It holds what is delayed, and nothing else.
pub struct Schedule {
    pace: Pace,
    trouble: Trouble,
    seed: u64,
    count: u64,
    next: u64,
    resent: u64,
    later: BinaryHeap<Reverse<Event>>,
}

impl Schedule {
    /// The sendings of `count` alerts.
    #[must_use]
    pub fn new(pace: Pace, trouble: Trouble, seed: u64, count: u64) -> Self {
        Self { pace, trouble, seed, count, next: 0, resent: 0, later: BinaryHeap::new() }
    }

    /// When an alert would be sent but for delays of its own: after an outage that it falls in.
    fn due(&self, index: u64) -> Duration {
        let due = self.pace.due(index);
        match self.trouble.outage {
            Some((at, long)) => {
                let begin = self.pace.due(at);
                if (begin..begin + long).contains(&due) { begin + long } else { due }
            }
            None => due,
        }
    }

    fn push(&mut self, event: Event) {
        self.later.push(Reverse(event));
    }
}

impl Iterator for Schedule {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            // Alerts enter in the order of their turns, as long as nothing that waits comes before them.
            let turn = (self.next < self.count).then(|| self.due(self.next));
            let waiting = self.later.peek().map(|Reverse(event)| event.at);
            match (turn, waiting) {
                (Some(due), waiting) if waiting.is_none_or(|at| due <= at) => {
                    let index = self.next;
                    self.next += 1;
                    let late = self.trouble.late(self.seed, index);
                    let first = Event { at: due + late, index, sending: Sending::First, late: due + late - self.pace.due(index) };
                    if let Some(again) = self.trouble.again(self.seed, index) {
                        self.push(Event { at: first.at + again, sending: Sending::Duplicate, late: first.late + again, ..first });
                    }
                    if late.is_zero() {
                        return Some(first);
                    }
                    self.push(first);
                }
                (_, Some(_)) => return self.later.pop().map(|Reverse(event)| event),
                (Some(_), None) => unreachable!("a turn that nothing waits before is taken"),
                (None, None) if self.trouble.resent && self.resent < self.count => {
                    let index = self.resent;
                    self.resent += 1;
                    let at = self.pace.due(self.count + index);
                    return Some(Event { at, index, sending: Sending::Resent, late: at - self.pace.due(index) });
                }
                (None, None) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::simulator::Rate;

    fn events(trouble: &Trouble, count: u64) -> Vec<Event> {
        Schedule::new(Pace::Rate(Rate::per_second(10.0).unwrap()), trouble.clone(), 5, count).collect()
    }

    #[test]
    fn without_trouble_all_come_in_turn() {
        let events = events(&Trouble::default(), 100);
        assert!(events.iter().enumerate().all(|(index, event)| event.index == index as u64 && event.late.is_zero()));
        assert_eq!(events[99].at, Duration::from_millis(9900));
    }

    #[test]
    fn every_alert_comes_once_and_its_troubles_are_told() {
        let delay = (Duration::from_secs(60), Duration::from_secs(86_400));
        let trouble = Trouble { delayed: 0.1, delay, duplicated: 0.05, disordered: 0.2, ..Trouble::default() };
        let events = events(&trouble, 10_000);
        assert!(events.is_sorted_by(|a, b| a.at <= b.at));
        let mut sendings: BTreeMap<(Sending, u64), u32> = BTreeMap::new();
        events.iter().for_each(|event| *sendings.entry((event.sending, event.index)).or_default() += 1);
        assert!(sendings.values().all(|count| *count == 1));
        let of = |sending: Sending| events.iter().filter(move |event| event.sending == sending);
        assert_eq!(of(Sending::First).count(), 10_000);
        assert!((400..600).contains(&of(Sending::Duplicate).count()));
        let late = of(Sending::First).filter(|event| event.late >= delay.0).count();
        assert!((900..1100).contains(&late), "{late}");
        assert!(of(Sending::First).all(|event| event.late <= delay.1));
        let little = of(Sending::First).filter(|event| !event.late.is_zero() && event.late < delay.0).count();
        assert!((1600..2000).contains(&little), "{little}");
        assert_eq!(events, self::events(&trouble, 10_000), "the same seed, the same trouble");
    }

    #[test]
    fn an_outage_is_made_up_for_and_a_night_is_sent_again() {
        let trouble = Trouble { outage: Some((10, Duration::from_secs(2))), resent: true, ..Trouble::default() };
        let events = events(&trouble, 50);
        let at: Vec<u128> = events.iter().map(|event| event.at.as_millis()).collect();
        assert_eq!(at[8..12], [800, 900, 3000, 3000]);
        assert_eq!((at[29], at[30], at[31]), (3000, 3000, 3100));
        assert_eq!(events.len(), 100);
        assert!(events[50..].iter().enumerate().all(|(index, event)| event.index == index as u64 && event.sending == Sending::Resent));
    }

    #[test]
    fn bytes_are_harmed_as_often_as_asked_and_always_the_same() {
        let trouble = Trouble { garbled: 0.1, truncated: 0.05, ..Trouble::default() };
        let mut harms = BTreeMap::<&str, u32>::new();
        for event in events(&trouble, 4000) {
            let message = vec![7; 1000];
            let (mut one, mut two) = (message.clone(), message.clone());
            let harm = trouble.harm(5, &event, &mut one);
            assert_eq!(trouble.harm(5, &event, &mut two), harm);
            assert_eq!(one, two);
            match harm {
                Harm::None => assert_eq!(one, message),
                Harm::Garbled => assert!(one.len() == 1000 && one != message),
                Harm::Truncated => assert!(one.len() < 1000),
            }
            *harms.entry(harm.word()).or_default() += 1;
        }
        assert!((330..470).contains(&harms["garbled"]) && (150..250).contains(&harms["truncated"]), "{harms:?}");
    }
}
