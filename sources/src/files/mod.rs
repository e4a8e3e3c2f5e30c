//! A folder of Avro files as a source: each file is one message of one log.
//!
//! Offsets must mean the same file for ever, though files come and go and any order of names or times may get a newcomer in
//! its middle. So the folder carries an index, `.fink-index`: the folder's identity, then a line a file in the order in which
//! they were first seen; the file of offset *n* is that of line *n*. New files are appended to it, by name. The index belongs
//! to the folder as a commit log to a topic: without it, all files are new, and the archive says that this is another source.
//!
//! The topic is the folder's name. Files are those that end in `.avro` and do not begin with a `.` or `_`; each is taken once it
//! has not been written to for two seconds (better: write elsewhere, then rename). A file that is gone when its turn comes is a
//! hole; a file that was changed after it was read is not read again.

mod index;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fink_dataflow::message::{Chunk, Log, Mark, Message};
use fink_dataflow::ports::{Extent, Source, SourceError, Stretch};
use xxhash_rust::xxh3::xxh3_64;

use index::Index;

/// A folder of Avro files.
pub struct FilesSource {
    folder: PathBuf,
    topic: Arc<str>,
    index: Option<Index>,
    reading: Option<Stretch>,
    paused: bool,
    listed: Option<Instant>,
}

/// Files read into one chunk, and their bytes.
const CHUNK_FILES_MAX: usize = 64;
const CHUNK_BYTES_MAX: usize = 8 << 20;
/// The largest file that is taken.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// How often the folder is looked at for new files, while all known ones are read.
const LISTING: Duration = Duration::from_secs(1);

impl FilesSource {
    /// The files of `folder`; the topic has its name, unless another is given.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn new(folder: &Path, topic: Option<&str>) -> Result<Self, SourceError> {
        let folder = folder.canonicalize().map_err(|error| SourceError::Stop(format!("folder {}: {error}", folder.display())))?;
        if !folder.is_dir() {
            return Err(SourceError::Stop(format!("{} is not a folder", folder.display())));
        }
        let name = folder.file_name().map_or_else(|| "files".into(), |name| name.to_string_lossy().into_owned());
        let topic = topic.map_or_else(|| name.as_str().into(), Arc::from);
        Ok(Self { folder, topic, index: None, reading: None, paused: false, listed: None })
    }

    fn index(&mut self) -> Result<&mut Index, SourceError> {
        match &mut self.index {
            Some(index) => Ok(index),
            none => Ok(none.insert(Index::open(&self.folder)?)),
        }
    }

    fn out_of_range(&mut self, offset: i64, low: i64) -> SourceError {
        let high = self.index.as_ref().map_or(0, Index::len);
        SourceError::OutOfRange { topic: self.topic.clone(), partition: 0, offset, low, high }
    }

    /// The message of an offset, read whole; `None` where its file is gone.
    fn message(&mut self, offset: i64) -> Result<Option<Message>, SourceError> {
        let Some(entry) = self.index()?.get(offset).cloned() else { return Ok(None) };
        let path = self.folder.join(&entry.name);
        let failed = |error: std::io::Error| SourceError::Retry(format!("file {}: {error}", path.display()));
        let size = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?.len(),
        };
        if size > FILE_BYTES_MAX {
            return Err(SourceError::Stop(format!("file {} is too large: {size} bytes", path.display())));
        }
        let payload = Bytes::from(std::fs::read(&path).map_err(failed)?);
        let key = Some(Bytes::from(entry.name));
        Ok(Some(Message { offset, timestamp_ms: Some(entry.modified_ms), key, payload: Some(payload) }))
    }

    /// The next files of the stretch, up to the first that is gone.
    fn chunk(&mut self, stretch: &Stretch) -> Result<Option<Chunk>, SourceError> {
        let end = self.index()?.len().min(stretch.until.unwrap_or(i64::MAX));
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut at = stretch.from;
        while at < end && messages.len() < CHUNK_FILES_MAX && bytes < CHUNK_BYTES_MAX {
            let Some(message) = self.message(at)? else {
                if messages.is_empty() {
                    return Err(self.out_of_range(at, at + 1));
                }
                break;
            };
            bytes += message.bytes();
            messages.push(message);
            at += 1;
        }
        if at == stretch.from {
            return Ok(None);
        }
        let received_us = chrono::Utc::now().timestamp_micros();
        Ok(Some(Chunk { log: stretch.log.clone(), span: stretch.from..at, messages, received_us }))
    }

    /// Whether the folder holds files that are not taken yet.
    fn unsettled(&mut self) -> Result<bool, SourceError> {
        let names = names(&self.folder).map_err(|error| SourceError::Retry(format!("folder {}: {error}", self.folder.display())))?;
        let index = self.index()?;
        Ok(names.iter().any(|name| !index.knows(name)))
    }

    fn list(&mut self) -> Result<(), SourceError> {
        self.listed = Some(Instant::now());
        let folder = self.folder.clone();
        self.index()?.add_new(&folder)
    }
}

impl Source for FilesSource {
    fn identity(&mut self) -> Result<Arc<str>, SourceError> {
        Ok(format!("files:{}", self.index()?.identity()).into())
    }

    fn extents(&mut self) -> Result<Vec<Extent>, SourceError> {
        let first = self.listed.is_none();
        self.list()?;
        // "All that was there at the start" includes files that were written a moment before.
        let deadline = Instant::now() + 2 * index::SETTLED;
        while first && self.unsettled()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
            self.list()?;
        }
        let high = self.index()?.len();
        Ok(vec![Extent { topic: self.topic.clone(), partition: 0, low: 0, high }])
    }

    fn offset_at(&mut self, _topic: &str, _partition: i32, time_ms: i64) -> Result<i64, SourceError> {
        let index = self.index()?;
        Ok((0..index.len()).find(|offset| index.get(*offset).is_some_and(|entry| entry.modified_ms >= time_ms)).unwrap_or(index.len()))
    }

    fn mark(&mut self, _topic: &str, _partition: i32, offset: i64) -> Result<Option<Mark>, SourceError> {
        let message = self.message(offset)?;
        Ok(message.map(|message| Mark { offset, timestamp_ms: message.timestamp_ms, hash: message.payload.as_deref().map_or(0, xxh3_64) }))
    }

    fn read(&mut self, stretches: &[Stretch]) -> Result<(), SourceError> {
        if let Some(stretch) = stretches.last() {
            self.reading = Some(stretch.clone());
        }
        Ok(())
    }

    fn pause(&mut self, _log: &Log, paused: bool) -> Result<(), SourceError> {
        self.paused = paused;
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Chunk>, SourceError> {
        if let Some(mut stretch) = self.reading.clone().filter(|_| !self.paused) {
            if let Some(chunk) = self.chunk(&stretch)? {
                stretch.from = chunk.span.end;
                self.reading = Some(stretch.clone()).filter(|s| s.until.is_none_or(|until| s.from < until));
                return Ok(Some(chunk));
            }
            if self.listed.is_none_or(|listed| listed.elapsed() >= LISTING) {
                self.list()?;
            }
        }
        std::thread::sleep(timeout);
        Ok(None)
    }
}

/// Files of a folder in the order of their names, as an index would take them.
pub(crate) fn names(folder: &Path) -> std::io::Result<VecDeque<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".avro") && !name.starts_with(['.', '_']) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("write");
        let old = std::time::SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().append(true).open(path).expect("open").set_modified(old).expect("set time");
    }

    fn source(folder: &Path) -> (FilesSource, Arc<Log>) {
        let mut source = FilesSource::new(folder, Some("night")).expect("source");
        let identity = source.identity().expect("identity");
        source.extents().expect("extents");
        (source, Arc::new(Log { source: identity, topic: "night".into(), incarnation: 0, partition: 0 }))
    }

    fn read(source: &mut FilesSource, stretch: Stretch) -> Vec<(i64, String)> {
        source.read(&[stretch]).expect("read");
        let mut found = Vec::new();
        while let Some(chunk) = source.poll(Duration::ZERO).expect("poll") {
            for message in chunk.messages {
                found.push((message.offset, String::from_utf8_lossy(&message.payload.expect("payload")).into_owned()));
            }
        }
        found
    }

    #[test]
    fn a_file_of_this_moment_was_there_at_the_start() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.avro"), "A").expect("write");
        let (mut source, log) = source(folder.path());
        assert_eq!(read(&mut source, Stretch { log, from: 0, until: None }), [(0, "A".into())]);
    }

    #[test]
    fn an_index_whose_process_died_in_its_first_moment_is_begun_again_and_a_foreign_one_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        put(folder.path(), "a.avro", "A");
        let index = folder.path().join(".fink-index");
        for torn in ["", "fink fi", "fink files 1 1f0c"] {
            std::fs::write(&index, torn).expect("write");
            let (mut source, log) = source(folder.path());
            assert_eq!(read(&mut source, Stretch { log: log.clone(), from: 0, until: None }), [(0, "A".into())], "{torn:?}");
            drop(source);
            assert_eq!(self::source(folder.path()).1, log, "{torn:?}");
        }
        for foreign in ["dear diary", "dear diary,\nnothing today\n"] {
            std::fs::write(&index, foreign).expect("write");
            let error = FilesSource::new(folder.path(), None).and_then(|mut source| source.identity().map(drop)).expect_err("foreign");
            assert!(error.to_string().contains("move that file away"), "{error}");
            assert_eq!(std::fs::read_to_string(&index).expect("read"), foreign);
        }
    }

    #[test]
    fn offsets_stay_though_files_come_and_go() {
        let folder = tempfile::tempdir().expect("folder");
        put(folder.path(), "b.avro", "B");
        put(folder.path(), "d.avro", "D");
        put(folder.path(), ".hidden.avro", "no");
        let (mut first, log) = source(folder.path());
        let whole = Stretch { log: log.clone(), from: 0, until: None };
        assert_eq!(read(&mut first, whole.clone()), [(0, "B".into()), (1, "D".into())]);
        put(folder.path(), "a.avro", "A");
        put(folder.path(), "c.avro", "C");
        let (mut second, same) = source(folder.path());
        assert_eq!(same, log);
        let expected = [(0, "B".into()), (1, "D".into()), (2, "A".into()), (3, "C".into())];
        assert_eq!(read(&mut second, whole.clone()), expected);
        assert_eq!(read(&mut second, Stretch { from: 1, until: Some(3), ..whole.clone() }), expected[1..3]);
        // The first one, which still runs, sees them too.
        first.extents().expect("extents");
        assert_eq!(read(&mut first, Stretch { from: 2, ..whole }), expected[2..]);
    }

    #[test]
    fn a_file_that_is_gone_is_out_of_range_and_one_that_changed_has_another_mark() {
        let folder = tempfile::tempdir().expect("folder");
        ["a.avro", "b.avro", "c.avro"].iter().for_each(|name| put(folder.path(), name, name));
        let (mut files, log) = source(folder.path());
        let mark = files.mark("night", 0, 0).expect("mark").expect("message");
        put(folder.path(), "a.avro", "another");
        assert_ne!(files.mark("night", 0, 0).expect("mark").expect("message").hash, mark.hash);
        std::fs::remove_file(folder.path().join("b.avro")).expect("remove");
        files.read(&[Stretch { log, from: 0, until: None }]).expect("read");
        assert_eq!(files.poll(Duration::ZERO).expect("poll").expect("chunk").span, 0..1);
        let error = files.poll(Duration::ZERO).expect_err("gone");
        assert!(matches!(error, SourceError::OutOfRange { offset: 1, low: 2, high: 3, .. }));
    }
}
