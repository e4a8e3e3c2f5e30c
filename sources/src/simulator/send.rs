//! Sends a simulated stream, or a folder of files, to a real Kafka: what `fink start simulator` does.
//!
//! Give [`send`] what to send ([`Feed`]), where and how fast ([`SendOptions`]), and a callback; it returns when all is
//! delivered, or the callback says so, with a [`Summary`]. It blocks, polls the client itself, and needs no runtime.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::util::Timeout;
use tracing::{debug, warn};

use super::config::{ConfigError, Rate, SimulatorConfig};
use super::dice::Dice;
use super::folder::{self, FolderError, FolderOptions};
use super::generate::Generator;

/// The largest message that is sent, and that topics created here take.
const MESSAGE_BYTES_MAX: &str = "20971520";
const PROGRESS: Duration = Duration::from_millis(500);
const STOP: Duration = Duration::from_secs(5);

/// What to send.
#[derive(Clone, Debug)]
pub enum Feed {
    /// A simulated stream, from this alert (over all partitions) on. Its `limit` ends it; its rate and start say when
    /// each alert was observed, not when it is sent.
    Stream(SimulatorConfig, u64),
    /// A folder of Avro files, again and again if more messages are asked for than it holds.
    Folder(FolderOptions),
}

/// Where to send, and how fast.
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
    /// Settings of librdkafka above ours: passwords, certificates, compression.
    pub properties: BTreeMap<String, String>,
    /// How fast.
    pub pace: Pace,
    /// How many messages; `None`: a stream up to its limit or for ever, a folder once.
    pub count: Option<u64>,
    /// How long Kafka may take to answer before the first message is sent.
    pub patience: Duration,
}

impl SendOptions {
    /// To `topic` at `brokers`: created if need be with 4 partitions and 1 replica, as fast as possible.
    #[must_use]
    pub fn new(brokers: &str, topic: &str) -> Self {
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        let patience = Duration::from_secs(20);
        Self { brokers, topic, partitions: Some(4), replicas: 1, properties: BTreeMap::new(), pace: Pace::Fast, count: None, patience }
    }
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as Kafka takes them.
    Fast,
    /// Evenly.
    Rate(Rate),
    /// So many alerts at once, then nothing until the next visit.
    Visits {
        /// Alerts of a visit.
        alerts: u64,
        /// From one visit's first alert to the next's.
        every: Duration,
    },
}

impl Pace {
    /// How long after the first message the one of this index is due.
    fn due(self, index: u64) -> Duration {
        match self {
            Self::Fast => Duration::ZERO,
            Self::Rate(rate) => Duration::from_millis(rate.due_ms(index as i64).unsigned_abs()),
            Self::Visits { alerts, every } => every.saturating_mul(u32::try_from(index / alerts.max(1)).unwrap_or(u32::MAX)),
        }
    }
}

/// What was sent, so far or in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Messages that Kafka confirmed.
    pub sent: u64,
    /// Messages that it did not take.
    pub failed: u64,
    /// Bytes of the messages that it confirmed.
    pub bytes: u64,
    /// Since the first message.
    pub seconds: f64,
    /// Why the first failed message failed.
    pub error: Option<String>,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no such stream.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Kafka, or a setting of its client.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The topic is not there.
    #[error("topic {0} does not exist, and was not to be created")]
    NoTopic(String),
    /// The topic can't be created.
    #[error("topic {0} can't be created: {1}")]
    Create(String, RDKafkaErrorCode),
}

/// Sends `feed`. `progress` is called about twice a second; when it breaks, sending stops after what is under way.
///
/// Messages of a stream go to their own partitions (modulo the topic's), those of a folder to partitions by chance. The
/// producer is idempotent, so Kafka holds each message once and in order, whatever is retried.
///
/// # Errors
/// When the feed or the topic is not there, or the client can't be made. Messages that Kafka does not take are no error
/// but counted in the summary.
pub fn send(feed: &Feed, options: &SendOptions, mut progress: impl FnMut(&Summary) -> ControlFlow<()>) -> Result<Summary, SendError> {
    let mut supply = Supply::new(feed)?;
    let client = client(options);
    let producer: BaseProducer<Counts> = client.create_with_context(Counts::default())?;
    let partitions = prepare(&client, &producer, options)?;
    let count = options.count.or(supply.len()).unwrap_or(u64::MAX).min(supply.most());
    let mut meter = Meter { producer, begin: Instant::now(), reported: Instant::now() };
    for index in 0..count {
        let due = options.pace.due(index);
        loop {
            if meter.report(&mut progress).is_break() {
                return Ok(meter.stop());
            }
            let left = due.saturating_sub(meter.begin.elapsed());
            // Polls in any case: that is when deliveries are counted.
            meter.producer.poll(left.min(PROGRESS));
            if left.is_zero() {
                break;
            }
        }
        let (partition, message) = supply.message(index, partitions);
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&options.topic).partition(partition).payload(&message);
        while let Err((error, back)) = meter.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                meter.producer.context().failed(&error);
                if meter.producer.client().fatal_error().is_some() {
                    return Ok(meter.stop());
                }
                break;
            }
            // Kafka is slower than we are: wait until it took something.
            record = back;
            meter.producer.poll(Duration::from_millis(50));
            if meter.report(&mut progress).is_break() {
                return Ok(meter.stop());
            }
        }
    }
    while meter.producer.in_flight_count() > 0 {
        if meter.report(&mut progress).is_break() {
            break;
        }
        // Sends what lingers, and ends as soon as nothing is left; a timeout is no error here.
        let _ = meter.producer.flush(PROGRESS);
    }
    Ok(meter.stop())
}

fn client(options: &SendOptions) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "fink-simulator")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("message.max.bytes", MESSAGE_BYTES_MAX)
        .set("queue.buffering.max.kbytes", "131072")
        .set("enable.idempotence", "true");
    options.properties.iter().for_each(|(key, value)| {
        client.set(key, value);
    });
    client
}

/// Creates the topic if that is asked for; returns how many partitions it has.
fn prepare(client: &ClientConfig, producer: &BaseProducer<Counts>, options: &SendOptions) -> Result<i32, SendError> {
    if let Some(partitions) = options.partitions {
        let admin: AdminClient<DefaultClientContext> = client.create()?;
        let topic = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(options.replicas));
        let topic = topic.set("max.message.bytes", MESSAGE_BYTES_MAX);
        let patience = Some(options.patience);
        let asked = AdminOptions::new().request_timeout(patience).operation_timeout(patience);
        for result in futures::executor::block_on(admin.create_topics([&topic], &asked))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(SendError::Create(name, code)),
            }
        }
    }
    let begin = Instant::now();
    loop {
        let metadata = producer.client().fetch_metadata(Some(&options.topic), options.patience)?;
        let found = metadata.topics().first().filter(|topic| topic.error().is_none()).map_or(0, |topic| topic.partitions().len());
        if found > 0 {
            return Ok(found as i32);
        }
        // A new topic is not known at once.
        if options.partitions.is_none() || begin.elapsed() > options.patience {
            return Err(SendError::NoTopic(options.topic.clone()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Messages by index.
enum Supply {
    Stream(SimulatorConfig, Box<Generator>, u64),
    Folder(Vec<Bytes>),
}

impl Supply {
    fn new(feed: &Feed) -> Result<Self, SendError> {
        Ok(match feed {
            Feed::Stream(config, first) => {
                config.check()?;
                Self::Stream(config.clone(), Box::new(Generator::new(config)), *first)
            }
            Feed::Folder(options) => Self::Folder(folder::load(options)?),
        })
    }

    /// How many messages it holds, if that has an end.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Stream(config, _, first) => config.limit.map(|limit| limit.saturating_sub(*first)),
            Self::Folder(messages) => Some(messages.len() as u64),
        }
    }

    /// How many messages it can give at most.
    fn most(&self) -> u64 {
        if let Self::Stream(..) = self { self.len().unwrap_or(u64::MAX) } else { u64::MAX }
    }

    fn message(&mut self, index: u64, partitions: i32) -> (i32, Bytes) {
        match self {
            Self::Stream(config, generator, first) => {
                let index = *first + index;
                let of = config.partitions as u64;
                let partition = (index % of) as i32;
                (partition % partitions, generator.message(partition, (index / of) as i64).into())
            }
            Self::Folder(messages) => {
                let partition = Dice::new(&[index]).below(partitions as u64) as i32;
                (partition, messages[(index % messages.len() as u64) as usize].clone())
            }
        }
    }
}

/// The producer, and when it was last reported on.
struct Meter {
    producer: BaseProducer<Counts>,
    begin: Instant,
    reported: Instant,
}

impl Meter {
    fn summary(&self) -> Summary {
        let counts = &self.producer.context().0;
        Summary {
            sent: counts.sent.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            seconds: self.begin.elapsed().as_secs_f64(),
            error: counts.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn report(&mut self, progress: &mut impl FnMut(&Summary) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.reported.elapsed() < PROGRESS {
            return ControlFlow::Continue(());
        }
        self.reported = Instant::now();
        progress(&self.summary())
    }

    /// Waits a little for what is under way, and gives the rest up.
    fn stop(self) -> Summary {
        if self.producer.in_flight_count() > 0 && self.producer.flush(Timeout::After(STOP)).is_err() {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.producer.poll(Duration::ZERO);
        }
        self.summary()
    }
}

/// Counts deliveries as the client reports them.
#[derive(Clone, Default)]
struct Counts(Arc<Counted>);

#[derive(Default)]
struct Counted {
    sent: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Counts {
    fn failed(&self, error: &KafkaError) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
        self.0.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
    }
}

impl ClientContext for Counts {
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "kafka client");
    }
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "kafka client");
    }
}

impl ProducerContext for Counts {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                self.0.sent.fetch_add(1, Ordering::Relaxed);
                self.0.bytes.fetch_add(message.payload_len() as u64, Ordering::Relaxed);
            }
            Err((error, _)) => self.failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::TopicPartitionList;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message as _;
    use rdkafka::topic_partition_list::Offset;

    use super::*;
    use crate::simulator::{AlertOptions, Framing, folder::Records};

    #[test]
    fn paces_tell_when_each_message_is_due() {
        let due = |pace: Pace, index| pace.due(index).as_millis();
        assert_eq!(due(Pace::Fast, 1_000_000), 0);
        assert_eq!(due(Pace::Rate(Rate::per_second(4.0).unwrap()), 9), 2250);
        let visits = Pace::Visits { alerts: 3, every: Duration::from_secs(5) };
        assert_eq!([0, 2, 3, 5, 6].map(|index| due(visits, index)), [0, 0, 5000, 5000, 10_000]);
    }

    #[test]
    fn a_broker_that_is_not_there_is_an_error() {
        let mut options = SendOptions::new("127.0.0.1:1", "nowhere");
        options.partitions = None;
        options.patience = Duration::from_millis(200);
        let config = SimulatorConfig { limit: Some(1), ..SimulatorConfig::new(1, 0) };
        assert!(matches!(send(&Feed::Stream(config, 0), &options, |_| ControlFlow::Continue(())), Err(SendError::Kafka(_))));
    }

    /// All messages of a topic, by partition, as many as `count`.
    fn consume(brokers: &str, topic: &str, partitions: i32, count: usize) -> BTreeMap<i32, Vec<Vec<u8>>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "t").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        (0..partitions).for_each(|partition| list.add_partition_offset(topic, partition, Offset::Beginning).unwrap());
        consumer.assign(&list).unwrap();
        let mut seen: BTreeMap<i32, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..count {
            let message = consumer.poll(Duration::from_secs(30)).expect("a message").unwrap();
            seen.entry(message.partition()).or_default().push(message.payload().unwrap().to_vec());
        }
        assert!(consumer.poll(Duration::from_millis(300)).is_none(), "no more than {count}");
        seen
    }

    /// Runs `test` against the Kafka of `FINK_TEST_KAFKA`, with a topic name of its own.
    fn with_kafka(name: &str, test: impl FnOnce(&str, &str)) {
        match std::env::var("FINK_TEST_KAFKA") {
            Ok(brokers) => test(&brokers, &format!("{name}_{}_{}", std::process::id(), super::super::system_clock())),
            Err(_) => println!("skipped: FINK_TEST_KAFKA is not set"),
        }
    }

    #[test]
    fn kafka_holds_the_stream_that_the_source_gives() {
        with_kafka("stream", |brokers, topic| {
            let config = SimulatorConfig { partitions: 3, limit: Some(1000), alerts: AlertOptions::full(), ..SimulatorConfig::new(5, 1) };
            let options = SendOptions { partitions: Some(3), ..SendOptions::new(brokers, topic) };
            let summary = send(&Feed::Stream(config.clone(), 0), &options, |_| ControlFlow::Continue(())).unwrap();
            assert_eq!((summary.sent, summary.failed, &summary.error), (1000, 0, &None));
            let seen = consume(brokers, topic, 3, 1000);
            let mut generator = Generator::new(&config);
            for (partition, messages) in &seen {
                let told: Vec<Vec<u8>> = (0..messages.len()).map(|offset| generator.message(*partition, offset as i64)).collect();
                assert!(*messages == told, "partition {partition}");
            }
            assert_eq!(seen.values().flatten().map(|message| message.len() as u64).sum::<u64>(), summary.bytes);
        });
    }

    #[test]
    fn kafka_holds_the_files_of_a_folder() {
        with_kafka("folder", |brokers, topic| {
            let folder = tempfile::tempdir().unwrap();
            let mut generator = Generator::new(&SimulatorConfig::new(1, 0));
            let mut files: Vec<Vec<u8>> = (0..3).map(|offset| generator.message(0, offset)).collect();
            // One of the largest messages that Kafka may bring us.
            files.push(vec![7; 10_000_000]);
            for (index, file) in files.iter().enumerate() {
                std::fs::write(folder.path().join(format!("{index}.avro")), file).unwrap();
            }
            let feed = FolderOptions { path: folder.path().to_owned(), pool: Some(6), framing: Framing::Container, records: Records::All };
            let pace = Pace::Visits { alerts: 4, every: Duration::from_millis(300) };
            let options = SendOptions { partitions: Some(2), pace, ..SendOptions::new(brokers, topic) };
            let summary = send(&Feed::Folder(feed), &options, |_| ControlFlow::Continue(())).unwrap();
            assert_eq!((summary.sent, summary.failed), (6, 0), "{summary:?}");
            let mut seen: Vec<Vec<u8>> = consume(brokers, topic, 2, 6).into_values().flatten().collect();
            let mut told: Vec<Vec<u8>> = files.iter().cycle().take(6).cloned().collect();
            seen.sort();
            told.sort();
            assert!(seen == told);
        });
    }

    #[test]
    fn sending_stops_when_the_caller_says_so_and_counts_what_kafka_has() {
        with_kafka("stop", |brokers, topic| {
            let options = SendOptions { pace: Pace::Rate(Rate::per_second(200.0).unwrap()), ..SendOptions::new(brokers, topic) };
            let summary = send(&Feed::Stream(SimulatorConfig::new(1, 0), 7), &options, |_| ControlFlow::Break(())).unwrap();
            assert!(summary.sent > 0 && summary.failed == 0, "{summary:?}");
            let sent = consume(brokers, topic, 4, summary.sent as usize);
            // Alert 7 over all partitions is the second of partition 3.
            assert_eq!(sent[&3][0], Generator::new(&SimulatorConfig::new(1, 0)).message(3, 1));
        });
    }
}
