//! Sends a simulated stream, or a folder of files, to a real Kafka: what `fink start simulator` does.
//!
//! Give [`send`] what to send ([`Feed`]), where and how ([`SendOptions`]), and a callback; it returns when all is
//! delivered, or the callback says so, with a [`Summary`]. It blocks, polls the client itself, and needs no runtime.

mod client;
pub mod folder;
mod fresh;
mod supply;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use super::config::{ConfigError, Rate, SimulatorConfig};
use super::pace::Pace;
use super::system_clock;
use super::trouble::{Schedule, Trouble};
use super::truth::{Row, TruthError, TruthWriter};
use crate::kafka::{self, Sasl, Secret, Tls};
use client::Client;
use folder::{FolderError, FolderOptions};
use supply::{Item, Supply};

const PROGRESS: Duration = Duration::from_millis(500);
/// Messages that are made ahead, unless more is asked for.
const AHEAD_BYTES: usize = 64 << 20;

/// What to send.
#[derive(Clone, Debug)]
pub enum Feed {
    /// A simulated stream, from this alert (over all partitions) on. Its `limit` ends it; its rate and start say when
    /// each alert would come in the process, not when it is sent.
    Stream(SimulatorConfig, u64),
    /// A folder of Avro files, again and again if more messages are asked for than it holds.
    Folder(FolderOptions),
}

/// Where to send, and how.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// Kafka's `host:port,…`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Creates the topic with so many partitions, if it is not there; `None`: it must be there.
    pub partitions: Option<i32>,
    /// Replicas of a topic that is created.
    pub replicas: i32,
    /// Who we are, where the cluster asks.
    pub sasl: Option<Sasl>,
    /// Whom we trust, where the cluster encrypts.
    pub tls: Option<Tls>,
    /// Settings of librdkafka above ours, such as a compression.
    pub properties: BTreeMap<String, String>,
    /// How fast.
    pub pace: Pace,
    /// What goes wrong.
    pub trouble: Trouble,
    /// What trouble comes from, and a folder's partitions.
    pub seed: u64,
    /// How many alerts; `None`: a stream up to its limit or for ever, a folder once.
    pub count: Option<u64>,
    /// How long Kafka may take to answer before the first message is sent.
    pub patience: Duration,
    /// The Parquet file that is to say what was sent, and what is true of it.
    pub truth: Option<PathBuf>,
    /// Where the schemas of messages in Confluent's framing are entered.
    pub registry: Option<String>,
    /// Who we are to the registry, where it asks.
    pub registry_login: Option<(String, Secret)>,
    /// Threads that make messages.
    pub threads: usize,
    /// How many bytes of messages may be made ahead of their turn.
    pub ahead_bytes: usize,
    /// Makes all messages before the first is sent, and keeps them in a file of this folder.
    pub prepare: Option<PathBuf>,
}

impl SendOptions {
    /// To `topic` at `brokers`: created if need be with 4 partitions and 1 replica, as fast as possible, without trouble.
    #[must_use]
    pub fn new(brokers: &str, topic: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            partitions: Some(4),
            replicas: 1,
            sasl: None,
            tls: None,
            properties: BTreeMap::new(),
            pace: Pace::Fast(Rate::default()),
            trouble: Trouble::default(),
            seed: 1,
            count: None,
            patience: Duration::from_secs(20),
            truth: None,
            registry: None,
            registry_login: None,
            threads: 1,
            ahead_bytes: AHEAD_BYTES,
            prepare: None,
        }
    }
}

/// What was sent, so far or in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Messages that Kafka confirmed.
    pub sent: u64,
    /// Those of them that it says to have from an earlier try, and not where.
    pub unplaced: u64,
    /// Messages that it did not take.
    pub failed: u64,
    /// Bytes of the messages that it confirmed.
    pub bytes: u64,
    /// Since the first message was due.
    pub seconds: f64,
    /// Why the first failed message failed.
    pub error: Option<String>,
}

/// Why nothing can be sent, or nothing more.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no such stream.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The truth can't be written.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// Kafka, or a setting of its client.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// A password or certificate can't be had.
    #[error(transparent)]
    Secret(#[from] kafka::ConfigError),
    /// The registry does not take the schema.
    #[error("{0}")]
    Registry(String),
    /// The topic is not there.
    #[error("topic {0} does not exist, and was not to be created")]
    NoTopic(String),
    /// The topic can't be created.
    #[error("topic {0} can't be created: {1}")]
    Create(String, RDKafkaErrorCode),
    /// No threads to make messages on.
    #[error("messages can't be made on threads: {0}")]
    Threads(std::io::Error),
    /// A stream without end can't be made before it is sent.
    #[error("a stream without end can't be prepared: say how many alerts")]
    Endless,
    /// What was prepared can't be written or read.
    #[error("{path}: {source}")]
    Prepare {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Sends `feed`. `progress` is called about twice a second; when it breaks, sending stops after what is under way.
///
/// Messages of a stream go to their own partitions (modulo the topic's), those of a folder to partitions by chance. The
/// producer is idempotent, so Kafka holds each message once and in order, whatever is retried.
///
/// # Errors
/// When the feed or the topic is not there, the client can't be made, or the truth can't be written. Messages that Kafka
/// does not take are no error but counted in the summary.
pub fn send(feed: &Feed, options: &SendOptions, mut progress: impl FnMut(&Summary) -> ControlFlow<()>) -> Result<Summary, SendError> {
    let first = if let Feed::Stream(_, first) = feed { *first } else { 0 };
    let left = |config: &SimulatorConfig| config.limit.map_or(u64::MAX, |limit| limit.saturating_sub(first));
    let mut client = Client::connect(options)?;
    let (mut supply, count) = match feed {
        Feed::Stream(config, _) => {
            let count = left(config).min(options.count.unwrap_or(u64::MAX));
            (Supply::new(feed, options, count, client.partitions)?, count)
        }
        Feed::Folder(_) => {
            let supply = Supply::new(feed, options, 0, client.partitions)?;
            let all = if let Supply::Folder { messages, .. } = &supply { messages.len() } else { 0 };
            (supply, options.count.unwrap_or(all))
        }
    };
    let pace = if let Supply::Folder { messages, .. } = &supply { messages.pace(&options.pace, count) } else { options.pace.clone() };
    let truth = options.truth.as_deref().map(|path| TruthWriter::create(path, &options.topic, first)).transpose()?;
    supply.ready();
    client.restart();
    let mut line = Line { client, truth, reported: Instant::now(), progress: &mut progress };
    for event in Schedule::new(pace.clone(), options.trouble.clone(), options.seed, count) {
        if line.until(if pace.waits() { event.at } else { Duration::ZERO })?.is_break() {
            return line.end();
        }
        let Item { partition, mut message, told } = supply.item(event.index, line.client.partitions)?;
        let harm = options.trouble.harm(options.seed, &event, &mut message);
        let changed = options.trouble.changed(event.index);
        let row = Row { event, harm, changed, sent_ms: system_clock(), place: None, told };
        if line.hand(&options.topic, partition, &message, Box::new(row))?.is_break() {
            return line.end();
        }
    }
    while line.client.producer.in_flight_count() > 0 {
        if line.report()?.is_break() {
            break;
        }
        // Sends what lingers, and ends as soon as nothing is left; a timeout is no error here.
        let _ = line.client.producer.flush(PROGRESS);
    }
    line.end()
}

/// The client, what it is told and tells.
struct Line<'a, P> {
    client: Client,
    truth: Option<TruthWriter>,
    reported: Instant,
    progress: &'a mut P,
}

impl<P: FnMut(&Summary) -> ControlFlow<()>> Line<'_, P> {
    /// Waits until `due`, and lets the client say what it has delivered.
    fn until(&mut self, due: Duration) -> Result<ControlFlow<()>, SendError> {
        loop {
            if self.report()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let left = due.saturating_sub(self.client.elapsed());
            // Polls in any case: that is when deliveries are counted.
            self.client.producer.poll(left.min(PROGRESS));
            if left.is_zero() {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// Hands a message to the client, as soon as it takes it.
    fn hand(&mut self, topic: &str, partition: i32, message: &[u8], row: Box<Row>) -> Result<ControlFlow<()>, SendError> {
        let mut record: BaseRecord<'_, [u8], [u8], Box<Row>> = BaseRecord::with_opaque_to(topic, row).partition(partition).payload(message);
        while let Err((error, back)) = self.client.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                self.client.producer.context().failed(&error, back.delivery_opaque);
                let fatal = self.client.producer.client().fatal_error().is_some();
                return Ok(if fatal { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
            }
            // Kafka is slower than we are: wait until it took something.
            record = back;
            self.client.producer.poll(Duration::from_millis(50));
            if self.report()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells of the progress, about twice a second.
    fn report(&mut self) -> Result<ControlFlow<()>, SendError> {
        if self.reported.elapsed() < PROGRESS {
            return Ok(ControlFlow::Continue(()));
        }
        self.reported = Instant::now();
        self.keep()?;
        Ok((self.progress)(&self.client.summary()))
    }

    fn keep(&mut self) -> Result<(), SendError> {
        let rows = self.client.rows();
        if let Some(truth) = &mut self.truth {
            truth.add(rows)?;
        }
        Ok(())
    }

    /// Ends: what the client still holds, then the truth.
    fn end(mut self) -> Result<Summary, SendError> {
        self.client.stop();
        self.keep()?;
        if let Some(truth) = self.truth {
            truth.close()?;
        }
        Ok(self.client.summary())
    }
}

#[cfg(test)]
mod tests;
