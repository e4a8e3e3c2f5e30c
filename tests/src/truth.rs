//! The table that the simulator writes beside a stream, and the topic that it is about.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

/// A row of the truth.
#[derive(Clone, Debug)]
pub struct Told {
    /// The alert's place in the stream.
    pub number: u64,
    /// `first`, `duplicate` or `resent`.
    pub sending: String,
    /// Empty, `garbled` or `truncated`.
    pub harm: String,
    /// 1, or 2 after a change of schema.
    pub edition: i32,
    /// How much later than due it was sent on purpose, seconds.
    pub late_s: f64,
    /// Where it is: partition and offset.
    pub place: (i32, i64),
    /// When it was given to Kafka's client, milliseconds since 1970 UTC.
    pub sent_ms: i64,
    /// Of its visit; 0 where it is not known.
    pub mjd_tai: f64,
    /// The alert's number at the survey; 0 where it is not known.
    pub alert_id: i64,
}

/// The whole truth, in the order in which it was sent. Every message must have been confirmed.
#[must_use]
pub fn read(path: &Path) -> Vec<Told> {
    let file = File::open(path).expect("the truth is there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build).expect("it is Parquet");
    let mut rows: Vec<Told> = reader.flat_map(|batch| told(&batch.expect("it can be read"))).collect();
    rows.sort_by_key(|row| row.sent_ms);
    rows
}

fn told(batch: &RecordBatch) -> Vec<Told> {
    let long = |name: &str| batch[name].as_primitive::<Int64Type>();
    let double = |name: &str| batch[name].as_primitive::<Float64Type>();
    let text = |name: &str| {
        assert_eq!(*batch[name].data_type(), DataType::Utf8, "{name}");
        batch[name].as_string::<i32>()
    };
    let int = |name: &str| batch[name].as_primitive::<Int32Type>();
    let row = |row: usize| {
        assert!(batch["offset"].is_valid(row), "a message that Kafka never confirmed");
        Told {
            number: long("number").value(row).unsigned_abs(),
            sending: text("sending").value(row).to_owned(),
            harm: text("harm").value(row).to_owned(),
            edition: int("edition").value(row),
            late_s: double("late_s").value(row),
            place: (int("partition").value(row), long("offset").value(row)),
            sent_ms: long("sent_ms").value(row),
            mjd_tai: double("mjd_tai").value(row),
            alert_id: long("alert_id").value(row),
        }
    };
    (0..batch.num_rows()).map(row).collect()
}

/// All that a topic of four partitions holds, by partition and offset: `count` messages, no less and no more.
#[must_use]
pub fn topic(brokers: &str, name: &str, count: usize) -> BTreeMap<(i32, i64), Vec<u8>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "truth").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset(name, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("partitions can be assigned");
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let message = consumer.poll(Duration::from_secs(60)).expect("as many messages as were sent").expect("a message");
        all.insert((message.partition(), message.offset()), message.payload().expect("a payload").to_vec());
    }
    assert!(consumer.poll(Duration::from_millis(300)).is_none(), "{name} holds more than {count}");
    assert_eq!(all.len(), count);
    all
}
