//! Messages that Kafka deleted before they were read: reported, accepted, and filled from a Kafka that still holds them.
//!
//! Takes the Kafka of `FINK_TEST_KAFKA=host:port` where that is set, else starts one.

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::process::Fink;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;

use crate::room::{PATIENCE, Room, templates};

/// A Kafka of this test, or one that is there already.
struct Broker {
    address: String,
    _own: Option<Kafka>,
}

impl Broker {
    fn any() -> Option<Self> {
        if let Ok(address) = std::env::var("FINK_TEST_KAFKA") {
            return Some(Self { address, _own: None });
        }
        let own = Kafka::start()?;
        Some(Self { address: own.brokers(), _own: Some(own) })
    }
}

/// A topic of this test, deleted at its end.
struct Own {
    topic: Topic,
    brokers: String,
}

impl Own {
    fn create(brokers: &str, name: &str) -> Self {
        let topic = Topic::create(brokers, &format!("holes-{name}-{}", std::process::id()), 1);
        Self { topic, brokers: brokers.to_owned() }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        Topic::delete(&self.brokers, &self.topic.name);
    }
}

#[test]
fn a_hole_is_reported_accepted_in_part_and_filled_from_topics_that_hold_the_rest() {
    let Some(broker) = Broker::any() else { return };
    let Some(templates) = templates() else { return };
    let (room, brokers) = (Room::new("holes"), broker.address.as_str());
    let mut lost = Own::create(brokers, "lost");
    let (mut part, mut whole, mut other) = (Own::create(brokers, "part"), Own::create(brokers, "whole"), Own::create(brokers, "other"));
    let name = lost.topic.name.clone();
    flow::copies(&mut lost.topic, &templates, 100);
    room.catch_up(brokers, &name, &[]);
    flow::copies(&mut lost.topic, &templates, 50);
    // The same messages at the same offsets, and other ones.
    for _ in 0..2 {
        for copy in [&mut part, &mut whole] {
            let count = 100.min(150 - copy.topic.sent());
            flow::copies(&mut copy.topic, &templates, count);
        }
    }
    let reversed: Vec<_> = templates.into_iter().rev().collect();
    flow::copies(&mut other.topic, &reversed, 150);
    // The last five of the hole will be accepted as lost, the others filled.
    lost.topic.forget_before(0, 120, 115);
    part.topic.forget_before(0, 105, 0);

    let mut run = room.fink(brokers, &name).with(&["--until-caught-up"]).start();
    run.succeed(PATIENCE);
    assert!(run.said().contains("hole") && run.said().contains("120"), "the run says nothing of a hole:\n{}", run.said());
    let archive = room.archive_text();
    let fink = |arguments: &[&str]| {
        let (status, said) = Fink::new(&room.logs(), arguments).with(&["--archive", &archive, "--brokers", brokers]).run();
        (status.code(), said)
    };
    let (code, said) = fink(&["check", "--holes"]);
    assert!(code == Some(1) && said.contains(&format!("{name}/0 100..120")), "the hole is not named:\n{said}");

    let fill = |offsets: &str, from: &Own| {
        let from = ["--from-brokers", brokers, "--from-topic", &from.topic.name];
        fink(&[&["hole", "fill", "--topic", &name, "--partition", "0", "--offsets", offsets], from.as_slice()].concat())
    };
    // What is archived, and what the source still holds, is no hole; nor does another log fill it.
    for wrong in ["90..110", "100..121", "130..140"] {
        let (code, said) = fill(wrong, &whole);
        assert!(code == Some(1) && said.contains("no hole") && said.contains("100..120"), "{wrong}: {said}");
    }
    let (code, said) = fill("100..115", &other);
    assert!(code == Some(1) && said.contains("another message at offset 149"), "{said}");
    // A service that runs holds the archive.
    let mut service = room.fink(brokers, &name).start();
    fink_tests::process::until("the service holds the archive", PATIENCE, || {
        let (code, said) = fill("100..115", &whole);
        assert_eq!(code, Some(1), "a hole was filled beside a service: {said}");
        said.contains("stop that service first")
    });
    assert!(service.stop().success(), "{}", service.said());

    // Without a Kafka to ask, nobody knows that they are lost.
    for which in [vec![format!("{name}/0"), "115".to_owned(), "120".to_owned()], vec!["--all".to_owned()]] {
        let arguments: Vec<&str> = ["hole", "accept"].into_iter().chain(which.iter().map(String::as_str)).collect();
        let (status, said) = Fink::new(&room.logs(), &arguments).with(&["--archive", &archive]).run();
        assert!(status.code() == Some(1) && said.contains("--brokers"), "{said}");
    }
    let (code, said) = fink(&["hole", "accept", &format!("{name}/0"), "115", "120"]);
    assert!(code == Some(0) && said.contains("accepted 5"), "{said}");
    let (code, said) = fill("100..120", &whole);
    assert!(code == Some(1) && said.contains("100..115"), "what is accepted was filled: {said}");
    let (code, said) = fill("100..115", &part);
    assert!(code == Some(1) && said.contains("filled 10 offsets") && said.contains("100..105"), "{said}");
    let (code, said) = fill("100..105", &whole);
    assert!(code == Some(0) && said.contains("filled 5 offsets: 5 archived"), "{said}");

    let (code, said) = fink(&["check", "--holes"]);
    assert!(code == Some(0) && said.contains("All agree") && said.contains("no holes"), "{said}");
    judge::holds(&room.archive(), &[&lost.topic]);
    // The log goes on, and what was filled is not read again.
    flow::copies(&mut lost.topic, &reversed, 20);
    room.catch_up(brokers, &name, &[]);
    judge::holds(&room.archive(), &[&lost.topic]);
    judge::checks(&room.logs(), brokers, &[&lost.topic], &archive, &[]);
}
