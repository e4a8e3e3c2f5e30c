//! `fink hole`: offsets that were never dealt with, and that the source no longer holds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use fink_dataflow::{Coverage, Log};
use fink_sinks::archive::committer::Request;
use fink_sources::kafka::{KafkaSource, Topics, unreadable};

use super::check::{holes_text, open};
use crate::audit::{self, reach::Reach, snapshot};
use crate::cli::{ArchiveArgs, KafkaArgs, SchemaArgs};
use crate::config::{Configured, Flag, load};
use crate::input::{Library, kafka_config};
use crate::repair::fill::{Elsewhere, Filled};
use crate::repair::{self, take};
use crate::settings::KafkaClient;

const EXAMPLES: &str = "\
Examples:
  fink hole list --brokers localhost:9092
  fink hole accept ztf/3 1170 1205 --brokers localhost:9092
                                                      the offsets 1170 to 1204 are lost: say so
  fink hole accept --all --brokers localhost:9092     all that Kafka holds no longer
  fink hole accept ztf/3 1170 1205 --damaged --brokers localhost:9092
                                                      of these, what is damaged on the broker, and can't be read
  fink hole fill --topic ztf --partition 3 --offsets 1170..1205 --from-brokers mirror:9092
                                                      archive them from a Kafka that still holds these offsets

A hole is an interval of offsets that nobody read before Kafka deleted them. It is reported until it is filled, or a
person accepts it. Accepted offsets stay counted as such, apart from what is archived. Only what the source, asked, holds no
longer, or what can't be read however often it is asked for, can be accepted. To accept and to fill, the archive service must
be stopped.";

const FILL: &str = "\
Examples:
  fink hole fill --topic ztf --partition 3 --offsets 1170..1205 --brokers localhost:9092 --from-brokers mirror:9092
  fink hole fill ... --from-topic ztf-copy --from-partition 0        where it is called otherwise there
  fink hole fill ... --from-config mirror.toml                       where the other Kafka asks for a login, or TLS

Messages are archived (or rejected) as messages of the log that lost them, at the offsets that they have in the other
Kafka, which must be the same. Where the other Kafka still holds the message that was archived last, it is compared,
and a difference refused. Only a hole is filled: offsets that `fink hole list` shows; without --brokers the source is
not asked, and a gap below what is archived counts. What the other Kafka does not hold is told, and stays missing:
then the exit code is 1.";

/// List, accept and fill what is lost
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
    /// Fill a hole from another Kafka that still holds the same offsets
    #[command(after_help = FILL)]
    Fill(Box<FillArgs>),
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
    /// Of these offsets, those whose messages are damaged on the broker: each is read again first, and what can be read stays
    #[arg(long, requires = "partition")]
    damaged: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, Args)]
struct FillArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The partition that has the hole (its topic: --topic)
    #[arg(long)]
    partition: i32,
    /// The offsets to fill; the last is excluded
    #[arg(long, value_name = "START..END", value_parser = offsets)]
    offsets: Range<i64>,
    /// The log's source, where several have that topic
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// The topic's incarnation, where it has several
    #[arg(long, value_name = "NUMBER")]
    incarnation: Option<u32>,
    /// The bootstrap servers of the other Kafka
    #[arg(long, value_name = "HOST:PORT,...", required_unless_present = "from_config")]
    from_brokers: Option<String>,
    /// A configuration whose [kafka] says how to reach the other Kafka: login, TLS, properties
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// The topic's name there [default: the same]
    #[arg(long, value_name = "NAME")]
    from_topic: Option<String>,
    /// The partition there [default: the same]
    #[arg(long, value_name = "PARTITION")]
    from_partition: Option<i32>,
    #[command(flatten)]
    schemas: SchemaArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

fn offsets(text: &str) -> Result<Range<i64>, String> {
    let range = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    range.filter(|range| 0 <= range.start && !range.is_empty()).ok_or_else(|| "write START..END, such as 1170..1205".to_owned())
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
        What::Fill(args) => fill(args),
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
    let reach = Reach::ask(&state, configured.kafka_client()?.as_ref(), &[]);
    for trouble in &reach.troubles {
        tracing::warn!("how far the source reaches is not known: {trouble}");
    }
    Ok(audit::ledger_only(&archive, state, &reach))
}

fn accept(args: &AcceptArgs) -> anyhow::Result<ExitCode> {
    let configured = configured(&args.archive, &args.kafka)?;
    let wanted = args.partition.as_deref().map(|name| (name, args.start.unwrap_or(0)..args.end.unwrap_or(i64::MAX)));
    let report = report(&configured)?;
    let accepted = match wanted {
        Some((name, offsets)) if args.damaged => damaged(&configured, &report, name, offsets)?,
        wanted => lost(&report, wanted)?,
    };
    let (committer, _) = take(&open(&configured)?)?;
    let done = committer.request(Request::Accept(accepted.clone()));
    committer.stop()?;
    done?;
    println!("accepted {} offsets as lost", accepted.len());
    Ok(ExitCode::SUCCESS)
}

/// What can be accepted: of one log's offsets, by its name, or of all logs. Never what was archived, nor what may still come:
/// a gap may be a backlog that is only half read, so the source must have said that it holds it no longer.
fn lost(report: &audit::Report, wanted: Option<(&str, Range<i64>)>) -> anyhow::Result<Coverage> {
    let mut lost = Coverage::default();
    let mut unknown = false;
    for log in &report.logs {
        let offsets = match &wanted {
            Some((name, offsets)) if *name == audit::name(log) => offsets.clone(),
            Some(_) => continue,
            None => 0..i64::MAX,
        };
        let key = Log::new(&log.source, &log.topic, log.incarnation, log.partition);
        for (start, end) in &log.holes {
            let span = offsets.start.max(*start)..offsets.end.min(*end);
            match log.asked {
                _ if span.is_empty() => {}
                true => {
                    lost.insert(&key, span);
                }
                false => unknown = true,
            }
        }
    }
    if lost.is_empty() && unknown {
        anyhow::bail!("whether the source still holds these offsets is not known: name it, by --brokers");
    }
    anyhow::ensure!(!lost.is_empty(), "nothing of that is a hole: `fink hole list` says which offsets are");
    Ok(lost)
}

/// What can be accepted of a log's offsets because nobody can read it.
fn damaged(configured: &Configured, report: &audit::Report, name: &str, offsets: Range<i64>) -> anyhow::Result<Coverage> {
    let (log, span) = held(report, name, offsets)?;
    let client = configured.kafka_client()?.context("damaged messages are read again first: name their Kafka, by --brokers")?;
    let config = kafka_config(&client, Topics::Names(vec![log.topic.to_string()]));
    let bad = unreadable(&config, &log.topic, log.partition, span.clone())?;
    let state = snapshot::state(&open(configured)?)?;
    let mut dealt_with = state.coverage.get(&log).cloned().unwrap_or_default();
    state.accepted.get(&log).into_iter().flat_map(|accepted| accepted.iter()).for_each(|span| {
        dealt_with.insert(span);
    });
    let mut damaged = Coverage::default();
    for span in bad.iter().flat_map(|span| dealt_with.gaps(span)) {
        damaged.insert(&log, span);
    }
    anyhow::ensure!(
        !damaged.is_empty(),
        "of {name} {}..{} nothing is damaged that is not dealt with: start the archive, and it is read",
        span.start,
        span.end
    );
    Ok(damaged)
}

/// The log of this name, and what its source holds of these offsets.
fn held(report: &audit::Report, name: &str, offsets: Range<i64>) -> anyhow::Result<(Log, Range<i64>)> {
    let found = report.logs.iter().rfind(|log| audit::name(log) == name);
    let log = found.with_context(|| format!("nothing was ever read of {name}: `fink check` lists what was"))?;
    let (Some(low), Some(high)) = (log.low, log.high) else {
        anyhow::bail!("whether {name} can be read is not known: name its Kafka, by --brokers");
    };
    let span = offsets.start.max(low)..offsets.end.min(high);
    anyhow::ensure!(!span.is_empty(), "{name} holds {low}..{high}, nothing of {}..{}", offsets.start, offsets.end);
    Ok((Log::new(&log.source, &log.topic, log.incarnation, log.partition), span))
}

fn fill(args: &FillArgs) -> anyhow::Result<ExitCode> {
    let mut flags = args.archive.flags();
    flags.extend(args.kafka.flags().into_iter().chain(args.schemas.flags()));
    let configured = load(args.archive.config.as_deref(), flags)?;
    let [topic] = args.kafka.topics().try_into().map_err(|_| anyhow::anyhow!("name the one topic that has the hole: --topic NAME"))?;
    let report = report(&configured)?;
    let log = hole_of(&report, &topic, args)?;
    let mut other = elsewhere(args, &topic)?;
    let archive = open(&configured)?;
    let mark = snapshot::state(&archive)?.logs.get(&log).and_then(|known| known.mark);
    if let Some(mark) = mark {
        match other.agrees(&mark)? {
            Some(true) => {}
            Some(false) => anyhow::bail!(
                "the other Kafka holds another message at offset {} than was archived of {log}: its offsets are not the same",
                mark.offset
            ),
            None => tracing::warn!(offset = mark.offset, "the other Kafka does not hold the message archived last: not compared"),
        }
    }
    let (library, piece_bytes) = (Library::open(&configured.schemas()?)?, configured.commit()?.group_bytes);
    let (committer, routes) = take(&archive)?;
    let filled = repair::fill::fill((&archive, &committer, &routes), (&log, args.offsets.clone()), &mut other, library, piece_bytes);
    committer.stop()?;
    let Filled { tally, missing } = filled?;
    let (archived, rejected, empty) = (tally.archived, tally.rejected, tally.empty);
    println!("{log}: filled {} offsets: {archived} archived, {rejected} rejected, {empty} empty", tally.messages);
    for span in &missing {
        println!(
            "{log} {}..{}: {} offsets are still missing: the other Kafka does not hold them",
            span.start,
            span.end,
            span.end - span.start
        );
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The log that has this hole, whole.
fn hole_of(report: &audit::Report, topic: &str, args: &FillArgs) -> anyhow::Result<Log> {
    let meant = |log: &&audit::LogReport| {
        log.topic == topic
            && log.partition == args.partition
            && args.source.as_ref().is_none_or(|source| *source == log.source)
            && args.incarnation.is_none_or(|incarnation| incarnation == log.incarnation)
    };
    let logs: Vec<_> = report.logs.iter().filter(meant).collect();
    anyhow::ensure!(!logs.is_empty(), "nothing was ever read of {topic}/{}: `fink check` lists what was", args.partition);
    let Range { start, end } = args.offsets;
    let has = |log: &&&audit::LogReport| log.holes.iter().any(|(from, to)| *from <= start && end <= *to);
    match logs.iter().filter(has).collect::<Vec<_>>().as_slice() {
        [log] => Ok(Log::new(&log.source, &log.topic, log.incarnation, log.partition)),
        [] => {
            let holes: Vec<_> = logs.iter().flat_map(|log| &log.holes).map(|(from, to)| format!("{from}..{to}")).collect();
            let holes = if holes.is_empty() { "none".to_owned() } else { holes.join(", ") };
            anyhow::bail!("{start}..{end} of {topic}/{} is no hole: holes there are {holes}", args.partition)
        }
        several => {
            let named: Vec<_> = several.iter().map(|log| format!("{} of {}", audit::name(log), log.source)).collect();
            anyhow::bail!("several have that hole, say which by --source and --incarnation: {}", named.join(", "))
        }
    }
}

/// The other Kafka.
fn elsewhere(args: &FillArgs, topic: &str) -> anyhow::Result<Elsewhere> {
    let client = match &args.from_config {
        Some(file) => {
            let value = args.from_brokers.as_deref();
            let flag = |brokers: &str| Flag { flag: "--from-brokers", section: "kafka", key: "brokers", value: brokers.into() };
            let client = load(Some(file), value.map(flag).into_iter().collect())?.kafka_client()?;
            client.with_context(|| format!("{} names no kafka.brokers", file.display()))?
        }
        None => KafkaClient {
            brokers: args.from_brokers.clone().context("--from-brokers or --from-config is needed")?,
            group: "fink".to_owned(),
            sasl: None,
            tls: None,
            properties: BTreeMap::new(),
        },
    };
    let topic = args.from_topic.as_deref().unwrap_or(topic);
    let source = KafkaSource::new(&kafka_config(&client, Topics::Names(vec![topic.to_owned()])))?;
    Ok(Elsewhere::new(Box::new(source), topic, args.from_partition.unwrap_or(args.partition)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of which a backlog is half read, as a look at it tells.
    fn half_read(asked: bool, low: i64) -> audit::Report {
        let holes = if asked { if low > 20 { vec![(20, low)] } else { Vec::new() } } else { vec![(20, 50)] };
        let log = audit::LogReport {
            source: "kafka:x".to_owned(),
            topic: "ztf".to_owned(),
            partition: 3,
            covered: vec![(10, 20), (50, 60)],
            low: asked.then_some(low),
            asked,
            holes,
            ..audit::LogReport::default()
        };
        let (archive, moment) = ("here".to_owned(), "0.1".to_owned());
        audit::Report { archive, entry: Some(1), moment, agrees: true, holes: 0, logs: vec![log], tables: Vec::new() }
    }

    #[test]
    fn what_the_source_may_still_hold_is_not_accepted() {
        let named = || Some(("ztf/3", 15..35));
        for wanted in [named(), None] {
            let error = lost(&half_read(false, 0), wanted.clone()).unwrap_err().to_string();
            assert!(error.contains("--brokers") && error.contains("not known"), "{error}");
            assert!(lost(&half_read(true, 10), wanted).unwrap_err().to_string().contains("nothing of that is a hole"));
        }
        let log = Log::new("kafka:x", "ztf", 0, 3);
        let mut report = half_read(true, 40);
        report.logs[0].high = Some(90);
        assert_eq!(held(&report, "ztf/3", 15..100).unwrap(), (log.clone(), 40..90));
        assert!(held(&report, "ztf/3", 15..40).unwrap_err().to_string().contains("holds 40..90"));
        assert!(held(&report, "ztf/4", 15..40).unwrap_err().to_string().contains("nothing was ever read"));
        assert!(held(&half_read(false, 0), "ztf/3", 15..40).unwrap_err().to_string().contains("--brokers"));
        let accepted = |wanted| lost(&half_read(true, 40), wanted).unwrap().get(&log).unwrap().iter().collect::<Vec<_>>();
        assert_eq!((accepted(named()), accepted(None)), (vec![20..35], vec![20..40]));
        assert!(lost(&half_read(true, 40), Some(("ztf/3", 40..50))).is_err());
        assert!(lost(&half_read(false, 0), Some(("ztf/3", 50..60))).unwrap_err().to_string().contains("nothing of that"));
    }
}
