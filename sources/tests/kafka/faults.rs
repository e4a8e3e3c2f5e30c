//! A real Kafka that refuses, loses, and goes away.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fink_sources::kafka::{KafkaSource, Mechanism, Sasl, Secret, Tls};
use fink_sources::lanes::{Origin, Rules};
use fink_sources::queue::Bounds;
use fink_sources::schemas::{Ensured, NoSchemas, Schemas};

use crate::cluster::Cluster;
use crate::real::{fresh, set};
use crate::run::{Memory, Run, config, rules};

/// The folder that `kafka.sh` started the cluster in, if it is named.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("FINK_TEST_KAFKA_DIR").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: FINK_TEST_KAFKA_DIR names no folder");
    }
    folder
}

#[test]
fn a_login_is_accepted_or_refused_with_a_reason() {
    let (Some(kafka), Some(folder)) = (Cluster::shared(), folder()) else { return };
    let topic = fresh("login");
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 0..5, 10);
    let (host, port) = kafka.brokers.split_once(':').expect("host and port");
    let brokers = format!("{host}:{}", port.parse::<u16>().expect("port") + 2);
    let secrets = tempfile::tempdir().expect("folder");
    let password = |text: &str| {
        let path = secrets.path().join(text);
        std::fs::write(&path, text).expect("write");
        Secret::File(path)
    };
    let tls = Some(Tls { ca: Some(folder.join("tls/ca.pem")), ..Tls::default() });
    let login = |mechanism, text| {
        let mut settings = config(&brokers, &topic);
        settings.sasl = Some(Sasl { mechanism, username: "alerts".into(), password: password(text) });
        settings.tls.clone_from(&tls);
        settings
    };
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let mut run = Run::start(&login(mechanism, "alerts-secret"), &Arc::default(), rules(Origin::Earliest));
        run.catch_up();
        assert_eq!(run.messages.len(), 5, "{mechanism:?}");
        let refusal = Run::start(&login(mechanism, "wrong-secret"), &Arc::default(), rules(Origin::Earliest)).refusal();
        assert!(refusal.contains("password"), "{mechanism:?}: {refusal}");
        assert!(!refusal.contains("wrong-secret"), "{refusal}");
    }
    let mut untrusted = login(Mechanism::ScramSha512, "alerts-secret");
    untrusted.tls = Some(Tls::default());
    let refusal = Run::start(&untrusted, &Arc::default(), Rules::default()).refusal();
    assert!(refusal.contains("TLS"), "{refusal}");
}

#[test]
fn a_cluster_that_asks_for_a_certificate_is_read_with_one_and_not_without() {
    let (Some(kafka), Some(folder)) = (Cluster::shared(), folder()) else { return };
    let tls = folder.join("tls");
    if !tls.join("client.key").is_file() {
        println!("skipped: kafka.sh made no client's certificate");
        return;
    }
    let topic = fresh("certified");
    kafka.create(&topic, 1, &[]);
    kafka.send(&topic, 0, 0..5, 10);
    let (host, port) = kafka.brokers.split_once(':').expect("host and port");
    let brokers = format!("{host}:{}", port.parse::<u16>().expect("port") + 3);
    let secrets = tempfile::tempdir().expect("folder");
    let with = |certificate: bool, password: &str| {
        let path = secrets.path().join(password);
        std::fs::write(&path, password).expect("write");
        let certificate = certificate.then(|| (tls.join("client.pem"), tls.join("client.key")));
        let key_password = certificate.is_some().then_some(Secret::File(path));
        let mut settings = config(&brokers, &topic);
        settings.tls = Some(Tls { ca: Some(tls.join("ca.pem")), certificate, key_password });
        settings
    };
    let mut run = Run::start(&with(true, "key-secret"), &Arc::default(), rules(Origin::Earliest));
    run.catch_up();
    assert_eq!(run.offsets(0), set(0..5));
    let refusal = Run::start(&with(false, "key-secret"), &Arc::default(), rules(Origin::Earliest)).refusal();
    assert!(refusal.contains("TLS"), "{refusal}");
    let error = KafkaSource::new(&with(true, "wrong-secret")).err().expect("the key can't be read").to_string();
    assert!(error.contains("ssl.key") && !error.contains("wrong-secret"), "{error}");
}

#[test]
fn what_is_deleted_before_it_is_read_is_a_hole_and_the_rest_is_read() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("overtaken");
    kafka.create(&topic, 1, &[]);
    // More than the client and the queue hold together.
    kafka.send(&topic, 0, 0..400, 200 << 10);
    let memory = Arc::new(Memory::default());
    let bounds = Bounds { chunks_max: 1, ..Bounds::default() };
    let mut run = Run::with(&config(&kafka.brokers, &topic), &memory, rules(Origin::Earliest), bounds, Arc::new(NoSchemas));
    run.until("the first", |run| !run.messages.is_empty());
    std::thread::sleep(Duration::from_secs(1));
    kafka.truncate(&topic, 0, 390);
    run.catch_up();
    let holes: Vec<(i64, i64)> = run.reader.progress().logs.values().next().expect("log").holes.clone().into();
    let [(from, to)] = holes[..] else { panic!("not one hole: {holes:?}") };
    assert_eq!(to, 390);
    let mut expected = set(0..400);
    expected.retain(|offset| !(from..to).contains(offset));
    assert_eq!(run.offsets(0), expected);
}

#[test]
fn a_broker_that_is_restarted_while_it_is_read_loses_and_doubles_nothing() {
    let (Some(kafka), Some(folder)) = (Cluster::alone(), folder()) else { return };
    let topic = fresh("restarted");
    kafka.create(&topic, 2, &[]);
    kafka.send(&topic, 0, 0..3000, 20 << 10);
    kafka.send(&topic, 1, 0..3000, 20 << 10);
    let bounds = Bounds { chunks_max: 2, ..Bounds::default() };
    let memory = Arc::new(Memory::default());
    let mut run = Run::with(&config(&kafka.brokers, &topic), &memory, rules(Origin::Earliest), bounds, Arc::new(NoSchemas));
    run.until("some", |run| run.messages.len() > 500);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/kafka.sh");
    let port = kafka.brokers.split_once(':').expect("port").1.to_owned();
    let restarted = Arc::new(AtomicBool::new(false));
    let theirs = restarted.clone();
    let thread = std::thread::spawn(move || {
        for arguments in [vec!["stop"], vec!["start", &port]] {
            let mut command = Command::new("bash");
            command.arg(script).arg(arguments[0]).arg(&folder).args(&arguments[1..]).env("KAFKA_SASL", "1");
            assert!(command.status().expect("bash").success());
        }
        theirs.store(true, Ordering::Release);
    });
    // Slowly, so that there is something left to read when it is back.
    run.until("the restart", |run| {
        std::thread::sleep(Duration::from_millis(if run.messages.len() < 3000 { 20 } else { 200 }));
        restarted.load(Ordering::Acquire)
    });
    thread.join().expect("restart");
    run.catch_up();
    assert_eq!((run.offsets(0), run.offsets(1)), (set(0..3000), set(0..3000)));
}

/// A registry that knows schema 7 only once told.
#[derive(Default)]
struct Late {
    known: AtomicBool,
}

impl Schemas for Late {
    fn ensure(&self, _topic: &str, id: u32) -> Ensured {
        if id != 7 || self.known.load(Ordering::Acquire) { Ensured::Known } else { Ensured::Later("not yet".into()) }
    }
}

#[test]
fn a_log_whose_schema_is_not_known_waits_and_the_others_go_on() {
    let Some(kafka) = Cluster::shared() else { return };
    let topic = fresh("schemas");
    kafka.create(&topic, 2, &[]);
    let producer = kafka.producer(&[]);
    let payload = |id: u8| [0, 0, 0, 0, id, 1];
    for (partition, id) in [(0, 6), (0, 7), (0, 6), (1, 6), (1, 6)] {
        let record = rdkafka::producer::BaseRecord::<(), [u8]>::to(&topic).partition(partition);
        producer.send(record.payload(&payload(id))).expect("send");
    }
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(30)).expect("flush");
    let schemas = Arc::new(Late::default());
    let memory = Arc::new(Memory::default());
    let settings = config(&kafka.brokers, &topic);
    let mut run = Run::with(&settings, &memory, rules(Origin::Earliest), Bounds::default(), schemas.clone());
    let waits = |run: &Run| run.reader.progress().logs.values().filter_map(|log| log.waits.clone()).collect::<Vec<_>>();
    run.until("one waits, the other is read", |run| waits(run) == ["not yet"] && run.offsets(1).len() == 2);
    assert_eq!(run.reader.caught_up_to(), None);
    kafka.send(&topic, 1, 0..1, 10);
    run.until("the other goes on", |run| run.offsets(1).len() == 3);
    assert!(!run.offsets(0).contains(&1));
    schemas.known.store(true, Ordering::Release);
    run.catch_up();
    assert_eq!((run.offsets(0), waits(&run)), (set(0..3), vec![]));
    kafka.send(&topic, 0, 0..1, 10);
    run.until("it goes on too", |run| run.offsets(0).len() == 4);
}
