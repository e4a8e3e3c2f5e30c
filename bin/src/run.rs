//! Carries out what was asked: starts the graph, and waits for its end.

use crate::session::{Figures, Session};
use crate::settings::{ArchiveRun, SimulatorRun};

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The last figures.
    pub figures: Figures,
    /// Whether all was durable that the topics held at the start.
    pub caught_up: bool,
}

/// Archives what the input gives until the session is asked to stop, or the run's own end.
///
/// # Errors
/// A text for a person, when it can't start or can't go on.
pub fn run_archive(run: &ArchiveRun, session: &Session) -> anyhow::Result<Summary> {
    let _ = (run, session);
    anyhow::bail!("the graph is not wired yet")
}

/// Sends alerts to a Kafka topic until the session is asked to stop, or the run's own end.
///
/// # Errors
/// A text for a person, when it can't start or can't go on.
pub fn run_simulator(run: &SimulatorRun, session: &Session) -> anyhow::Result<Summary> {
    let _ = (run, session);
    anyhow::bail!("the simulator is not wired yet")
}
