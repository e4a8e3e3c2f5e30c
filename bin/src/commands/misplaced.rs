//! Flags of `fink start` that the services named do not take: refused, lest somebody waits for what they ask.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The headings over what only the archive takes.
const ARCHIVE: [&str; 2] = ["Archive", "Cluster"];
/// How headings begin over what only the simulator that sends to a Kafka takes.
const SENDING: &str = "Simulator: ";
/// What it takes of the archive's: a folder to replay, and where its schema is entered.
const SENDING_TOO: [&str; 2] = ["from", "registry"];
/// What it does not take of all others.
const NOT_SENDING: [&str; 3] = ["archive", "until_caught_up", "backlog"];
/// Inputs of the archive that have no other place to start at than the first.
const WHOLE_INPUTS: [&str; 2] = ["simulator", "files"];

/// What is wrong with the flags that were given to `start`, if anything.
#[must_use]
pub(crate) fn misplaced(start: &Command, given: &ArgMatches) -> Option<String> {
    let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let mut services = given.get_many::<String>("services").into_iter().flatten();
    let sends = services.any(|service| service == "simulator");
    let mut flags = Vec::new();
    for arg in start.get_arguments().filter(|arg| is_given(arg.get_id().as_str())) {
        let (id, heading) = (arg.get_id().as_str(), arg.get_help_heading().unwrap_or_default());
        let wrong = if sends {
            (ARCHIVE.contains(&heading) && !SENDING_TOO.contains(&id)) || NOT_SENDING.contains(&id)
        } else {
            heading.starts_with(SENDING)
        };
        if let (true, Some(long)) = (wrong, arg.get_long()) {
            flags.push(format!("--{long}"));
        }
    }
    let does = if flags.len() == 1 { "is" } else { "are" };
    match (flags.is_empty(), sends) {
        (false, true) => Some(format!("{} {does} for the archive, not for the simulator that sends to a Kafka", flags.join(", "))),
        (false, false) => Some(format!(
            "{} {does} for the simulator that sends to a Kafka (`fink start simulator --brokers HOST:PORT --topic NAME`): the stream in \
             the process takes --seed, --survey, --rate, --partitions, --size and --backlog",
            flags.join(", ")
        )),
        (true, false) if is_given("from") && WHOLE_INPUTS.iter().any(|input| is_given(input)) => {
            Some("--from says where to start in topics of a Kafka: the simulator's stream and folders are read from their start".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn said(line: &str) -> Option<String> {
        let mut command = Cli::command();
        command.build();
        let given = command.clone().try_get_matches_from(format!("fink start {line}").split(' ')).expect("well formed");
        misplaced(command.find_subcommand("start").expect("start"), given.subcommand_matches("start").expect("start"))
    }

    #[test]
    fn flags_of_another_service_are_named() {
        let archive = said("archive --simulator --count 100 --truth t.parquet --visits --garbled 0.1 --seed 3").expect("wrong");
        assert!(["--count", "--truth", "--visits", "--garbled"].iter().all(|flag| archive.contains(flag)), "{archive}");
        assert!(archive.contains("--seed, --survey"), "{archive}");
        let sending =
            said("simulator --brokers b --topic t --archive x --until-caught-up --lanes 1 --backlog 3 --processes 2").expect("wrong");
        assert!(
            ["--archive", "--until-caught-up", "--lanes", "--backlog", "--processes"].iter().all(|flag| sending.contains(flag)),
            "{sending}"
        );
        for input in ["--simulator", "--files x"] {
            assert!(said(&format!("archive {input} --from earliest")).is_some_and(|said| said.starts_with("--from")), "{input}");
        }
    }

    #[test]
    fn what_a_service_takes_is_let_pass() {
        for right in [
            "archive --brokers b --topic t --from earliest --archive x --until-caught-up --exit-after 3",
            "archive services --simulator --seed 3 --rate 5 --partitions 2 --size small --backlog 9 --survey lsst --http 1 --workers 2",
            "simulator --brokers b --topic t --from folder --registry u --format confluent --count 3 --resend --exit-after 3 -c f",
            "all --files folder --schema s",
        ] {
            assert_eq!(said(right), None, "{right}");
        }
    }
}
