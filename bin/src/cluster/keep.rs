//! Who commits, as a process sees it: its own committer, or that of the process that leads.

use std::sync::Arc;

use fink_dataflow::message::Log;
use fink_dataflow::ports::{Keeper, Stored};
use fink_dataflow::table::entry::State;
use fink_sinks::archive::committer::{CommitError, CommitStatus, Committer};
use fink_sinks::archive::deputies::Deputy;
use fink_sinks::archive::group::GroupSink;

/// Who commits.
#[derive(Clone)]
pub(crate) enum Keep {
    /// This process.
    Here(Committer),
    /// The one that leads.
    Elsewhere(Deputy),
}

impl Keep {
    /// All that is durable.
    pub(crate) fn state(&self) -> Arc<State> {
        match self {
            Self::Here(committer) => committer.state(),
            Self::Elsewhere(deputy) => deputy.state(),
        }
    }

    /// What it is doing.
    pub(crate) fn status(&self) -> CommitStatus {
        match self {
            Self::Here(committer) => committer.status(),
            Self::Elsewhere(deputy) => deputy.status(),
        }
    }

    /// Why it ended, if it was not asked to.
    pub(crate) fn failed(&self) -> Option<String> {
        match self {
            Self::Here(committer) => committer.failed(),
            Self::Elsewhere(_) => None,
        }
    }

    /// Commits what waits, and ends.
    pub(crate) fn stop(self) -> Result<(), CommitError> {
        match self {
            Self::Here(committer) => committer.stop(),
            Self::Elsewhere(_) => Ok(()),
        }
    }

    /// Where closed groups go.
    pub(crate) fn sink(&self) -> Arc<dyn GroupSink> {
        match self {
            Self::Here(committer) => Arc::new(committer.clone()),
            Self::Elsewhere(deputy) => Arc::new(deputy.clone()),
        }
    }

    /// The keeper that the source asks. In a cluster what topics there are is answered as of the start: what another process
    /// opens meanwhile was there at the start for this one too, and begins where the run was told.
    pub(crate) fn keeper(&self, as_of: Option<&State>) -> Arc<dyn Keeper> {
        let keeper: Arc<dyn Keeper> = match self {
            Self::Here(committer) => Arc::new(committer.clone()),
            Self::Elsewhere(deputy) => Arc::new(deputy.clone()),
        };
        match as_of {
            Some(state) => Arc::new(AsOf { keeper, topics: state.topics() }),
            None => keeper,
        }
    }
}

struct AsOf {
    keeper: Arc<dyn Keeper>,
    topics: Vec<(Arc<str>, Arc<str>)>,
}

impl Keeper for AsOf {
    fn stored(&self, log: &Log) -> Option<Stored> {
        self.keeper.stored(log)
    }

    fn incarnation(&self, source: &str, topic: &str) -> Option<u32> {
        self.keeper.incarnation(source, topic)
    }

    fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.topics.clone()
    }

    fn open(&self, origins: &[(Log, i64)]) -> Result<(), String> {
        self.keeper.open(origins)
    }
}
