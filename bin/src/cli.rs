//! The command line: which commands there are, and what `fink` alone, a mistake and an error say.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::misplaced::misplaced;
use crate::commands::{catalog, check, cone, counts, hole, init, object, rejects, replay, show, simulator, start, stop};
use crate::config::{Configured, Flag, load};

const EXAMPLES: &str = "\
First steps:
  fink start archive --simulator       archive the built-in stream below ./archive; Ctrl-C ends it
  fink show                            what runs, in another terminal
  fink check                           is every message in the archive, once?
  fink start archive services --simulator; fink object ID; fink cone RA DEC RADIUS; fink counts
                                       and what the alerts are about

With a Kafka of your own:
  fink start archive --brokers HOST:9092 --topic NAME --from earliest --archive ./archive
  fink init                            write fink.toml, every key explained; then:
  fink start archive

`fink COMMAND --help` says more, with examples.";

/// The alert broker that is right: listens to survey streams, and archives every alert exactly once.
#[derive(Debug, Parser)]
#[command(name = "fink", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Start(Box<start::StartArgs>),
    Stop(stop::StopArgs),
    Show(show::ShowArgs),
    Check(check::CheckArgs),
    Object(object::ObjectArgs),
    Cone(cone::ConeArgs),
    Counts(counts::CountsArgs),
    Catalog(catalog::CatalogArgs),
    Rejects(rejects::RejectsArgs),
    Hole(hole::HoleArgs),
    #[command(subcommand)]
    Simulator(simulator::SimulatorCommand),
    /// What a child process does
    #[command(hide = true, name = crate::careful::COMMAND)]
    DecodeAlone {
        memory_bytes: u64,
    },
    Replay(replay::ReplayArgs),
}

/// Which configuration, and which archive.
#[derive(Clone, Debug, Default, Args)]
pub struct ArchiveArgs {
    /// The configuration file; ./fink.toml where none is named, if it is there
    #[arg(short, long, visible_alias = "conf", value_name = "FILE", env = "FINK_CONFIG")]
    pub config: Option<PathBuf>,
    /// The archive: a folder, file://, hdfs:// or s3:// [default: ./archive]
    #[arg(long, value_name = "PATH|URL")]
    pub archive: Option<String>,
}

impl ArchiveArgs {
    /// The flags that win over the file.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        self.archive.iter().map(|path| Flag { flag: "--archive", section: "archive", key: "path", value: path.as_str().into() }).collect()
    }

    /// The configuration with these flags.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn load(&self) -> anyhow::Result<Configured> {
        Ok(load(self.config.as_deref(), self.flags())?)
    }
}

/// Where schemas come from that messages do not carry.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Schemas")]
pub struct SchemaArgs {
    /// The schema registry
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// A folder of schemas by id
    #[arg(long, value_name = "FOLDER")]
    schemas: Option<String>,
    /// The schema of bare datums
    #[arg(long, value_name = "FILE")]
    schema: Option<String>,
}

impl SchemaArgs {
    /// The flags that win over the file.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let datum = self.schema.as_deref().map(|file| toml::Table::from_iter([("*".to_owned(), file.into())]).into());
        let all = [
            ("--registry", "registry", self.registry.as_deref().map(Into::into)),
            ("--schemas", "folder", self.schemas.as_deref().map(Into::into)),
            ("--schema", "datum", datum),
        ];
        all.into_iter().filter_map(|(flag, key, value)| Some(Flag { flag, section: "schemas", key, value: value? })).collect()
    }
}

/// How to reach Kafka.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Its bootstrap servers
    #[arg(long, visible_alias = "servers", value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
    /// A topic, a list a,b, or a pattern ^ztf_.* (may be given again)
    #[arg(long = "topic", value_name = "NAME")]
    pub topics: Vec<String>,
    /// plaintext, ssl, sasl_plaintext or sasl_ssl [default: plaintext]
    #[arg(long, value_name = "PROTOCOL")]
    pub security: Option<String>,
    /// With sasl_...: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 [default: SCRAM-SHA-512]
    #[arg(long)]
    pub mechanism: Option<String>,
    /// With sasl_...: who we are
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// With sasl_...: the environment variable that holds the password
    #[arg(long, value_name = "VARIABLE")]
    pub password_env: Option<String>,
    /// With sasl_...: the file that holds the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<String>,
    /// With ..ssl: the certificates that are trusted
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// With ..ssl: our own certificate, where the cluster asks for one
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<String>,
    /// With ..ssl: the key of our own certificate
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// With ..ssl: the file that holds the password of that key
    #[arg(long, value_name = "FILE")]
    pub key_password_file: Option<String>,
    /// The group under which durable offsets are shown to monitors [default: fink]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// A property for librdkafka; a secret as NAME=env:VARIABLE or NAME=file:PATH (may be given again)
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl KafkaArgs {
    /// The topics, lists taken apart. (A pattern may hold commas of its own.)
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let apart = |text: &String| match text.starts_with('^') {
            true => vec![text.clone()],
            false => text.split(',').map(|name| name.trim().to_owned()).collect(),
        };
        self.topics.iter().flat_map(apart).collect()
    }

    /// The flags that win over the file.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let texts = [
            ("--brokers", "brokers", &self.brokers),
            ("--security", "security", &self.security),
            ("--mechanism", "mechanism", &self.mechanism),
            ("--username", "username", &self.username),
            ("--password-env", "password_env", &self.password_env),
            ("--password-file", "password_file", &self.password_file),
            ("--ca", "ca", &self.ca),
            ("--certificate", "certificate", &self.certificate),
            ("--key", "key", &self.key),
            ("--key-password-file", "key_password_file", &self.key_password_file),
            ("--group", "group", &self.group),
        ];
        for (flag, key, value) in texts {
            flags.extend(value.iter().map(|value| Flag { flag, section: "kafka", key, value: value.as_str().into() }));
        }
        if !self.topics.is_empty() {
            flags.push(Flag { flag: "--topic", section: "kafka", key: "topics", value: self.topics().into() });
        }
        if !self.properties.is_empty() {
            let table: toml::Table = self.properties.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            flags.push(Flag { flag: "--property", section: "kafka", key: "properties", value: table.into() });
        }
        flags
    }
}

/// The program: its log, what a panic does, and the command that its arguments name.
pub(crate) fn program() -> ExitCode {
    crate::signals::exit_on_panic(fink_operators::decode::decoding);
    let usual = || EnvFilter::new("info,delta_kernel=warn,hdfs_native=warn,object_store=warn");
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| usual()))
        .with_writer(|| crate::LogWriter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    crate::careful::this_is_fink();
    run(std::env::args_os())
}

/// Runs the program with these arguments, and returns its exit code: 0, or 1 where it could not do what was asked.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.len() < 2 {
        // As it always was: `fink` alone helps, and has done nothing.
        println!("{}", Cli::command().render_help());
        return ExitCode::FAILURE;
    }
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Start(args) => start::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Object(args) => object::run(&args),
        Command::Cone(args) => cone::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Catalog(args) => catalog::run(&args),
        Command::Rejects(args) => rejects::run(&args),
        Command::Hole(args) => hole::run(&args),
        Command::Simulator(command) => simulator::run(&command),
        Command::DecodeAlone { memory_bytes } => crate::careful::serve(memory_bytes),
        Command::Replay(args) => replay::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the command line apart, and refuses flags that the services named have no use for.
fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    if let (Some(start), Some(given)) = (command.find_subcommand("start"), matches.subcommand_matches("start"))
        && let Some(wrong) = misplaced(start, given)
    {
        return Err(command.error(clap::error::ErrorKind::ArgumentConflict, wrong));
    }
    Cli::from_arg_matches(&matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_list_of_topics_is_taken_apart_and_a_pattern_is_not() {
        let args = KafkaArgs { topics: vec!["a,b".to_owned(), "^x{1,2}".to_owned(), "c".to_owned()], ..KafkaArgs::default() };
        assert_eq!(args.topics(), ["a", "b", "^x{1,2}", "c"]);
    }
}
