//! Messages by index, from a stream (made ahead on threads, or prepared on disk) or a folder.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::folder::{Messages, Refresh};
use super::{Feed, SendError, SendOptions};
use crate::registry::Registry;
use crate::simulator::ahead::{Ahead, Sized64};
use crate::simulator::dice::Dice;
use crate::simulator::generate::{Edition, Generator, schema};
use crate::simulator::records::frame::Framing;
use crate::simulator::trouble::Trouble;
use crate::simulator::truth::Told;

/// A message and its truth.
pub(super) struct Item {
    pub(super) partition: i32,
    pub(super) message: Vec<u8>,
    pub(super) told: Option<Told>,
}

impl Sized64 for Item {
    fn bytes(&self) -> usize {
        self.message.len() + 512
    }
}

/// Messages by index.
pub(super) enum Supply {
    /// A stream's: those in turn made ahead, any other made when asked for.
    Stream { maker: Maker, ahead: Ahead<Item>, given: u64 },
    /// A stream's, on disk; the truth in memory.
    Spool { maker: Maker, file: BufReader<File>, told: Vec<Option<Told>>, given: u64 },
    /// A folder's.
    Folder { messages: Messages, refresh: Option<Refresh>, seed: u64 },
}

/// Makes a stream's messages.
#[derive(Clone)]
pub(super) struct Maker {
    generator: Generator,
    trouble: Trouble,
    first: u64,
    /// Partitions of the stream, and of the topic.
    partitions: [u64; 2],
}

impl Maker {
    fn make(&mut self, index: u64) -> Item {
        let edition = if self.trouble.changed(index) { Edition::Next } else { Edition::First };
        let (message, told) = self.generator.tell(self.first + index, edition);
        let [of_stream, of_topic] = self.partitions;
        Item { partition: ((self.first + index) % of_stream % of_topic) as i32, message, told: Some(told) }
    }
}

impl Supply {
    /// The messages of `count` alerts of the feed, for a topic of so many partitions.
    pub(super) fn new(feed: &Feed, options: &SendOptions, count: u64, partitions: i32) -> Result<Self, SendError> {
        match feed {
            Feed::Stream(config, first) => {
                config.check()?;
                let generator = if config.alerts.framing == Framing::Confluent {
                    Generator::with_schema_ids(config, schema_ids(feed, options)?)
                } else {
                    Generator::new(config)
                };
                let partitions = [config.partitions, partitions].map(|count| count as u64);
                let maker = Maker { generator, trouble: options.trouble.clone(), first: *first, partitions };
                match &options.prepare {
                    Some(folder) => Self::prepare(&maker, folder, count, options),
                    None => {
                        let ahead = start(&maker, count, options)?;
                        Ok(Self::Stream { maker, ahead, given: 0 })
                    }
                }
            }
            Feed::Folder(folder) => {
                let registry = options.registry.as_deref().map(|url| Registry::new(url, options.registry_login.clone())).transpose();
                let registry = registry.map_err(|error| SendError::Registry(error.to_string()))?;
                let register = |schema: &str| match &registry {
                    Some(registry) => registry.register(&subject(options), schema),
                    None => Err("messages in Confluent's framing need a schema registry: --registry URL".to_owned()),
                };
                let messages = Messages::load(folder, register)?;
                let refresh = folder.fresh.then(Refresh::default);
                Ok(Self::Folder { messages, refresh, seed: options.seed })
            }
        }
    }

    /// Writes `count` messages to a file of `folder`, to be read back in order.
    fn prepare(maker: &Maker, folder: &Path, count: u64, options: &SendOptions) -> Result<Self, SendError> {
        if count == u64::MAX {
            return Err(SendError::Endless);
        }
        let failed = |source| SendError::Prepare { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(format!("simulator-{}.messages", std::process::id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        // The file lives as long as it is open, and not a second longer.
        std::fs::remove_file(&path).map_err(failed)?;
        let mut told = Vec::new();
        let mut ahead = start(maker, count, options)?;
        let mut writer = BufWriter::with_capacity(1 << 20, &mut file);
        while let Some(item) = ahead.next() {
            writer.write_all(&(item.message.len() as u32).to_le_bytes()).map_err(failed)?;
            writer.write_all(&item.partition.to_le_bytes()).map_err(failed)?;
            writer.write_all(&item.message).map_err(failed)?;
            if options.truth.is_some() {
                told.push(item.told);
            }
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Self::Spool { maker: maker.clone(), file: BufReader::with_capacity(1 << 20, file), told, given: 0 })
    }

    /// Waits until the first message is there, so that it is not late for having to be made.
    pub(super) fn ready(&self) {
        if let Self::Stream { ahead, .. } = self {
            ahead.ready();
        }
    }

    /// The message of this index.
    pub(super) fn item(&mut self, index: u64, partitions: i32) -> Result<Item, SendError> {
        match self {
            Self::Stream { maker, ahead, given } => {
                if index < *given {
                    return Ok(maker.make(index));
                }
                // Those whose turn passed while they wait to be late are made when they come.
                let skipped = index - *given;
                *given = index + 1;
                (0..skipped).for_each(|_| drop(ahead.next()));
                Ok(ahead.next().unwrap_or_else(|| maker.make(index)))
            }
            Self::Spool { maker, file, told, given } => {
                if index < *given {
                    return Ok(maker.make(index));
                }
                let skipped = index - *given;
                *given = index + 1;
                let failed = |source| SendError::Prepare { path: "prepared messages".into(), source };
                let mut item = read(file).map_err(failed)?;
                for _ in 0..skipped {
                    item = read(file).map_err(failed)?;
                }
                item.told = told.get_mut(index as usize).and_then(Option::take);
                Ok(item)
            }
            Self::Folder { messages, refresh, seed } => {
                let partition = Dice::new(&[*seed, index]).below(partitions as u64) as i32;
                let message = messages.message(index, refresh.as_mut())?;
                Ok(Item { partition, message, told: None })
            }
        }
    }
}

fn start(maker: &Maker, count: u64, options: &SendOptions) -> Result<Ahead<Item>, SendError> {
    let one = || {
        let mut maker = maker.clone();
        move |index| maker.make(index)
    };
    Ahead::start(count, options.threads, options.ahead_bytes, one).map_err(SendError::Threads)
}

fn read(file: &mut BufReader<File>) -> std::io::Result<Item> {
    let (mut len, mut partition) = ([0; 4], [0; 4]);
    file.read_exact(&mut len)?;
    file.read_exact(&mut partition)?;
    let mut message = vec![0; u32::from_le_bytes(len) as usize];
    file.read_exact(&mut message)?;
    Ok(Item { partition: i32::from_le_bytes(partition), message, told: None })
}

fn subject(options: &SendOptions) -> String {
    format!("{}-value", options.topic)
}

/// The ids under which the registry has the stream's schema and its next edition; without a registry the survey's number,
/// and the one after.
fn schema_ids(feed: &Feed, options: &SendOptions) -> Result<[u32; 2], SendError> {
    let Feed::Stream(config, _) = feed else { return Ok([0, 0]) };
    let telescope = config.alerts.survey.telescope;
    let Some(url) = &options.registry else {
        let id = crate::simulator::records::schema_id(telescope);
        return Ok([id, id + 1]);
    };
    let registry = Registry::new(url, options.registry_login.clone()).map_err(|error| SendError::Registry(error.to_string()))?;
    let register = |edition| registry.register(&subject(options), &schema(telescope, edition)).map_err(SendError::Registry);
    let first = register(Edition::First)?;
    let next = if options.trouble.schema_change_at.is_some() { register(Edition::Next)? } else { first };
    Ok([first, next])
}
