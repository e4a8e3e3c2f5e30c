//! `fink counts`: how many alerts came, by night, partition, band and class.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use indicatif::HumanCount;

use super::ask::{AskArgs, when};
use super::show::columns;
use crate::services::answers::{Answer, NightAnswer, StatisticsAnswer};

const EXAMPLES: &str = "\
Examples:
  fink counts                      all nights
  fink counts --night 2026-11-22   one, in full
  fink counts --json               for scripts

Alerts are counted as in the archive (`fink check`), duplicates among them; by class each is counted once.
Asks the services that run on this machine (`fink start archive services`).";

/// Show how many alerts came, by night, partition, band and class
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CountsArgs {
    /// One observing night, by the local date at which it began
    #[arg(long, value_name = "DATE")]
    night: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs it.
///
/// # Errors
/// When nobody can be asked.
pub fn run(args: &CountsArgs) -> anyhow::Result<ExitCode> {
    let query: Vec<_> = args.night.iter().map(|night| ("night", night.clone())).collect();
    let Some(answer) = args.ask.ask::<Answer<StatisticsAnswer>>("/api/v1/statistics", &query)? else { return Ok(ExitCode::SUCCESS) };
    print!("{}{}", text(&answer.answer.nights), when(&answer.moment, answer.complete));
    Ok(ExitCode::SUCCESS)
}

fn count(count: i64) -> String {
    HumanCount(count.max(0).unsigned_abs()).to_string()
}

/// Nights in a table, and below what all of them come to.
fn text(nights: &[NightAnswer]) -> String {
    let mut rows = vec![["NIGHT", "ALERTS", "VISITS", "UNLIT", "CLASSES"].map(str::to_owned)];
    let (mut partitions, mut bands, mut classes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let add = |sums: &mut BTreeMap<String, i64>, more: &BTreeMap<String, i64>| {
        more.iter().for_each(|(name, count)| *sums.entry(name.clone()).or_insert(0) += count);
    };
    for night in nights {
        rows.push([
            night.night.clone().unwrap_or_else(|| "none".to_owned()),
            count(night.alerts),
            count(night.visits),
            count(night.unlit),
            night.classes.len().to_string(),
        ]);
        add(&mut partitions, &night.partitions);
        add(&mut bands, &night.bands);
        add(&mut classes, &night.classes);
    }
    let all: i64 = nights.iter().map(|night| night.alerts).sum();
    let mut text = format!("{}{} alerts\n", columns(&rows), count(all));
    for (title, sums) in [("PARTITION", partitions), ("BAND", bands), ("CLASS", classes)] {
        let mut rows = vec![[title.to_owned(), "ALERTS".to_owned()]];
        rows.extend(sums.into_iter().map(|(name, sum)| [name, count(sum)]));
        if rows.len() > 1 {
            text += &format!("\n{}", columns(&rows));
        }
    }
    text
}
