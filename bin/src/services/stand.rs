//! How far the services are, for people and for programs.

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use super::bound::AwayStand;
use super::watch::Pace;

/// How far the answers are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stand {
    /// The last Moment that can be asked at, as `epoch.tick`.
    pub moment: Option<String>,
    /// Whether it knows all that was archived before this process.
    pub complete: bool,
    /// Alerts of the history that were handed over, and those that there are.
    pub history: Option<(u64, u64)>,
    /// Why the history can't be read.
    pub failed: Option<String>,
    /// Why no services run, although they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Where an archive is followed: all entries of its ledger below this are in the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// All that was committed by then is in the answers, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// How far their tables are, if they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<fink_sinks::outputs::Stand>,
    /// How many light curves are not in memory, if that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<AwayStand>,
    /// Why catalogues can't be read.
    #[serde(default)]
    pub without: Vec<String>,
    /// How many live alerts came in and were answered for, and how long that took.
    #[serde(default)]
    pub pace: Pace,
}

impl Stand {
    /// The same for a person.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        if let Some(why) = &self.left_out {
            return vec![format!("services: LEFT OUT, the archive goes on without them: {why}")];
        }
        let mut lines = vec![match (&self.moment, self.complete) {
            (None, _) => "services: starting".to_owned(),
            (Some(moment), true) => format!("services: answer at Moment {moment}, complete"),
            (Some(moment), false) => format!("services: answer at Moment {moment}, not complete yet"),
        }];
        match (&self.failed, self.history) {
            (Some(why), _) => lines.push(format!("services: history can't be read: {why}")),
            (None, Some((read, of))) if !self.complete => {
                lines.push(format!("services: {} of {} alerts of the archive read", HumanCount(read), HumanCount(of)));
            }
            _ => {}
        }
        let until = self.until_ms.and_then(crate::standing::time);
        lines.extend(until.map(|until| match self.complete {
            true => format!("services: all alerts archived up to {until} are in the answers"),
            false => format!("services: alerts archived from the start up to {until} are in the answers"),
        }));
        lines.extend(self.away.map(|away| {
            let (objects, back) = (HumanCount(away.objects), HumanCount(away.back));
            format!("services: light curves of {objects} objects are in the archive alone, {back} came back since the start")
        }));
        lines.extend(self.tables.iter().flat_map(fink_sinks::outputs::Stand::lines));
        let seen = self.pace.observed_until_ms.and_then(crate::standing::time);
        lines.extend(seen.map(|seen| format!("services: of live alerts the last in the answers was observed at {seen}")));
        lines.extend(self.pace.line().map(|line| format!("services: {line}")));
        lines.extend(self.without.iter().map(|why| format!("services: {why}")));
        lines
    }
}
