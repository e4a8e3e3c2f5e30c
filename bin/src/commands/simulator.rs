//! `fink simulator`: what was simulated, compared with what became of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use clap::{Args, Subcommand};
use fink_dataflow::Intervals;
use indicatif::HumanCount;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::classes::{Classes, Known};
use super::show::columns;
use super::truths::{self, CatalogArgs, make};
use crate::audit::rows::Rows;
use crate::audit::snapshot;
use crate::cli::ArchiveArgs;
use crate::config::load;

const EXAMPLES: &str = "\
Examples:
  fink start simulator --brokers localhost:9092 --topic t --count 10000 --truth truth.parquet
  fink start archive --brokers localhost:9092 --topic t --from earliest --until-caught-up
  fink simulator score truth.parquet

For each class of objects: how many messages were sent, how many of them are archived, rejected (as garbled and
truncated ones should be), and missing; and how many rows the archive has twice. Missing are messages that Kafka
confirmed and the archive does not hold. The exit code is 0 when none is missing, none doubled, and none rejected that
was sent whole.

With --at HOST:PORT the services of a running fink are scored too: of each class, how many objects they know, how many of
these with other alerts than the archive holds, and what they take them for. Then the exit code is 0 only where all
objects are known, with all of their alerts. (`fink show --json` tells where a fink listens.)

With --catalog FILE, a catalogue that `fink simulator catalog` made and that these services match, their matches are scored
too: whether each object of it stands nearest to its own row.";

/// Look back on what was simulated
#[derive(Debug, Subcommand)]
pub enum SimulatorCommand {
    /// Compare an archive with the truth of what was sent to it
    Score(ScoreArgs),
    /// Make a catalogue of the sky from the truth of what was sent
    Catalog(CatalogArgs),
}

/// What `fink simulator score` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ScoreArgs {
    /// The file that `fink start simulator --truth` wrote
    #[arg(value_name = "FILE")]
    truth: PathBuf,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Also score what the services of a running fink say: where its web server listens
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
    /// Also score the matches with this catalogue, which `fink simulator catalog` made
    #[arg(long, value_name = "FILE", requires = "at")]
    catalog: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What became of the messages of a class.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
struct Fate {
    /// Messages that Kafka confirmed.
    sent: u64,
    /// Of these, in a table of alerts.
    archived: u64,
    /// Of these, in the rejects.
    rejected: u64,
    /// Of the rejected, those whose bytes were harmed on purpose.
    rejected_harmed: u64,
    /// Of these, nowhere.
    missing: u64,
    /// Messages that Kafka never confirmed: nobody can hold the archive to them.
    unconfirmed: u64,
}

/// The whole comparison.
#[derive(Debug, Default, Serialize)]
struct Score {
    topic: String,
    classes: BTreeMap<String, Fate>,
    all: Fate,
    /// Rows that the archive has twice, of these topics.
    doubled: u64,
    /// What services say of the objects, where they were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Classes>,
}

impl Score {
    fn right(&self) -> bool {
        self.all.missing == 0 && self.doubled == 0 && self.all.rejected == self.all.rejected_harmed
    }

    /// Whether the services, if they were asked, know what the archive holds.
    fn known(&self) -> bool {
        self.services.as_ref().is_none_or(Classes::right)
    }
}

/// Runs it.
///
/// # Errors
/// When the truth or the archive can't be read.
pub fn run(command: &SimulatorCommand) -> anyhow::Result<ExitCode> {
    match command {
        SimulatorCommand::Score(args) => run_score(args),
        SimulatorCommand::Catalog(args) => make(args),
    }
}

fn run_score(args: &ScoreArgs) -> anyhow::Result<ExitCode> {
    let configured = load(args.archive.config.as_deref(), args.archive.flags())?;
    let archive = super::check::open(&configured)?;
    let snapshot = snapshot::take(&archive)?;
    let mut rows = Rows::default();
    for table in &snapshot.tables {
        rows.read(&archive, table)?;
    }
    let (mut score, mut objects) = score(&args.truth, &rows)?;
    if let Some(catalog) = &args.catalog {
        let names = truths::names(catalog)?;
        objects.iter_mut().for_each(|(name, known)| known.catalogued = Some(names.contains(name)));
    }
    score.services = args.at.as_ref().map(|address| Classes::ask(address, &objects)).transpose()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&score)?);
    } else {
        print!("{}", text(&score));
    }
    Ok(if score.right() && score.known() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the archive holds of a topic, by partition.
#[derive(Default)]
struct Held {
    alerts: BTreeMap<i32, Intervals>,
    rejects: BTreeMap<i32, Intervals>,
    doubled: u64,
}

impl Held {
    fn of(rows: &Rows, topic: &str) -> Self {
        let mut held = Self::default();
        for (logs, by_partition) in [(&rows.alerts, &mut held.alerts), (&rows.rejects, &mut held.rejects)] {
            for (log, rows) in logs.iter().filter(|(log, _)| &*log.topic == topic) {
                let intervals = by_partition.entry(log.partition).or_default();
                rows.offsets.iter().for_each(|interval| {
                    intervals.insert(interval);
                });
                held.doubled += rows.doubled;
            }
        }
        held
    }
}

/// The comparison, and the objects of which the archive holds alerts.
fn score(truth: &Path, rows: &Rows) -> anyhow::Result<(Score, BTreeMap<String, Known>)> {
    let place = || format!("the truth can't be read from {}", truth.display());
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(truth).with_context(place)?).with_context(place)?;
    let wanted = ["topic", "partition", "offset", "class", "harm", "object", "alert_id"];
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let mut score = Score::default();
    let mut held: Option<Held> = None;
    let mut objects: BTreeMap<String, Known> = BTreeMap::new();
    for batch in builder.with_projection(mask).with_batch_size(8192).build()? {
        let batch = batch.with_context(place)?;
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("{} has no column {name}", truth.display()));
        let (topic, class, harm) = (column("topic")?, column("class")?, column("harm")?);
        let (partition, offset) = (column("partition")?.as_primitive::<Int32Type>(), column("offset")?.as_primitive::<Int64Type>());
        let (topic, class, harm) = (topic.as_string::<i32>(), class.as_string::<i32>(), harm.as_string::<i32>());
        let (object, alert) = (column("object")?.as_string::<i32>(), column("alert_id")?.as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            if held.is_none() {
                score.topic = topic.value(row).to_owned();
                held = Some(Held::of(rows, &score.topic));
            }
            ensure!(topic.value(row) == score.topic, "{} is of several topics", truth.display());
            let name = if class.is_valid(row) { class.value(row) } else { "replayed" };
            let fate = score.classes.entry(name.to_owned()).or_default();
            let at = offset.is_valid(row).then(|| (partition.value(row), offset.value(row)));
            let archived = fate.add(at, !harm.value(row).is_empty(), held.as_ref().unwrap_or(&Held::default()));
            if archived && object.is_valid(row) && alert.is_valid(row) {
                let known = objects.entry(object.value(row).to_owned()).or_default();
                name.clone_into(&mut known.class);
                known.alerts.insert(alert.value(row));
            }
        }
    }
    for fate in score.classes.values() {
        score.all.merge(fate);
    }
    score.doubled = held.map_or(0, |held| held.doubled);
    Ok((score, objects))
}

impl Fate {
    /// Counts a message. Returns whether it is archived.
    fn add(&mut self, at: Option<(i32, i64)>, harmed: bool, held: &Held) -> bool {
        let Some((partition, offset)) = at else {
            self.unconfirmed += 1;
            return false;
        };
        let within = |logs: &BTreeMap<i32, Intervals>| logs.get(&partition).is_some_and(|intervals| intervals.contains(offset));
        self.sent += 1;
        let archived = within(&held.alerts);
        if archived {
            self.archived += 1;
        } else if within(&held.rejects) {
            self.rejected += 1;
            self.rejected_harmed += u64::from(harmed);
        } else {
            self.missing += 1;
        }
        archived
    }

    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.archived += other.archived;
        self.rejected += other.rejected;
        self.rejected_harmed += other.rejected_harmed;
        self.missing += other.missing;
        self.unconfirmed += other.unconfirmed;
    }
}

fn text(score: &Score) -> String {
    let head = ["class", "sent", "archived", "rejected", "of these harmed", "missing", "complete"].map(str::to_owned);
    let row = |name: &str, fate: &Fate| {
        let counts = [fate.sent, fate.archived, fate.rejected, fate.rejected_harmed, fate.missing];
        let [sent, archived, rejected, harmed, missing] = counts.map(|count| HumanCount(count).to_string());
        let complete = 100.0 * (fate.sent - fate.missing) as f64 / fate.sent.max(1) as f64;
        [name.to_owned(), sent, archived, rejected, harmed, missing, format!("{complete:.3} %")]
    };
    let mut table = vec![head];
    table.extend(score.classes.iter().map(|(name, fate)| row(name, fate)));
    table.push(row("all", &score.all));
    let mut text = format!("topic {}\n\n{}\n{} rows are there twice\n", score.topic, columns(&table), HumanCount(score.doubled));
    if score.all.unconfirmed > 0 {
        text += &format!("{} messages were never confirmed by Kafka, and are not counted\n", HumanCount(score.all.unconfirmed));
    }
    text += if score.right() { "all that was sent is there, once\n" } else { "NOT all that was sent is there, once\n" };
    if let Some(services) = &score.services {
        text += &format!("\n{}", services.text());
    }
    text
}
