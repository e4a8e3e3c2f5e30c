//! `fink show`: what runs on this machine, since when, how fast, how far behind.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use crate::cluster::crew::Member;
use crate::crashes;
use crate::rundir::{RunDir, Seat, Status, now_ms};
use crate::services::desk::Stand;
use crate::session::FOLLOWERS;

const EXAMPLES: &str = "\
Examples:
  fink show
  fink show --watch            again every second
  fink show --json             for scripts: a list, with all figures";

/// Services that are so far behind the archive which they follow are said to stand still.
const STILL_MS: i64 = 4_000;

/// Show what runs: since when, rates, lag, last commit
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Runs it.
///
/// # Errors
/// None today.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::usual();
    loop {
        let running = run_dir.running();
        if args.watch && !args.json {
            // Clears the screen, and writes from its top.
            print!("\x1b[2J\x1b[H");
        }
        if args.json {
            println!("{}", serde_json::to_string(&running)?);
        } else {
            print!("{}", table(&running, now_ms()));
            crashes::lines(&crashes::recent(&run_dir), now_ms()).iter().for_each(|line| println!("{line}"));
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The table for people.
fn table(running: &[Status], now_ms: i64) -> String {
    let mut text = format!("{} Fink service(s) running:\n", running.len());
    if running.is_empty() {
        return text + "Use <fink start archive --simulator> to start one.\n";
    }
    let mut rows =
        vec![["SERVICE", "PID", "UP", "MESSAGES", "PER S", "BYTES/S", "BEHIND", "REJECTED", "LAST COMMIT", "OUTPUT"].map(str::to_owned)];
    for status in running {
        let figures = &status.figures;
        rows.push([
            name(status),
            status.process.pid.to_string(),
            ago(now_ms - status.since_ms),
            HumanCount(figures.messages).to_string(),
            format!("{:.1}", status.messages_per_s),
            HumanBytes(status.bytes_per_s.max(0.0) as u64).to_string(),
            behind(status),
            HumanCount(figures.rejected).to_string(),
            match (figures.last_commit_ms, status.service.as_str()) {
                (Some(at), _) => format!("{} ago", ago(now_ms - at)),
                (None, FOLLOWERS | "replay") => "-".to_owned(),
                (None, _) => "none yet".to_owned(),
            },
            status.output.clone(),
        ]);
    }
    text += &columns(&rows);
    for status in running {
        let (service, pid) = (name(status), status.process.pid);
        let silent_ms = now_ms - status.updated_ms;
        if silent_ms > 5_000 {
            text += &format!("{service} (pid {pid}) has said nothing for {}\n", ago(silent_ms));
        }
        if let Some(late_ms) = late_ms(status).filter(|late| *late > STILL_MS) {
            text += &format!("{service} (pid {pid}): the answers stand still, {} behind what is archived\n", ago(late_ms));
        }
        if status.stopping {
            text += &format!("{service} (pid {pid}) is stopping\n");
        }
        // Of a cluster the leading process speaks for all.
        let leads = status.seat.is_none_or(|seat| seat.process == 0);
        for line in status.figures.standing.iter().filter(|_| leads).flat_map(|standing| standing.lines()) {
            text += &format!("{service} (pid {pid}): {line}\n");
        }
        for line in status.figures.services.iter().flat_map(Stand::lines) {
            text += &format!("{service} (pid {pid}): {line}\n");
        }
        for member in status.figures.members.iter().skip(1) {
            text += &format!("{service} (pid {pid}): {}\n", said(member));
        }
        if let Some(trouble) = &status.figures.trouble {
            text += &format!("{service} (pid {pid}): {trouble}\n");
        }
    }
    text + "Use <fink stop SERVICE> or <fink stop all> to stop.\n"
}

/// How far services that follow an archive are behind it, in milliseconds.
fn late_ms(status: &Status) -> Option<i64> {
    status.figures.services.as_ref()?.until_ms.map(|until| status.updated_ms - until)
}

/// How far a service is behind: by messages, or, where it follows an archive, by time.
fn behind(status: &Status) -> String {
    let followed = late_ms(status).map(ago);
    let lag = status.figures.lag.map(|lag| HumanCount(lag).to_string());
    lag.or(followed).unwrap_or_else(|| "?".to_owned())
}

/// A service's name; of a cluster with its process. What process 0 says is of all.
fn name(status: &Status) -> String {
    match status.seat {
        None => status.name.clone().unwrap_or_else(|| status.service.clone()),
        Some(Seat { process: 0, processes }) => format!("{} (all {processes})", status.service),
        Some(Seat { process, .. }) => format!("{}: process {process}", status.service),
    }
}

/// What the leading process knows of another.
fn said(member: &Member) -> String {
    let Member { process, address, .. } = member;
    match member.silent_s {
        None => format!("process {process} at {address} has not said anything yet"),
        Some(silent_s) if silent_s > 5.0 => format!("process {process} at {address} has said nothing for {silent_s:.0} s"),
        Some(_) => {
            let behind = member.lag.map_or("?".to_owned(), |lag| HumanCount(lag).to_string());
            format!("process {process} at {address}: {} messages, {behind} behind", HumanCount(member.messages))
        }
    }
}

/// Rows as aligned columns: the first row is the header.
pub(crate) fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows = || rows.iter().map(AsRef::as_ref);
    let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows().next().map_or(0, <[String]>::len)).map(width).collect();
    let mut text = String::new();
    for row in rows() {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A time span for people, in its two largest units.
pub(crate) fn ago(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..10 => format!("{:.1} s", ms.max(0) as f64 / 1000.0),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use crate::session::Figures;

    #[test]
    fn shows_one_line_a_service_and_what_troubles_it() {
        let figures = Figures {
            messages: 12_345,
            lag: Some(7),
            last_commit_ms: Some(99_600),
            trouble: Some("kafka: 127.0.0.1:9092 does not answer".to_owned()),
            ..Figures::default()
        };
        let status = Status {
            service: "archive".to_owned(),
            name: None,
            process: Process { pid: 41, started: 1, boot: String::new() },
            version: "0.1.0".to_owned(),
            output: "./archive".to_owned(),
            input: "kafka".to_owned(),
            http: None,
            services: Vec::new(),
            seat: None,
            since_ms: 10_000,
            updated_ms: 99_000,
            stopping: false,
            messages_per_s: 9.96,
            bytes_per_s: 2048.0,
            figures,
        };
        let text = table(&[status], 100_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1 Fink service(s) running:");
        assert_eq!(lines[2], "archive  41   1 min 30 s  12,345    10.0   2.00 KiB  7       0         0.4 s ago    ./archive");
        assert_eq!(lines[3], "archive (pid 41): kafka: 127.0.0.1:9092 does not answer");
        assert_eq!(lines[4], "Use <fink stop SERVICE> or <fink stop all> to stop.");
    }

    #[test]
    fn a_clusters_processes_are_told_apart() {
        let member =
            |process, silent_s| Member { process, address: "h:1".to_owned(), messages: 1_200, lag: Some(3), silent_s, ..Member::default() };
        assert_eq!(said(&member(1, Some(0.4))), "process 1 at h:1: 1,200 messages, 3 behind");
        assert_eq!(said(&member(2, Some(7.0))), "process 2 at h:1 has said nothing for 7 s");
        assert_eq!(said(&member(2, None)), "process 2 at h:1 has not said anything yet");
    }

    #[test]
    fn says_spans_in_two_units() {
        assert_eq!([400, 12_000, 62_000, 3_700_000, 90_000_000].map(ago), ["0.4 s", "12 s", "1 min 2 s", "1 h 1 min", "1 d 1 h"]);
    }
}
