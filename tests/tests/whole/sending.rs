//! `fink start simulator`, flag by flag, into a real Kafka; what was sent is told by the truth and by the topic.
//!
//! That nothing is sent before its time is checked, not that it is sent soon after: machines are slow at times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use apache_avro::Reader;
use apache_avro::types::Value;
use fink_sources::simulator::generate::Edition;
use fink_sources::simulator::seen::Telescope;
use fink_sources::simulator::{AlertOptions, Generator, SimulatorConfig};
use fink_tests::judge;
use fink_tests::places;
use fink_tests::process::{Fink, Run, until};
use fink_tests::servers::{Kafka, Registry};
use fink_tests::truth::{self, Told};

use crate::room::{PATIENCE, Room};

/// A run of the simulator: to a topic of its name.
struct Sending {
    run: Run,
    truth: PathBuf,
    topic: String,
}

impl Sending {
    /// Small alerts, unless `more` says otherwise.
    fn start(room: &Room, kafka: &Kafka, topic: &str, more: &str) -> Self {
        let truth = room.folder().join(format!("{topic}.parquet"));
        let brokers = kafka.brokers();
        let path = truth.display().to_string();
        let mut arguments = vec!["start", "simulator", "--brokers", &brokers, "--topic", topic, "--truth", &path];
        if !more.contains("--size") {
            arguments.extend(["--size", "small"]);
        }
        arguments.extend(more.split_whitespace());
        Self { run: Fink::new(&room.logs(), &arguments).start(), truth: truth.clone(), topic: topic.to_owned() }
    }

    /// Waits for its end: the truth.
    fn told(&mut self) -> Vec<Told> {
        self.run.succeed(PATIENCE);
        truth::read(&self.truth)
    }

    /// Waits for its end: the truth, and the messages at the places that it tells of, which are all.
    fn all(&mut self, kafka: &Kafka) -> Vec<(Told, Vec<u8>)> {
        let told = self.told();
        let mut messages = truth::topic(&kafka.brokers(), &self.topic, told.len());
        told.into_iter()
            .map(|row| (messages.remove(&row.place).expect("a message where the truth says"), row))
            .map(|(m, row)| (row, m))
            .collect()
    }
}

/// The stream whose messages these small alerts are.
fn generator(seed: u64, alerts_per_visit: u32) -> Generator {
    let mut alerts = AlertOptions::small(Telescope::Ztf);
    alerts.survey.alerts_per_visit = alerts_per_visit;
    Generator::new(&SimulatorConfig { alerts, night_mjd: 61_366, ..SimulatorConfig::new(seed, 0) })
}

/// Asserts that none of the messages was sent before its time, counted from the first, which may itself be late by half a second.
fn none_too_early(told: &[Told], due_ms: impl Fn(&Told) -> f64) {
    let begin = told[0].sent_ms as f64 - due_ms(&told[0]);
    for row in told {
        assert!(row.sent_ms as f64 - begin >= due_ms(row) - 500.0, "alert {} was sent too early: {row:?}, first {:?}", row.number, told[0]);
    }
}

#[test]
fn paces_are_kept() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("paces");
    let night = "--night 2026-11-22";
    // Two visits of Rubin's shape take 40 s; the others go beside them.
    let mut visits = Sending::start(&room, &kafka, "visits", &format!("--visits --alerts-per-visit 945 --count 1890 {night}"));
    let mut speed = Sending::start(&room, &kafka, "speed", &format!("--speed 100 --alerts-per-visit 10 --count 300 {night}"));
    let mut rate = Sending::start(&room, &kafka, "rate", &format!("--rate 50 --count 300 {night}"));
    let mut nights = Sending::start(&room, &kafka, "nights", &format!("--as-fast-as-possible --nights 3 --alerts-per-visit 10 {night}"));

    let told = rate.told();
    assert_eq!(told.len(), 300);
    none_too_early(&told, |row| row.number as f64 * 20.0);
    // The sky's own clock, a hundred times as fast.
    let told = speed.told();
    let first = told[0].mjd_tai;
    assert_eq!(told.len(), 300);
    none_too_early(&told, |row| (row.mjd_tai - first) * 86_400_000.0 / 100.0);
    assert!(told.is_sorted_by(|a, b| a.number < b.number || a.sent_ms == b.sent_ms));

    // All visits of three nights, whole, and nothing else: from the evening of the 22nd by the observatory's clock on.
    let told = nights.told();
    let mut generator = generator(1, 10);
    let expected = generator.survey().visits_of(61_366, 3);
    assert_eq!(told.len() as i64, 10 * (expected.end - expected.start));
    let visits_seen: BTreeSet<u64> = told.iter().map(|row| row.mjd_tai.to_bits()).collect();
    assert_eq!(visits_seen.len() as i64, expected.end - expected.start);
    let times: Vec<f64> = visits_seen.into_iter().map(f64::from_bits).collect();
    // Palomar is 8 hours behind Greenwich; a night is of the date of its noon before.
    let evening = |mjd: f64| (mjd - 8.0 / 24.0 - 0.5).floor() as i32;
    assert_eq!((evening(times[0]), evening(times[times.len() - 1])), (61_366, 61_368));
    assert_eq!(times.windows(2).filter(|pair| pair[1] - pair[0] > 0.3).count(), 2, "two days between three nights");
    let messages = truth::topic(&kafka.brokers(), "nights", told.len());
    for row in told.iter().step_by(97) {
        assert!(messages[&row.place] == generator.tell(row.number, Edition::First).0, "{row:?}");
    }

    // A visit's 189 bursts of five in three seconds, the next 37 s after it.
    let told = visits.told();
    assert_eq!(told.len(), 1890);
    none_too_early(&told, |row| (row.number / 945) as f64 * 37_000.0 + (row.number % 945 / 5) as f64 * 3000.0 / 189.0);
}

#[test]
fn every_trouble_is_made_and_told() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("trouble");
    let late = "--rate 100 --count 400 --night 2026-11-22 --seed 5 --delayed 0.1 --delay-from 1 --delay-to 3 --disordered 0.1 --outage-at 200 --outage 2";
    let mut late = Sending::start(&room, &kafka, "late", late);
    let harm = "--as-fast-as-possible --count 600 --night 2026-11-22 --seed 5 --duplicated 0.05 --garbled 0.05 --truncated 0.05 \
                --schema-change-at 400 --resend";
    let mut harm = Sending::start(&room, &kafka, "harm", harm);

    let rows = harm.all(&kafka);
    let mut generator = generator(5, 100);
    for (row, message) in &rows {
        let edition = if row.number >= 400 { Edition::Next } else { Edition::First };
        let (whole, told) = generator.tell(row.number, edition);
        assert_eq!((row.alert_id, row.edition), (told.alert_id, if edition == Edition::Next { 2 } else { 1 }));
        match row.harm.as_str() {
            "" => assert!(*message == whole, "{row:?}"),
            "garbled" => assert!(message.len() == whole.len() && *message != whole, "{row:?}"),
            "truncated" => assert!(message.len() < whole.len() && whole.starts_with(message), "{row:?}"),
            other => panic!("{other}"),
        }
    }
    let count = |so: &dyn Fn(&Told) -> bool| rows.iter().filter(|(row, _)| so(row)).count();
    assert_eq!((count(&|row| row.sending == "first"), count(&|row| row.sending == "resent")), (600, 600));
    let shares = [count(&|row| row.sending == "duplicate"), count(&|row| row.harm == "garbled"), count(&|row| row.harm == "truncated")];
    assert!(shares.into_iter().all(|count| (15..60).contains(&count)), "one in twenty of 600: {shares:?}");

    let told = late.told();
    assert_eq!(told.len(), 400);
    assert!(!told.is_sorted_by_key(|row| row.number), "out of order");
    none_too_early(&told, |row| row.number as f64 * 10.0 + row.late_s * 1000.0);
    // Of the alerts before the outage: a tenth is late by one to three seconds, as many by up to five.
    let before = told.iter().filter(|row| row.number < 200 && row.late_s > 0.0).count();
    assert!((20..60).contains(&before) && told.iter().all(|row| row.late_s <= 7.0), "{before} late");
    // What was due in the two seconds of the outage is as late as the outage's end.
    assert!(told.iter().filter(|row| row.number >= 200).all(|row| row.late_s >= 2.0 - (row.number - 200) as f64 / 100.0 - 1e-9));
}

#[test]
fn threads_and_preparation_change_no_byte() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("threads");
    let usual =
        "--size full --count 1200 --as-fast-as-possible --night 2026-11-22 --seed 3 --delayed 0.05 --garbled 0.02 --duplicated 0.05";
    let folder = room.folder().join("prepared").display().to_string();
    let ways = ["--threads 1".to_owned(), "--threads 3 --ahead 1".to_owned(), format!("--threads 2 --prepare {folder}")];
    let sent = ways.iter().zip(["one", "three", "prepared"]).map(|(way, topic)| {
        let mut sending = Sending::start(&room, &kafka, topic, &format!("{usual} {way}"));
        let count = sending.told().len();
        truth::topic(&kafka.brokers(), topic, count)
    });
    let sent: Vec<_> = sent.collect();
    assert!(sent[0].len() > 1200 && sent[0] == sent[1] && sent[0] == sent[2]);
    assert_eq!(std::fs::read_dir(room.folder().join("prepared")).expect("the folder stays").count(), 0, "what was prepared is gone");
}

/// The fields of an alert's record, as far as the test needs them.
fn alert(message: &[u8]) -> BTreeMap<String, Value> {
    let mut records = Reader::new(message).expect("a container");
    let Value::Record(fields) = records.next().expect("an alert").expect("an alert") else { panic!("no record") };
    fields.into_iter().collect()
}

fn day(alert: &BTreeMap<String, Value>) -> f64 {
    let Value::Record(candidate) = &alert["candidate"] else { panic!("no candidate") };
    match &candidate.iter().find(|(name, _)| name == "jd").expect("a time").1 {
        Value::Double(jd) => *jd,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_is_replayed_as_it_is_or_fresh() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("folder");
    let folder = room.folder().join("alerts");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let mut generator = generator(1, 100);
    let files: Vec<Vec<u8>> = (0..20).map(|number| generator.tell(number, Edition::First).0).collect();
    for (index, file) in files.iter().enumerate() {
        std::fs::write(folder.join(format!("{index:03}.avro")), file).expect("a file can be written");
    }
    let from = |topic: &str, more: &str| Sending::start(&room, &kafka, topic, &format!("--from {} {more}", folder.display()));
    let mut plain = from("plain", "--pool 30 --as-fast-as-possible");
    let mut slow = from("slow", "--interval 0.1 --per-interval 2");
    let mut bare = from("bare", "--format datum --as-fast-as-possible");
    let mut fresh = ["fresh", "fresher"].map(|topic| from(topic, "--pool 30 --as-fast-as-possible --fresh"));

    let rows = plain.all(&kafka);
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|(row, message)| *message == files[row.number as usize % 20]));
    let told = slow.told();
    assert_eq!(told.len(), 20);
    none_too_early(&told, |row| (row.number / 2) as f64 * 100.0);
    let rows = bare.all(&kafka);
    assert!(rows.iter().all(|(row, message)| files[row.number as usize].windows(message.len()).any(|part| part == message)));

    let mut ids = BTreeSet::new();
    for sending in &mut fresh {
        let rows = sending.all(&kafka);
        assert_eq!(rows.len(), 30);
        for (row, message) in &rows {
            let (new, old) = (alert(message), alert(&files[row.number as usize % 20]));
            assert_eq!(new["cutoutDifference"], old["cutoutDifference"]);
            assert_ne!(new["objectId"], old["objectId"]);
            let Value::Long(id) = new["candid"] else { panic!("no candid") };
            assert!(ids.insert(id), "an id twice");
            // The first of a round is of now, the others follow it as they did.
            let now = row.sent_ms as f64 / 86_400_000.0 + 2_440_587.5;
            let since = day(&old) - day(&alert(&files[0]));
            assert!((day(&new) - now - since).abs() < 0.01, "{} is not of now, {now}", day(&new));
        }
    }
    assert_eq!(ids.len(), 60);
}

#[test]
fn it_stops_when_it_is_told_to_with_its_truth_whole() {
    let Some(kafka) = Kafka::start() else { return };
    let room = Room::new("stopped");
    let mut sending = Sending::start(&room, &kafka, "endless", "--rate 100 --delayed 0.1 --night 2026-11-22");
    let part = PathBuf::from(format!("{}.part", sending.truth.display()));
    until("the truth is begun", PATIENCE, || part.is_file());
    let shown = || Fink::new(&room.logs(), &["show"]).run().1;
    until("it sends", PATIENCE, || shown().contains("simulator"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (status, said) = Fink::new(&room.logs(), &["stop", "simulator"]).run();
    assert!(status.success() && said.contains("Stopped simulator"), "{said}");
    let rows = sending.all(&kafka);
    assert!(rows.len() > 50 && !part.exists(), "{} rows", rows.len());
    assert!(sending.run.said().contains(&format!("{} messages sent", rows.len())), "{}", sending.run.said());
    let (status, said) = Fink::new(&room.logs(), &["stop", "simulator"]).run();
    assert!(!status.success() && said.contains("No fink simulator service"), "{said}");
}

/// What an archive holds of a stream, joined with its truth by pandas.
/// What `fink simulator score` says of services that are started over the archive.
fn services_know(room: &Room, kafka: &Kafka, topic: &str, archive: &str, registry: &str, truth: &str) -> String {
    let port = places::ports(1);
    let address = format!("127.0.0.1:{port}");
    let start =
        ["start", "archive", "services", "--brokers", &kafka.brokers(), "--topic", topic, "--archive", archive, "--registry", registry];
    let mut run = Fink::new(&room.logs(), &start).with(&["--http", &port.to_string()]).start();
    let mut said = String::new();
    until("services that have all of history", PATIENCE, || {
        let (status, now) = Fink::new(&room.logs(), &["simulator", "score", truth, "--archive", archive, "--at", &address]).run();
        said = now;
        status.success() && said.contains(", complete")
    });
    assert!(run.stop().success(), "{}", run.said());
    said
}

#[test]
fn the_truth_joins_with_the_archive() {
    let (Some(kafka), Some(registry)) = (Kafka::start(), Registry::start()) else { return };
    let room = Room::new("joined");
    let url = registry.url();
    for (topic, more) in [("ztf", ""), ("lsst", "--survey lsst --alerts-per-visit 100")] {
        let more =
            format!("{more} --registry {url} --format confluent --count 400 --as-fast-as-possible --duplicated 0.1 --truncated 0.03");
        let mut sending = Sending::start(&room, &kafka, topic, &more);
        sending.run.succeed(PATIENCE);
        let archive: &Path = &room.folder().join(format!("archive-{topic}"));
        let path = archive.display().to_string();
        let read = Fink::archive(&room.logs(), &kafka.brokers(), topic, &path).with(&["--registry", &url, "--until-caught-up"]);
        read.start().succeed(PATIENCE);
        let verdict = judge::joins(archive, &sending.truth);
        assert_eq!(verdict["unmatched"], 0, "{verdict:#}");
        assert!(verdict["rows"].as_u64() > Some(400) && verdict["rejects"].as_u64() > Some(3), "{verdict:#}");
        let truth = sending.truth.display().to_string();
        let (status, said) = Fink::new(&room.logs(), &["simulator", "score", &truth, "--archive", &path]).run();
        assert!(status.success() && said.contains("all that was sent is there, once"), "{said}");
        let known = services_know(&room, &kafka, topic, &path, &url, &truth);
        assert!(known.contains("all objects are known, with all of their alerts"), "{known}");
        // A truth of other messages is found out.
        let other = Sending::start(&room, &kafka, &format!("{topic}2"), "--count 20 --as-fast-as-possible");
        let Sending { mut run, truth, .. } = other;
        run.succeed(PATIENCE);
        let (status, said) = Fink::new(&room.logs(), &["simulator", "score", &truth.display().to_string(), "--archive", &path]).run();
        assert!(!status.success() && said.contains("NOT all"), "{said}");
    }
}
