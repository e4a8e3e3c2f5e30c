//! How a process takes its seat: alone, as the one that leads, or as another of a cluster.

use std::sync::Arc;

use fink_dataflow::mesh::Mesh;
use fink_dataflow::table::entry::State;
use fink_dataflow::table::store::Archive;
use fink_sinks::archive::committer::{CommitOptions, Committer};
use fink_sinks::archive::deputies::Deputy;
use fink_sinks::archive::routes::Routes;
use fink_sources::share::Share;
use fink_sources::simulator::system_clock;

use super::crew::{Begin, Crew, Joined};
use super::keep::Keep;
use crate::session::Session;

/// A process that knows what it goes on from.
pub(crate) struct Seated {
    /// Who commits.
    pub keep: Keep,
    /// All that was durable before.
    pub before: State,
    /// Where schemas go.
    pub routes: Arc<Routes>,
    /// When the run began.
    pub now_ms: i64,
    /// Which logs it reads, where others read others.
    pub share: Option<Share>,
    /// What the leading process told it, where that is another.
    pub begin: Option<Begin>,
    joined: Option<Joined>,
}

impl Seated {
    /// Takes the archive, or waits for the process that does; `None`: it was asked to stop meanwhile.
    pub(crate) fn take(
        archive: &Archive,
        mut options: CommitOptions,
        joined: Option<Joined>,
        session: &Session,
    ) -> anyhow::Result<Option<Self>> {
        let share = joined.as_ref().map(|joined| Share::of(joined.crew.place.process, joined.crew.place.processes()));
        match joined {
            Some(mut joined) if !joined.crew.place.leads() => {
                let Some((begin, before)) = joined.follow(archive, session)? else { return Ok(None) };
                let deputy = Deputy::new(before.clone(), joined.crew.asks());
                let routes = Arc::new(Routes::decided_by(&before, Arc::new(deputy.clone()))?);
                let (keep, now_ms) = (Keep::Elsewhere(deputy), begin.now_ms);
                Ok(Some(Self { keep, before, routes, now_ms, share, begin: Some(begin), joined: Some(joined) }))
            }
            joined => {
                options.hears = joined.as_ref().map(|joined| joined.crew.hears());
                let (committer, before, routes) = Committer::start(archive.clone(), options)?;
                let keep = Keep::Here(committer);
                Ok(Some(Self { keep, before, routes, now_ms: system_clock(), share, begin: None, joined }))
            }
        }
    }

    /// All that a process needs before its graph runs is there: goes on when it is so everywhere. The connections, where
    /// there are others; `None`: it was asked to stop meanwhile.
    pub(crate) fn go(
        joined: Option<Joined>,
        keep: &Keep,
        routes: &Arc<Routes>,
        begin: &Begin,
        session: &Session,
    ) -> anyhow::Result<Option<Option<(Mesh, Crew)>>> {
        let Some(mut joined) = joined else { return Ok(Some(None)) };
        let connected = match keep {
            Keep::Here(committer) if joined.lead(begin, session)? => joined.serve(committer.clone(), routes.clone())?,
            Keep::Elsewhere(deputy) if joined.ready(session)? => joined.obey(deputy.clone())?,
            _ => return Ok(None),
        };
        Ok(Some(Some(connected)))
    }

    /// The connections, for [`Seated::go`].
    pub(crate) fn joined(&mut self) -> Option<Joined> {
        self.joined.take()
    }
}
