//! The Kafka client that sends: its topic, and what it has confirmed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::util::Timeout;
use tracing::{debug, warn};

use super::{SendError, SendOptions, Summary};
use crate::kafka::{KafkaConfig, Topics};
use crate::simulator::truth::Row;

/// The largest message that is sent, and that topics created here take.
const MESSAGE_BYTES_MAX: &str = "20971520";
/// Between two looks for a new topic.
const LOOK: Duration = Duration::from_millis(50);
/// How long a stop waits for what is under way.
const STOP: Duration = Duration::from_secs(5);

/// The client's settings.
pub(super) fn settings(options: &SendOptions) -> Result<ClientConfig, SendError> {
    let mut client = ClientConfig::new();
    let secured = KafkaConfig::new(options.brokers.as_str(), Topics::Names(Vec::new()));
    KafkaConfig { sasl: options.sasl.clone(), tls: options.tls.clone(), ..secured }.secure(&mut client)?;
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
    Ok(client)
}

/// A producer, and what it has sent.
pub(super) struct Client {
    pub(super) producer: BaseProducer<Counts>,
    /// How many partitions the topic has.
    pub(super) partitions: i32,
    begin: Instant,
}

impl Client {
    /// Connects; creates the topic if that is asked for.
    pub(super) fn connect(options: &SendOptions) -> Result<Self, SendError> {
        let settings = settings(options)?;
        let counts = Counts(Arc::new(Counted { keep: options.truth.is_some(), ..Counted::default() }));
        let producer: BaseProducer<Counts> = settings.create_with_context(counts)?;
        let begin = Instant::now();
        let partitions = prepare(&settings, &producer, options)?;
        answers(&producer, &options.topic, partitions, options.patience.saturating_sub(begin.elapsed()))?;
        Ok(Self { producer, partitions, begin: Instant::now() })
    }

    /// Time since the first message was due.
    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Begins the clock anew.
    pub(super) fn restart(&mut self) {
        self.begin = Instant::now();
    }

    /// What was sent so far.
    pub(super) fn summary(&self) -> Summary {
        let counts = &self.producer.context().0;
        Summary {
            sent: counts.sent.load(Ordering::Relaxed),
            unplaced: counts.unplaced.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            seconds: self.begin.elapsed().as_secs_f64(),
            error: counts.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What the client has let go since it was last asked, where rows are kept.
    pub(super) fn rows(&self) -> Vec<Row> {
        std::mem::take(&mut self.producer.context().0.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits a little for what is under way, and gives the rest up.
    pub(super) fn stop(&self) {
        if self.producer.in_flight_count() > 0 && self.producer.flush(Timeout::After(STOP)).is_err() {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.producer.poll(Duration::ZERO);
        }
    }
}

/// Creates the topic if that is asked for; returns how many partitions it has.
fn prepare(settings: &ClientConfig, producer: &BaseProducer<Counts>, options: &SendOptions) -> Result<i32, SendError> {
    let found = |asked: Option<&str>| -> Result<i32, KafkaError> {
        let metadata = producer.client().fetch_metadata(asked, options.patience)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic && topic.error().is_none());
        Ok(topic.map_or(0, |topic| topic.partitions().len() as i32))
    };
    // Where it is there already, nobody needs the right to create topics. All are asked for: some brokers make a topic that is
    // asked for by name.
    let there = found(None)?;
    if there > 0 {
        return Ok(there);
    }
    if let Some(partitions) = options.partitions {
        let admin: AdminClient<DefaultClientContext> = settings.create()?;
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
        let there = found(Some(&options.topic))?;
        if there > 0 {
            return Ok(there);
        }
        // A new topic is not known at once.
        if options.partitions.is_none() || begin.elapsed() > options.patience {
            return Err(SendError::NoTopic(options.topic.clone()));
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until each partition answers where it stands: its leader has it then.
///
/// Metadata name a leader before it has a new partition. It refuses a message that comes then and takes the next, from whose
/// number on it counts; when the first is sent again, it says that it has it already, and the client believes it: it is lost.
fn answers(producer: &BaseProducer<Counts>, topic: &str, partitions: i32, patience: Duration) -> Result<(), SendError> {
    let begin = Instant::now();
    for partition in 0..partitions {
        loop {
            let left = patience.saturating_sub(begin.elapsed());
            match producer.client().fetch_watermarks(topic, partition, left.clamp(LOOK, Duration::from_secs(2))) {
                Ok(_) => break,
                Err(error) if left.is_zero() => return Err(error.into()),
                Err(error) => debug!(%error, partition, "waits for a partition's leader"),
            }
            std::thread::sleep(LOOK.min(left));
        }
    }
    Ok(())
}

/// Counts deliveries as the client reports them.
#[derive(Clone, Default)]
pub(super) struct Counts(Arc<Counted>);

#[derive(Default)]
struct Counted {
    sent: AtomicU64,
    unplaced: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    error: Mutex<Option<String>>,
    /// Whether rows are kept.
    keep: bool,
    rows: Mutex<Vec<Row>>,
}

impl Counts {
    /// Counts a message that Kafka does not take.
    pub(super) fn failed(&self, error: &KafkaError, row: Box<Row>) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
        self.0.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        self.keep(row);
    }

    fn keep(&self, row: Box<Row>) {
        if self.0.keep {
            self.0.rows.lock().unwrap_or_else(PoisonError::into_inner).push(*row);
        }
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
    type DeliveryOpaque = Box<Row>;
    fn delivery(&self, result: &DeliveryResult<'_>, mut row: Box<Row>) {
        match result {
            Ok(message) => {
                self.0.sent.fetch_add(1, Ordering::Relaxed);
                self.0.bytes.fetch_add(message.payload_len() as u64, Ordering::Relaxed);
                row.place = (message.offset() >= 0).then(|| (message.partition(), message.offset()));
                self.0.unplaced.fetch_add(u64::from(row.place.is_none()), Ordering::Relaxed);
                self.keep(row);
            }
            Err((error, _)) => self.failed(error, row),
        }
    }
}
