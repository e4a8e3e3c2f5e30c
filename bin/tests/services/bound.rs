//! Light curves that leave memory: answers, and the tables of them, are what they would be if all stayed; who is seen again comes
//! back, whether it comes live or late, and after a restart that reads the history in passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fink::services::fetch::{Fetch, Known};
use fink_dataflow::Log;
use fink_dataflow::budget::Budget;
use fink_dataflow::detection::ObjectId;
use fink_dataflow::ports::{Source, Stretch};
use fink_dataflow::table::{light, store};
use fink_operators::decode::{Decode, SchemaBook};
use fink_operators::surveys::light_rows;
use fink_sources::archive::Replay;
use fink_sources::simulator::{Simulator, SimulatorConfig};
use serde_json::Value;

use crate::program::{archived, fink, json, kill, run, stop};
use crate::reference::{Reference, reference};
use crate::tables::{expected as expected_tables, follow, same};

/// Alerts of a simulated sky that is looked at seldom, so that nights pass: each with its object, night, and message.
fn sky() -> Vec<(ObjectId, i32, Vec<u8>)> {
    let mut config = SimulatorConfig { partitions: 1, limit: Some(45_000), ..SimulatorConfig::new(5, 0) };
    config.alerts.survey.alerts_per_visit = 10;
    config.alerts.survey.objects = 1_000;
    let log = Arc::new(Log::new("simulator", &config.topic, 0, 0));
    let mut simulator = Simulator::new(config, || 1_000_000_000_000).expect("a stream");
    let high = simulator.extents().expect("extents")[0].high;
    simulator.read(&[Stretch { log, from: 0, until: Some(high) }]).expect("read");
    let mut decode = Decode::new(Arc::new(SchemaBook::new()));
    let mut sky = Vec::new();
    while let Some(chunk) = simulator.poll(Duration::ZERO).expect("polled") {
        let payloads: BTreeMap<i64, Vec<u8>> =
            chunk.messages.iter().filter_map(|message| Some((message.offset, message.payload.as_ref()?.to_vec()))).collect();
        let claim = Arc::new(Budget::new(1).take(0));
        for batch in decode.decode(vec![(chunk, claim)]).alerts {
            let lit = light_rows(&batch).0;
            sky.extend(lit.into_iter().map(|alert| {
                let night = alert.night.expect("it has one");
                (alert.object, night, payloads[&alert.detection.address.offset].clone())
            }));
        }
    }
    sky
}

/// Puts messages into the folder that is read, one a file, each whole at once.
fn put<'a>(folder: &Path, from: usize, messages: impl Iterator<Item = &'a Vec<u8>>) -> usize {
    let mut next = from;
    for message in messages {
        let draft = folder.join("draft");
        fs::write(&draft, message).expect("written");
        fs::rename(&draft, folder.join(format!("files/{next:06}.avro"))).expect("renamed");
        next += 1;
    }
    next
}

fn start(folder: &Path, name: &str) -> Child {
    begin(folder, name, &["start", "archive", "services", "--files", "./files", "--archive", "./archive", "--workers", "2"])
}

fn begin(folder: &Path, name: &str, start: &[&str]) -> Child {
    let log = fs::File::create(folder.join(name)).expect("a log");
    fink(folder).env("RUST_LOG", "fink=debug").args(start).stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

fn said(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

/// Waits until so many alerts are counted and all of history is known.
fn counted(folder: &Path, name: &str, alerts: i64) {
    for _ in 0..1_200 {
        let counts = json(folder, &["counts"]);
        let of = |counts: &Value| counts["nights"].as_array().into_iter().flatten().filter_map(|n| n["alerts"].as_i64()).sum::<i64>();
        if counts.is_some_and(|counts| counts["complete"] == true && of(&counts) == alerts) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{alerts} alerts are not counted: {}", said(folder, name));
}

/// Waits until so many light curves have left in all.
fn left(folder: &Path, name: &str, objects: usize) {
    let mut met = 0;
    for _ in 0..1_200 {
        let log = said(folder, name);
        let lines = log.lines().filter(|line| line.contains("light curves left memory"));
        met = lines.filter_map(|line| line.split("objects=").nth(1)?.split_whitespace().next()?.parse::<usize>().ok()).sum();
        if met >= objects {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{met} of {objects} light curves left: {}", said(folder, name));
}

/// What is told of each object is what the archive's alerts come to.
fn compare(folder: &Path, expected: &Reference, of: &BTreeSet<ObjectId>, name: &str) {
    for id in of {
        let object = &expected.objects[id];
        let answer = json(folder, &["object", id.name()]).unwrap_or_else(|| panic!("{id:?} is not known: {}", said(folder, name)));
        let told = &answer["object"];
        assert_eq!(told["alerts"], object.summary.alerts, "{told}");
        assert_eq!(told["detections"], object.summary.detections, "{told}");
        let last = told["last_mjd_tai"].as_f64().zip(object.summary.last_mjd_tai.some());
        assert!(last.is_some_and(|(told, is)| (told - is).abs() < 1e-9), "{told}");
        assert_eq!(told["lightcurve"].as_array().map(Vec::len), Some(object.curve.len()), "{told}");
    }
}

#[test]
fn light_curves_leave_memory_and_come_back() {
    let (folder, sky) = (tempfile::tempdir().expect("a folder"), sky());
    let folder = folder.path();
    fs::create_dir(folder.join("files")).expect("a folder");
    let text = "[services]\nmemory_nights = 1\nlight_rows = 50\ntables_every_s = 1.0\n[archive]\ncommit_interval_s = 0.2\n";
    fs::write(folder.join("fink.toml"), text).expect("written");

    let nights: BTreeSet<i32> = sky.iter().map(|(_, night, _)| *night).collect();
    let nights: Vec<i32> = nights.into_iter().collect();
    assert!(nights.len() >= 4, "{nights:?}");
    let mut seen = BTreeMap::<ObjectId, BTreeSet<i32>>::new();
    sky.iter().for_each(|(object, night, _)| _ = seen.entry(*object).or_default().insert(*night));
    // Seen in the first night and in the last; in the first and in the second; in the third.
    let those = |wanted: &dyn Fn(&BTreeSet<i32>) -> bool| -> BTreeSet<ObjectId> {
        seen.iter().filter(|(_, nights)| wanted(nights)).map(|(object, _)| *object).take(12).collect()
    };
    let last = nights[3];
    let back = those(&|of| of.contains(&nights[0]) && !of.contains(&nights[2]) && of.contains(&last));
    let gone = those(&|of| of.contains(&nights[0]) && of.contains(&nights[1]) && !of.contains(&nights[2]) && !of.contains(&last));
    let here = those(&|of| of.contains(&nights[2]));
    assert!(back.len() > 3 && gone.len() > 3 && here.len() > 3, "{} {} {}", back.len(), gone.len(), here.len());
    let chosen: BTreeSet<ObjectId> = back.iter().chain(&gone).chain(&here).copied().collect();
    let old: BTreeSet<ObjectId> = back.union(&gone).copied().collect();
    let of = |wanted: &dyn Fn(i32) -> bool| -> Vec<&Vec<u8>> {
        sky.iter().filter(|(object, night, _)| chosen.contains(object) && wanted(*night)).map(|(_, _, message)| message).collect()
    };
    // One of the first night comes late.
    let (first, live) = (of(&|night| night <= nights[2]), of(&|night| night == last));
    let (late, first) = first.split_first().expect("some");
    let mut files = put(folder, 0, first.iter().copied());
    let child = start(folder, "first.log");
    counted(folder, "first.log", files as i64);
    left(folder, "first.log", old.len());
    let expected = || reference(&archived(folder), &[], 1.5);
    compare(folder, &expected(), &chosen, "first.log");
    // The archive gives back what it was given.
    let archive = store::open(&folder.join("archive").to_string_lossy(), &Default::default()).expect("an archive");
    let known = expected().objects.iter().map(|(id, object)| (*id, Known::of(&object.summary, 0))).collect();
    let curves = Fetch::new(&archive).curves(&known).expect("read");
    assert_eq!(curves.len(), chosen.len());

    // Seen again.
    files = put(folder, files, live.iter().copied().chain([*late]));
    counted(folder, "first.log", files as i64);
    compare(folder, &expected(), &chosen, "first.log");
    let came = |log: &str| log.matches("light curves come back").count();
    for _ in 0..600 {
        if came(&said(folder, "first.log")) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(came(&said(folder, "first.log")) > 0, "{}", said(folder, "first.log"));
    // The third night's objects leave now.
    left(folder, "first.log", old.len() + 1);
    compare(folder, &expected(), &chosen, "first.log");
    let published = |when: &str| {
        let wanted = expected_tables(&expected());
        for _ in 0..600 {
            let mut is = false;
            follow(&archive, |published| is = *published.tables == wanted);
            if is {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut held = BTreeMap::new();
        follow(&archive, |published| held = published.tables.clone());
        same(&held, &wanted, when);
    };
    published("after all came back");
    stop(child);
    published("after the stop");

    // A restart, and kills in its midst.
    for wait_ms in [300, 1_000, 2_500] {
        let child = start(folder, "killed.log");
        std::thread::sleep(Duration::from_millis(wait_ms));
        kill(child);
    }
    let child = start(folder, "second.log");
    counted(folder, "second.log", files as i64);
    left(folder, "second.log", gone.len());
    compare(folder, &expected(), &chosen, "second.log");
    stop(child);
    published("after the restart");
    assert!(run(folder, &["check", "--archive", "./archive"]).status.success());

    // One that follows the archive reads the same light rows, and is bound by the same.
    let child = begin(folder, "third.log", &["start", "services", "--archive", "./archive"]);
    counted(folder, "third.log", files as i64);
    left(folder, "third.log", gone.len());
    compare(folder, &expected(), &chosen, "third.log");
    stop(child);

    // In passes each light row comes once, and an object's all in one.
    let whole = Replay::history(&archive).expect("opened");
    assert_eq!(whole.rows(), files as u64);
    let passes = whole.passes(files as u64 / 5).expect("parted");
    assert!(passes.len() >= 4, "{}", passes.len());
    let (mut rows, mut met) = (0, BTreeMap::<ObjectId, usize>::new());
    for (pass, replay) in passes.into_iter().enumerate() {
        let take = |batch: fink_dataflow::alerts::AlertBatch| {
            rows += batch.places.len();
            let of_light = batch.schema.name == light::SCHEMA;
            for alert in light_rows(&batch).0.into_iter().filter(|_| of_light) {
                assert_eq!(*met.entry(alert.object).or_insert(pass), pass, "{:?}", alert.object);
            }
            ControlFlow::Continue(())
        };
        replay.run(2, take).expect("read");
    }
    assert_eq!(rows, files);
    let followed: Vec<_> = Replay::to_follow(&archive).expect("opened").versions().iter().map(|(table, _)| table.to_string()).collect();
    assert!(followed.iter().any(|table| table == light::TABLE), "{followed:?}");
}
