//! Which stretches of which logs to read: a state machine without threads, clock or I/O.
//!
//! Whoever drives it ([`crate::reader`]) tells it what the source holds and what the ledger stores of it ([`Sight`]), answers
//! what it [`asks`](Lanes::asks), and does what it [`plans`](Lanes::plan): open logs in the ledger first, then read.
//! The rules are those of the ledger: a log is read from its origin on, exactly the offsets that are not covered yet;
//! offsets that the source no longer holds are holes, and said; a log that is not the one stored stops everything.
//!
//! With [`LaneCount::One`] all that is missing of a log is read in order, and then followed. With [`LaneCount::Two`] the live
//! lane follows each log from its end at the start while the backlog lane fills what is missing below. That end is the border
//! because what comes after it is what a person waits for; all below it is already late. But where all logs together are
//! few messages behind (a restart), the border is where coverage ends: the live lane reads them before anybody could tell,
//! in order, and answers are whole at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use fink_dataflow::message::{Log, Mark};
use fink_dataflow::ports::{Extent, Stored, Stretch};

mod refusal;

pub use refusal::Refusal;

/// Where reading of a log begins, where nothing is stored of its topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// At its end.
    #[default]
    Latest,
    /// At its start.
    Earliest,
    /// At the first message at or after this time, in milliseconds since 1970 UTC.
    Timestamp(i64),
    /// At these offsets, by partition.
    Offsets(BTreeMap<i32, i64>),
}

/// How many lanes read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LaneCount {
    /// One, that reads all that is missing in order and then follows.
    #[default]
    One,
    /// Two: live from the end at the start, and the backlog below.
    Two {
        /// Where all logs together are no more offsets behind than this, live begins where coverage ends instead.
        near: i64,
    },
}

/// A lane: one client of the source, with one position a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Lane {
    /// Follows logs as they grow.
    Live,
    /// Fills what is missing below the live lane's start.
    Backlog,
}

/// What to do about a topic that is not the one that was stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Changed {
    /// Stop, and say so.
    #[default]
    Refuse,
    /// Read it as a new incarnation, from its start.
    NewIncarnation,
}

/// What the run was told.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Where logs begin that are new at the start.
    pub origin: Origin,
    /// How many lanes read.
    pub lanes: LaneCount,
    /// What to do about a topic that was recreated, truncated, or is another cluster's.
    pub changed: Changed,
    /// Whether topics are named by a pattern: then one that is new at a later start was born in between, and is read
    /// from its start; one that is named is new to the run, and `origin` holds for it.
    pub pattern: bool,
}

/// A log as it is now, at the source and in the ledger.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What the source holds.
    pub extent: Extent,
    /// The newest incarnation stored of its topic.
    pub incarnation: Option<u32>,
    /// What is stored of it, in that incarnation.
    pub stored: Option<Stored>,
}

/// What must be known before a plan can be made.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Ask {
    /// The mark of the message at an offset, read again.
    Mark(Arc<str>, i32, i64),
    /// The first offset at or after a time in milliseconds.
    OffsetAt(Arc<str>, i32, i64),
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The mark, if the log holds a message there.
    Mark(Option<Mark>),
    /// The offset.
    Offset(i64),
}

/// What to do now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Open these in the ledger, and wait until that is durable.
    pub opens: Vec<(Log, i64)>,
    /// Say that these offsets are lost: the source holds them no more.
    pub holes: Vec<(Arc<Log>, Range<i64>)>,
    /// Say these things to a person.
    pub notices: Vec<String>,
    /// Read these, each in its lane.
    pub reads: Vec<(Lane, Stretch)>,
    /// How far each log of the start reached when it was first seen.
    pub goals: Vec<(Arc<Log>, i64)>,
}

/// The state machine.
#[derive(Debug)]
pub struct Lanes {
    source: Arc<str>,
    rules: Rules,
    /// Topics that the ledger knows from other sources of this kind, with one of them.
    elsewhere: BTreeMap<Arc<str>, Arc<str>>,
    /// Topics that the ledger knows from this source.
    known: BTreeSet<Arc<str>>,
    logs: BTreeMap<(Arc<str>, i32), Followed>,
    /// Logs that were away at the start, and have not been seen yet: with whether the origin holds for them.
    awaited: BTreeMap<(Arc<str>, i32), bool>,
    /// Topics that were not there at the start, and whether they still are not.
    unborn: BTreeMap<Arc<str>, bool>,
    begun: bool,
}

/// A log that is read.
#[derive(Debug)]
struct Followed {
    log: Arc<Log>,
    live: Track,
    backlog: Track,
    /// It was away when the source was last looked at: when it comes back, it may be another.
    away: bool,
    /// The offsets that the source held when it was last looked at: where they begin or end earlier now, it may be another.
    held: Range<i64>,
    /// Something else says that it may be another.
    suspected: bool,
}

/// What one lane reads of a log.
#[derive(Debug, Default)]
struct Track {
    now: Option<Stretch>,
    ahead: VecDeque<Stretch>,
}

impl Followed {
    fn of(&self, lane: Lane) -> &Track {
        match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        }
    }
}

impl Lanes {
    /// Lanes over `source`; `stored` are the sources and topics that the ledger knows.
    #[must_use]
    pub fn new(source: Arc<str>, rules: Rules, stored: &[(Arc<str>, Arc<str>)]) -> Self {
        let kind = source.split(':').next().unwrap_or_default().to_owned();
        let here = stored.iter().filter(|(s, _)| *s == source).map(|(_, topic)| topic.clone()).collect();
        let other = stored.iter().filter(|(s, _)| *s != source && s.split(':').next() == Some(kind.as_str()));
        let elsewhere = other.map(|(s, topic)| (topic.clone(), s.clone())).collect();
        Self {
            source,
            rules,
            elsewhere,
            known: here,
            logs: BTreeMap::new(),
            awaited: BTreeMap::new(),
            unborn: BTreeMap::new(),
            begun: false,
        }
    }

    /// These logs are there, and can't be looked at now. Before the first plan it means that they belong to what there was at
    /// the start.
    pub fn await_logs(&mut self, away: Vec<(Arc<str>, i32)>) {
        if !self.begun {
            self.awaited = away.into_iter().map(|log| (log.clone(), self.takes_origin(&log.0, log.1))).collect();
        }
    }

    /// These topics are named, and are not there. Before the first plan it means that they belong to what is wanted at the
    /// start, though they are born later: whatever the origin, all of them will be new.
    pub fn await_topics(&mut self, absent: &[Arc<str>]) {
        if !self.begun {
            self.unborn.extend(absent.iter().map(|topic| (topic.clone(), true)));
        }
        self.unborn.iter_mut().for_each(|(topic, still)| *still = absent.contains(topic));
    }

    /// Any log may be another than it was: all are compared again with what is stored.
    pub fn suspect(&mut self) {
        self.logs.values_mut().for_each(|followed| followed.suspected = true);
    }

    /// Whether there are logs that were away at the start, or topics that were not there, and have not been seen since.
    #[must_use]
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty() || self.unborn.values().any(|still| *still)
    }

    /// What must be asked of the source before these can be planned.
    #[must_use]
    pub fn asks(&self, sights: &[Sight]) -> Vec<Ask> {
        let mut asks = Vec::new();
        for sight in sights.iter().filter(|sight| self.unchecked(&sight.extent)) {
            let Extent { topic, partition, low, high } = &sight.extent;
            match &sight.stored {
                Some(Stored { mark: Some(mark), .. }) if (*low..*high).contains(&mark.offset) => {
                    asks.push(Ask::Mark(topic.clone(), *partition, mark.offset));
                }
                Some(_) => {}
                None => {
                    if let (Origin::Timestamp(time), true) = (&self.rules.origin, self.takes_origin(topic, *partition)) {
                        asks.push(Ask::OffsetAt(topic.clone(), *partition, *time));
                    }
                }
            }
        }
        asks
    }

    /// Plans for what is new among `sights`: at the first call all logs, later those born since. On a refusal nothing
    /// changes.
    ///
    /// # Errors
    /// When a log is not the one that was stored, or has no origin.
    pub fn plan(&mut self, sights: &[Sight], answers: &BTreeMap<Ask, Answer>) -> Result<Plan, Refusal> {
        let mut plan = Plan::default();
        let renewed = self.check(sights, answers, &mut plan.notices)?;
        let mut fresh = Vec::new();
        for sight in sights.iter().filter(|sight| !self.follows(&sight.extent)) {
            let Extent { topic, partition, low, high } = &sight.extent;
            let new = renewed.contains(topic);
            let incarnation = sight.incarnation.map_or(0, |i| i + u32::from(new));
            let log = Arc::new(Log { source: self.source.clone(), topic: topic.clone(), incarnation, partition: *partition });
            let stored = match &sight.stored {
                Some(stored) if !new => stored.clone(),
                _ => {
                    let origin = if new { *low } else { self.origin(&sight.extent, answers)? };
                    plan.opens.push(((*log).clone(), origin));
                    Stored { origin, ..Stored::default() }
                }
            };
            fresh.push((log, stored, *low, *high));
        }
        let behind: i64 = fresh.iter().map(|(_, stored, low, high)| tail(stored, *low, *high)).sum();
        let in_order = match self.rules.lanes {
            LaneCount::One => true,
            LaneCount::Two { near } => behind <= near,
        };
        let mut begun = Vec::new();
        for (log, stored, low, high) in fresh {
            let (followed, holes) = self.stretches(log.clone(), &stored, low..high, in_order);
            plan.holes.extend(holes.into_iter().map(|hole| (log.clone(), hole)));
            begun.push(((log.topic.clone(), log.partition), followed));
            let of_the_start = !self.begun || self.awaited.contains_key(&(log.topic.clone(), log.partition));
            // Nothing was there, of a pattern too: what is born first is what the start waited for.
            if of_the_start || self.unborn.contains_key(&log.topic) || self.logs.is_empty() {
                plan.goals.push((log, high));
            }
        }
        let seen: BTreeMap<_, _> = sights.iter().map(|sight| ((&sight.extent.topic, sight.extent.partition), sight)).collect();
        for ((topic, partition), followed) in &mut self.logs {
            let Some(Sight { extent, stored, .. }) = seen.get(&(topic, *partition)) else {
                followed.away = true;
                continue;
            };
            // What ends before the last message that was read can't be compared yet: it is when it has grown again.
            let mark = stored.as_ref().and_then(|stored| stored.mark);
            let doubtful = followed.away || followed.suspected || extent.high < followed.held.end;
            followed.suspected = doubtful && mark.is_some_and(|mark| mark.offset >= extent.high);
            followed.away = false;
            followed.held = extent.low..extent.high;
        }
        for (key, followed) in begun {
            let (live, backlog) = (followed.live.now.clone(), followed.backlog.now.clone());
            plan.reads.extend(live.map(|stretch| (Lane::Live, stretch)));
            plan.reads.extend(backlog.map(|stretch| (Lane::Backlog, stretch)));
            self.known.insert(key.0.clone());
            self.awaited.remove(&key);
            self.logs.insert(key, followed);
        }
        self.begun = true;
        Ok(plan)
    }

    /// A lane has read its stretch of a log to the end: the next one, if any.
    pub fn finished(&mut self, lane: Lane, log: &Log) -> Option<Stretch> {
        let track = self.track(lane, log)?;
        track.now = track.ahead.pop_front();
        track.now.clone()
    }

    /// Whether a lane has nothing more to read of a log but what follows its end.
    #[must_use]
    pub fn follows_end(&self, log: &Log) -> bool {
        self.logs
            .get(&(log.topic.clone(), log.partition))
            .is_some_and(|f| f.backlog.now.is_none() && f.live.now.as_ref().is_some_and(|stretch| stretch.until.is_none()))
    }

    /// The source says that offset `at` is not there: the hole that this makes, and where to go on.
    ///
    /// # Errors
    /// When the log ends before `at`: it is not the one that was read.
    pub fn out_of_range(&mut self, lane: Lane, log: &Log, at: i64, held: Range<i64>) -> Result<(Range<i64>, Option<Stretch>), Refusal> {
        if at > held.end {
            return Err(Refusal::Shrunk { topic: log.topic.clone(), partition: log.partition, high: held.end, stored: at });
        }
        let Some(now) = self.track(lane, log).and_then(|track| track.now.clone()) else { return Ok((at..at, None)) };
        let from = held.start.max(at);
        match now.until {
            Some(until) if until <= from => {
                let next = self.finished(lane, log);
                Ok((at..until.max(at), next))
            }
            until => {
                let stretch = Stretch { log: now.log, from, until };
                if let Some(track) = self.track(lane, log) {
                    track.now = Some(stretch.clone());
                }
                Ok((at..from, Some(stretch)))
            }
        }
    }

    fn track(&mut self, lane: Lane, log: &Log) -> Option<&mut Track> {
        let followed = self.logs.get_mut(&(log.topic.clone(), log.partition))?;
        Some(match lane {
            Lane::Live => &mut followed.live,
            Lane::Backlog => &mut followed.backlog,
        })
    }

    fn follows(&self, extent: &Extent) -> bool {
        self.logs.contains_key(&(extent.topic.clone(), extent.partition))
    }

    /// Whether what is stored must still be compared with what is there.
    fn unchecked(&self, extent: &Extent) -> bool {
        let shrunk = |held: &Range<i64>| extent.low < held.start || extent.high < held.end;
        let unchecked = |followed: &Followed| followed.away || followed.suspected || shrunk(&followed.held);
        self.logs.get(&(extent.topic.clone(), extent.partition)).is_none_or(unchecked)
    }

    /// Whether the run's origin holds for a log of this topic of which nothing is stored.
    fn takes_origin(&self, topic: &Arc<str>, partition: i32) -> bool {
        if let Some(takes) = self.awaited.get(&(topic.clone(), partition)) {
            return *takes;
        }
        let born_since = self.begun || self.known.contains(topic) || (self.rules.pattern && !self.known.is_empty());
        !born_since
    }

    /// Compares what is there with what is stored. Returns the topics that are to be read as new ones.
    fn check(&self, sights: &[Sight], answers: &BTreeMap<Ask, Answer>, notices: &mut Vec<String>) -> Result<BTreeSet<Arc<str>>, Refusal> {
        let mut renewed = BTreeSet::new();
        for sight in sights.iter().filter(|sight| self.unchecked(&sight.extent)) {
            let Err(refusal) = self.same(sight, answers, notices) else { continue };
            // A log that changes while it is read can't be renewed in mid-stream.
            if self.rules.changed == Changed::Refuse || self.follows(&sight.extent) {
                return Err(refusal);
            }
            if notices.last().is_none_or(|last| *last != refusal.to_string()) {
                notices.push(format!("read as new: {refusal}"));
            }
            if sight.stored.is_some() {
                renewed.insert(sight.extent.topic.clone());
            }
        }
        Ok(renewed)
    }

    fn same(&self, sight: &Sight, answers: &BTreeMap<Ask, Answer>, notices: &mut Vec<String>) -> Result<(), Refusal> {
        let Extent { topic, partition, high, .. } = &sight.extent;
        let Some(stored) = &sight.stored else {
            return match self.elsewhere.get(topic) {
                Some(other) if !self.known.contains(topic) => {
                    Err(Refusal::Elsewhere { topic: topic.clone(), stored: other.clone(), source_now: self.source.clone() })
                }
                _ => Ok(()),
            };
        };
        let end = stored.covered.end().unwrap_or(stored.origin).max(stored.origin);
        // A log that was there all the time may take a moment to know its end again: whoever reads past it is told.
        let there = self.logs.get(&(topic.clone(), *partition)).is_some_and(|followed| !followed.away);
        if end > *high && !there {
            return Err(Refusal::Shrunk { topic: topic.clone(), partition: *partition, high: *high, stored: end });
        }
        let Some(mark) = stored.mark else { return Ok(()) };
        match answers.get(&Ask::Mark(topic.clone(), *partition, mark.offset)) {
            Some(Answer::Mark(Some(now))) if *now != mark => {
                Err(Refusal::Differs { topic: topic.clone(), partition: *partition, offset: mark.offset })
            }
            Some(Answer::Mark(None)) => {
                notices.push(format!(
                    "{topic}/{partition} holds no message at offset {} any more (compacted?): can't tell whether it is the same topic",
                    mark.offset
                ));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn origin(&self, extent: &Extent, answers: &BTreeMap<Ask, Answer>) -> Result<i64, Refusal> {
        let Extent { topic, partition, low, high } = extent;
        if !self.takes_origin(topic, *partition) {
            return Ok(*low);
        }
        match &self.rules.origin {
            Origin::Latest => Ok(*high),
            Origin::Earliest => Ok(*low),
            Origin::Timestamp(time) => match answers.get(&Ask::OffsetAt(topic.clone(), *partition, *time)) {
                Some(Answer::Offset(offset)) => Ok((*offset).clamp(*low, *high)),
                // Unanswered: begin where nothing can be missed.
                _ => Ok(*low),
            },
            Origin::Offsets(offsets) => {
                let offset = *offsets.get(partition).ok_or(Refusal::NoOffset { topic: topic.clone(), partition: *partition })?;
                if offset > *high {
                    return Err(Refusal::PastEnd { topic: topic.clone(), partition: *partition, offset, high: *high });
                }
                Ok(offset)
            }
        }
    }

    /// What to read of a log that holds the offsets `held`, and its holes. Where it is read `in_order`, live follows from
    /// the end of what is covered, else from the log's.
    fn stretches(&self, log: Arc<Log>, stored: &Stored, held: Range<i64>, in_order: bool) -> (Followed, Vec<Range<i64>>) {
        let mut holes = Vec::new();
        let mut gaps = VecDeque::new();
        for gap in stored.missing(held.end) {
            if gap.start < held.start {
                holes.push(gap.start..gap.end.min(held.start));
            }
            if gap.end > held.start {
                gaps.push_back(gap.start.max(held.start)..gap.end);
            }
        }
        let tail = if in_order { gaps.pop_back_if(|gap| gap.end == held.end) } else { None };
        let bounded = gaps.into_iter().map(|gap| Stretch { log: log.clone(), from: gap.start, until: Some(gap.end) });
        let follow = Stretch { log: log.clone(), from: tail.map_or(held.end, |gap| gap.start), until: None };
        let (mut live, mut backlog) = (Track::default(), Track::default());
        match self.rules.lanes {
            LaneCount::One => live.ahead.extend(bounded.chain([follow])),
            LaneCount::Two { .. } => {
                live.ahead.push_back(follow);
                backlog.ahead.extend(bounded);
            }
        }
        for track in [&mut live, &mut backlog] {
            track.now = track.ahead.pop_front();
        }
        (Followed { log, live, backlog, away: false, held, suspected: false }, holes)
    }

    /// Whether a lane has anything left to read.
    #[must_use]
    pub fn has_work(&self, lane: Lane) -> bool {
        self.logs.values().any(|followed| followed.of(lane).now.is_some())
    }

    /// How many offsets the backlog lane has yet to read of a log, where it stands at `position`.
    #[must_use]
    pub fn left(&self, log: &Log, position: i64) -> i64 {
        let Some(followed) = self.logs.get(&(log.topic.clone(), log.partition)) else { return 0 };
        let length = |stretch: &Stretch| stretch.until.map_or(0, |until| until - stretch.from);
        let Track { now, ahead } = &followed.backlog;
        let rest = now.as_ref().map_or(0, |stretch| length(&Stretch { from: stretch.from.max(position), ..stretch.clone() }).max(0));
        rest + ahead.iter().map(length).sum::<i64>()
    }

    /// Where the stretch that a lane reads of a log now ends, if it has an end.
    #[must_use]
    pub fn ends(&self, lane: Lane, log: &Log) -> Option<i64> {
        let followed = self.logs.get(&(log.topic.clone(), log.partition))?;
        followed.of(lane).now.as_ref()?.until
    }

    /// Whose lanes these are.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The logs that are read.
    pub fn logs(&self) -> impl Iterator<Item = &Arc<Log>> + '_ {
        self.logs.values().map(|followed| &followed.log)
    }
}

/// How many offsets a log that holds `low..high` is behind at its end.
fn tail(stored: &Stored, low: i64, high: i64) -> i64 {
    stored.missing(high).last().filter(|gap| gap.end == high).map_or(0, |gap| (high - gap.start.max(low)).max(0))
}

#[cfg(test)]
mod tests;
