//! Rejects and holes: what a person may set right in an archive.
//!
//! | module | what it is |
//! |---|---|
//! | [`rejects`] | the rows of the rejects table |
//! | [`retry`] | decodes rejects again, and moves those that now can be |
//! | [`fill`] | fills a hole from another Kafka |

pub mod fill;
pub mod rejects;
pub mod retry;

use anyhow::Context;
use fink_dataflow::table::Archive;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::store::wait;
use fink_sinks::archive::committer::{CommitError, CommitOptions, Committer};
use fink_sinks::archive::files::Files;
use fink_sinks::archive::routes::Routes;
use fink_sinks::archive::upload::Uploader;
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

/// Closes all files and stores them.
pub(crate) fn store(archive: &Archive, mut files: Files) -> anyhow::Result<Vec<(Arc<str>, DataFile)>> {
    let uploader = Uploader::new(archive.clone(), Arc::default(), Arc::new(|_| ()));
    let mut stored = Vec::new();
    while let Some(file) = files.close_first()? {
        stored.push(uploader.put(file));
    }
    let all = stored.into_iter().map(|file| wait(file).map_err(Into::into)).collect();
    uploader.finish();
    all
}
