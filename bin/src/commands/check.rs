//! `fink check`: is every message in the archive, once?

use std::process::ExitCode;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::show::columns;
use crate::audit::{self, LogReport, Report, reach::Reach, snapshot};
use crate::cli::{ArchiveArgs, KafkaArgs};
use crate::config::{Configured, load};

const EXAMPLES: &str = "\
Examples:
  fink check                                          the archive of ./fink.toml, or ./archive
  fink check --archive /data/archive --brokers localhost:9092
  fink check --holes                                  also what is lost: exit code 1 if anything is
  fink check --json                                   for scripts

For each partition: what the source holds, what is dealt with, and what became of it. Everything agrees when
messages = archived + rejected + empty, the tables hold exactly these rows, and none twice. Then the exit code
is 0, else 1. With --brokers that also counts partitions of these topics (and of --topic) that nobody ever began
to read. It may run beside the archive service. What the source no longer holds and nobody read is a hole:
`fink hole` accepts or fills it.";

/// Check that every message is in the archive, once
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// List holes, and exit with 1 if there are any that were not accepted
    #[arg(long)]
    holes: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
}

/// Runs it.
///
/// # Errors
/// When the archive can't be read.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut flags = args.archive.flags();
    flags.extend(args.kafka.flags());
    let configured = load(args.archive.config.as_deref(), flags)?;
    let archive = open(&configured)?;
    let reach = Reach::ask(&snapshot::state(&archive)?, configured.kafka_client()?.as_ref(), &configured.config.kafka.topics);
    for trouble in &reach.troubles {
        tracing::warn!("how far the source reaches is not known: {trouble}");
    }
    let report = audit::audit(&archive, &reach)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report, args.holes));
    }
    let right = report.agrees && !(args.holes && report.holes > 0);
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens the archive that is configured, which must be there: a look makes nothing.
///
/// # Errors
/// When it is not there, or can't be opened.
pub(crate) fn open(configured: &Configured) -> anyhow::Result<fink_dataflow::table::Archive> {
    let place = configured.archive()?;
    let local = place.strip_prefix("file://").unwrap_or(&place);
    if !local.contains("://") && !std::path::Path::new(local).join("_fink").is_dir() {
        anyhow::bail!("there is no archive at {local}: name it with --archive, or start one with `fink start archive`");
    }
    Ok(fink_dataflow::table::store::open(&place, &configured.store()?)?)
}

/// The report for people.
fn text(report: &Report, holes: bool) -> String {
    let entry = report.entry.map_or("none".to_owned(), |entry| entry.to_string());
    let mut text = format!("archive {}, entry {entry}, moment {}\n\n", report.archive, report.moment);
    let head = [
        "PARTITION",
        "SOURCE HOLDS",
        "COVERED",
        "MESSAGES",
        "ARCHIVED",
        "REJECTED",
        "EMPTY",
        "ROWS",
        "DOUBLED",
        "BEHIND",
        "LOST",
        "AGREES",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.logs.iter().map(row));
    text += &columns(&rows);
    text.push('\n');
    let mut rows = vec![["TABLE", "VERSION", "FILES", "SIZE", "ROWS", "AGREES"].map(str::to_owned)];
    for table in &report.tables {
        rows.push([
            table.table.clone(),
            table.version.map_or("none".to_owned(), |version| version.to_string()),
            HumanCount(table.files).to_string(),
            HumanBytes(table.bytes).to_string(),
            HumanCount(table.rows).to_string(),
            yes_no(table.faults.is_empty()),
        ]);
    }
    text += &columns(&rows);
    let faults = report.logs.iter().flat_map(|log| log.faults.iter().map(move |fault| (audit::name(log), fault)));
    let faults: Vec<_> =
        faults.chain(report.tables.iter().flat_map(|t| t.faults.iter().map(move |fault| (t.table.clone(), fault)))).collect();
    if !faults.is_empty() {
        text.push('\n');
    }
    for (place, fault) in faults {
        text += &format!("{place}: {fault}\n");
    }
    if holes {
        text += &holes_text(report);
    }
    text.push('\n');
    text += if report.agrees { "All agree.\n" } else { "NOT ALL AGREE.\n" };
    if report.holes > 0 {
        text += &format!("{} offsets are lost or not read yet: `fink hole list` says which.\n", HumanCount(report.holes));
    }
    text
}

fn row(log: &LogReport) -> [String; 12] {
    let holds = match (log.low, log.high) {
        (Some(low), Some(high)) => format!("{low}..{high}"),
        _ => "?".to_owned(),
    };
    let covered = match log.covered.as_slice() {
        [] => "nothing".to_owned(),
        [(start, end)] => format!("{start}..{end}"),
        many => format!("{}..{} in {} parts", many[0].0, many[many.len() - 1].1, many.len()),
    };
    let lost: i64 = log.holes.iter().map(|(start, end)| end - start).sum();
    let count = |n: u64| HumanCount(n).to_string();
    [
        audit::name(log),
        holds,
        covered,
        count(log.messages),
        count(log.archived),
        count(log.rejected),
        count(log.empty),
        count(log.rows_in_tables),
        count(log.doubled),
        if log.high.is_some() { count(log.behind) } else { "?".to_owned() },
        lost.to_string(),
        yes_no(log.faults.is_empty()),
    ]
}

/// Each hole on a line.
pub(crate) fn holes_text(report: &Report) -> String {
    let mut text = String::new();
    for log in &report.logs {
        for (start, end) in &log.holes {
            let why = if log.asked { "the source holds them no longer" } else { "not dealt with; the source was not asked" };
            text += &format!("{} {start}..{end}: {} offsets, {why} ({})\n", audit::name(log), end - start, log.source);
        }
    }
    if text.is_empty() { "no holes\n".to_owned() } else { text }
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "NO" }.to_owned()
}
