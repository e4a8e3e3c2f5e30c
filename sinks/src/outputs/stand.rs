//! What the outputs say of themselves.

use serde::{Deserialize, Serialize};

/// How far the tables are.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Stand {
    /// The Moment of which they are exact, as `epoch.tick`; `None`: this process has not brought them up to date yet.
    pub moment: Option<String>,
    /// Rows that this process wrote to them, retractions among them.
    pub rows: u64,
    /// Publications, each an entry of the ledger.
    pub publications: u64,
    /// Updates that wait.
    pub waiting: u64,
    /// What keeps them from being written, if anything does.
    pub trouble: Option<String>,
    /// Outputs that are not written any more, and why.
    pub failed: Vec<(String, String)>,
}

impl Stand {
    /// The same for a person.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.moment {
            Some(moment) => format!("services: tables are exact at Moment {moment}"),
            None => "services: tables are not up to date yet: they wait for all of history".to_owned(),
        }];
        lines.extend(self.trouble.iter().map(|why| format!("services: tables: {why}")));
        lines.extend(self.failed.iter().map(|(name, why)| format!("services: table {name} is not written any more: {why}")));
        lines
    }
}
