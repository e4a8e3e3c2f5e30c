//! `fink rejects`: what could not be decoded, and trying it again.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::check::open;
use super::show::columns;
use crate::cli::{ArchiveArgs, SchemaArgs};
use crate::config::load;
use crate::input::Library;
use crate::repair::rejects::{Place, Rejected, Which, files, read};
use crate::repair::{retry::Retry, take};

const EXAMPLES: &str = "\
Examples:
  fink rejects list                                   all, with place, fault and reason
  fink rejects list --fault schema-unknown --topic lsst
  fink rejects show ztf/3/1170                        one of them, with the beginning of its bytes
  fink rejects show ztf/3/1170 --payload message.bin  and its whole payload into a file
  fink rejects retry                                  decode all again, with today's schemas
  fink rejects retry --registry https://registry.example.org --topic lsst

A retry that succeeds moves the message from the rejects to the alerts, in one commit. The archive service must be
stopped for it, and goes on afterwards where it was. What crashed the decoder is left out unless it is named.";

/// List, show and retry what could not be decoded
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RejectsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, with place, fault and reason
    List(ListArgs),
    /// Show one, with the beginning of its bytes
    Show(ShowArgs),
    /// Decode them again, with today's schemas
    Retry(RetryArgs),
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// Only of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only with this fault, such as truncated or schema-unknown
    #[arg(long)]
    fault: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// As JSON, a line each
    #[arg(long)]
    json: bool,
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Its place, as `fink rejects list` shows it
    #[arg(value_name = "TOPIC/PARTITION/OFFSET")]
    place: Place,
    /// Write its whole payload into this file
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RetryArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Only these messages
    #[arg(value_name = "TOPIC/PARTITION/OFFSET")]
    places: Vec<Place>,
    #[command(flatten)]
    schemas: SchemaArgs,
}

/// Runs it.
///
/// # Errors
/// When the archive can't be read, or, for a retry, written.
pub fn run(args: &RejectsArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List(args) => list(args),
        What::Show(args) => show(args),
        What::Retry(args) => retry_all(args),
    }
}

impl WhichArgs {
    fn which(&self, places: Vec<Place>) -> Which {
        Which { places, topic: self.topic.clone(), fault: self.fault.clone() }
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let archive = open(&args.archive.load()?)?;
    let which = args.which.which(Vec::new());
    let mut found = Vec::new();
    let (mut all, mut bytes) = (0u64, 0u64);
    for file in files(&archive)? {
        bytes += file.size;
        for reject in read(&archive, &file, false)?.into_iter().filter(|reject| which.holds(reject)) {
            all += 1;
            if found.len() < args.limit {
                found.push(reject);
            }
        }
    }
    if args.json {
        for reject in &found {
            println!("{}", json(reject));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["PLACE", "SENT", "FAULT", "REASON"].map(str::to_owned)];
    rows.extend(found.iter().map(|reject| [place(reject), sent(reject), reject.fault.clone(), reject.reason.clone()]));
    if !found.is_empty() {
        print!("{}", columns(&rows));
    }
    println!("{all} rejects ({} shown), {} in the table", found.len(), indicatif::HumanBytes(bytes));
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let archive = open(&args.archive.load()?)?;
    let which = Which { places: vec![args.place.clone()], ..Which::default() };
    let mut found = 0;
    for file in files(&archive)? {
        // The light columns say whether the heavy ones are worth reading.
        if !read(&archive, &file, false)?.iter().any(|reject| which.holds(reject)) {
            continue;
        }
        for reject in read(&archive, &file, true)?.iter().filter(|reject| which.holds(reject)) {
            found += 1;
            let payload = reject.message.payload.as_deref();
            println!("place    {}\nsource   {}\nsent     {}", place(reject), reject.log.source, sent(reject));
            println!("fault    {}\nreason   {}", reject.fault, reject.reason);
            println!("key      {}", reject.message.key.as_deref().map_or("none".to_owned(), hex));
            println!("payload  {}", payload.map_or("none".to_owned(), |bytes| format!("{} bytes", bytes.len())));
            println!("{}", payload.map(hex).unwrap_or_default());
            if let (Some(file), Some(payload)) = (&args.payload, payload) {
                let mut out = std::fs::File::create(file).with_context(|| file.display().to_string())?;
                out.write_all(payload).with_context(|| file.display().to_string())?;
            }
        }
    }
    if found == 0 {
        eprintln!("there is no such reject");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn retry_all(args: &RetryArgs) -> anyhow::Result<ExitCode> {
    let mut flags = args.archive.flags();
    flags.extend(args.schemas.flags());
    let configured = load(args.archive.config.as_deref(), flags)?;
    let (archive, schemas) = (open(&configured)?, configured.schemas()?);
    let (committer, routes) = take(&archive)?;
    let (library, piece_bytes) = (Library::open(&schemas)?, configured.commit()?.group_bytes);
    let mut retry = Retry { archive: &archive, committer: &committer, routes: &routes, library, piece_bytes };
    let done = retry.run(&args.which.which(args.places.clone()));
    committer.stop()?;
    let done = done?;
    if done.spared > 0 {
        println!("{} rejects crashed the decoder, and were left out: name them, by --fault crashed or by their places", done.spared);
    }
    println!("{} rejects tried: {} moved to the alerts, {} are still rejected", done.tried, done.moved, done.tried - done.moved);
    Ok(ExitCode::SUCCESS)
}

fn place(reject: &Rejected) -> String {
    format!("{}/{}", reject.log, reject.message.offset)
}

fn sent(reject: &Rejected) -> String {
    let time = reject.message.timestamp_ms.and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or("no time".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn json(reject: &Rejected) -> serde_json::Value {
    serde_json::json!({
        "source": reject.log.source, "topic": reject.log.topic, "incarnation": reject.log.incarnation,
        "partition": reject.log.partition, "offset": reject.message.offset, "timestamp_ms": reject.message.timestamp_ms,
        "fault": reject.fault, "reason": reject.reason,
    })
}

/// The first bytes, in hexadecimal and as text.
fn hex(bytes: &[u8]) -> String {
    let line = |(number, bytes): (usize, &[u8])| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }).collect();
        format!("  {:06x}  {:<47}  {text}", number * 16, hex.join(" "))
    };
    let lines: Vec<String> = bytes.chunks(16).enumerate().take(16).map(line).collect();
    lines.join("\n")
}
