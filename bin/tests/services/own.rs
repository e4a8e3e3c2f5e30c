//! The three examples of services of one's own, as programs: what they answer is what the archive's alerts come to.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use fink_operators::surveys::light_rows;
use serde_json::Value;

use crate::program::{archived, caught_up, run, start_program, stop};
use crate::reference::reference;

/// An example's program: `cargo test` builds it beside the program.
fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_fink")).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is not there: cargo build -p fink --examples", path.display());
    path
}

/// What a service answers: the code, and the body.
fn ask(folder: &Path, service: &str, key: &str) -> (u16, Value) {
    let running: Value = serde_json::from_slice(&run(folder, &["show", "--json"]).stdout).expect("JSON");
    let mut stream = TcpStream::connect(running[0]["http"].as_str().expect("an address")).expect("it listens");
    write!(stream, "GET /api/v1/own/{service}?key={key} HTTP/1.0\r\n\r\n").expect("asked");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("answered");
    let (head, body) = said.split_once("\r\n\r\n").expect("HTTP");
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, serde_json::from_str(body).expect("JSON"))
}

#[test]
fn the_examples_answer_beside_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let child = start_program(&example("score"), folder, &["all"]);
    caught_up(folder);
    let batches = archived(folder);
    let alerts: Vec<_> = batches.iter().flat_map(|batch| light_rows(batch).0).collect();
    for alert in alerts.iter().step_by(311) {
        let (code, told) = ask(folder, "score", &alert.detection.point.id.to_string());
        assert_eq!((code, told["complete"].as_bool(), told["answers"].as_array().map(Vec::len)), (200, Some(true), Some(1)), "{told}");
        assert_eq!(told["answers"][0]["object"], alert.object.name());
        assert!(told["moment"].as_str().is_some_and(|moment| moment.contains('.')) && told["answers"][0]["thousandths"].is_u64(), "{told}");
    }
    let (code, told) = ask(folder, "score", "1");
    assert!(code == 404 && told["error"].as_str().is_some_and(|why| why.contains("answers nothing to `1`")), "{told}");
    let (code, told) = ask(folder, "range", "1");
    assert!(code == 404 && told["error"].as_str().is_some_and(|why| why.contains("there run: score")), "{told}");
    stop(child);

    let child = start_program(&example("aggregate"), folder, &["archive", "monitor", "range"]);
    caught_up(folder);
    for alert in alerts.iter().step_by(311) {
        let band = char::from(alert.detection.point.band.0);
        let of_band = alerts.iter().filter(|a| a.object == alert.object && a.detection.point.band == alert.detection.point.band);
        let points: BTreeSet<_> =
            of_band.map(|a| (a.detection.point.id, (a.detection.point.magnitude().expect("one").0 * 1000.0).round() as i64)).collect();
        let (_, told) = ask(folder, "range", alert.object.name());
        let told =
            told["answers"].as_array().expect("answers").iter().find(|range| range["band"] == band.to_string()).expect("the band").clone();
        let (least, most) = (points.iter().map(|p| p.1).min(), points.iter().map(|p| p.1).max());
        assert_eq!((told["alerts"].as_u64(), told["brightest_mmag"].as_i64()), (Some(points.len() as u64), least), "{told}");
        assert_eq!(told["faintest_mmag"].as_i64(), most, "{told}");
    }
    stop(child);

    let expected = reference(&batches, &[], 1.5);
    let objects: Vec<_> = expected.objects.values().step_by(401).collect();
    let answered = |told: &Value| {
        let one = |found: &Value| {
            let text = |key: &str| found[key].as_str().expect("a text").to_owned();
            (text("object"), text("class"), found["alerts"].as_u64().expect("a count"))
        };
        told["answers"].as_array().map_or(BTreeSet::new(), |all| all.iter().map(one).collect())
    };
    let wanted = |objects: &[&fink::services::views::Object]| {
        let class =
            |object: &fink::services::views::Object| object.classes.as_ref().and_then(|c| c.current()).map(|c| c.class().to_string());
        let one = |object: &&fink::services::views::Object| {
            (object.id.name().to_owned(), class(object).expect("a class"), u64::from(object.summary.alerts))
        };
        objects.iter().map(one).collect::<BTreeSet<_>>()
    };
    let list = |objects: &[&fink::services::views::Object]| {
        let lines: String = objects.iter().map(|object| format!("{},me\n", object.id.name())).collect();
        // Whole, or who looks meanwhile sees half of it.
        std::fs::write(folder.join("next"), lines + "ZTF00nothing,me\n").expect("written");
        std::fs::rename(folder.join("next"), folder.join("watchlist.csv")).expect("renamed");
    };
    list(&objects[..4]);
    let child = start_program(&example("watchlist"), folder, &["archive", "services"]);
    caught_up(folder);
    assert_eq!(answered(&ask(folder, "watchlist", "me").1), wanted(&objects[..4]));
    // Two lines go, and one comes: from one Moment on it is so, and never half of it.
    list(&objects[2..5]);
    loop {
        let now = answered(&ask(folder, "watchlist", "me").1);
        if now == wanted(&objects[2..5]) {
            break;
        }
        assert_eq!(now, wanted(&objects[..4]), "half of a change");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(ask(folder, "watchlist", "you").0, 404);
    stop(child);
}
