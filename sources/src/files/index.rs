//! The index of a folder: which file has which offset, for ever.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fink_dataflow::ports::SourceError;

/// The file's name in the folder.
const NAME: &str = ".fink-index";
/// What its first line begins with; the identity follows.
const HEADER: &str = "fink files 1 ";
/// How long a file must not have been written to.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// A file of the folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// When it was written, in milliseconds since 1970 UTC, as it was first seen.
    pub(crate) modified_ms: i64,
    /// Its name.
    pub(crate) name: String,
}

/// The index, as this process knows it; others may append to the same file.
pub(crate) struct Index {
    path: PathBuf,
    file: File,
    identity: String,
    entries: Vec<Entry>,
    known: BTreeSet<String>,
    /// Bytes of whole lines that were read.
    read: u64,
}

impl Index {
    /// Opens the index of a folder; makes it where there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, SourceError> {
        let path = folder.join(NAME);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(|error| failed(&path, &error))?;
        let mut index = Self { path, file, identity: String::new(), entries: Vec::new(), known: BTreeSet::new(), read: 0 };
        // Whoever begins it holds it, so that there is one beginning.
        index.file.lock().map_err(|error| failed(&index.path, &error))?;
        let begun = index.begin().and_then(|()| index.catch_up());
        let unlocked = index.file.unlock().map_err(|error| failed(&index.path, &error));
        begun.and(unlocked)?;
        if index.identity.is_empty() {
            return Err(index.foreign());
        }
        Ok(index)
    }

    fn foreign(&self) -> SourceError {
        let what = "the order of the folder's files is kept there: move that file away, and start again";
        SourceError::Stop(format!("{} is not an index of fink's; {what}", self.path.display()))
    }

    /// Writes the first line where there is none: of a new index, or of one whose process died before it was whole.
    fn begin(&mut self) -> Result<(), SourceError> {
        let begin = |file: &mut File| {
            let mut start = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            Read::by_ref(file).take(256).read_to_end(&mut start)?;
            let torn = !start.contains(&b'\n') && (HEADER.as_bytes().starts_with(&start) || start.starts_with(HEADER.as_bytes()));
            if !torn {
                return Ok(());
            }
            file.set_len(0)?;
            file.write_all(format!("{HEADER}{}\n", uuid::Uuid::new_v4()).as_bytes())?;
            file.sync_all()
        };
        begin(&mut self.file).map_err(|error| failed(&self.path, &error))
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn len(&self) -> i64 {
        self.entries.len().try_into().unwrap_or(i64::MAX)
    }

    pub(crate) fn get(&self, offset: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Whether a file has its offset.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// Appends the files of the folder that are new, by name.
    pub(crate) fn add_new(&mut self, folder: &Path) -> Result<(), SourceError> {
        let unreadable = |error: std::io::Error| SourceError::Retry(format!("folder {}: {error}", folder.display()));
        let names = super::names(folder).map_err(unreadable)?;
        if names.iter().all(|name| self.known.contains(name)) {
            return self.catch_up();
        }
        // One writer at a time, so that nobody appends what another has appended.
        self.file.lock().map_err(|error| failed(&self.path, &error))?;
        let added = self.append(folder, names.into());
        let unlocked = self.file.unlock().map_err(|error| failed(&self.path, &error));
        added.and(unlocked)
    }

    fn append(&mut self, folder: &Path, names: Vec<String>) -> Result<(), SourceError> {
        self.catch_up()?;
        let mut lines = String::new();
        for name in names.into_iter().filter(|name| !self.known.contains(name) && !name.contains('\n')) {
            let Ok(modified) = std::fs::metadata(folder.join(&name)).and_then(|data| data.modified()) else { continue };
            // A time in the future is another clock's: no reason to wait.
            if SystemTime::now().duration_since(modified).is_ok_and(|age| age < SETTLED) {
                continue;
            }
            let ms = modified.duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
            lines.push_str(&format!("{ms} {name}\n"));
        }
        if lines.is_empty() {
            return Ok(());
        }
        // A line that a writer before us did not finish would swallow ours.
        let length = self.file.metadata().map_err(|error| failed(&self.path, &error))?.len();
        if length > self.read {
            self.file.set_len(self.read).map_err(|error| failed(&self.path, &error))?;
        }
        self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data()).map_err(|error| failed(&self.path, &error))?;
        self.catch_up()
    }

    /// Reads what was appended since.
    fn catch_up(&mut self) -> Result<(), SourceError> {
        let mut text = Vec::new();
        let read = self.file.seek(SeekFrom::Start(self.read)).and_then(|_| self.file.read_to_end(&mut text));
        read.map_err(|error| failed(&self.path, &error))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        for line in String::from_utf8_lossy(&text[..whole]).lines() {
            if let Some(identity) = line.strip_prefix(HEADER) {
                identity.clone_into(&mut self.identity);
            } else if self.identity.is_empty() {
                return Err(self.foreign());
            } else if let Some((ms, name)) = line.split_once(' ') {
                let broken = |_| {
                    SourceError::Stop(format!(
                        "{} is broken at line {}: put back a copy of it, or move it away to read the folder as a new one",
                        self.path.display(),
                        self.entries.len() + 2
                    ))
                };
                self.entries.push(Entry { modified_ms: ms.parse().map_err(broken)?, name: name.to_owned() });
                self.known.insert(name.to_owned());
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> SourceError {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            SourceError::Stop(format!("{}: {error}: the order of files is kept there, so the folder must be writable", path.display()))
        }
        _ => SourceError::Retry(format!("{}: {error}", path.display())),
    }
}
