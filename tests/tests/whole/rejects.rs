//! What can't be decoded goes whole to the rejects, and its neighbours are archived.

use fink_tests::datum::put_long;
use fink_tests::flow;
use fink_tests::judge;
use fink_tests::lsst;
use fink_tests::places;
use fink_tests::process::{Fink, until};
use fink_tests::servers::Kafka;
use fink_tests::template::{Noise, Template};
use fink_tests::topic::{Fate, Topic};

use crate::room::{PATIENCE, Room, templates};

/// A container with this schema and these bytes as its one datum.
fn container(schema: &str, datum: &[u8]) -> Vec<u8> {
    let text = |text: &str, to: &mut Vec<u8>| {
        put_long(i64::try_from(text.len()).expect("fits"), to);
        to.extend(text.as_bytes());
    };
    let mut message = b"Obj\x01".to_vec();
    put_long(1, &mut message);
    text("avro.schema", &mut message);
    text(schema, &mut message);
    put_long(0, &mut message);
    message.extend([7; 16]);
    put_long(1, &mut message);
    put_long(i64::try_from(datum.len()).expect("fits"), &mut message);
    message.extend(datum);
    message.extend([7; 16]);
    message
}

/// Messages that no decoder can take.
fn broken(template: &Template) -> Vec<Vec<u8>> {
    let good = template.message(1);
    let mut noise = vec![0; 20_000_000];
    Noise::new(1).fill(&mut noise);
    let mut lie = template.datum(2, &[]);
    lie.truncate(lie.len() - 100);
    let mut far = good.clone();
    let header = good.len() - template.datum(1, &[]).len() - 16;
    // The block says that it is longer than the message.
    far.truncate(header);
    put_long(i64::MAX, &mut far);
    let deep = (0..20_000).fold("\"long\"".to_owned(), |inner, _| format!("{{\"type\":\"array\",\"items\":{inner}}}"));
    let deep = format!("{{\"type\":\"record\",\"name\":\"deep\",\"fields\":[{{\"name\":\"x\",\"type\":{deep}}}]}}");
    vec![
        good[..good.len() / 2].to_vec(),
        good[..3].to_vec(),
        b"hello".to_vec(),
        Vec::new(),
        noise,
        template.container(&[lie]),
        far,
        container(&deep, &[2, 2, 2, 0]),
        container("{ not JSON", &[0]),
    ]
}

#[test]
fn what_cannot_be_decoded_is_rejected_alone() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("rejects");
    let mut topic = Topic::create_with(&kafka.brokers(), "alerts", 2, &[("max.message.bytes", "31457280")]);
    let template = &templates[0];
    for (k, message) in (0..).zip(broken(template)) {
        flow::copies(&mut topic, &templates, 5);
        topic.send(k % 2, &message, Fate::Rejected);
    }
    topic.send_as(0, Some(b"key"), None, Fate::Rejected);
    // No record, and several.
    topic.send(1, &template.container(&[]), Fate::Records(0));
    topic.send(1, &template.container(&[template.datum(11, &[]), template.datum(12, &[]), template.datum(13, &[])]), Fate::Records(3));
    // What Delta can't hold is kept as it is.
    let list =
        r#"{"type":"record","name":"odd.Node","fields":[{"name":"value","type":"long"},{"name":"next","type":["null","odd.Node"]}]}"#;
    topic.send(0, &container(list, &[2, 2, 4, 0]), Fate::Records(1));
    flow::copies(&mut topic, &templates, 20);
    room.catch_up(&kafka.brokers(), "alerts", &["--workers", "2"]);
    let read = judge::holds(&room.archive(), &[&topic]);
    assert_eq!(read["tables"]["alerts_raw"]["rows"], 1, "{read:#}");
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &room.archive_text(), &[]);
    let (status, said) = Fink::new(&room.logs(), &["rejects", "list", "--archive", &room.archive_text()]).run();
    assert!(status.success() && said.contains("empty"), "{said}");
}

#[test]
fn a_reject_moves_to_the_alerts_when_it_can_be_decoded() {
    let Some(files) = places::data("lsst/confluent-v7.4", "avro") else { return };
    let (Some(schema), Some(schema_file)) = (lsst::schema(7, 4), lsst::schema_file(7, 4)) else { return };
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("retry");
    let schemas = room.folder().join("schemas");
    std::fs::create_dir_all(&schemas).expect("a folder can be made");
    let folder = schemas.to_string_lossy();
    let configuration = room.configuration(&format!("[schemas]\nfolder = \"{folder}\"\nunknown_after_s = 1\n"));
    let mut topic = Topic::create(&kafka.brokers(), "lsst", 1);
    for file in &files {
        topic.send_payload_of(0, file, &std::fs::read(file).expect("an alert can be read"), Some(&schema_file));
    }
    topic.send(0, b"never", Fate::Rejected);
    topic.flush();
    let mut run = room.fink(&kafka.brokers(), "lsst").with(&["-c", &configuration]).start();
    until("the rejects", PATIENCE, || judge::rows(&room.archive(), "rejects") == 6);
    assert!(run.stop().success(), "{}", run.said());
    // The schema turns up: 704 is the id in the messages.
    std::fs::write(schemas.join("704.avsc"), schema).expect("a schema can be written");
    let retry = ["rejects", "retry", "--archive", &room.archive_text(), "-c", &configuration];
    let (status, said) = Fink::new(&room.logs(), &retry).run();
    assert!(status.success(), "{said}");
    judge::holds(&room.archive(), &[&topic]);
    judge::equals(&room.archive(), &[&topic]);
    judge::checks(&room.logs(), &kafka.brokers(), &[&topic], &room.archive_text(), &[]);
}
