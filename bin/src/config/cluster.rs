//! Makes a process's place among others of a configuration.

use std::time::Duration;

use fink_dataflow::mesh::Place;

use super::resolve::Choices;
use super::{ConfigError, Configured};
use crate::settings::{Cluster, Incarnation, Input};

impl Configured {
    /// How long a process may be silent.
    ///
    /// # Errors
    /// When that is too short to tell.
    pub fn silence(&self) -> Result<Duration, ConfigError> {
        let silence = self.duration("cluster.silence_s", self.config.cluster.silence_s, 1.0)?;
        if silence < Duration::from_secs(3) {
            return Err(self.wrong("cluster.silence_s", "takes 3 or more: a busy machine is not a silent one"));
        }
        Ok(silence)
    }

    /// The process's place among others, if what else was asked for can be had there.
    pub(super) fn cluster(&self, place: &Place, choices: &Choices) -> Result<Cluster, ConfigError> {
        let refused = |place: &str, what: &str| Err(ConfigError::At { place: place.to_owned(), what: what.to_owned() });
        if !choices.services.is_empty() {
            let what =
                "services run in one process: start the archive alone in the cluster, and `fink start services --archive ...` beside it";
            return refused("services", what);
        }
        if choices.incarnation == Incarnation::New {
            let what = "processes would each judge by their own partitions: start one process with it (without --processes or --hosts) until \
                        the topic is opened, then the cluster without it";
            return refused("--new-incarnation", what);
        }
        if matches!(self.input(choices.input)?, Input::Files(_)) {
            return refused("--files", "a folder is one log, which one process reads: start without --processes or --hosts");
        }
        Ok(Cluster { place: place.clone(), silence: self.silence()? })
    }
}
