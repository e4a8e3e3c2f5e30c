//! What a cluster is asked to do.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A cluster at these brokers.
pub(crate) struct Cluster {
    pub(crate) brokers: String,
    /// Held while it must stay up, or by the one who restarts it.
    _turn: Option<Turn>,
}

/// Whose turn it is with a cluster that tests share.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

static TURNS: RwLock<()> = RwLock::new(());

impl Cluster {
    /// A cluster of one's own.
    pub(crate) fn own(brokers: String) -> Self {
        Self { brokers, _turn: None }
    }

    /// The real one, if one is named: shared with other tests, which leave it up.
    pub(crate) fn shared() -> Option<Self> {
        let brokers = named()?;
        let guard = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { brokers, _turn: Some(Turn::Shared { _guard: guard }) })
    }

    /// The real one, while nobody else uses it.
    pub(crate) fn alone() -> Option<Self> {
        let brokers = named()?;
        let guard = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Some(Self { brokers, _turn: Some(Turn::Alone { _guard: guard }) })
    }
}

fn named() -> Option<String> {
    let brokers = std::env::var("FINK_TEST_KAFKA").ok();
    if brokers.is_none() {
        println!("skipped: FINK_TEST_KAFKA names no Kafka");
    }
    brokers
}

impl Cluster {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("admin")
    }

    pub(crate) fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let done = block_on(self.admin().create_topics([&new], &AdminOptions::new())).expect("create");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    pub(crate) fn delete(&self, topic: &str) {
        let done = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).expect("delete");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        // The name is free a moment later.
        std::thread::sleep(Duration::from_secs(1));
    }

    /// The offset that a group has committed.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = consumer.committed_offsets(list, Duration::from_secs(10)).ok()?;
        match found.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    pub(crate) fn grow(&self, topic: &str, partitions: usize) {
        let done = block_on(self.admin().create_partitions([&NewPartitions::new(topic, partitions)], &AdminOptions::new())).expect("grow");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    /// Deletes what is below an offset.
    pub(crate) fn truncate(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("list");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("delete records");
    }

    pub(crate) fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut client = self.client();
        client.set("linger.ms", "5").set("message.max.bytes", "31457280");
        settings.iter().for_each(|(key, value)| {
            client.set(*key, *value);
        });
        client.create().expect("producer")
    }

    /// Sends messages `range` of a partition; the payload is `<topic>/<partition>/<number>`, filled up to `bytes`.
    pub(crate) fn send(&self, topic: &str, partition: i32, range: std::ops::Range<i64>, bytes: usize) {
        let producer = self.producer(&[]);
        send(&producer, topic, partition, range, bytes);
        producer.flush(Duration::from_secs(60)).expect("flush");
    }
}

/// Sends without flushing. The timestamp of message n is n + 1 seconds (librdkafka takes 0 for now).
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, range: std::ops::Range<i64>, bytes: usize) {
    for number in range {
        let mut payload = format!("{topic}/{partition}/{number}").into_bytes();
        payload.resize(payload.len().max(bytes), b'.');
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(&payload).timestamp((number + 1) * 1000);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }
}
