//! What a running archive can say of itself at any moment.

use std::sync::{Arc, Mutex, PoisonError};

use fink_dataflow::alerts::Tally;
use fink_dataflow::budget::Budget;
use fink_dataflow::ports::Stored;
use fink_dataflow::table::entry::State;
use fink_dataflow::{Log, Moment};
use fink_sinks::archive::committer::Committer;
use fink_sinks::archive::upload::Stuck;
use fink_sources::progress::{Progress, ReaderState};

use crate::session::Figures;

/// Where the figures come from.
pub(crate) struct Gauges {
    /// The committer: what is durable.
    pub committer: Committer,
    /// What was durable before this process.
    pub before: State,
    /// Bytes in flight.
    pub budget: Budget,
    /// What keeps files from being stored.
    pub stuck: Stuck,
    /// The latest Moment of which all is durable.
    pub durable: Arc<Mutex<Moment>>,
}

impl Gauges {
    /// What was done, and whether all is in the tables that the logs held at the start.
    pub(crate) fn read(&self, progress: &Progress) -> (Figures, bool) {
        let (state, commit) = (self.committer.state(), self.committer.status());
        let (now, before) = (total(&state), total(&self.before));
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
            frontier: self.durable.lock().unwrap_or_else(PoisonError::into_inner).to_string(),
            in_flight_bytes: self.budget.used() as u64,
            trouble: commit.trouble.or(stuck).or_else(|| waits(progress)),
        };
        let caught_up = backlog == Some(0) && commit.waiting == 0 && commit.unapplied == 0;
        (figures, caught_up)
    }
}

/// What became of all messages of all logs.
fn total(state: &State) -> Tally {
    state.logs.values().fold(Tally::default(), |mut sum, log| {
        sum += log.tally;
        sum
    })
}

/// The offsets that the logs held when the run first saw them, and that are not durable yet; `None`: it has not seen them.
fn backlog(state: &State, progress: &Progress) -> Option<u64> {
    progress.goals.as_ref().map(|goals| goals.iter().map(|(log, end)| missing(state, progress, log, *end)).sum())
}

/// How many offsets of a log below `end` are to come: neither durable, nor accepted as lost, nor gone from the source.
fn missing(state: &State, progress: &Progress, log: &Log, end: i64) -> u64 {
    let Some(opened) = state.logs.get(log) else { return 0 };
    let stored = Stored {
        origin: opened.origin,
        covered: state.coverage.get(log).cloned().unwrap_or_default(),
        accepted: state.accepted.get(log).cloned().unwrap_or_default(),
        mark: None,
    };
    let holes = progress.logs.get(log).map(|at| &at.holes);
    let gaps = stored.missing(end).into_iter();
    gaps.map(|gap| holes.map_or(gap.end.abs_diff(gap.start), |holes| holes.gaps(gap).iter().map(|g| g.end.abs_diff(g.start)).sum())).sum()
}

/// Why the source gives nothing, if it says so.
fn waits(progress: &Progress) -> Option<String> {
    match &progress.state {
        ReaderState::Retrying(why) => Some(why.clone()),
        _ => progress.logs.iter().find_map(|(log, at)| at.waits.as_ref().map(|why| format!("{log} waits: {why}"))),
    }
}
