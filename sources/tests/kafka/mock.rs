//! A mock cluster, for errors that a real one makes too rarely.

use std::sync::Arc;
use std::time::Duration;

use fink_sources::lanes::{Origin, Rules};
use fink_sources::progress::ReaderState;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::cluster::Cluster;
use crate::real::set;
use crate::run::{Memory, Run, config, rules};

fn mock(topic: &str) -> (MockCluster<'static, DefaultProducerContext>, Cluster) {
    let mock = MockCluster::new(1).expect("mock cluster");
    mock.create_topic(topic, 1, 1).expect("topic");
    let brokers = mock.bootstrap_servers();
    (mock, Cluster::own(brokers))
}

#[test]
fn fetch_errors_that_pass_lose_nothing() {
    let (mock, kafka) = mock("t");
    kafka.send("t", 0, 0..20, 10);
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    ];
    mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    let mut run = Run::start(&config(&kafka.brokers, "t"), &Arc::default(), rules(Origin::Earliest));
    run.catch_up();
    assert_eq!(run.offsets(0), set(0..20));
}

#[test]
fn a_broker_that_goes_away_is_said_and_read_on_when_it_is_back() {
    let (mock, kafka) = mock("t");
    kafka.send("t", 0, 0..20, 10);
    let mut run = Run::start(&config(&kafka.brokers, "t"), &Arc::default(), rules(Origin::Earliest));
    run.catch_up();
    mock.broker_down(1).expect("down");
    run.until("it is said", |run| matches!(run.reader.progress().state, ReaderState::Retrying(_)));
    mock.broker_up(1).expect("up");
    kafka.send("t", 0, 20..40, 10);
    run.until("all", |run| run.messages.len() == 40);
    run.until("it is said", |run| run.reader.progress().state == ReaderState::Reading);
    assert_eq!(run.offsets(0), set(0..40));
}

#[test]
fn a_topic_that_does_not_exist_is_waited_for() {
    let (mock, kafka) = mock("other");
    let mut run = Run::start(&config(&kafka.brokers, "t"), &Arc::default(), rules(Origin::Earliest));
    run.until("it is said", |run| matches!(&run.reader.progress().state, ReaderState::Retrying(why) if why.contains("no t")));
    assert_eq!(run.reader.caught_up_to(), None);
    mock.create_topic("t", 1, 1).expect("topic");
    kafka.send("t", 0, 0..3, 10);
    run.until("all", |run| run.messages.len() == 3);
}

#[test]
fn a_topic_that_is_born_after_the_start_is_read_from_its_first_message_and_keeps_no_other_waiting() {
    let (mock, kafka) = mock("there");
    kafka.send("there", 0, 0..5, 10);
    let mut run = Run::start(&config(&kafka.brokers, "there,tonight"), &Arc::default(), rules(Origin::Latest));
    run.until("the other is read", |run| run.reader.progress().state == ReaderState::Reading);
    kafka.send("there", 0, 5..8, 10);
    run.until("what came since", |run| run.messages.len() == 3);
    assert_eq!(run.reader.caught_up_to(), None, "the topic that is not there yet is waited for");
    mock.create_topic("tonight", 1, 1).expect("topic");
    kafka.send("tonight", 0, 0..100, 10);
    run.until("all of it", |run| run.messages.len() == 103);
    run.until("nothing is waited for", |run| run.reader.caught_up_to().is_some());
}

#[test]
fn what_was_not_there_is_no_less_new_where_nothing_else_is_read() {
    for named in ["tonight", "^ton.*"] {
        let (mock, kafka) = mock("other");
        let told = Rules { pattern: named.starts_with('^'), ..rules(Origin::Latest) };
        let mut run = Run::start(&config(&kafka.brokers, named), &Arc::default(), told);
        run.until("it is said", |run| matches!(&run.reader.progress().state, ReaderState::Retrying(why) if why.contains("has no")));
        mock.create_topic("tonight", 1, 1).expect("topic");
        kafka.send("tonight", 0, 0..100, 10);
        run.until("all of it", |run| run.messages.len() == 100);
    }
}

#[test]
fn nobody_there_is_waited_for_and_a_stop_is_heard() {
    let run = Run::start(&config("127.0.0.1:1", "t"), &Arc::default(), rules(Origin::Earliest));
    let begun = std::time::Instant::now();
    while !matches!(run.reader.progress().state, ReaderState::Retrying(_)) {
        assert!(begun.elapsed() < crate::run::PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    run.reader.join();
}

#[test]
fn whoever_may_read_but_is_allowed_no_group_reads() {
    let (mock, kafka) = mock("t");
    kafka.send("t", 0, 0..20, 10);
    mock.request_errors(RDKafkaApiKey::FindCoordinator, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 10_000]);
    let memory = Arc::new(Memory::default());
    let mut run = Run::start(&config(&kafka.brokers, "t"), &memory, rules(Origin::Earliest));
    run.catch_up();
    // Long enough that each client has asked for its group's coordinator.
    std::thread::sleep(Duration::from_secs(2));
    kafka.send("t", 0, 20..40, 10);
    run.until("all", |run| run.offsets(0) == set(0..40));
    assert_eq!(run.reader.progress().state, ReaderState::Reading);
    drop(run);
    // The stored message is looked at again by a client of its own.
    let mut again = Run::start(&config(&kafka.brokers, "t"), &memory, rules(Origin::Earliest));
    kafka.send("t", 0, 40..41, 10);
    again.until("the new one", |run| run.offsets(0) == set(40..41));
}

#[test]
fn a_partition_that_nobody_leads_is_left_out_and_the_others_are_read() {
    let mock = MockCluster::new(1).expect("mock cluster");
    mock.create_topic("t", 2, 1).expect("topic");
    let kafka = Cluster::own(mock.bootstrap_servers());
    (0..2).for_each(|partition| kafka.send("t", partition, 0..20, 10));
    // Before anybody reads it: the mock itself breaks where a partition that is fetched loses its leader.
    mock.partition_leader("t", 1, None).expect("no leader");
    let memory = Arc::new(Memory::default());
    let mut run = Run::start(&config(&kafka.brokers, "t"), &memory, rules(Origin::Latest));
    run.until("the first look", |run| run.reader.progress().looked_ms.is_some());
    kafka.send("t", 0, 20..40, 10);
    run.until("the one that is led", |run| run.offsets(0) == set(20..40));
    let looked = run.reader.progress().looked_ms;
    run.until("another look", |run| run.reader.progress().looked_ms > looked);
    assert_eq!((run.reader.progress().state, run.reader.caught_up_to()), (ReaderState::Reading, None));
    mock.partition_leader("t", 1, Some(1)).expect("leader");
    let goals: Vec<_> = run.catch_up().into_iter().map(|(log, high)| (log.partition, high)).collect();
    assert_eq!(goals, [(0, 20), (1, 20)]);
    // The run's origin is its origin too: what it held then is not asked for.
    kafka.send("t", 1, 20..30, 10);
    run.until("the other", |run| run.offsets(1) == set(20..30));
}
