//! Which part of a cluster `fink start` is to be: all there is, one process of several, or their supervisor.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use fink_dataflow::mesh::Place;

use crate::cluster::supervisor::Hosts;
use crate::cluster::{hosts, may_listen};

/// Several processes, one archive.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Run the archive as N processes of this machine, and start all again when one dies or stands still
    #[arg(long, value_name = "N", conflicts_with_all = ["hosts", "process"], value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: Option<u16>,
    /// Be one of several processes: a file with a line HOST:PORT for each, the same for all
    #[arg(long, value_name = "FILE", requires = "process")]
    hosts: Option<PathBuf>,
    /// Which of them, from 0; with --supervise also several, such as 2,3
    #[arg(long, value_name = "I", value_delimiter = ',')]
    process: Vec<usize>,
    /// With --hosts: run these processes as children, and start them again when one dies or stands still
    #[arg(long, requires = "hosts")]
    supervise: bool,
    /// Listen for the other processes where other machines reach it: nobody is asked who he is, the network must be private
    #[arg(long)]
    mesh_public: bool,
    /// What a supervisor tells its processes
    #[arg(long, hide = true, value_delimiter = ',', requires = "process", conflicts_with = "hosts")]
    mesh: Vec<String>,
}

/// What this process is to be.
pub(super) enum Part {
    /// All there is.
    Alone,
    /// One of several.
    One(Place),
    /// What starts some of them, and starts them again.
    Supervisor(Vec<usize>, Hosts),
}

impl ClusterArgs {
    /// The flag that asks for others, and whether one does.
    pub(super) fn given(&self) -> (&'static str, bool) {
        match self.processes {
            Some(_) => ("--processes", true),
            None => ("--process", !self.process.is_empty() || self.hosts.is_some()),
        }
    }

    /// Which part that is.
    ///
    /// # Errors
    /// A text for a person, when it can't be.
    pub(super) fn part(&self) -> anyhow::Result<Part> {
        if let Some(processes) = self.processes {
            let processes = usize::from(processes);
            return Ok(Part::Supervisor((0..processes).collect(), Hosts::Here(processes)));
        }
        let addresses = match &self.hosts {
            Some(file) => hosts(file).map_err(|what| anyhow::anyhow!("--hosts: {what}"))?,
            None if !self.mesh.is_empty() => self.mesh.clone(),
            None if !self.process.is_empty() => anyhow::bail!("--process: which of what? Give --hosts FILE too"),
            None => return Ok(Part::Alone),
        };
        let mut processes = self.process.clone();
        processes.sort_unstable();
        processes.dedup();
        for &process in &processes {
            if process >= addresses.len() {
                anyhow::bail!("--process {process}: there are {} hosts, so the last process is {}", addresses.len(), addresses.len() - 1);
            }
            let place = Place { process, addresses: addresses.clone() };
            may_listen(&place, self.mesh_public).map_err(|what| anyhow::anyhow!("--hosts: {what}"))?;
        }
        match processes[..] {
            _ if self.supervise => Ok(Part::Supervisor(processes, Hosts::Given(addresses))),
            [process] => Ok(Part::One(Place { process, addresses })),
            _ => anyhow::bail!("--process takes one process; several, as children of this one, with --supervise"),
        }
    }
}

/// What a supervisor starts its processes with, of its own arguments; and what only their first start gets.
pub(super) fn arguments(own: Vec<OsString>, workers: usize) -> (Vec<OsString>, Vec<OsString>) {
    const WITH_VALUE: [&str; 4] = ["--processes", "--hosts", "--process", "--workers"];
    let (mut kept, mut once) = (Vec::new(), Vec::new());
    let mut own = own.into_iter();
    while let Some(argument) = own.next() {
        let text = argument.to_string_lossy().into_owned();
        let name = text.split('=').next().unwrap_or_default();
        if WITH_VALUE.contains(&name) {
            if !text.contains('=') {
                own.next();
            }
        } else if text == "--take-over" {
            // Once more at a new start, and it would push aside whoever took over from us meanwhile.
            once.push(argument);
        } else if text != "--supervise" {
            kept.push(argument);
        }
    }
    kept.extend(["--workers".into(), workers.to_string().into()]);
    (kept, once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_get_the_arguments_of_their_supervisor_but_for_what_is_its_own() {
        let own =
            "start archive --simulator --processes 3 --workers=2 --take-over --rate 5 --hosts f --process=1,2 --supervise --mesh-public";
        let (kept, once) = arguments(own.split(' ').map(OsString::from).collect(), 4);
        assert_eq!(kept, ["start", "archive", "--simulator", "--rate", "5", "--mesh-public", "--workers", "4"].map(OsString::from));
        assert_eq!(once, ["--take-over"].map(OsString::from));
    }
}
