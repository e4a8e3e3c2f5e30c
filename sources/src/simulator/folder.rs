//! A folder of Avro files as a supply of messages, for sending to Kafka.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use apache_avro::{Reader, to_avro_datum};
use bytes::Bytes;

use super::config::Framing;

/// Which files of a folder become which messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderOptions {
    /// The folder; its files `*.avro` and `*.avro.gz` are taken in the order of their names.
    pub path: PathBuf,
    /// How many files to send: fewer cut the folder short, more send it again and again. `None`: each once.
    pub pool: Option<usize>,
    /// Containers: each file is one message, byte for byte, whatever it holds. Data: each record is one, bare.
    pub framing: Framing,
    /// Which records of a file become messages, where they are sent bare.
    pub records: Records,
}

/// Which records of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// All of them.
    All,
    /// The first only, as the simulator of Fink does.
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
    /// A file is no Avro container, so its records can't be sent bare.
    #[error("{path}: {source}")]
    Avro {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<apache_avro::Error>,
    },
    /// There is nothing to send.
    #[error("{0} holds no file *.avro or *.avro.gz with a record in it")]
    Empty(PathBuf),
}

/// The messages of a folder, in the order in which they are sent; every file is read and held once, however often it is sent.
///
/// # Errors
/// When the folder or one of its files can't be read, or there is nothing to send.
pub fn load(options: &FolderOptions) -> Result<Vec<Bytes>, FolderError> {
    let paths = list(&options.path)?;
    let wanted = options.pool.unwrap_or(paths.len());
    let files: Vec<Vec<Bytes>> = paths.iter().take(wanted).map(|path| messages(path, options)).collect::<Result<_, _>>()?;
    let messages: Vec<Bytes> = files.iter().cycle().take(wanted).flatten().cloned().collect();
    if messages.is_empty() { Err(FolderError::Empty(options.path.clone())) } else { Ok(messages) }
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

fn messages(path: &Path, options: &FolderOptions) -> Result<Vec<Bytes>, FolderError> {
    let failed = |source| FolderError::Read { path: path.to_owned(), source };
    let mut file = fs::read(path).map_err(failed)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut plain).map_err(failed)?;
        file = plain;
    }
    if options.framing == Framing::Container {
        return Ok(vec![file.into()]);
    }
    let wrong = |source| FolderError::Avro { path: path.to_owned(), source: Box::new(source) };
    let reader = Reader::new(&file[..]).map_err(wrong)?;
    let schema = reader.writer_schema().clone();
    let most = if options.records == Records::First { 1 } else { usize::MAX };
    reader.take(most).map(|record| Ok(to_avro_datum(&schema, record.map_err(wrong)?).map_err(wrong)?.into())).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use apache_avro::{Schema, Writer};

    use super::*;
    use crate::simulator::{Generator, SimulatorConfig, record};

    /// A folder with a container of one alert, one of three in gzip, and a file that is none.
    fn folder() -> (tempfile::TempDir, Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let mut generator = Generator::new(&SimulatorConfig::new(1, 0));
        let one = generator.message(0, 0);
        fs::write(folder.path().join("a.avro"), &one).unwrap();
        let schema = Schema::parse_str(&record::SCHEMA).unwrap();
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

    fn options(folder: &Path, pool: Option<usize>, framing: Framing, records: Records) -> FolderOptions {
        FolderOptions { path: folder.to_owned(), pool, framing, records }
    }

    #[test]
    fn files_are_sent_as_they_are_and_as_often_as_asked() {
        let (folder, one, three) = folder();
        let load = |pool| load(&options(folder.path(), pool, Framing::Container, Records::All)).unwrap();
        assert_eq!(load(None), [one.clone(), three.clone()]);
        assert_eq!(load(Some(1)), std::slice::from_ref(&one));
        assert_eq!(load(Some(3)), [one.clone(), three, one]);
    }

    #[test]
    fn records_are_sent_bare() {
        let (folder, ..) = folder();
        let bare = crate::simulator::AlertOptions { framing: Framing::Datum, ..crate::simulator::AlertOptions::small() };
        let mut generator = Generator::new(&SimulatorConfig { alerts: bare, ..SimulatorConfig::new(1, 0) });
        let data: Vec<Vec<u8>> = (0..4).map(|offset| generator.message(0, offset)).collect();
        assert_eq!(load(&options(folder.path(), None, Framing::Datum, Records::All)).unwrap(), data);
        assert_eq!(load(&options(folder.path(), None, Framing::Datum, Records::First)).unwrap(), data[..2]);
    }

    #[test]
    fn a_folder_without_alerts_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let all = |path: &Path| load(&options(path, Some(3), Framing::Container, Records::All));
        assert!(matches!(all(folder.path()), Err(FolderError::Empty(_))));
        assert!(matches!(all(&folder.path().join("none")), Err(FolderError::Read { .. })));
        fs::write(folder.path().join("x.avro"), "garbage").unwrap();
        let bare = load(&options(folder.path(), None, Framing::Datum, Records::All));
        assert!(matches!(bare, Err(FolderError::Avro { .. })), "{bare:?}");
    }
}
