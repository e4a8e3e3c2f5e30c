//! `fink replay`: reads archived alerts again.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{Datelike, NaiveDate};
use clap::Args;
use fink_dataflow::table::store;
use fink_sources::archive::digest::Digest;
use fink_sources::archive::{Replay, Selection, Wanted};
use indicatif::HumanCount;

use crate::allocator::keep_freed;
use crate::cli::ArchiveArgs;
use crate::config::resolve::Choices;
use crate::config::{Configured, Flag, load};
use crate::follow::run_replay;
use crate::rundir::RunDir;
use crate::services::{Chosen, Service};
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  fink replay --all --archive ./archive
  fink replay --nights 2026-11-20..2026-11-22            observing nights, both included
  fink replay --topic ztf --offsets 1000..2000           the second offset is excluded
  fink replay --all --digest                             a number that is the same for the same rows
  fink replay --nights 2026-11-22 --into services        what the services say of one night: asked as ever, by
                                                         `fink object`, `fink cone`, `fink counts` or over HTTP

Reads the tables at the versions that they have at the start, beside a service that writes them, without cutouts unless
they are asked for. Says how many alerts came, how fast, and with --digest whether they are the same as others.";

/// Read archived alerts again, as they were decoded
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Everything
    #[arg(long, conflicts_with_all = ["nights", "topic"], required_unless_present_any = ["nights", "topic"])]
    all: bool,
    /// Observing nights: one, or the first and the last
    #[arg(long, value_name = "A..B")]
    nights: Option<String>,
    /// One topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Offsets of it, in every partition; the last is excluded
    #[arg(long, value_name = "A..B", requires = "topic")]
    offsets: Option<String>,
    /// Alerts a second at most [default: as fast as they can be read]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Cutouts too
    #[arg(long)]
    cutouts: bool,
    /// Into services that run in this process, over what is selected and nothing else, until Ctrl-C: services, or some of
    /// objects, crossmatch, classify, monitor
    #[arg(long, value_name = "SERVICE", num_args = 1.., conflicts_with_all = ["cutouts", "digest", "threads"])]
    into: Vec<String>,
    /// With --into: answer on a port of this machine, or at HOST:PORT [default: a port that is free]
    #[arg(long, value_name = "PORT", requires = "into")]
    http: Option<String>,
    /// With --into: threads that keep the services [default: one a core, at most 4]
    #[arg(long, value_name = "N", requires = "into")]
    workers: Option<u64>,
    /// Threads that read [default: one a core, at most 4]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Also a digest of the rows, whatever their order: the same rows have the same
    #[arg(long)]
    digest: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the archive can't be read, or what is asked for can't be.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    keep_freed();
    let configured = load(args.archive.config.as_deref(), args.flags())?;
    let archive = store::open(&configured.archive()?, &configured.store()?)?;
    let selection = Selection {
        nights: args.nights.as_deref().map(nights).transpose().context("--nights")?,
        topic: args.topic.clone(),
        offsets: args.offsets.as_deref().map(offsets).transpose().context("--offsets")?,
        ..Selection::default()
    };
    if args.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        bail!("--rate: takes a number above 0");
    }
    if !args.into.is_empty() {
        return into(args, &configured, Replay::open(&archive, selection, Wanted::Light)?);
    }
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
    let began = Instant::now();
    let replay = Replay::open(&archive, selection, if args.cutouts { Wanted::All } else { Wanted::Light })?;
    let versions: Vec<String> = replay.versions().iter().map(|(table, version)| format!("{table} at version {version}")).collect();
    let (mut rows, mut digest, mut failed) = (0_u64, Digest::default(), None);
    replay.run(threads, |batch| {
        rows += batch.rows.num_rows() as u64;
        if args.digest
            && let Err(error) = digest.add(&batch)
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        if let Some(rate) = args.rate {
            let due = Duration::try_from_secs_f64(rows as f64 / rate).unwrap_or(Duration::MAX);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(error).context("the rows have no digest");
    }
    let seconds = began.elapsed().as_secs_f64();
    let digest = args.digest.then(|| digest.to_string());
    if args.json {
        println!("{}", serde_json::json!({ "rows": rows, "seconds": seconds, "tables": versions, "digest": digest }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} alerts in {seconds:.2} s ({:.0}/s) of {}", HumanCount(rows), rows as f64 / seconds.max(1e-6), versions.join(", "));
    if let Some(digest) = digest {
        println!("digest {digest}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Into services of this process.
fn into(args: &ReplayArgs, configured: &Configured, replay: Replay) -> anyhow::Result<ExitCode> {
    let services: Vec<Service> = args.into.iter().flat_map(|name| Service::named(name)).collect();
    if let Some(unknown) = args.into.iter().find(|name| Service::named(name).is_empty()) {
        bail!("--into: there is no service `{unknown}`; there are services (all), objects, crossmatch, classify, monitor");
    }
    let run = configured.follow_run(&Choices { services: Chosen::of(services), ..Choices::default() })?;
    let names = run.services.chosen.names().join(", ");
    let session = Session::start(&RunDir::usual(), "replay", "a part of the archive", &run.archive).context("can't catch signals")?;
    run_replay(&run, (replay, args.rate), &session, |rows, took, address| {
        let seconds = took.as_secs_f64();
        if args.json {
            println!("{}", serde_json::json!({ "rows": rows, "seconds": seconds, "services": names, "http": address.to_string() }));
        } else {
            println!(
                "{} alerts in {seconds:.2} s ({:.0}/s) into {names}; they answer at http://{address}, until Ctrl-C",
                HumanCount(rows),
                rows as f64 / seconds.max(1e-6)
            );
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl ReplayArgs {
    fn flags(&self) -> Vec<Flag> {
        let mut flags = self.archive.flags();
        let workers = self.workers.map(|n| toml::Value::from(i64::try_from(n).unwrap_or(i64::MAX)));
        flags.extend(workers.map(|value| Flag { flag: "--workers", section: "run", key: "workers", value }));
        flags.extend(self.http.as_deref().map(|at| Flag { flag: "--http", section: "run", key: "http", value: at.into() }));
        flags
    }
}

/// `A..B` or `A`, both nights included, in days since 1970.
fn nights(text: &str) -> anyhow::Result<std::ops::RangeInclusive<i32>> {
    let day = |text: &str| {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").with_context(|| format!("`{text}` is no date, such as 2026-11-22"))?;
        Ok::<_, anyhow::Error>(date.num_days_from_ce() - NaiveDate::default().num_days_from_ce())
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    anyhow::ensure!(first <= last, "`{text}` ends before it begins");
    Ok(first..=last)
}

/// `A..B`, the last excluded.
fn offsets(text: &str) -> anyhow::Result<std::ops::Range<i64>> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse::<i64>().ok()?..to.parse::<i64>().ok()?));
    parsed.filter(|span| span.start < span.end).with_context(|| format!("`{text}` is not FIRST..END, such as 1000..2000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nights_and_offsets_are_read() {
        assert_eq!(nights("1970-01-02..1970-01-04").unwrap(), 1..=3);
        assert_eq!(nights("1970-01-02").unwrap(), 1..=1);
        assert!(nights("1970-01-04..1970-01-02").is_err() && nights("yesterday").is_err());
        assert_eq!(offsets("10..20").unwrap(), 10..20);
        assert!(offsets("20..10").is_err() && offsets("7").is_err());
    }
}
