//! `fink hole`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::ArchiveArgs;

/// Not there yet
#[derive(Debug, Args)]
pub struct HoleArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
}

/// Runs it.
///
/// # Errors
/// Always, today.
pub fn run(args: &HoleArgs) -> anyhow::Result<ExitCode> {
    let archive = args.archive.load()?.archive()?;
    anyhow::bail!("can't do this yet with {archive}")
}
