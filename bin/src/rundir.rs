//! What runs on this machine: one status file per process, in a folder that all of fink's commands know.
//!
//! A process rewrites its file about once a second, by an atomic rename, and removes it at its end. A file whose process
//! has ended (kill -9, a reboot) is removed by whoever meets it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::session::Figures;

/// A running service, as it last said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The service's name.
    pub service: String,
    /// What it is called, where there may be several of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its process.
    #[serde(flatten)]
    pub process: Process,
    /// Its release of fink.
    pub version: String,
    /// The archive it writes, or the topic it sends to.
    pub output: String,
    /// What it listens to.
    pub input: String,
    /// Where its web server listens, if it has one.
    #[serde(default)]
    pub http: Option<String>,
    /// Which services answer there.
    #[serde(default)]
    pub services: Vec<String>,
    /// Which process of a cluster it is, if it is of one.
    #[serde(default)]
    pub seat: Option<Seat>,
    /// When it started, in milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// When it last said something.
    pub updated_ms: i64,
    /// It was asked to stop.
    pub stopping: bool,
    /// Messages made durable a second, over the last ten.
    pub messages_per_s: f64,
    /// Bytes made durable a second, over the last ten.
    pub bytes_per_s: f64,
    /// What it has done.
    pub figures: Figures,
}

/// A process's place in a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// Its index; 0 leads.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
}

/// The folder of status files.
#[derive(Clone, Debug)]
pub struct RunDir {
    folder: PathBuf,
}

impl RunDir {
    /// `$FINK_RUN_DIR`, else `$XDG_RUNTIME_DIR/fink`, else `~/.local/state/fink`.
    #[must_use]
    pub fn usual() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("FINK_RUN_DIR")
            .or_else(|| set("XDG_RUNTIME_DIR").filter(|folder| folder.is_dir()).map(|folder| folder.join("fink")))
            .or_else(|| set("HOME").map(|home| home.join(".local/state/fink")))
            .unwrap_or_else(|| std::env::temp_dir().join("fink"));
        Self { folder }
    }

    /// Another folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What runs, oldest first. Files of processes that have ended are removed.
    #[must_use]
    pub fn running(&self) -> Vec<Status> {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut running = Vec::new();
        for file in files.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            match serde_json::from_str::<Status>(&text) {
                Ok(status) if status.process.is_alive() => running.push(status),
                Ok(_) => {
                    let _ = std::fs::remove_file(&file);
                }
                Err(error) => tracing::warn!(file = %file.display(), %error, "can't read a status file"),
            }
        }
        running.sort_by_key(|status| (status.since_ms, status.process.pid));
        running
    }

    /// Starts the status file of this process.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn enter(&self, service: &str, input: &str, output: &str) -> std::io::Result<StatusFile> {
        std::fs::create_dir_all(&self.folder)?;
        let process = Process::current();
        let now = now_ms();
        let status = Status {
            service: service.to_owned(),
            name: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            output: output.to_owned(),
            input: input.to_owned(),
            http: None,
            services: Vec::new(),
            seat: None,
            since_ms: now,
            updated_ms: now,
            stopping: false,
            messages_per_s: 0.0,
            bytes_per_s: 0.0,
            figures: Figures::default(),
            process,
        };
        let path = self.folder.join(format!("{service}-{}.json", status.process.pid));
        let file = StatusFile { path, status };
        file.write()?;
        Ok(file)
    }
}

/// The status file of this process; dropping it removes it.
pub struct StatusFile {
    path: PathBuf,
    /// What it says at its next write.
    pub status: Status,
}

impl StatusFile {
    /// Says `status`, now.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn update(&mut self) -> std::io::Result<()> {
        self.status.updated_ms = now_ms();
        self.write()
    }

    fn write(&self) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&self.status)?;
        let next = self.path.with_extension("new");
        std::fs::write(&next, text)?;
        std::fs::rename(&next, &self.path)
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_runs_and_forgets_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::at(&folder.path().join("made/when/needed"));
        assert_eq!(run_dir.running(), []);
        let mut file = run_dir.enter("archive", "simulator", "./archive").unwrap();
        file.status.figures.messages = 7;
        file.update().unwrap();
        let running = run_dir.running();
        assert_eq!(running, std::slice::from_ref(&file.status));
        assert_eq!(running[0].process, Process::current());

        // A process that was killed could not remove its file.
        let mut gone = file.status.clone();
        gone.process.started -= 1;
        let stale = run_dir.folder().join("archive-1.json");
        std::fs::write(&stale, serde_json::to_string(&gone).unwrap()).unwrap();
        std::fs::write(run_dir.folder().join("archive-2.new"), "{").unwrap();
        assert_eq!(run_dir.running().len(), 1);
        assert!(!stale.exists());

        drop(file);
        assert_eq!(run_dir.running(), []);
    }
}
