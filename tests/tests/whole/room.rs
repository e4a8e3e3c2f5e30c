//! A folder for a test: its archive, its logs, its configuration.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fink_tests::places;
use fink_tests::process::Fink;
use fink_tests::template::Template;
use tempfile::TempDir;

/// How long anything may take that ends by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder for a test.
pub(crate) struct Room(TempDir);

impl Room {
    pub(crate) fn new(name: &str) -> Self {
        Self(places::scratch(name))
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    /// Its archive.
    pub(crate) fn archive(&self) -> PathBuf {
        self.folder().join("archive")
    }

    /// Its archive, as an argument.
    pub(crate) fn archive_text(&self) -> String {
        self.archive().to_string_lossy().into_owned()
    }

    /// Where the program's logs go.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// A configuration file with this text.
    pub(crate) fn configuration(&self, text: &str) -> String {
        let file = self.folder().join("fink.toml");
        fs::write(&file, text).expect("a configuration can be written");
        file.to_string_lossy().into_owned()
    }

    /// `fink start archive` of a topic, from its beginning into this room's archive.
    pub(crate) fn fink(&self, brokers: &str, topic: &str) -> Fink {
        Fink::archive(&self.logs(), brokers, topic, &self.archive_text())
    }

    /// Runs until all that the topic holds is durable.
    pub(crate) fn catch_up(&self, brokers: &str, topic: &str, more: &[&str]) {
        self.fink(brokers, topic).with(&["--until-caught-up"]).with(more).start().succeed(PATIENCE);
    }
}

/// Real alerts of one night, to make copies of.
pub(crate) fn templates() -> Option<Vec<Template>> {
    let mut all = Template::folder("ztf/night-2018-11-29")?;
    all.truncate(40);
    Some(all)
}
