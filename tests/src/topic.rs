//! What was sent to a topic, message by message.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, error::KafkaError, types::RDKafkaErrorCode};
use serde_json::{Value, json};

/// A topic, a producer to it, and an account of all that was sent.
pub struct Topic {
    /// Its name.
    pub name: String,
    brokers: String,
    producer: ThreadedProducer<Deliveries>,
    delivered: Deliveries,
    next: Vec<i64>,
    sent: u64,
    /// Offsets that must be rejected, by partition.
    rejected: BTreeMap<i32, BTreeSet<i64>>,
    /// The number of records of messages that hold another than one.
    records: BTreeMap<i32, BTreeMap<i64, u64>>,
    /// Offsets that hold no message any more.
    gone: BTreeMap<i32, Vec<Range<i64>>>,
    /// The files whose bytes were sent.
    files: Vec<Value>,
}

/// How a message must be found in the archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// As so many rows; 0: empty.
    Records(u64),
    /// In the rejects.
    Rejected,
}

#[derive(Clone, Default)]
struct Deliveries {
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.done } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("broker.address.family", "v4");
    config
}

fn administer<T>(brokers: &str, what: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create().expect("a client can be made");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20))).request_timeout(Some(Duration::from_secs(30)));
    runtime.block_on(what(&admin, &options))
}

fn producer(brokers: &str, delivered: &Deliveries) -> ThreadedProducer<Deliveries> {
    let mut config = client(brokers);
    config.set("enable.idempotence", "true").set("linger.ms", "2").set("message.max.bytes", "31457280");
    config.set("queue.buffering.max.kbytes", "131072").set("batch.size", "1000000");
    config.create_with_context(delivered.clone()).expect("a producer can be made")
}

impl Topic {
    /// Creates a topic with so many partitions.
    #[must_use]
    pub fn create(brokers: &str, name: &str, partitions: i32) -> Self {
        Self::create_with(brokers, name, partitions, &[])
    }

    /// Creates a topic with settings of its own.
    #[must_use]
    pub fn create_with(brokers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let new = settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |t, (k, v)| t.set(k, v));
        let result = administer(brokers, async |admin, options| admin.create_topics([&new], options).await).expect("the broker answers");
        assert!(result.iter().all(Result::is_ok), "{result:?}");
        let delivered = Deliveries::default();
        let producer = producer(brokers, &delivered);
        let next = vec![0; usize::try_from(partitions).expect("partitions")];
        Self {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            producer,
            delivered,
            next,
            sent: 0,
            rejected: BTreeMap::new(),
            records: BTreeMap::new(),
            gone: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Deletes a topic.
    pub fn delete(brokers: &str, name: &str) {
        let result = administer(brokers, async |admin, options| admin.delete_topics(&[name], options).await).expect("the broker answers");
        assert!(result.iter().all(Result::is_ok), "{result:?}");
    }

    /// Adds partitions, up to so many.
    pub fn grow(&mut self, partitions: i32) {
        let count = usize::try_from(partitions).expect("partitions");
        let new = NewPartitions::new(&self.name, count);
        let result = administer(&self.brokers, async |admin, options| admin.create_partitions([&new], options).await);
        assert!(result.expect("the broker answers").iter().all(Result::is_ok), "partitions can be added");
        // A producer learns of new partitions minutes later; a new one knows them at once.
        self.flush();
        self.producer = producer(&self.brokers, &self.delivered);
        self.next.resize(count, 0);
    }

    /// Deletes the messages of a partition before an offset, as retention does. Those before `archived` were archived.
    pub fn forget_before(&mut self, partition: i32, offset: i64, archived: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, rdkafka::Offset::Offset(offset)).expect("an offset");
        let result = administer(&self.brokers, async |admin, options| admin.delete_records(&list, options).await);
        result.expect("the broker deletes");
        self.gone.entry(partition).or_default().push(archived..offset);
    }

    /// Sends a message to a partition; it is in the account at once, on the broker after [`Topic::flush`].
    pub fn send(&mut self, partition: i32, payload: &[u8], fate: Fate) -> i64 {
        self.send_as(partition, None, Some(payload), fate)
    }

    /// Sends a message with a key, or without a value.
    pub fn send_as(&mut self, partition: i32, key: Option<&[u8]>, payload: Option<&[u8]>, fate: Fate) -> i64 {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.name).partition(partition);
        record.key = key;
        record.payload = payload;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => panic!("could not send: {error}"),
            }
        }
        let next = &mut self.next[usize::try_from(partition).expect("a partition")];
        let offset = *next;
        *next += 1;
        self.sent += 1;
        match fate {
            Fate::Records(1) => {}
            Fate::Records(count) => _ = self.records.entry(partition).or_default().insert(offset, count),
            Fate::Rejected => _ = self.rejected.entry(partition).or_default().insert(offset),
        }
        offset
    }

    /// Sends a file's bytes, which hold one alert; `schema` is the writer's where the message does not carry it.
    pub fn send_file(&mut self, partition: i32, file: &Path, schema: Option<&Path>) {
        self.send_payload_of(partition, file, &fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display())), schema);
    }

    /// Sends a payload that is compared with a file's content later.
    pub fn send_payload_of(&mut self, partition: i32, file: &Path, payload: &[u8], schema: Option<&Path>) {
        let records = match &payload[..4.min(payload.len())] {
            b"Obj\x01" => apache_avro::Reader::new(payload).map_or(1, |reader| u64::try_from(reader.count()).expect("fits")),
            _ => 1,
        };
        let offset = self.send(partition, payload, Fate::Records(records));
        let mut line = json!({ "topic": self.name, "partition": partition, "offset": offset, "path": file });
        if let Some(schema) = schema {
            line["schema"] = json!(schema);
        }
        self.files.push(line);
    }

    /// Waits until the broker has all.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).expect("the broker takes what was sent");
        // Delivery reports are counted by the producer's own thread, a moment after the flush.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while self.delivered.done.load(Ordering::Relaxed) < self.sent && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.delivered.failed.load(Ordering::Relaxed), 0, "messages were not delivered");
        assert_eq!(self.delivered.done.load(Ordering::Relaxed), self.sent, "messages were not delivered");
    }

    /// How many messages were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Partitions.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        i32::try_from(self.next.len()).expect("partitions")
    }

    /// The offset after the last of a partition, as the broker says.
    #[must_use]
    pub fn high(&self, partition: i32) -> i64 {
        let consumer: BaseConsumer = client(&self.brokers).set("group.id", "fink-tests").create().expect("a client can be made");
        consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(20)).expect("the broker answers").1
    }

    /// The fate of a message turned out another: a reject that was retried.
    pub fn change_fate(&mut self, partition: i32, offset: i64, records: u64) {
        self.rejected.entry(partition).or_default().remove(&offset);
        if records != 1 {
            self.records.entry(partition).or_default().insert(offset, records);
        }
    }

    /// What an archive of this topic must hold, for `verify.py`.
    #[must_use]
    pub fn account(&self) -> Vec<Value> {
        let log = |(partition, next): (i32, &i64)| {
            let mut spans = Vec::new();
            let mut from = 0;
            for gone in self.gone.get(&partition).into_iter().flatten() {
                spans.push([from, gone.start]);
                from = gone.end;
            }
            spans.push([from, *next]);
            let rejected = self.rejected.get(&partition).cloned().unwrap_or_default();
            let records = self.records.get(&partition).cloned().unwrap_or_default();
            json!({ "topic": self.name, "partition": partition, "messages": spans, "rejected": rejected, "records": records })
        };
        (0..).zip(&self.next).map(log).collect()
    }

    /// Writes the account of these topics for `verify.py`; returns the file.
    #[must_use]
    pub fn write_account(topics: &[&Self], folder: &Path) -> PathBuf {
        let logs: Vec<_> = topics.iter().flat_map(|t| t.account()).collect();
        let file = folder.join("account.json");
        fs::write(&file, json!({ "logs": logs }).to_string()).expect("the account can be written");
        file
    }

    /// Writes which file each message came from, for `compare.py`; returns the file.
    #[must_use]
    pub fn write_files(topics: &[&Self], folder: &Path) -> PathBuf {
        let lines: Vec<_> = topics.iter().flat_map(|t| &t.files).map(Value::to_string).collect();
        let file = folder.join("sent.jsonl");
        fs::write(&file, lines.join("\n") + "\n").expect("the list can be written");
        file
    }
}
