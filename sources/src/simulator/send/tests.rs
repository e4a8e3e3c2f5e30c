//! Against the Kafka of FINK_TEST_KAFKA, where there is one.

use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use super::*;
use crate::simulator::generate::Edition;
use crate::simulator::pace::Visits;
use crate::simulator::seen::Telescope;
use crate::simulator::{AlertOptions, Generator};

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
        Ok(brokers) => test(&brokers, &format!("{name}_{}_{}", std::process::id(), system_clock())),
        Err(_) => println!("skipped: FINK_TEST_KAFKA is not set"),
    }
}

#[test]
fn kafka_holds_the_stream_that_the_source_gives() {
    with_kafka("stream", |brokers, topic| {
        let config =
            SimulatorConfig { partitions: 3, limit: Some(1000), alerts: AlertOptions::full(Telescope::Ztf), ..SimulatorConfig::new(5, 1) };
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
        let feed = FolderOptions { pool: Some(6), ..FolderOptions::new(folder.path()) };
        let pace = Pace::Visits(Visits::at_once(1, Duration::from_millis(100)));
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

#[test]
fn the_truth_says_where_every_message_is_and_what_was_done_to_it() {
    with_kafka("truth", |brokers, topic| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.parquet");
        let config = SimulatorConfig { partitions: 3, limit: Some(500), ..SimulatorConfig::new(5, 1) };
        let delay = (Duration::from_secs(1), Duration::from_secs(3));
        let trouble = Trouble {
            delayed: 0.1,
            delay,
            duplicated: 0.1,
            disordered: 0.1,
            garbled: 0.1,
            truncated: 0.1,
            schema_change_at: Some(300),
            outage: Some((100, Duration::from_millis(500))),
            resent: true,
        };
        let options = SendOptions {
            partitions: Some(3),
            pace: Pace::Fast(Rate::per_second(100.0).unwrap()),
            truth: Some(path.clone()),
            trouble: trouble.clone(),
            seed: 5,
            threads: 2,
            ..SendOptions::new(brokers, topic)
        };
        let feed = Feed::Stream(config.clone(), 0);
        let summary = send(&feed, &options, |_| ControlFlow::Continue(())).unwrap();
        let rows = truth(&path);
        assert_eq!(rows.len() as u64, summary.sent);
        let seen = consume(brokers, topic, 3, summary.sent as usize);
        let mut generator = Generator::new(&config);
        for row in &rows {
            let (partition, offset) = row.place.expect("confirmed");
            let sent = &seen[&partition][offset as usize];
            let edition = if trouble.changed(row.number) { Edition::Next } else { Edition::First };
            let (message, told) = generator.tell(row.number, edition);
            assert_eq!(told.alert_id, row.alert_id);
            assert_eq!(*sent == message, row.harm.is_empty(), "{} {}", row.number, row.harm);
        }
        let of = |sending: &str| rows.iter().filter(|row| row.sending == sending).count();
        assert_eq!((of("first"), of("resent")), (500, 500));
        assert!(of("duplicate") > 20);
        let places: std::collections::BTreeSet<_> = rows.iter().map(|row| row.place).collect();
        assert_eq!(places.len(), rows.len());
        // What was prepared on disk is what is made on the way.
        let again = format!("{topic}_again");
        let prepared = SendOptions { topic: again.clone(), truth: None, prepare: Some(folder.path().to_owned()), threads: 1, ..options };
        send(&feed, &prepared, |_| ControlFlow::Continue(())).unwrap();
        assert!(consume(brokers, &again, 3, summary.sent as usize) == seen);
    });
}

struct Sent {
    number: u64,
    sending: String,
    harm: String,
    place: Option<(i32, i64)>,
    alert_id: i64,
}

fn truth(path: &std::path::Path) -> Vec<Sent> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int32Type, Int64Type};
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader.map(Result::unwrap) {
        let long = |name: &str, row: usize| batch[name].as_primitive::<Int64Type>().value(row);
        let text = |name: &str, row: usize| batch[name].as_string::<i32>().value(row).to_owned();
        rows.extend((0..batch.num_rows()).map(|row| Sent {
            number: long("number", row) as u64,
            sending: text("sending", row),
            harm: text("harm", row),
            place: batch["offset"].is_valid(row).then(|| (batch["partition"].as_primitive::<Int32Type>().value(row), long("offset", row))),
            alert_id: long("alert_id", row),
        }));
    }
    rows
}
