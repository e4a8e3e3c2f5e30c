//! What a topic may hold, and how it may change.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fink_sources::kafka::unreadable;
use fink_sources::lanes::{Changed, Origin, Rules};
use fink_sources::progress::ReaderState;
use rdkafka::producer::{BaseRecord, Producer};

use crate::cluster::{Cluster, send};
use crate::proxy::Proxy;
use crate::run::{Memory, Run, config, rules};

/// A topic name that no other run uses.
pub(crate) fn fresh(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{name}_{}", now.as_nanos())
}

pub(crate) fn set(range: Range<i64>) -> BTreeSet<i64> {
    range.collect()
}

fn topic_of(memory: &Memory, incarnation: u32, partition: i32) -> Vec<(i64, i64)> {
    let found = memory.covered().into_iter().find(|((_, i, p), _)| (*i, *p) == (incarnation, partition));
    found.expect("the log is open").1
}

#[test]
fn reads_every_offset_once_and_goes_on_after_a_restart() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("plain");
    kafka.create(&topic, 3, &[]);
    for partition in 0..3 {
        kafka.send(&topic, partition, 0..500, 100);
    }
    let memory = Arc::new(Memory::default());
    let mut run = Run::start(&config(&kafka.brokers, &topic), &memory, rules(Origin::Earliest));
    let goals = run.catch_up();
    assert_eq!(goals.iter().map(|(log, high)| (log.partition, *high)).collect::<Vec<_>>(), [(0, 500), (1, 500), (2, 500)]);
    assert!(goals[0].0.source.starts_with("kafka:"));
    for ((log, offset), message) in &run.messages {
        let text = String::from_utf8_lossy(message.payload.as_deref().expect("payload")).into_owned();
        assert_eq!(text.trim_end_matches('.'), format!("{topic}/{}/{offset}", log.partition));
        assert_eq!(message.timestamp_ms, Some((offset + 1) * 1000));
    }
    assert_eq!(run.messages.len(), 1500);
    drop(run);
    kafka.send(&topic, 1, 500..510, 100);
    let mut again = Run::start(&config(&kafka.brokers, &topic), &memory, rules(Origin::Latest));
    again.catch_up();
    assert_eq!((again.messages.len(), again.offsets(1)), (10, set(500..510)));
    // And lives on.
    kafka.send(&topic, 2, 500..503, 100);
    again.until("the new ones", |run| run.messages.len() == 13);
    assert_eq!(again.offsets(2), set(500..503));
}

#[test]
fn messages_that_are_damaged_are_not_passed_over_and_other_partitions_go_on() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("damaged");
    kafka.create(&topic, 2, &[]);
    // Three batches a partition: librdkafka leaves out the damaged one and goes on with the next.
    for part in [0..10, 10..20, 20..30] {
        kafka.send(&topic, 0, part.clone(), 10);
        kafka.send(&topic, 1, part, 10);
    }
    let proxy = Proxy::damaging(&kafka.brokers, &format!("{topic}/0/15"));
    let memory = Arc::new(Memory::default());
    let mut run = Run::start(&config(&proxy.address, &topic), &memory, rules(Origin::Earliest));
    run.until("it is said", |run| matches!(&run.reader.progress().state, ReaderState::Retrying(why) if why.contains("damaged")));
    kafka.send(&topic, 1, 30..40, 10);
    run.until("it is asked again, and the other goes on", |run| proxy.damaged() > 2 && run.offsets(1) == set(0..40));
    assert_eq!((run.offsets(0), topic_of(&memory, 0, 0)), (set(0..10), vec![(0, 10)]));
    // What stays damaged is the whole batch of the message; what is around it can be read.
    let lost = |span: Range<i64>| unreadable(&config(&proxy.address, &topic), &topic, 0, span).expect("asked");
    assert_eq!(Vec::from(lost(5..25)), [(10, 20)]);
    assert_eq!(Vec::from(lost(12..15)), [(12, 15)]);
    assert_eq!((Vec::from(lost(0..10)), Vec::from(lost(20..30))), (vec![], vec![]));
    proxy.heal();
    assert_eq!(Vec::from(lost(5..25)), []);
    run.until("all", |run| run.offsets(0) == set(0..30));
    assert_eq!(topic_of(&memory, 0, 0), [(0, 30)]);
}

#[test]
fn what_is_durable_is_shown_to_monitors_as_the_groups_offsets() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("monitored");
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 0..50, 10);
    let mut run = Run::start(&config(&kafka.brokers, &topic), &Arc::default(), rules(Origin::Earliest));
    run.catch_up();
    run.until("the group's offset", |_| kafka.committed("fink", &topic, 0) == Some(50));
}

#[test]
fn spans_cover_transaction_markers_and_aborted_messages_up_to_the_end() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("transactions");
    kafka.create(&topic, 1, &[]);
    let producer = kafka.producer(&[("transactional.id", &topic)]);
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience).expect("init");
    let mut committed = BTreeSet::new();
    let mut at = 0;
    for (count, commit) in [(20, true), (20, false), (10, true), (5, false)] {
        producer.begin_transaction().expect("begin");
        send(&producer, &topic, 0, at..at + count, 100);
        producer.flush(patience).expect("flush");
        if commit {
            committed.extend(at..at + count);
            producer.commit_transaction(patience).expect("commit");
        } else {
            producer.abort_transaction(patience).expect("abort");
        }
        // The marker takes an offset.
        at += count + 1;
    }
    let memory = Arc::new(Memory::default());
    let mut run = Run::start(&config(&kafka.brokers, &topic), &memory, rules(Origin::Earliest));
    let goals = run.catch_up();
    assert_eq!(goals[0].1, at);
    assert_eq!(run.offsets(0), committed);
    assert_eq!(topic_of(&memory, 0, 0), [(0, at)]);
    // The same again while it is read: first silence, then a message after it.
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, 0, 0..1, 100);
    producer.commit_transaction(patience).expect("commit");
    run.until("the end is covered", |_| topic_of(&memory, 0, 0) == [(0, at + 2)]);
    kafka.send(&topic, 0, 0..1, 100);
    run.until("the message after it", |run| run.offsets(0).contains(&(at + 2)));
    assert_eq!(topic_of(&memory, 0, 0), [(0, at + 3)]);
}

#[test]
fn spans_cover_what_was_compacted_away() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("compacted");
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.001")];
    kafka.create(&topic, 1, &settings);
    let producer = kafka.producer(&[]);
    let deadline = std::time::Instant::now() + crate::run::PATIENCE;
    let mut sent = 0;
    loop {
        for _ in 0..50 {
            let key = [b"k".as_slice(), &[u8::try_from(sent % 3).expect("small")]].concat();
            producer.send(BaseRecord::<[u8], [u8]>::to(&topic).partition(0).key(&key).payload(b"x")).expect("send");
            sent += 1;
        }
        producer.flush(Duration::from_secs(30)).expect("flush");
        std::thread::sleep(Duration::from_secs(1));
        let memory = Arc::new(Memory::default());
        let mut run = Run::start(&config(&kafka.brokers, &topic), &memory, rules(Origin::Earliest));
        run.catch_up();
        assert_eq!(topic_of(&memory, 0, 0), [(0, sent)]);
        if run.messages.len() < usize::try_from(sent).expect("positive") {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "kafka compacted nothing");
    }
}

#[test]
fn takes_up_new_topics_of_a_pattern_and_new_partitions_while_it_reads() {
    let Some(kafka) = Cluster::shared() else { return };
    let prefix = fresh("pattern");
    let (first, second) = (format!("{prefix}_a"), format!("{prefix}_b"));
    kafka.create(&first, 1, &[]);
    kafka.send(&first, 0, 0..5, 10);
    let memory = Arc::new(Memory::default());
    let told = Rules { pattern: true, ..rules(Origin::Latest) };
    let mut run = Run::start(&config(&kafka.brokers, &format!("^{prefix}_.*")), &memory, told);
    run.catch_up();
    assert!(run.messages.is_empty());
    kafka.grow(&first, 2);
    kafka.send(&first, 1, 0..7, 10);
    kafka.create(&second, 1, &[]);
    kafka.send(&second, 0, 0..9, 10);
    run.until("both", |run| run.messages.len() == 16);
    let covered = memory.covered();
    assert_eq!(covered[&(first.clone(), 0, 1)], [(0, 7)]);
    assert_eq!(covered[&(second, 0, 0)], [(0, 9)]);
    assert_eq!(covered[&(first, 0, 0)], []);
}

#[test]
fn starts_at_a_time_and_at_offsets() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("origins");
    kafka.create(&topic, 2, &[]);
    kafka.send(&topic, 0, 0..100, 10);
    kafka.send(&topic, 1, 0..100, 10);
    let cases = [
        (Origin::Timestamp(41_000), set(40..100)),
        (Origin::Timestamp(40_001), set(40..100)),
        (Origin::Timestamp(100_001), set(100..100)),
        (Origin::Offsets([(0, 90), (1, 90)].into()), set(90..100)),
        (Origin::Latest, set(100..100)),
    ];
    for (origin, expected) in cases {
        let mut run = Run::start(&config(&kafka.brokers, &topic), &Arc::default(), rules(origin.clone()));
        run.catch_up();
        assert_eq!((run.offsets(0), run.offsets(1)), (expected.clone(), expected), "{origin:?}");
    }
}

#[test]
fn a_topic_that_was_recreated_stops_it_until_told_to_read_it_as_new() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("recreated");
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 0..20, 10);
    let memory = Arc::new(Memory::default());
    let settings = config(&kafka.brokers, &topic);
    Run::start(&settings, &memory, rules(Origin::Earliest)).catch_up();
    // Shorter than it was.
    kafka.delete(&topic);
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 100..110, 10);
    let refusal = Run::start(&settings, &memory, Rules::default()).refusal();
    assert!(refusal.contains("recreated") && refusal.contains("--new-incarnation"), "{refusal}");
    // As long or longer: the message at the mark is another.
    kafka.send(&topic, 0, 110..130, 10);
    let refusal = Run::start(&settings, &memory, Rules::default()).refusal();
    assert!(refusal.contains("another message at offset 19"), "{refusal}");
    let told = Rules { changed: Changed::NewIncarnation, ..Rules::default() };
    for expected in [30, 0] {
        let mut run = Run::start(&settings, &memory, told.clone());
        run.catch_up();
        assert_eq!(run.messages.len(), expected);
    }
    assert_eq!((topic_of(&memory, 0, 0), topic_of(&memory, 1, 0)), (vec![(0, 20)], vec![(0, 30)]));
}

#[test]
fn a_topic_that_was_read_from_another_cluster_stops_it() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("elsewhere");
    kafka.create(&topic, 1, &[]);
    let memory = Arc::new(Memory::default());
    memory.logs.lock().expect("lock").insert(fink_dataflow::message::Log::new("kafka:another", &topic, 0, 0), Default::default());
    let refusal = Run::start(&config(&kafka.brokers, &topic), &memory, Rules::default()).refusal();
    assert!(refusal.contains("another cluster"), "{refusal}");
}

#[test]
fn what_was_deleted_while_it_was_away_is_a_hole() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("deleted");
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 0..20, 10);
    let memory = Arc::new(Memory::default());
    let settings = config(&kafka.brokers, &topic);
    Run::start(&settings, &memory, rules(Origin::Earliest)).catch_up();
    kafka.send(&topic, 0, 20..100, 10);
    kafka.truncate(&topic, 0, 70);
    let mut run = Run::start(&settings, &memory, Rules::default());
    run.catch_up();
    let holes: Vec<Vec<(i64, i64)>> = run.reader.progress().logs.values().map(|log| log.holes.clone().into()).collect();
    assert_eq!(holes, [[(20, 70)]]);
    assert_eq!(topic_of(&memory, 0, 0), [(0, 20), (70, 100)]);
}

#[test]
fn takes_a_message_of_20_megabytes_among_small_ones() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("large");
    kafka.create(&topic, 1, &[("max.message.bytes", "31457280")]);
    kafka.send(&topic, 0, 0..3, 100);
    kafka.send(&topic, 0, 3..4, 20 << 20);
    kafka.send(&topic, 0, 4..7, 100);
    let mut run = Run::start(&config(&kafka.brokers, &topic), &Arc::default(), rules(Origin::Earliest));
    run.catch_up();
    let sizes: Vec<usize> = run.messages.values().map(|message| message.bytes()).collect();
    assert_eq!(sizes, [100, 100, 100, 20 << 20, 100, 100, 100]);
}
