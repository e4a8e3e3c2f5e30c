//! Several processes, one graph: on one machine or many.
//!
//! ```text
//!   supervisor ─ starts, watches, starts again ─► process 0: reads its share, commits for all, issues Moments, tells of all
//!                                            ├──► process 1: reads its share, writes files, gives process 0 their names
//!                                            └──► process 2: …            (timely's mesh between all of them)
//! ```
//!
//! Messages stay in the process that read them; what crosses is beats, progress, and letters ([`fink_dataflow::post`]): closed
//! files by name, acknowledgements, and how each process is. Processes share one fate: one that dies or falls silent ends all,
//! and all are started again, from coverage. No state belongs to a process, so their number may change at each start.
//!
//! | module | what it is |
//! |---|---|
//! | [`crew`] | the others as a process sees them: coming together, letters, who is how far |
//! | [`keep`] | who commits, as a process sees it |
//! | [`seat`] | how a process takes its seat: alone, leading, or another |
//! | [`silence`] | a graph that stands still ends its process |
//! | [`pulse`] | the sign of life that a supervisor gets from each process |
//! | [`supervisor`] | starts processes, and all again when one dies or is silent |

use std::path::Path;

use fink_dataflow::mesh::Place;

pub mod crew;
pub(crate) mod keep;
pub(crate) mod pulse;
pub(crate) mod seat;
pub(crate) mod silence;
pub mod supervisor;

/// The exit code of a process that must be started again, with all others: another is gone or silent.
pub const AGAIN: u8 = 75;

/// Why a process ends that would do right if it were started again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Again(pub String);

/// Reads a file of hosts: a line `HOST:PORT` for each process, in order; `#` begins a comment.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn hosts(file: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    parse_hosts(&text).map_err(|what| format!("{}{what}", file.display()))
}

fn parse_hosts(text: &str) -> Result<Vec<String>, String> {
    let mut hosts: Vec<String> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let host = line.split('#').next().unwrap_or_default().trim();
        if host.is_empty() {
            continue;
        }
        let port = host.rsplit_once(':').and_then(|(name, port)| Some((!name.is_empty()).then_some(port)?.parse::<u16>()));
        if !matches!(port, Some(Ok(1..))) || host.contains(char::is_whitespace) {
            return Err(format!(":{number}: `{host}` is not HOST:PORT"));
        }
        if hosts.iter().any(|known| known == host) {
            return Err(format!(":{number}: {host} is there twice: each process listens at an address of its own"));
        }
        hosts.push(host.to_owned());
    }
    if hosts.is_empty() { Err(": names no host".to_owned()) } else { Ok(hosts) }
}

/// Whether a process may listen at its place: other machines reach it only if that was asked for.
///
/// # Errors
/// A text for a person.
pub fn may_listen(place: &Place, public: bool) -> Result<(), String> {
    let address = &place.addresses[place.process];
    match place.is_loopback() {
        Err(error) => Err(format!("{address}, where process {} listens, is not known: {error}", place.process)),
        Ok(false) if !public => Err(format!(
            "process {} would listen at {address}, which other machines can reach, and the mesh asks nobody who he is: whoever \
             reaches it can write to the archive. Keep that network private (docs/cluster.md says how), and give --mesh-public",
            place.process
        )),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_what_is_wrong_is_said_with_its_line() {
        let text = "# two machines\n10.0.0.1:2101\n\n  node-b.example.org:2101  # the other\n[::1]:2102\n";
        assert_eq!(parse_hosts(text), Ok(["10.0.0.1:2101", "node-b.example.org:2101", "[::1]:2102"].map(str::to_owned).to_vec()));
        for (wrong, what) in [
            ("a:1\nb\n", ":2: `b` is not HOST:PORT"),
            ("a:0", ":1: `a:0`"),
            (":7", ":1: `:7`"),
            ("a:1 b:1", ":1: `a:1 b:1`"),
            ("a:1\na:1", ":2: a:1 is there twice"),
            ("# none\n", ": names no host"),
        ] {
            assert!(parse_hosts(wrong).is_err_and(|said| said.starts_with(what)), "{wrong}: {:?}", parse_hosts(wrong));
        }
    }

    #[test]
    fn an_address_that_others_reach_must_be_asked_for() {
        let place = |process| Place { process, addresses: vec!["127.0.0.1:2101".to_owned(), "192.0.2.7:2101".to_owned()] };
        assert_eq!(may_listen(&place(0), false), Ok(()));
        let refused = may_listen(&place(1), false).expect_err("refused");
        assert!(refused.contains("192.0.2.7:2101") && refused.contains("--mesh-public"), "{refused}");
        assert_eq!(may_listen(&place(1), true), Ok(()));
    }
}
