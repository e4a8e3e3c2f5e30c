//! The backlog lane's thread: a client of its own, opened when there is something to read and closed when all is read.

use std::time::Instant;

use fink_dataflow::ports::{Source, SourceError};
use tracing::{debug, info};

use super::lane::{LaneRun, POLL};
use super::{Opener, Settings};
use crate::lanes::Lane;

/// How much less of a busy machine the backlog gets than live data: its thread's niceness, and that of its client's threads.
const NICE: i32 = 5;

/// The thread's own state.
pub(super) struct Backlog {
    pub(super) open: Opener,
    pub(super) settings: Settings,
    pub(super) run: LaneRun,
}

impl Backlog {
    /// Reads what it is handed until it is told to stop; an error is a reason to give up.
    pub(super) fn run(&mut self) -> Result<(), String> {
        // On Linux a thread's own, and inherited by those that the client starts.
        if let Err(error) = rustix::process::nice(NICE) {
            debug!(%error, "the backlog is read at the common priority");
        }
        let mut source = None;
        let mut looked = Instant::now();
        while !self.run.shared.stopping() {
            let idle = source.is_none() && self.run.is_through();
            let handed = self.run.shared.handed(if idle { POLL } else { std::time::Duration::ZERO });
            self.run.pending.extend(handed);
            if source.is_none() && self.run.is_through() {
                continue;
            }
            let round = match &mut source {
                none @ None => self.opened().map(|opened| *none = Some(opened)),
                // The source looks at the ends of quiet logs when it is asked how far they reach: a stretch may end in
                // what no consumer sees.
                Some(source) if looked.elapsed() >= self.settings.refresh => {
                    looked = Instant::now();
                    source.extents().map(drop)
                }
                Some(source) => self.run.read(&mut **source),
            };
            self.run.settle(round)?;
            let has_work = self.run.shared.lanes().as_ref().is_some_and(|lanes| lanes.has_work(Lane::Backlog));
            if !has_work && source.is_some() && self.run.is_through() {
                info!("backlog read to its end");
                source = None;
            }
        }
        Ok(())
    }

    /// A client of its own, of the same source.
    fn opened(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let mut source = (self.open)()?;
        let (here, live) = (source.identity()?, self.run.shared.progress().source.clone());
        if live.as_ref() != Some(&here) {
            return Err(SourceError::Stop(format!("the backlog's client reached {here}, the live one {}", live.unwrap_or_default())));
        }
        Ok(source)
    }
}
