//! `fink stop`: ends what runs, after it has finished its open commit.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::rundir::{RunDir, Status};

const EXAMPLES: &str = "\
Examples:
  fink stop archive       every archive service of this machine (of this user's run folder)
  fink stop services      every process of services that follow an archive
  fink stop 12345         the one with this pid
  fink stop all           everything

It waits until they have ended. Exit code 0: all have; 1: nothing to stop, or one runs on.";

/// Stop services: each finishes its open commit first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StopArgs {
    /// A service (archive, services, simulator), a --name that services were given, a pid, or all
    #[arg(default_value = "all", value_name = "SERVICE|PID|all")]
    service: String,
    /// How long to wait for them
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
}

/// Runs it.
///
/// # Errors
/// When a process may not be sent a signal.
pub fn run(args: &StopArgs) -> anyhow::Result<ExitCode> {
    let wanted = |status: &Status| {
        let named = [Some(&status.service), status.name.as_ref()].contains(&Some(&args.service));
        args.service == "all" || named || args.service == status.process.pid.to_string()
    };
    let running: Vec<Status> = RunDir::usual().running().into_iter().filter(wanted).collect();
    if running.is_empty() {
        match args.service.as_str() {
            "all" => println!("No fink service to stop"),
            service => println!("No fink {service} service to stop"),
        }
        return Ok(ExitCode::FAILURE);
    }
    for status in &running {
        println!("Stopping {} (pid {})...", status.service, status.process.pid);
        status.process.terminate().with_context(|| format!("pid {}", status.process.pid))?;
    }
    let mut all = true;
    for status in &running {
        let mut ticks = 0u32;
        let ended = status.process.wait(Duration::from_secs(args.timeout), || {
            ticks += 1;
            if ticks % 20 == 0 && std::io::stdout().is_terminal() {
                print!("\r  {} finishes its open commit: {} s", status.service, ticks / 20);
                let _ = std::io::stdout().flush();
            }
        });
        let pid = status.process.pid;
        let lead = if ticks >= 20 && std::io::stdout().is_terminal() { "\r" } else { "" };
        if ended {
            println!("{lead}Stopped {} (pid {pid}){}", status.service, if lead.is_empty() { "" } else { "                    " });
        } else {
            all = false;
            println!("{lead}{} (pid {pid}) still runs after {} s", status.service, args.timeout);
        }
    }
    // A process that was killed meanwhile left its file.
    let _ = RunDir::usual().running();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
