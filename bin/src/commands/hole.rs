//! `fink hole`: offsets that were never dealt with, and that the source no longer holds.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fink_dataflow::{Coverage, Log};
use fink_sinks::archive::committer::Request;

use super::check::{holes_text, open};
use crate::audit::{self, reach::Reach, snapshot};
use crate::cli::{ArchiveArgs, KafkaArgs};
use crate::config::{Configured, load};
use crate::repair::take;

const EXAMPLES: &str = "\
Examples:
  fink hole list --brokers localhost:9092
  fink hole accept ztf/3 1170 1205                    the offsets 1170 to 1204 are lost: say so
  fink hole accept --all --brokers localhost:9092     all that Kafka holds no longer

A hole is an interval of offsets that nobody read before Kafka deleted them. It is reported until a person accepts
it. Accepted offsets stay counted as such, apart from what is archived. The archive service must be stopped.";

/// List and accept what is lost
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HoleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the holes; exit code 1 if there are any
    List(ListArgs),
    /// Accept holes as lost
    Accept(AcceptArgs),
    /// Fill a hole from elsewhere
    Fill(FillArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, Args)]
struct AcceptArgs {
    /// The partition
    #[arg(value_name = "TOPIC/PARTITION", required_unless_present = "all", requires = "end")]
    partition: Option<String>,
    /// The first offset
    start: Option<i64>,
    /// The offset after the last
    end: Option<i64>,
    /// All holes, as the source says: it must be reachable
    #[arg(long, conflicts_with = "partition")]
    all: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, Args)]
struct FillArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
}

/// Runs it.
///
/// # Errors
/// When the archive can't be read, or, to accept, written.
pub fn run(args: &HoleArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List(args) => {
            let configured = configured(&args.archive, &args.kafka)?;
            let report = report(&configured)?;
            print!("{}", holes_text(&report));
            Ok(if report.holes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        What::Accept(args) => accept(args),
        What::Fill(_) => anyhow::bail!("a hole can't be filled yet: this release can only list and accept them"),
    }
}

fn configured(archive: &ArchiveArgs, kafka: &KafkaArgs) -> anyhow::Result<Configured> {
    let mut flags = archive.flags();
    flags.extend(kafka.flags());
    Ok(load(archive.config.as_deref(), flags)?)
}

/// What the ledger and the sources say; the tables are not read.
fn report(configured: &Configured) -> anyhow::Result<audit::Report> {
    let archive = open(configured)?;
    let state = snapshot::state(&archive)?;
    let reach = Reach::ask(&state, configured.kafka_client()?.as_ref());
    for trouble in &reach.troubles {
        tracing::warn!("how far the source reaches is not known: {trouble}");
    }
    Ok(audit::ledger_only(&archive, state, &reach))
}

fn accept(args: &AcceptArgs) -> anyhow::Result<ExitCode> {
    let configured = configured(&args.archive, &args.kafka)?;
    let report = report(&configured)?;
    let mut accepted = Coverage::default();
    for log in &report.logs {
        let key = Log::new(&log.source, &log.topic, log.incarnation, log.partition);
        let named = args.partition.as_deref() == Some(audit::name(log).as_str());
        for &(start, end) in log.holes.iter().filter(|_| named || (args.all && log.low.is_some())) {
            // Only what is a hole can be accepted: never what was archived, nor what may still come.
            let (from, to) =
                if args.all { (start, end) } else { (start.max(args.start.unwrap_or(start)), end.min(args.end.unwrap_or(end))) };
            accepted.insert(&key, from..to.max(from));
        }
    }
    if accepted.is_empty() {
        anyhow::bail!("nothing of that is a hole: `fink hole list` says which offsets are");
    }
    let (committer, _) = take(&open(&configured)?)?;
    let done = committer.request(Request::Accept(accepted.clone()));
    committer.stop()?;
    done?;
    println!("accepted {} offsets as lost", accepted.len());
    Ok(ExitCode::SUCCESS)
}
