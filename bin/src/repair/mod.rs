//! Rejects and holes: what a person may set right in an archive.
//!
//! | module | what it is |
//! |---|---|
//! | [`rejects`] | the rows of the rejects table |
//! | [`retry`] | decodes rejects again, and moves those that now can be |

pub mod rejects;
pub mod retry;

use anyhow::Context;
use fink_dataflow::table::Archive;
use fink_sinks::archive::committer::{CommitError, CommitOptions, Committer};
use fink_sinks::archive::routes::Routes;
use std::sync::Arc;

/// Takes the archive for this command, which must be the only writer while it works.
///
/// # Errors
/// When an archive service holds it: it must be stopped first.
pub fn take(archive: &Archive) -> anyhow::Result<(Committer, Arc<Routes>)> {
    let options = CommitOptions { vacuum_every: None, compaction: None, ..CommitOptions::default() };
    match Committer::start(archive.clone(), options) {
        Ok((committer, _, routes)) => Ok((committer, routes)),
        Err(error @ CommitError::Held(_)) => {
            Err(error).context("the archive is being written: stop that service first (`fink stop archive`), and start it again afterwards")
        }
        Err(error) => Err(error.into()),
    }
}
