//! What running services answer over HTTP, and how far they are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::process::Fink;
use crate::visible::now_ms;

/// What runs by this name (`archive`, `services`, or its own), as `fink show --json` tells it.
#[must_use]
pub fn status(logs: &Path, name: &str) -> Option<Value> {
    let (_, said) = Fink::new(logs, &["show", "--json"]).run();
    let all: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('['))?).ok()?;
    all.as_array()?.iter().find(|status| status["service"] == name || status["name"] == name).cloned()
}

/// Where it answers.
#[must_use]
pub fn address(logs: &Path, name: &str) -> Option<String> {
    status(logs, name)?["http"].as_str().map(str::to_owned)
}

/// What is answered at a path; `None`: nothing, or an error.
#[must_use]
pub fn get(address: &str, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    let (head, body) = said.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
}

/// Alerts that the counts know, whether that is all of history, and when this was answered, in milliseconds since 1970 UTC.
#[must_use]
pub fn counted(address: &str) -> Option<(i64, bool, i64)> {
    let counts = get(address, "/api/v1/statistics")?;
    let alerts = counts["nights"].as_array()?.iter().filter_map(|night| night["alerts"].as_i64()).sum();
    Some((alerts, counts["complete"] == true, now_ms()))
}
