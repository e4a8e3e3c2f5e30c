//! What who asks the services sees: how soon an alert is known, how soon a changed catalogue counts, and how fast answers come
//! while alerts do. Those who ask share the machine with what they ask.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use fink_dataflow::table::store;
use fink_operators::surveys::light_rows;
use fink_sources::archive::{Replay, Selection, Wanted};
use fink_tests::places;
use fink_tests::process::{Fink, Run};
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use fink_tests::visible::{now_ms, percentiles};
use serde_json::{Value, json};

use crate::path::templates;

/// Arguments of `answers`.
#[derive(Args)]
pub(crate) struct AnswersArguments {
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Alerts a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Workers of the program
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

/// Arguments of `catalogs`.
#[derive(Args)]
pub(crate) struct CatalogsArguments {
    /// VSX as Parquet [default: that of the fink-science wheel, unpacked to $FINK_SCIENCE or $FINK_CACHE/fink-science/fink_science]
    #[arg(long)]
    vsx: Option<PathBuf>,
    /// Where there is no VSX: rows of a catalogue that is made up, all over the sky
    #[arg(long, default_value_t = 1_933_544)]
    rows: u32,
    /// Alerts that the archive holds
    #[arg(long, default_value_t = 20_000)]
    backlog: u32,
    /// How often a row of another catalogue, as large as GCVS, is changed
    #[arg(long, default_value_t = 20)]
    changes: u32,
}

/// Arguments of `reads`.
#[derive(Args)]
pub(crate) struct ReadsArguments {
    /// Detections that the services hold
    #[arg(long, default_value_t = 1_000_000)]
    detections: u64,
    /// Alerts a second that come in
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Requests a second, every other one a cone of 10 arcsec
    #[arg(long, default_value_t = 500)]
    requests: u32,
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections that are kept
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Workers of the program
    #[arg(long, default_value_t = 2)]
    workers: u32,
}

/// A connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a connection");
        Self { stream: BufReader::new(stream) }
    }

    /// The code and the body of an answer.
    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("asked");
        let (mut code, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("answered");
            if let Some(status) = line.strip_prefix("HTTP/1.1 ") {
                code = status[..3].parse().expect("a code");
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("answered");
        (code, body)
    }

    fn json(&mut self, path: &str) -> Option<Value> {
        let (code, body) = self.get(path);
        (code == 200).then(|| serde_json::from_slice(&body).expect("JSON"))
    }
}

/// A port of this machine that is free now.
fn port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port().to_string()
}

/// Waits until the services are complete and know so many alerts.
fn complete(run: &Run, address: &str, alerts: i64, patience: Duration) -> f64 {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < patience, "not complete:\n{}", run.said());
        std::thread::sleep(Duration::from_millis(100));
        let Ok(stream) = TcpStream::connect(address) else { continue };
        let told = Client { stream: BufReader::new(stream) }.json("/api/v1/statistics");
        if let Some(told) = told.filter(|told| told["complete"] == true && known(told) >= alerts) {
            drop(told);
            return began.elapsed().as_secs_f64();
        }
    }
}

fn known(statistics: &Value) -> i64 {
    statistics["nights"].as_array().expect("nights").iter().filter_map(|night| night["alerts"].as_i64()).sum()
}

/// A stream from a real Kafka: when each alert is known to who asks.
pub(crate) fn answers(arguments: &AnswersArguments) {
    let kafka = Kafka::start().expect("a benchmark needs Kafka");
    let folder = places::scratch("bench-answers");
    let (port, workers) = (port(), arguments.workers.to_string());
    let mut topic = Topic::create_with(&kafka.brokers(), "alerts", 4, &[("message.timestamp.type", "LogAppendTime")]);
    let templates = templates();
    fink_tests::flow::copies(&mut topic, &templates, 100);
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    let fink = Fink::new(folder.path(), &["start", "archive", "services", "--brokers", &kafka.brokers(), "--topic", "alerts"]);
    let fink = fink.with(&["--from", "earliest", "--archive", &archive, "--http", &port, "--workers", &workers]);
    let mut run = fink.start();
    let address = format!("127.0.0.1:{port}");
    complete(&run, &address, 100, Duration::from_secs(120));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let sender = std::thread::spawn({
        let (stop, sent, rate) = (Arc::clone(&stop), Arc::clone(&sent), arguments.rate);
        move || {
            let start = Instant::now();
            for k in 0_u32.. {
                std::thread::sleep((start + Duration::from_secs(1) / rate * k).saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Before Kafka has it: what is measured is no less than what it is.
                sent.lock().expect("no panic").push(now_ms());
                fink_tests::flow::copy(&mut topic, &templates, u64::from(k));
            }
            topic.flush();
        }
    });
    let (mut client, began) = (Client::connect(&address), Instant::now());
    let mut readable: Vec<i64> = Vec::new();
    let mut pace = Value::Null;
    loop {
        let told = known(&client.json("/api/v1/statistics").expect("answered")) - 100;
        let at = now_ms();
        while (readable.len() as i64) < told {
            readable.push(at);
        }
        if began.elapsed() > Duration::from_secs(arguments.seconds) && !stop.swap(true, Ordering::Relaxed) {
            pace = client.json("/progress").expect("answered")["services"]["pace"].clone();
        }
        if stop.load(Ordering::Relaxed) && sender.is_finished() && readable.len() == sent.lock().expect("no panic").len() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(arguments.seconds + 60), "alerts are missing:\n{}", run.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    sender.join().expect("the sender does not panic");
    assert!(run.stop().success(), "{}", run.said());
    // The first alert that is known was sent no later than the first that was sent, and so on.
    let took: Vec<i64> = readable.iter().zip(sent.lock().expect("no panic").iter()).map(|(read, sent)| read - sent).collect();
    let alerts = took.len();
    let (median, p99, max) = percentiles(took);
    println!(
        "{} s at {}/s: answers know an alert after {median} ms (median), {p99} ms (p99), {max} ms (max) over {alerts} alerts, from before it was sent, asked every 20 ms",
        arguments.seconds, arguments.rate
    );
    println!("as fink says of the last minute, from Kafka's append: {}", pace["end_to_end"]);
    println!("{}", json!({ "median_ms": median, "p99_ms": p99, "max_ms": max, "alerts": alerts, "pace": pace }));
}

/// A large catalogue loaded, and rows of another changed, while alerts come in.
pub(crate) fn catalogs(arguments: &CatalogsArguments) {
    let folder = places::scratch("bench-catalogs");
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    let (port, backlog) = (port(), arguments.backlog.to_string());
    let fink = Fink::new(folder.path(), &["start", "archive", "services", "--simulator", "--rate", "50", "--backlog", &backlog]);
    let mut run = fink.with(&["--archive", &archive, "--http", &port]).start();
    let address = format!("127.0.0.1:{port}");
    complete(&run, &address, i64::from(arguments.backlog), Duration::from_secs(600));
    let science = std::env::var_os("FINK_SCIENCE").map_or_else(|| places::cache().join("fink-science/fink_science"), PathBuf::from);
    let vsx = arguments.vsx.clone().unwrap_or_else(|| science.join("data/catalogs/vsx.parquet"));
    let (name, file, columns) = if vsx.is_file() {
        ("vsx", vsx, ["--ra", "RAJ2000", "--dec", "DEJ2000", "--carry", "VType"])
    } else {
        let file = folder.path().join("large.csv");
        made_up(&file, arguments.rows, 0);
        ("large", file, ["--ra", "ra", "--dec", "dec", "--carry", "kind"])
    };
    let at = ["--archive", archive.as_str()];
    let command = |arguments: &[&str]| {
        let (status, said) = Fink::new(folder.path(), arguments).run();
        assert!(status.success(), "{said}");
        said
    };
    // Meanwhile it is asked again and again: how long does a Moment stand still?
    let (stop, still) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watcher = std::thread::spawn({
        let (stop, still, address) = (Arc::clone(&stop), Arc::clone(&still), address.clone());
        move || {
            let (mut client, mut last, mut since) = (Client::connect(&address), String::new(), Instant::now());
            while !stop.load(Ordering::Relaxed) {
                let moment = client.json("/api/v1/catalogs").expect("answered")["moment"].as_str().expect("a Moment").to_owned();
                still.fetch_max(since.elapsed().as_millis() as usize, Ordering::Relaxed);
                if moment != last {
                    (last, since) = (moment, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let began = Instant::now();
    let place = file.to_string_lossy();
    let add = [&["catalog", "add", name, &place, "--radius", "1.5", "--classes"], &columns[..], &at].concat();
    let said = command(&add);
    let loaded_s = began.elapsed().as_secs_f64();
    print!("{said}");
    println!(
        "{name} loaded in {loaded_s:.2} s (bar: 10), from the command's start to the Moment that counts it; no Moment stood for longer than {} ms meanwhile",
        still.load(Ordering::Relaxed)
    );
    let small = folder.path().join("small.csv");
    made_up(&small, 57_247, 0);
    command(
        &[
            &["catalog", "add", "small", &small.to_string_lossy(), "--radius", "1.5", "--ra", "ra", "--dec", "dec", "--carry", "kind"],
            &at[..],
        ]
        .concat(),
    );
    let (mut most, mut took) = (0, Vec::new());
    for change in 1..=arguments.changes {
        made_up(&small, 57_247, change);
        let said = command(&[&["catalog", "update", "small"], &at[..]].concat());
        assert!(said.contains("1 rows came and 1 went"), "{said}");
        let line = said.lines().find(|line| line.contains(" ticks, ")).unwrap_or_else(|| panic!("{said}"));
        let word = |before: &str| line.split(before).next().and_then(|text| text.rsplit(' ').next()).expect("a word").to_owned();
        most = most.max(word(" ticks, ").parse::<u64>().expect("a number"));
        took.push((word(" s after it was declared").parse::<f64>().expect("seconds") * 1e3) as i64);
    }
    stop.store(true, Ordering::Relaxed);
    watcher.join().expect("the watcher does not panic");
    assert!(run.stop().success(), "{}", run.said());
    let (median, _, max) = percentiles(took);
    println!(
        "a changed row of 57,247, {} times: counts after at most {most} ticks (bar: 2), {median} ms (median) and {max} ms (max) after it was declared",
        arguments.changes
    );
    println!(
        "{}",
        json!({ "loaded_s": loaded_s, "ticks": most, "declared_to_counts_ms": median, "stood_still_ms": still.load(Ordering::Relaxed) })
    );
}

/// A catalogue all over the sky; `change` is what its first row says.
fn made_up(file: &Path, rows: u32, change: u32) {
    let mut text = String::from("ra,dec,kind\n");
    let golden = 0.618_033_988_749_895;
    for row in 0..rows {
        let (turn, height) = ((f64::from(row) * golden).fract(), (f64::from(row) + 0.5) / f64::from(rows) * 2.0 - 1.0);
        let kind = if row == 0 { change } else { row % 7 };
        writeln!(text, "{:.6},{:.6},K{kind}", turn * 360.0, height.asin().to_degrees()).expect("written");
    }
    std::fs::write(file, text).expect("there is room");
}

/// Objects and cones asked for at a steady rate, while alerts come in.
pub(crate) fn reads(arguments: &ReadsArguments) {
    let folder = places::scratch("bench-reads");
    let archive = folder.path().join("archive").to_string_lossy().into_owned();
    let numbers = [arguments.rate.to_string(), arguments.detections.to_string(), port(), arguments.workers.to_string()];
    let [rate, backlog, port, workers] = &numbers;
    let fink = Fink::new(folder.path(), &["start", "archive", "services", "--simulator", "--rate", rate, "--backlog", backlog]);
    let mut run = fink.with(&["--archive", &archive, "--http", port, "--workers", workers]).start();
    let address = format!("127.0.0.1:{port}");
    let all = i64::try_from(arguments.detections).expect("a count");
    let ready_s = complete(&run, &address, all, Duration::from_secs(3_000));
    let targets = Arc::new(targets(&archive));
    // Open, not closed: each request has its time, and is measured from it, whatever the one before it took.
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now() + Duration::from_millis(100));
    let total = usize::try_from(u64::from(arguments.requests) * arguments.seconds).expect("fits");
    let askers: Vec<_> = (0..arguments.connections)
        .map(|_| {
            let (next, targets, address, requests) = (Arc::clone(&next), Arc::clone(&targets), address.clone(), arguments.requests);
            std::thread::spawn(move || {
                let (mut client, mut took) = (Client::connect(&address), [Vec::new(), Vec::new()]);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total {
                        return took;
                    }
                    let due = began + Duration::from_secs_f64(index as f64 / f64::from(requests));
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let (object, ra, dec) = &targets[index * 7_919 % targets.len()];
                    let path = match index % 2 {
                        0 => format!("/api/v1/objects?objectId={object}"),
                        _ => format!("/api/v1/conesearch?ra={ra}&dec={dec}&radius=10"),
                    };
                    let (code, body) = client.get(&path);
                    assert_eq!(code, 200, "{path}: {}", String::from_utf8_lossy(&body));
                    took[index % 2].push(i64::try_from(due.elapsed().as_micros()).expect("fits"));
                }
            })
        })
        .collect();
    let mut took = [Vec::new(), Vec::new()];
    for asker in askers {
        let [objects, cones] = asker.join().expect("an asker does not panic");
        took[0].extend(objects);
        took[1].extend(cones);
    }
    let asked_s = began.elapsed().as_secs_f64();
    let progress = Client::connect(&address).json("/progress").expect("answered");
    assert!(run.stop().success(), "{}", run.said());
    let peak = run.usage().peak_bytes as f64 / 1e6;
    let [objects, cones] = took.map(percentiles);
    println!(
        "{} detections known after {ready_s:.0} s, {peak:.0} MB at most; {total} requests in {asked_s:.1} s over {} connections, with {} alerts/s coming in; who asks shares the machine",
        arguments.detections, arguments.connections, arguments.rate
    );
    for (what, (median, p99, max)) in [("object by id", objects), ("cone of 10 arcsec", cones)] {
        println!("{what}: median {:.2} ms, p99 {:.2} ms (bar: 10), max {:.1} ms", median as f64 / 1e3, p99 as f64 / 1e3, max as f64 / 1e3);
    }
    println!("meanwhile, as fink says of the last minute: {}", progress["services"]["pace"]);
    println!(
        "{}",
        json!({ "object_p99_ms": objects.1 as f64 / 1e3, "cone_p99_ms": cones.1 as f64 / 1e3, "pace": progress["services"]["pace"], "peak_mb": peak })
    );
}

/// Some objects of an archive, and where each is.
fn targets(archive: &str) -> Vec<(String, f64, f64)> {
    let archive = store::open(archive, &Default::default()).expect("an archive");
    let mut found = Vec::new();
    let take = |batch| {
        let some = light_rows(&batch).0.into_iter().step_by(11);
        found.extend(some.map(|alert| (alert.object.name().to_owned(), alert.detection.point.ra_deg.0, alert.detection.point.dec_deg.0)));
        if found.len() < 20_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    Replay::open(&archive, Selection::default(), Wanted::Light).expect("opened").run(1, take).expect("read");
    assert!(!found.is_empty());
    found
}
