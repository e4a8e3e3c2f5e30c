//! What the services cost on one worker: CPU an alert, and memory a detection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use differential_dataflow::AsCollection;
use fink_dataflow::detection::{Address, Band, Detection, Kind, LightAlert, LogRef, ObjectId, Point, Real, Real32, SurveyId, Traits, Unit};
use fink_dataflow::{Log, Moment};
use fink_operators::catalogue::{CatalogueId, Row};
use fink_operators::classify::{classify, counts};
use fink_operators::crossmatch::{associations, matches, places};
use fink_operators::monitor::monitor;
use fink_operators::objects::objects;
use fink_tests::flow;
use fink_tests::places;
use fink_tests::process::{Fink, thread_cpu};
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;
use timely::Config;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::core::{Probe, UnorderedInput};

use super::path::templates;

/// Arguments of `services`.
#[derive(Args)]
pub(crate) struct ServicesArguments {
    /// Alerts, as many different detections
    #[arg(long, default_value_t = 200_000)]
    alerts: u32,
    /// Objects that they are about, one after another
    #[arg(long, default_value_t = 20_000)]
    objects: u32,
    /// Points that an alert repeats at most, every other one an upper limit
    #[arg(long, default_value_t = 20)]
    history: u32,
    /// Alerts in one tick
    #[arg(long, default_value_t = 1_000)]
    per_tick: u32,
    /// Rows of catalogues, all over the sky
    #[arg(long, default_value_t = 2_100_000)]
    rows: u32,
    /// Real alerts of which the program archives different copies: without services, with them, and with their tables too;
    /// 0: it does not
    #[arg(long, default_value_t = 0)]
    in_graph: u64,
}

/// What runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum Upto {
    Monitor,
    Objects,
    Crossmatch,
    Classify,
}

pub(crate) fn run(arguments: &ServicesArguments) {
    println!(
        "{} alerts of {} objects, at most {} points of history, {} alerts a tick, {} catalogue rows",
        arguments.alerts, arguments.objects, arguments.history, arguments.per_tick, arguments.rows
    );
    println!(
        "| up to | CPU us an alert | the last tenth | bytes a detection | after a rest | bytes a different point | catalogue loaded in | its MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for upto in [Upto::Monitor, Upto::Objects, Upto::Crossmatch, Upto::Classify] {
        // In a process of its own, since memory that was freed is not given back.
        let this = std::env::current_exe().expect("a program has a path");
        let number = |n: u32| n.to_string();
        let status = std::process::Command::new(this)
            .args(["services-upto", &format!("{upto:?}").to_lowercase()])
            .args(["--alerts", &number(arguments.alerts), "--objects", &number(arguments.objects), "--history", &number(arguments.history)])
            .args(["--per-tick", &number(arguments.per_tick), "--rows", &number(arguments.rows)])
            .status()
            .expect("it starts itself");
        assert!(status.success());
    }
    if arguments.in_graph > 0 {
        in_graph(arguments.in_graph);
    }
}

/// What the services add to the program's CPU an alert, on one worker, of a backlog in Kafka.
fn in_graph(count: u64) {
    let kafka = Kafka::start().expect("this benchmark needs Kafka");
    let folder = places::scratch("bench-services");
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 4);
    flow::copies(&mut topic, &templates(), count);
    let configuration = |name: &str, more: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("[services]\n{more}{}", catalogues())).expect("a configuration can be written");
        path
    };
    let (without, with) = (configuration("without.toml", "tables = false\n"), configuration("with.toml", ""));
    // By turns, and the least of each counts: what else the machine does only ever adds.
    let mut least = [f64::INFINITY; 3];
    let (alone, both) = (&["archive"][..], &["archive", "services"][..]);
    let kinds = [(alone, &without), (both, &without), (both, &with)];
    for run in 0..3 {
        for (number, ((services, config), least)) in kinds.into_iter().zip(&mut least).enumerate() {
            let archive = folder.path().join(format!("archive-{run}-{number}"));
            let fink = Fink::new(folder.path(), &["start"]).with(services).with(&["--config", &config.to_string_lossy()]);
            let fink = fink.with(&["--brokers", &kafka.brokers(), "--topic", "alerts", "--from", "earliest"]);
            let fink = fink.with(&["--archive", &archive.to_string_lossy(), "--workers", "1", "--until-caught-up"]);
            let usage = fink.start().succeed(Duration::from_secs(600));
            *least = least.min(usage.cpu.as_secs_f64() * 1e6 / count as f64);
            println!(
                "    run {run}: {}{}: {:.1} us, {:.0} MB at most",
                services.join(" "),
                if number == 2 { " with tables" } else { "" },
                usage.cpu.as_secs_f64() * 1e6 / count as f64,
                usage.peak_bytes as f64 / 1e6
            );
            // The disk is not to be full of archives.
            let _ = std::fs::remove_dir_all(archive);
        }
    }
    let [alone, with, tables] = least;
    println!("in the graph, {count} alerts, 1 worker, least of 3: archive alone {alone:.1} us an alert, with services {with:.1} us");
    println!("services add {:.1} us CPU an alert (bar: 100)", with - alone);
    println!("their tables add {:.1} us: {:.1} us in all", tables - with, tables - alone);
}

/// The real catalogues that are there, declared.
fn catalogues() -> String {
    let Some(shared) = places::shared() else { return String::new() };
    let mut text = String::new();
    for (name, file, ra, dec, carry) in
        [("gcvs", "gcvs.parquet", "ra", "dec", "VarType"), ("spicy", "spicy.parquet", "RAdeg", "DEdeg", "class")]
    {
        let path = shared.join("data/catalogs").join(file);
        if path.is_file() {
            text += &format!(
                "[services.catalogues.{name}]\npath = \"{}\"\nra = \"{ra}\"\ndec = \"{dec}\"\nradius_arcsec = 1.5\ncarry = [\"{carry}\"]\n",
                path.display()
            );
        }
    }
    text
}

/// Arguments of `services-upto`.
#[derive(Args)]
pub(crate) struct UptoArguments {
    upto: String,
    #[command(flatten)]
    services: ServicesArguments,
}

pub(crate) fn upto(arguments: &UptoArguments) {
    let upto = match arguments.upto.as_str() {
        "monitor" => Upto::Monitor,
        "objects" => Upto::Objects,
        "crossmatch" => Upto::Crossmatch,
        _ => Upto::Classify,
    };
    let a = &arguments.services;
    let (alerts, total_objects, history, per_tick) = (a.alerts, a.objects, a.history, a.per_tick.max(1));
    let rows = if upto >= Upto::Crossmatch { a.rows } else { 0 };
    let mut config = Config::thread();
    // As in the program: a worker with nothing else to do tidies up.
    fink::services::tidy::configure(&mut config.worker);
    timely::execute(config, move |worker| {
        let probe = ProbeHandle::new();
        let watch = probe.clone();
        let ((mut input, mut capability), (mut catalogue, catalogue_capability)) = worker.dataflow::<Moment, _, _>(|scope| {
            let (input, stream) = scope.new_unordered_input::<CapacityContainerBuilder<Vec<(LightAlert, Moment, isize)>>>();
            let (catalogue, rows) = scope.new_unordered_input::<CapacityContainerBuilder<Vec<(Row, Moment, isize)>>>();
            let rows = rows.as_collection();
            monitor(stream.clone()).probe_with(&watch);
            if upto >= Upto::Objects {
                let summaries = objects(stream).summaries;
                summaries.stream.clone().probe_with(&watch);
                if upto >= Upto::Crossmatch {
                    let places = places(&summaries);
                    let found = matches(&places, rows);
                    found.clone().probe_with(&watch);
                    associations(&places, 1.0).probe_with(&watch);
                    if upto >= Upto::Classify {
                        counts(classify(&summaries, found).classes).probe_with(&watch);
                    }
                }
            }
            (input, catalogue)
        });
        let empty = resident();
        let started = Instant::now();
        let mut dice = Dice(7);
        let carried: Arc<[Box<str>]> = Arc::new(["RRAB".into()]);
        let row = |number: u32| {
            let (ra_deg, dec_deg) = (Real(dice.draw() * 360.0), Real((dice.draw() * 2.0 - 1.0).asin().to_degrees()));
            let catalogue = if number % 4 == 0 { CatalogueId::typed(0) } else { CatalogueId::untyped((number % 4) as u16) };
            Row { catalogue, number, ra_deg, dec_deg, radius_arcsec: Real32(1.5), motion: None, carried: Arc::clone(&carried) }
        };
        catalogue.activate().session(&catalogue_capability).give_iterator((0..rows).map(row).map(|row| (row, Moment::new(0, 0), 1)));
        // A catalogue that does not change holds nothing back.
        drop((catalogue, catalogue_capability));
        capability.downgrade(&Moment::new(0, 1));
        while probe.less_than(&Moment::new(0, 1)) {
            worker.step();
        }
        let (loaded, with_rows) = (started.elapsed(), resident());
        let world = World { objects: total_objects, history, log: Arc::new(Log::new("bench", "alerts", 0, 0)).into() };
        let (mut cpu, mut last, mut sent, mut tick) = (Duration::ZERO, Duration::ZERO, 0, 1);
        while sent < alerts {
            let end = alerts.min(sent + per_tick);
            let batch: Vec<_> = (sent..end).map(|n| (world.alert(n), Moment::new(0, tick), 1)).collect();
            let before = thread_cpu();
            input.activate().session(&capability).give_iterator(batch.into_iter());
            tick += 1;
            capability.downgrade(&Moment::new(0, tick));
            while probe.less_than(&Moment::new(0, tick)) {
                worker.step();
            }
            let spent = thread_cpu() - before;
            cpu += spent;
            if sent >= alerts - alerts / 10 {
                last += spent;
            }
            sent = end;
        }
        let per = |cpu: Duration, alerts: u32| cpu.as_secs_f64() * 1e6 / f64::from(alerts);
        let bytes = |now: u64| (now as f64 - with_rows as f64) / f64::from(alerts);
        let busy = resident();
        // Half a second of idleness.
        let rest = Instant::now();
        while rest.elapsed() < Duration::from_millis(500) {
            worker.step();
        }
        let (busy, settled) = (bytes(busy), bytes(resident()));
        let a_point = busy.max(settled) * f64::from(alerts) / world.points(alerts) as f64;
        let (loaded, megabytes) = (loaded.as_secs_f64(), (with_rows - empty) as f64 / 1e6);
        println!(
            "| {upto:?} | {:.1} | {:.1} | {busy:.0} | {settled:.0} | {a_point:.0} | {loaded:.2} s | {megabytes:.0} |",
            per(cpu, alerts),
            per(last, alerts / 10)
        );
    })
    .expect("one thread starts");
}

/// Bytes of the process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    let pages: u64 = status.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("the second number is resident pages");
    pages * 4096
}

struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Objects that are observed one after another, again and again.
pub(super) struct World {
    /// How many.
    pub(super) objects: u32,
    /// Points that an alert repeats at most.
    pub(super) history: u32,
    /// The log that their alerts stand in.
    pub(super) log: LogRef,
}

impl World {
    /// The different points of so many alerts: each alert's own, and before each but an object's last an upper limit.
    fn points(&self, alerts: u32) -> u64 {
        let limits = if self.history < 2 { 0 } else { alerts - alerts.min(self.objects) };
        u64::from(alerts) + u64::from(limits)
    }

    /// An alert.
    pub(super) fn alert(&self, number: u32) -> LightAlert {
        let (object, round) = (number % self.objects, number / self.objects);
        let history = (round.saturating_sub(self.history / 2)..round)
            .flat_map(|r| [self.point(object, r, Kind::Limit), self.point(object, r, Kind::Detection)]);
        let traits = Traits {
            age_days: Real(f64::from(round)),
            detections: round as i32 + 1,
            drb: Real32(0.9),
            classtar: Real32(0.9),
            roid: u8::from(round == 0),
            tracklet: false,
            enriched: None,
        };
        let address = Address { log: self.log.clone(), offset: i64::from(number), record: 0 };
        LightAlert {
            object: ObjectId::new(SurveyId(1), &format!("ZTF26{object:07}")).expect("it is short"),
            detection: Detection { point: self.point(object, round, Kind::Detection), traits, address },
            visit: i64::from(number / 5_000),
            night: Some(20_000 + round as i32),
            history: history.collect(),
        }
    }

    fn point(&self, object: u32, round: u32, kind: Kind) -> Point {
        let mut place = Dice(u64::from(object) * 7_919 + 1);
        let mut dice = Dice((u64::from(round) << 33) + u64::from(object) + 1);
        (dice.draw(), place.draw());
        let seen = kind == Kind::Detection;
        let (ra, dec) = (place.draw() * 360.0, (place.draw() * 2.0 - 1.0).asin().to_degrees());
        let some = |value: f64| if seen { Real(value) } else { Real::NONE };
        Point {
            kind,
            id: i64::from(round * self.objects + object) * 1_000_000,
            mjd_tai: Real(60_588.0 + f64::from(round) + if seen { 0.25 } else { 0.2 } + f64::from(object) * 1e-6),
            ra_deg: some((ra + (dice.draw() - 0.5) * 1e-4).rem_euclid(360.0)),
            dec_deg: some((dec + (dice.draw() - 0.5) * 1e-4).clamp(-90.0, 90.0)),
            value: if seen { Real32(17.0 + 3.0 * dice.draw() as f32) } else { Real32::NONE },
            error: if seen { Real32(0.05 + 0.1 * dice.draw() as f32) } else { Real32::NONE },
            limit: Real32(20.5),
            score: Real32(0.9),
            band: Band(if round % 2 == 0 { b'g' } else { b'r' }),
            unit: Unit::Magnitude,
            negative: false,
        }
    }
}
