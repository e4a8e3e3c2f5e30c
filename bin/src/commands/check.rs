//! `fink check`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::ArchiveArgs;

/// Not there yet
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
}

/// Runs it.
///
/// # Errors
/// Always, today.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let archive = args.archive.load()?.archive()?;
    anyhow::bail!("can't do this yet with {archive}")
}
