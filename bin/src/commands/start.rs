//! `fink start`: starts services in this process, until they are asked to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use fink_dataflow::mesh::Place;
use indicatif::HumanBytes;

use super::part::{ClusterArgs, Part, arguments};
use super::simulate::{Common, SimulatorArgs};
use crate::allocator::keep_freed;
use crate::cli::{ArchiveArgs, KafkaArgs};
use crate::cluster::supervisor::{Hosts, Plan, supervise};
use crate::cluster::{AGAIN, Again};
use crate::config::resolve::{Choices, Which};
use crate::config::{Configured, Flag, load};
use crate::crashes;
use crate::follow::run_services;
use crate::own::{self, Own};
use crate::run::{run_archive, run_simulator};
use crate::rundir::{RunDir, Status};
use crate::services::{Chosen, Service};
use crate::session::{FOLLOWERS, Session};
use crate::settings::{AlertSize, AlertSurvey, ArchiveRun, End, Fence, Incarnation, Input, SimulatorRun};

/// The exit code of a run that should have ended when it had caught up, and was ended before.
const NOT_CAUGHT_UP: u8 = 3;

/// The services, and what each is.
const SERVICES: [(&str, &str); 8] = [
    ("archive", "listens, decodes each alert once, and archives all of them exactly once"),
    ("services", "what alerts and objects are: objects, crossmatch, classify and monitor; with `archive`, in its graph"),
    ("objects", "of these: the light curve of each object, and what follows from it"),
    ("crossmatch", "of these: what stands in catalogues and other surveys at each object's place"),
    ("classify", "of these: what each object is taken for, since when, and why"),
    ("monitor", "of these: counts by partition, night, band and visit"),
    ("simulator", "sends alerts of a synthetic sky, or a folder of Avro files, to a Kafka topic"),
    ("all", "all that belong together: archive and services"),
];

const EXAMPLES: &str = "\
Services:
  archive     listens, decodes each alert once, and archives all of them exactly once
  services    what alerts and objects are; or some of them, by name: objects, crossmatch, classify, monitor.
              With `archive`: in its process and graph. Alone: in a process of their own, on this machine or
              another, which follows what an archive commits, writes nothing, and does not disturb it
  simulator   sends alerts of a synthetic sky, or a folder of Avro files, to a Kafka topic
  all         all that belong together: archive and services

Examples:
  fink start archive --simulator --archive ./archive
      the built-in stream: nothing else is needed. Ctrl-C ends it; started again, it goes on where it was
  fink start archive services --simulator
      and what the alerts are about: ask with `fink object`, `fink cone` and `fink counts`, or over HTTP
  fink start services --archive ./archive
      the same in a process of their own: they follow an archive that another process writes
  fink start monitor --archive hdfs://namenode:8020/fink --name counts
      a second one, with a name by which it is shown and stopped: any number may follow an archive
  fink start archive --brokers localhost:9092 --topic ztf_20260101 --from earliest
      a Kafka topic from its start; once begun, it goes on after what is stored, whatever --from says
  fink start archive --brokers localhost:9092 --topic '^ztf_.*' --archive hdfs://namenode:8020/fink
      all topics of a pattern, also those that are born later
  fink start archive --brokers localhost:9092 --topic t --from earliest --until-caught-up
      for scripts: ends with exit code 0 when all that was there at the start is in the tables (3: it was ended before)
  fink start archive --files ./alerts --until-caught-up
      a folder of Avro files
  fink start archive --brokers localhost:9092 --topic t --processes 3
      three processes share the partitions; one that dies or stands still is started again, with the others
  fink start archive --brokers kafka:9092 --topic t --archive s3://b/a --hosts hosts.txt --process 1 --mesh-public
      one of several, on a machine each: docs/cluster.md
  fink start simulator --brokers localhost:9092 --topic test --count 1000 --rate 50 --truth truth.parquet
      sends 1,000 alerts of a synthetic sky to a Kafka, as ZTF would, and writes what is true of each
  fink start simulator --brokers localhost:9092 --topic lsst --survey lsst --visits --registry http://localhost:8081
      Rubin's shape: 10,000 alerts every 37 s, in Confluent's framing with their schema in the registry
  fink start simulator --brokers localhost:9092 --topic test --night 2026-11-22 --nights 3 --speed 10
      three nights, ten times as fast as they were
  fink start simulator --brokers localhost:9092 --topic test --count 10000 --delayed 0.01 --duplicated 0.02 --garbled 0.001
      trouble on request; `fink simulator score` then says what the archive made of it
  fink start simulator --brokers localhost:9092 --topic test --from ./alerts --interval 0.1
      replays a folder of Avro files, a file every tenth of a second";

/// Start services in this process: archive, services, simulator
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct StartArgs {
    /// archive, services (or objects, crossmatch, classify, monitor), simulator or all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Check the configuration, say what it comes to, and start nothing
    #[arg(long)]
    check_config: bool,
    /// Services that follow an archive: what this process is called, where there are several [default: services]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// End after so many seconds
    #[arg(long, alias = "exit_after", value_name = "SECONDS", value_parser = seconds)]
    exit_after: Option<Duration>,
    /// End when all that was there at the start is durable in the tables
    #[arg(long)]
    until_caught_up: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    simulator: SimulatorArgs,
}

/// What only the archive takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Archive")]
struct ListenArgs {
    /// Where to start in partitions of which nothing is stored: earliest, latest, a time, or 0:OFFSET,1:OFFSET [default: latest];
    /// with the simulator: the folder that it replays
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Listen to the built-in stream: nothing else is needed
    #[arg(long, conflicts_with_all = ["brokers", "topics", "files"])]
    simulator: bool,
    /// Listen to a folder of Avro files
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["brokers", "topics"])]
    files: Option<PathBuf>,
    /// Threads that decode [default: one a core, at most 4]
    #[arg(long, value_name = "N")]
    workers: Option<u64>,
    /// How many lanes read: 2, a backlog beside what comes now; 1, all in order [default: 2]
    #[arg(long, value_name = "N")]
    lanes: Option<u64>,
    /// Serve progress on a port of this machine, or at HOST:PORT [default: no web server]
    #[arg(long, value_name = "PORT")]
    http: Option<String>,
    /// Make a commit so often [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    commit_interval: Option<Duration>,
    /// The schema registry of messages in Confluent's framing
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// A folder of schemas by id, instead of a registry
    #[arg(long, value_name = "FOLDER")]
    schemas: Option<PathBuf>,
    /// The schema of messages that are bare datums: an .avsc file, or an Avro file with that schema
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Go on with a topic that was recreated or truncated, or with another cluster, as a new incarnation of it
    #[arg(long)]
    new_incarnation: bool,
    /// Take the archive over from a process that still holds it; that one commits nothing more
    #[arg(long)]
    take_over: bool,
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "takes seconds, such as 30 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "takes seconds, 0 or more".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let taken = text == "all" || text.parse::<u64>().is_ok() || SERVICES.iter().any(|(service, _)| *service == text);
    match text {
        "" => Err("is empty".to_owned()),
        _ if !text.chars().all(plain) => Err("takes letters, digits, - _ and .".to_owned()),
        _ if taken => Err("is what `fink stop` calls something else".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Runs it.
///
/// # Errors
/// When the configuration is wrong, or a service can't start or go on.
pub fn run(args: &StartArgs) -> anyhow::Result<ExitCode> {
    if let Some(code) = mistaken(&args.services) {
        return Ok(code);
    }
    keep_freed();
    let configured = load(args.archive.config.as_deref(), args.flags())?;
    let any = |names: &[&str]| args.services.iter().any(|service| names.contains(&service.as_str()));
    match () {
        () if any(&["simulator"]) => simulator(args, &configured),
        () if any(&["archive", "all"]) => archive(args, &configured),
        () => services(args, &configured),
    }
}

/// Says what is wrong with the services' names.
fn mistaken(services: &[String]) -> Option<ExitCode> {
    let known = || SERVICES.into_iter().chain(own::known().iter().map(|own| (own.name(), own.about())));
    let list = || known().map(|(name, about)| format!("  {name:<11} {about}\n")).collect::<String>();
    if services.is_empty() {
        eprint!("start requires an argument. Available services are:\n{}", list());
        return Some(ExitCode::FAILURE);
    }
    if let Some(unknown) = services.iter().find(|service| known().all(|(name, _)| name != service.as_str())) {
        eprint!("unknown service: {unknown}\nAvailable services are:\n{}", list());
        return Some(ExitCode::FAILURE);
    }
    if services.iter().any(|service| service == "simulator") && services.iter().any(|service| service != "simulator") {
        eprintln!("the simulator sends to a Kafka: start it as a process of its own, or give the archive --simulator, which needs none");
        return Some(ExitCode::FAILURE);
    }
    None
}

/// Services in a process of their own.
fn services(args: &StartArgs, configured: &Configured) -> anyhow::Result<ExitCode> {
    if let Some(flag) = args.of_the_archive() {
        let names = args.services.join(" ");
        anyhow::bail!(
            "{flag} is the archive's: `fink start {names} --archive ...` follows an archive that another process writes. \
             Start both in one process with `fink start archive {names} {flag} ...`"
        );
    }
    let run = configured.follow_run(&args.choices(None))?;
    let names = run.services.names().join(", ");
    if args.check_config {
        println!("the configuration is right\nfollows   {}\nservices  {names}\nworkers   {}", run.archive, run.workers);
        return Ok(ExitCode::SUCCESS);
    }
    let run_dir = RunDir::usual();
    let own = args.name.as_deref().unwrap_or(FOLLOWERS);
    let called = |status: &Status| status.service == FOLLOWERS && status.name.as_deref().unwrap_or(FOLLOWERS) == own;
    if let Some(other) = run_dir.running().into_iter().find(|status| called(status) && status.output == run.archive) {
        anyhow::bail!(
            "`{own}` follows {} already (pid {}): stop it first, `fink stop {}`, or give these a name of their own, --name NAME",
            other.output,
            other.process.pid,
            other.process.pid
        );
    }
    tracing::info!(archive = run.archive, services = names, workers = run.workers, version = env!("CARGO_PKG_VERSION"), "follows");
    let session = Session::start(&run_dir, FOLLOWERS, "the archive's ledger", &run.archive).context("can't catch signals")?;
    args.name.iter().for_each(|name| session.call(name));
    let figures = run_services(&run, &session)?;
    drop(session);
    println!("{} alerts followed; archive {}", figures.messages, run.archive);
    Ok(ExitCode::SUCCESS)
}

fn archive(args: &StartArgs, configured: &Configured) -> anyhow::Result<ExitCode> {
    if args.name.is_some() {
        anyhow::bail!("--name is for services that follow an archive: one process writes an archive, and needs none");
    }
    let part = args.cluster.part()?;
    let place = match &part {
        Part::Alone => None,
        Part::One(place) => Some(place.clone()),
        // Checked as one of its processes will check it, and before any is started.
        Part::Supervisor(processes, hosts) => {
            let addresses = match hosts {
                Hosts::Here(count) => vec!["127.0.0.1:1".to_owned(); *count],
                Hosts::Given(addresses) => addresses.clone(),
            };
            Some(Place { process: processes[0], addresses })
        }
    };
    let mut run = configured.archive_run(&args.choices(place))?;
    if let Part::Supervisor(processes, hosts) = part {
        if !configured.is_set("run.workers") {
            run.workers = (run.workers / processes.len()).max(1);
        }
        if !args.check_config {
            let silence = configured.silence()?;
            let (arguments, once) = arguments(std::env::args_os().skip(1).collect(), run.workers);
            return supervise(&Plan { processes, hosts, arguments, once, silence });
        }
    }
    let input = describe(&run.input);
    if args.check_config {
        println!("the configuration is right\n{}", summary(&run, &input));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = crashes::too_many(&RunDir::usual(), &run.archive).filter(|_| !run.services.chosen.is_empty()) {
        tracing::error!("starts without services: {why}");
        run.services.leave_out(why);
    }
    tracing::info!(from = input, to = run.archive, workers = run.workers, version = env!("CARGO_PKG_VERSION"), "starts the archive");
    let session = Session::start(&RunDir::usual(), "archive", &input, &run.archive).context("can't catch signals")?;
    let done = match run_archive(&run, &session) {
        Err(error) if error.is::<Again>() => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(AGAIN));
        }
        done => done?,
    };
    let stopped = session.stopping();
    drop(session);
    let figures = &done.figures;
    if run.cluster.as_ref().is_some_and(|cluster| !cluster.place.leads()) {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} messages: {} archived, {} rejected, {} empty; archive {}",
        figures.messages, figures.archived, figures.rejected, figures.empty, run.archive
    );
    if run.end.caught_up && !done.caught_up {
        let what = if stopped { "it was stopped" } else { "--exit-after came" };
        eprintln!("fink: {what} before all was archived that was there at the start; started again, it goes on");
        return Ok(ExitCode::from(NOT_CAUGHT_UP));
    }
    Ok(ExitCode::SUCCESS)
}

fn simulator(args: &StartArgs, configured: &Configured) -> anyhow::Result<ExitCode> {
    let run = args.simulator_run(configured)?;
    let output = format!("{} on {}", run.options.topic, run.options.brokers);
    if args.check_config {
        println!("the configuration is right\nsends {} to {output}", run.about);
        return Ok(ExitCode::SUCCESS);
    }
    tracing::info!(from = run.about, to = output, threads = run.options.threads, "starts the simulator");
    let session = Session::start(&RunDir::usual(), "simulator", &run.about, &output).context("can't catch signals")?;
    let sent = run_simulator(&run, &session)?;
    drop(session);
    let seconds = sent.seconds.max(1e-9);
    println!(
        "{} messages sent to {output}: {} in {:.1} s, {:.0}/s, {}/s",
        sent.sent,
        HumanBytes(sent.bytes),
        sent.seconds,
        sent.sent as f64 / seconds,
        HumanBytes((sent.bytes as f64 / seconds) as u64)
    );
    if sent.unplaced > 0 {
        println!("{} of them Kafka says to have from an earlier try, and not where: count what the topic holds", sent.unplaced);
    }
    if let Some(truth) = &run.options.truth {
        println!("the truth is in {}; `fink simulator score {}` compares an archive with it", truth.display(), truth.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is listened to, in a few words.
fn describe(input: &Input) -> String {
    match input {
        Input::Kafka(kafka) => format!("{} on {}", kafka.topics.join(","), kafka.client.brokers),
        Input::Simulator(simulator) => {
            format!(
                "simulator {} (seed {}, {} alerts/s, {} partitions)",
                simulator.topic, simulator.seed, simulator.rate, simulator.partitions
            )
        }
        Input::Files(files) => format!("files of {}", files.folder.display()),
    }
}

/// What the configuration comes to; without a secret.
fn summary(run: &ArchiveRun, input: &str) -> String {
    let mut text = format!("from      {input}\nto        {}\nworkers   {}\n", run.archive, run.workers);
    if let Some(cluster) = &run.cluster {
        text += &format!("processes {}, each with so many workers\n", cluster.place.processes());
    }
    text += &format!("commits   every {:?}, or {} MiB\n", run.commit.interval, run.commit.group_bytes >> 20);
    if !run.services.chosen.is_empty() {
        text += &format!("services  {}\n", run.services.names().join(", "));
        for catalogue in &run.services.catalogues {
            text += &format!("catalogue {} of {}\n", catalogue.name, catalogue.path.display());
        }
    }
    if let Input::Kafka(kafka) = &run.input {
        text += &format!("begins    {:?}, where nothing is stored\n", kafka.from);
        let names: Vec<_> = kafka.client.properties.keys().map(String::as_str).collect();
        let (sasl, tls) = (&kafka.client.sasl, &kafka.client.tls);
        let who = sasl.as_ref().map_or("no login".to_owned(), |sasl| format!("as {}", sasl.username));
        let how = if tls.is_some() { "encrypted" } else { "not encrypted" };
        text += &format!("kafka     {who}, {how}; properties: {}\n", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
    }
    let schemas = &run.schemas;
    match (&schemas.registry, &schemas.folder) {
        (Some(registry), _) => text += &format!("schemas   of {registry}\n"),
        (None, Some(folder)) => text += &format!("schemas   of {}\n", folder.display()),
        (None, None) => {}
    }
    text.trim_end().to_owned()
}

impl StartArgs {
    fn flags(&self) -> Vec<Flag> {
        let mut flags = self.archive.flags();
        flags.extend(self.kafka.flags());
        let mut set = |flag, section, key, value: Option<toml::Value>| flags.extend(value.map(|value| Flag { flag, section, key, value }));
        // What does not fit an i64 is wrong for every key here, and said so by its own check.
        let whole = |n: u64| toml::Value::from(i64::try_from(n).unwrap_or(i64::MAX));
        let path = |path: &PathBuf| toml::Value::from(path.display().to_string());
        let listen = &self.listen;
        set("--from", "kafka", "from", listen.from.as_deref().map(Into::into));
        set("--files", "files", "folder", listen.files.as_ref().map(path));
        set("--workers", "run", "workers", listen.workers.map(whole));
        set("--http", "run", "http", listen.http.as_deref().map(Into::into));
        set("--lanes", "run", "lanes", listen.lanes.map(whole));
        let interval = listen.commit_interval.map(|long| long.as_secs_f64().into());
        set("--commit-interval", "archive", "commit_interval_s", interval);
        set("--registry", "schemas", "registry", listen.registry.as_deref().map(Into::into));
        set("--schemas", "schemas", "folder", listen.schemas.as_ref().map(path));
        let datum = |file: &PathBuf| toml::Table::from_iter([("*".to_owned(), path(file))]).into();
        set("--schema", "schemas", "datum", listen.schema.as_ref().map(datum));
        let simulator = &self.simulator;
        set("--seed", "simulator", "seed", simulator.seed.map(whole));
        set("--rate", "simulator", "rate", simulator.rate.map(Into::into));
        set("--partitions", "simulator", "partitions", simulator.partitions.map(whole));
        let size = |size| match size {
            AlertSize::Small => "small".into(),
            AlertSize::Full => "full".into(),
        };
        let survey = |survey| match survey {
            AlertSurvey::Ztf => "ztf".into(),
            AlertSurvey::Lsst => "lsst".into(),
        };
        set("--survey", "simulator", "survey", simulator.survey.map(survey));
        set("--size", "simulator", "size", simulator.size.map(size));
        set("--backlog", "simulator", "backlog", simulator.backlog.map(whole));
        flags
    }

    /// A flag that only the archive takes, if one was given.
    fn of_the_archive(&self) -> Option<&'static str> {
        let listen = &self.listen;
        let given = [
            ("--simulator", listen.simulator),
            ("--files", listen.files.is_some()),
            ("--brokers", self.kafka.brokers.is_some()),
            ("--topic", !self.kafka.topics.is_empty()),
            ("--from", listen.from.is_some()),
            ("--lanes", listen.lanes.is_some()),
            ("--commit-interval", listen.commit_interval.is_some()),
            ("--registry", listen.registry.is_some()),
            ("--schemas", listen.schemas.is_some()),
            ("--schema", listen.schema.is_some()),
            ("--new-incarnation", listen.new_incarnation),
            ("--take-over", listen.take_over),
            ("--until-caught-up", self.until_caught_up),
            self.cluster.given(),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    fn end(&self) -> End {
        End { after: self.exit_after, caught_up: self.until_caught_up }
    }

    /// The services of one's own that were named; those run with `all` and `services`, too.
    fn own(&self) -> impl Iterator<Item = &'static Own> {
        let all = self.services.iter().any(|name| name == "all" || name == "services");
        own::known().iter().filter(move |own| all || self.services.iter().any(|name| name == own.name()))
    }

    fn chosen(&self) -> Chosen {
        let named = self.services.iter().flat_map(|name| Service::named(if name == "all" { "services" } else { name }));
        // What they see is what these keep.
        let needed = self.own().next().map(|_| Service::Classify);
        Chosen::of(named.chain(needed))
    }

    fn choices(&self, place: Option<Place>) -> Choices {
        let listen = &self.listen;
        let input = match (listen.simulator, &listen.files, &self.kafka.brokers) {
            (true, _, _) => Some(Which::Simulator),
            (_, Some(_), _) => Some(Which::Files),
            (_, _, Some(_)) => Some(Which::Kafka),
            _ => None,
        };
        Choices {
            input,
            end: self.end(),
            incarnation: if listen.new_incarnation { Incarnation::New } else { Incarnation::Same },
            fence: if listen.take_over { Fence::TakeOver } else { Fence::Respect },
            services: self.chosen(),
            own: self.own().cloned().collect(),
            place,
        }
    }

    fn simulator_run(&self, configured: &Configured) -> anyhow::Result<SimulatorRun> {
        let from = self.listen.from.as_deref();
        self.simulator.run(Common { configured, topics: self.kafka.topics(), from, end: self.end() })
    }
}
