//! A folder of Avro files as a supply of messages: real alerts, replayed.
//!
//! The files `*.avro` and `*.avro.gz` are taken in the order of their names; a pool of files repeats them, or cuts them
//! short. An interval is kept between files, however many alerts each holds.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apache_avro::{Reader, Schema, to_avro_datum};
use bytes::Bytes;

pub use super::fresh::Refresh;
use crate::simulator::pace::Pace;
use crate::simulator::records::frame::Framing;

/// Which files of a folder become which messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderOptions {
    /// The folder; its files `*.avro` and `*.avro.gz` are taken in the order of their names.
    pub path: PathBuf,
    /// How many files to send: fewer cut the folder short, more send it again and again. `None`: each once.
    pub pool: Option<usize>,
    /// Containers: each file is one message, byte for byte, whatever it holds. Data and Confluent's framing: each record
    /// is one message.
    pub framing: Framing,
    /// Which records of a file become messages, where they are sent one by one.
    pub records: Records,
    /// How many files are sent in each interval, where there is one.
    pub files_per_interval: usize,
    /// Whether each message is given ids that were never sent, and times as of its sending.
    pub fresh: bool,
}

impl FolderOptions {
    /// The files of `path` as they are, one after another.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let (path, framing, records) = (path.to_owned(), Framing::Container, Records::All);
        Self { path, pool: None, framing, records, files_per_interval: 1, fresh: false }
    }
}

/// Which records of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// All of them.
    All,
    /// The first only, as fink-alert-simulator does.
    First,
}

/// Why a folder gives no messages.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file, or the folder, can't be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no Avro container, so its records can't be taken out.
    #[error("{path}: {source}")]
    Avro {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<apache_avro::Error>,
    },
    /// A message can't be given new ids and times.
    #[error("a message can't be made anew: {0}")]
    Fresh(Box<apache_avro::Error>),
    /// The registry does not take a file's schema.
    #[error("{path}: {reason}")]
    Registry {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is nothing to send.
    #[error("{0} holds no file *.avro or *.avro.gz with a record in it")]
    Empty(PathBuf),
}

/// The messages of a folder.
#[derive(Debug)]
pub struct Messages {
    /// Each with the number of its file.
    all: Vec<(usize, Message)>,
    /// Files of the folder that are sent; those of a larger pool are these again.
    files: usize,
    files_per_interval: usize,
}

/// A message as its file has it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Bytes,
    /// Before the datum, in Confluent's framing.
    pub head: [u8; 5],
    /// How it is framed.
    pub framing: Framing,
    /// The schema that it was written with, where it was taken out of its file.
    pub schema: Option<std::sync::Arc<Schema>>,
}

impl Messages {
    /// Reads the folder; every file is read and held once, however often it is sent. `register` enters a schema in a
    /// registry and returns its id; only Confluent's framing asks.
    ///
    /// # Errors
    /// When the folder or one of its files can't be read, or there is nothing to send.
    pub fn load(options: &FolderOptions, mut register: impl FnMut(&str) -> Result<u32, String>) -> Result<Self, FolderError> {
        let paths = list(&options.path)?;
        let wanted = options.pool.unwrap_or(paths.len());
        let files: Vec<Vec<Message>> =
            paths.iter().take(wanted).map(|path| messages(path, options, &mut register)).collect::<Result<_, _>>()?;
        let in_order = files.iter().cycle().take(wanted).enumerate();
        let all: Vec<_> = in_order.flat_map(|(file, messages)| messages.iter().map(move |message| (file, message.clone()))).collect();
        if all.is_empty() {
            return Err(FolderError::Empty(options.path.clone()));
        }
        Ok(Self { all, files: files.len(), files_per_interval: options.files_per_interval.max(1) })
    }

    /// How many messages the pool of files has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.all.len() as u64
    }

    /// Whether there are none; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Message `index`, the pool again and again; made anew where that is asked for.
    ///
    /// # Errors
    /// When it can't be made anew.
    pub fn message(&self, index: u64, refresh: Option<&mut Refresh>) -> Result<Vec<u8>, FolderError> {
        let (pool, at) = (index / self.len(), (index % self.len()) as usize);
        let (file, message) = &self.all[at];
        // A file is sent once a round, be it that the pool repeats it or that the pool is repeated.
        let rounds = self.all[self.all.len() - 1].0 / self.files + 1;
        match refresh {
            Some(refresh) => refresh
                .message(message, pool * rounds as u64 + (file / self.files) as u64)
                .map_err(|error| FolderError::Fresh(Box::new(error))),
            None => Ok(message.framed(&message.bytes)),
        }
    }

    /// An interval between messages as one between files.
    #[must_use]
    pub fn pace(&self, pace: &Pace, count: u64) -> Pace {
        let Pace::Visits(visits) = pace else { return pace.clone() };
        let files = self.all.last().map_or(0, |(file, _)| file + 1);
        let begin = |index: u64| {
            let file = (index / self.len()) as usize * files + self.all[(index % self.len()) as usize].0;
            visits.every.saturating_mul(u32::try_from(file / self.files_per_interval).unwrap_or(u32::MAX))
        };
        let begins: Vec<Duration> = (0..count.min(self.len().max(1_000_000))).map(begin).collect();
        Pace::Sky { alerts: 1, begins }
    }
}

impl Message {
    /// The message of these bytes instead of its own.
    #[must_use]
    pub fn framed(&self, bytes: &[u8]) -> Vec<u8> {
        match self.framing {
            Framing::Confluent => [&self.head[..], bytes].concat(),
            Framing::Container | Framing::Datum => bytes.to_vec(),
        }
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let failed = |source| FolderError::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && (name.ends_with(".avro") || name.ends_with(".avro.gz")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn messages(
    path: &Path,
    options: &FolderOptions,
    register: &mut impl FnMut(&str) -> Result<u32, String>,
) -> Result<Vec<Message>, FolderError> {
    let failed = |source| FolderError::Read { path: path.to_owned(), source };
    let mut file = fs::read(path).map_err(failed)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut plain).map_err(failed)?;
        file = plain;
    }
    let framing = options.framing;
    if framing == Framing::Container {
        return Ok(vec![Message { bytes: file.into(), head: [0; 5], framing, schema: None }]);
    }
    let wrong = |source| FolderError::Avro { path: path.to_owned(), source: Box::new(source) };
    let reader = Reader::new(&file[..]).map_err(wrong)?;
    let schema = std::sync::Arc::new(reader.writer_schema().clone());
    let mut head = [0; 5];
    if framing == Framing::Confluent {
        let text = serde_json::to_string(&*schema).unwrap_or_default();
        let id = register(&text).map_err(|reason| FolderError::Registry { path: path.to_owned(), reason })?;
        head[1..].copy_from_slice(&id.to_be_bytes());
    }
    let most = if options.records == Records::First { 1 } else { usize::MAX };
    let datum = |record: Result<_, _>| Ok(to_avro_datum(&schema, record.map_err(wrong)?).map_err(wrong)?.into());
    reader.take(most).map(|record| Ok(Message { bytes: datum(record)?, head, framing, schema: Some(schema.clone()) })).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use apache_avro::Writer;

    use super::*;
    use crate::simulator::pace::Visits;
    use crate::simulator::seen::Telescope;
    use crate::simulator::{Generator, SimulatorConfig, records};

    /// A folder with a container of one alert, one of three in gzip, and a file that is none.
    fn folder() -> (tempfile::TempDir, Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let mut generator = Generator::new(&SimulatorConfig::new(1, 0));
        let one = generator.message(0, 0);
        fs::write(folder.path().join("a.avro"), &one).unwrap();
        let schema = Schema::parse_str(records::schema(Telescope::Ztf)).unwrap();
        let mut writer = Writer::new(&schema, Vec::new());
        for offset in 1..4 {
            let message = generator.message(0, offset);
            writer.append(Reader::new(&message[..]).unwrap().next().unwrap().unwrap()).unwrap();
        }
        let three = writer.into_inner().unwrap();
        let file = fs::File::create(folder.path().join("b.avro.gz")).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(&three).unwrap();
        gzip.finish().unwrap();
        fs::write(folder.path().join("README"), "no alert").unwrap();
        (folder, one, three)
    }

    fn load(path: &Path, pool: Option<usize>, framing: Framing, records: Records) -> Result<Vec<Vec<u8>>, FolderError> {
        let options = FolderOptions { pool, framing, records, ..FolderOptions::new(path) };
        let messages = Messages::load(&options, |_| Ok(0x0102_0304))?;
        (0..messages.len()).map(|index| messages.message(index, None)).collect()
    }

    #[test]
    fn files_are_sent_as_they_are_and_as_often_as_asked() {
        let (folder, one, three) = folder();
        let load = |pool| load(folder.path(), pool, Framing::Container, Records::All).unwrap();
        assert_eq!(load(None), [one.clone(), three.clone()]);
        assert_eq!(load(Some(1)), std::slice::from_ref(&one));
        assert_eq!(load(Some(3)), [one.clone(), three, one]);
    }

    #[test]
    fn records_are_sent_bare() {
        let (folder, ..) = folder();
        let bare = crate::simulator::AlertOptions { framing: Framing::Datum, ..crate::simulator::AlertOptions::small(Telescope::Ztf) };
        let mut generator = Generator::new(&SimulatorConfig { alerts: bare, ..SimulatorConfig::new(1, 0) });
        let data: Vec<Vec<u8>> = (0..4).map(|offset| generator.message(0, offset)).collect();
        assert_eq!(load(folder.path(), None, Framing::Datum, Records::All).unwrap(), data);
        assert_eq!(load(folder.path(), None, Framing::Datum, Records::First).unwrap(), data[..2]);
        let framed = load(folder.path(), None, Framing::Confluent, Records::First).unwrap();
        assert_eq!(framed, data[..2].iter().map(|datum| [&[0, 1, 2, 3, 4], &datum[..]].concat()).collect::<Vec<_>>());
    }

    #[test]
    fn an_interval_is_kept_between_files() {
        let (folder, ..) = folder();
        let options = FolderOptions { pool: Some(5), framing: Framing::Datum, files_per_interval: 2, ..FolderOptions::new(folder.path()) };
        let messages = Messages::load(&options, |_| Ok(0)).unwrap();
        let every = Duration::from_secs(5);
        let pace = messages.pace(&Pace::Visits(Visits::at_once(1, every)), 14);
        // Files of 1, 3, 1, 3 and 1 alerts, and the pool again.
        let begins: Vec<u64> = (0..14).map(|index| pace.due(index).as_secs()).collect();
        assert_eq!(begins, [0, 0, 0, 0, 5, 5, 5, 5, 10, 10, 15, 15, 15, 15]);
    }

    #[test]
    fn a_folder_without_alerts_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let all = |path: &Path| load(path, Some(3), Framing::Container, Records::All);
        assert!(matches!(all(folder.path()), Err(FolderError::Empty(_))));
        assert!(matches!(all(&folder.path().join("none")), Err(FolderError::Read { .. })));
        fs::write(folder.path().join("x.avro"), "garbage").unwrap();
        let bare = load(folder.path(), None, Framing::Datum, Records::All);
        assert!(matches!(bare, Err(FolderError::Avro { .. })), "{bare:?}");
    }
}
