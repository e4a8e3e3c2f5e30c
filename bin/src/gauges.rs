//! What a running archive can say of itself at any moment.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use fink_dataflow::alerts::Tally;
use fink_dataflow::budget::Budget;
use fink_dataflow::ports::Stored;
use fink_dataflow::table::entry::State;
use fink_dataflow::{Log, Moment};
use fink_sinks::archive::upload::Stuck;
use fink_sources::lanes::Lane;
use fink_sources::progress::{LogProgress, Progress, ReaderState};
use fink_sources::share::Share;
use timely::dataflow::ProbeHandle;

use crate::cluster::keep::Keep;
use crate::graph::Probes;
use crate::observed::Observed;
use crate::session::Figures;
use crate::standing::{Standing, Trend};

/// Where the figures come from.
pub(crate) struct Gauges {
    /// The committer: what is durable.
    pub committer: Keep,
    /// Which logs this process reads, where others read others.
    pub share: Option<Share>,
    /// Whether its figures are of all logs all the same: it leads.
    pub leads: bool,
    /// What was durable before this process.
    pub before: State,
    /// Bytes in flight.
    pub budget: Budget,
    /// What keeps files from being stored.
    pub stuck: Stuck,
    /// How far the graph is.
    pub frontiers: Arc<Mutex<Frontiers>>,
    /// Up to which time of observation.
    pub observed: Observed,
}

/// How far the graph is, as Moments of which all is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frontiers {
    /// Live data, decoded.
    pub live: Moment,
    /// Late data, entered; `None`: there is no late source.
    pub late: Option<Moment>,
    /// All, durable.
    pub durable: Moment,
}

impl Frontiers {
    /// Where an earlier run has left it.
    pub(crate) fn after(last: Moment) -> Self {
        Self { live: last, late: None, durable: last }
    }

    /// Notes how far a worker's probes are; never less than before.
    pub(crate) fn note(&mut self, probes: &Probes) {
        let closed = |probe: &ProbeHandle<Moment>| {
            let open = probe.with_frontier(|frontier| frontier.iter().copied().min())?;
            Some(Moment::new(open.epoch, open.tick.saturating_sub(1)))
        };
        self.live = closed(&probes.live).map_or(self.live, |live| live.max(self.live));
        self.late = closed(&probes.late).max(self.late);
        self.durable = closed(&probes.durable).map_or(self.durable, |durable| durable.max(self.durable));
    }
}

impl Gauges {
    /// What was done, and whether all is in the tables that the logs held at the start.
    pub(crate) fn read(&self, progress: &Progress) -> (Figures, bool) {
        let (state, commit) = (self.committer.state(), self.committer.status());
        let share = self.share.filter(|_| !self.leads);
        let (now, before) = (total(&state, share), total(&self.before, share));
        let backlog = backlog(&state, progress);
        let lag = progress.goals.as_ref().map(|_| progress.logs.iter().map(|(log, at)| missing(&state, progress, log, at.high)).sum());
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let figures = Figures {
            messages: now.messages - before.messages,
            archived: now.archived.saturating_sub(before.archived),
            rejected: now.rejected.saturating_sub(before.rejected),
            empty: now.empty - before.empty,
            bytes: now.bytes - before.bytes,
            lag,
            backlog,
            commits: commit.entries,
            entry: commit.last_entry,
            last_commit_ms: commit.last_commit_ms,
            frontier: self.frontiers.lock().unwrap_or_else(PoisonError::into_inner).durable.to_string(),
            in_flight_bytes: self.budget.used() as u64,
            trouble: commit.trouble.or(stuck).or_else(|| waits(progress)),
            standing: None,
            services: None,
            members: Vec::new(),
        };
        let caught_up = backlog == Some(0) && commit.waiting == 0 && commit.unapplied == 0;
        (figures, caught_up)
    }

    /// Messages of this process's own share that became durable.
    pub(crate) fn own(&self) -> u64 {
        total(&self.committer.state(), self.share).messages - total(&self.before, self.share).messages
    }

    /// How far every part is; `trend` remembers how that changes.
    pub(crate) fn stand(&self, progress: &Progress, trend: &mut Trend) -> Standing {
        let frontiers = *self.frontiers.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = [Lane::Live, Lane::Backlog].map(|lane| self.observed.until_ms(lane));
        Standing::of(&self.committer.state(), progress, frontiers, trend).observed(observed)
    }
}

/// What became of all messages of all logs, or of those of a share.
fn total(state: &State, share: Option<Share>) -> Tally {
    let counts = |log: &Log| share.is_none_or(|share| share.has(&log.topic, log.partition));
    state.logs.iter().filter(|(log, _)| counts(log)).fold(Tally::default(), |mut sum, (_, log)| {
        sum += log.tally;
        sum
    })
}

/// The offsets that the logs held when the run first saw them, and that are not durable yet; `None`: it has not seen them.
fn backlog(state: &State, progress: &Progress) -> Option<u64> {
    progress.goals.as_ref().map(|goals| goals.iter().map(|(log, end)| missing(state, progress, log, *end)).sum())
}

/// The offsets of a log below `end` that are to come: neither durable, nor accepted as lost, nor gone from the source.
pub(crate) fn to_come(stored: &Stored, at: Option<&LogProgress>, end: i64) -> Vec<Range<i64>> {
    let gaps = stored.missing(end).into_iter();
    gaps.flat_map(|gap| at.map_or_else(|| vec![gap.clone()], |at| at.holes.gaps(gap.clone()))).collect()
}

/// How many of them there are.
fn missing(state: &State, progress: &Progress, log: &Log, end: i64) -> u64 {
    let Some(stored) = state.stored(log) else { return 0 };
    to_come(&stored, progress.logs.get(log), end).iter().map(|gap| gap.end.abs_diff(gap.start)).sum()
}

/// Why the source gives nothing, if it says so.
fn waits(progress: &Progress) -> Option<String> {
    match &progress.state {
        ReaderState::Retrying(why) => Some(why.clone()),
        _ => progress.logs.iter().find_map(|(log, at)| at.waits.as_ref().map(|why| format!("{log} waits: {why}"))),
    }
}
