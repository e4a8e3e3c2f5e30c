//! How commands ask a running process: over HTTP, at the address that it told in its status file.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::de::DeserializeOwned;

use crate::rundir::{RunDir, Status};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whom to ask, and how the answer is shown.
#[derive(Clone, Debug, Default, Args)]
pub struct AskArgs {
    /// The process to ask, by where its web server listens [default: the one that runs on this machine]
    #[arg(long, value_name = "HOST:PORT")]
    pub at: Option<String>,
    /// As JSON, just as it was answered
    #[arg(long)]
    pub json: bool,
}

impl AskArgs {
    /// Asks. With `--json` the answer is printed, and `None` returned.
    ///
    /// # Errors
    /// When nobody can be asked, or there is no such answer: what to do.
    pub fn ask<A: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Option<A>> {
        let address = match &self.at {
            Some(address) => address.clone(),
            None => running(&RunDir::usual())?,
        };
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let (code, body) = get(&address, &format!("{path}?{query}")).with_context(|| format!("{address} does not answer"))?;
        if code != 200 {
            let told: Option<serde_json::Value> = serde_json::from_str(&body).ok();
            let told = told.and_then(|value| value["error"].as_str().map(str::to_owned));
            bail!("{}", told.unwrap_or_else(|| format!("{address} answers {code}: is it fink?")));
        }
        if self.json {
            println!("{body}");
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&body).with_context(|| format!("the answer of {address} is not understood: is it another release?"))?))
    }
}

/// Asks the process at `address`; `None` where it knows of no such thing.
///
/// # Errors
/// When it does not answer, or not as this release does.
pub(super) fn look<A: DeserializeOwned>(address: &str, path: &str, query: &[(&str, String)]) -> anyhow::Result<Option<A>> {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let (code, body) = get(address, &format!("{path}?{query}")).with_context(|| format!("{address} does not answer"))?;
    match code {
        200 => serde_json::from_str(&body).map(Some).with_context(|| format!("the answer of {address} is not understood: is it fink?")),
        404 => Ok(None),
        code => bail!("{address} answers {code}: {body}"),
    }
}

/// Where the one process listens that answers for services.
fn running(run_dir: &RunDir) -> anyhow::Result<String> {
    let running = run_dir.running();
    let answering: Vec<_> =
        running.iter().filter(|status| !status.services.is_empty()).filter_map(|status| Some((status, status.http.clone()?))).collect();
    match answering.as_slice() {
        [(_, address)] => Ok(address.clone()),
        [] => match running.iter().find(|status| status.service == "archive") {
            Some(archive) => {
                bail!("the archive runs without services: start them beside it, `fink start services --archive {}`", archive.output)
            }
            None => bail!(
                "no services run on this machine: start them with `fink start archive services --simulator`, or name a process with --at HOST:PORT"
            ),
        },
        many => {
            let called = |status: &Status| status.name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
            let list: Vec<_> =
                many.iter().map(|(status, address)| format!("--at {address} ({}{})", called(status), status.output)).collect();
            bail!("several processes answer: say which, {}", list.join(" or "))
        }
    }
}

/// One request; the code and the body of its answer.
fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let (head, body) = said.split_once("\r\n\r\n").context("no answer in HTTP")?;
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no answer in HTTP")?;
    Ok((code, body.to_owned()))
}

/// Of when an answer is true, in a line.
pub(super) fn when(moment: &str, complete: bool) -> String {
    let history = if complete { "" } else { "; NOT COMPLETE: the archive's history is still being read" };
    format!("at Moment {moment}{history}\n")
}

/// A number, or a dash.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_start_when_nobody_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let run_dir = RunDir::at(folder.path());
        let error = running(&run_dir).expect_err("nothing runs").to_string();
        assert!(error.contains("fink start archive services"), "{error}");
        let mut one = run_dir.enter("archive", "in", "./a").expect("entered");
        let error = running(&run_dir).expect_err("no services").to_string();
        assert!(error.contains("without services") && error.contains("fink start services --archive ./a"), "{error}");
        (one.status.http, one.status.services) = (Some("127.0.0.1:1".to_owned()), vec!["objects".to_owned()]);
        one.update().expect("written");
        assert_eq!(running(&run_dir).expect("one"), "127.0.0.1:1");
    }
}
