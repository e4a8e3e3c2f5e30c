//! The services' part of the graph against the reference, with batches that come live, late and from history in any order, and
//! catalogues that change meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fink::services::catalogues::Names;
use fink::services::catalogues::feed::Piece;
use fink::services::catalogues::register::{CatalogueAnswer, Register};
use fink::services::desk::{Lease, Reader, Seat, open};
use fink::services::tables::Tables;
use fink::services::views::{Curve, cone, counts, nights, object};
use fink::services::{Chosen, Service, ServiceParts, Sources, services};
use fink_dataflow::alerts::{AlertBatch, Decoded};
use fink_dataflow::budget::{Budget, Claim};
use fink_dataflow::detection::{ObjectId, Real, Real32};
use fink_dataflow::ports::{Part, Source, Stretch};
use fink_dataflow::table::Archive;
use fink_dataflow::{Log, Moment};
use fink_operators::catalogue::change::Change;
use fink_operators::catalogue::{CatalogueId, Row};
use fink_operators::decode::{Decode, SchemaBook};
use fink_operators::surveys::light_rows;
use fink_sinks::archive::committer::{CommitOptions, Committer};
use fink_sinks::outputs::{Outputs, OutputsOptions, OutputsParts};
use fink_sources::archive::history::{History, Reading};
use fink_sources::simulator::{Simulator, SimulatorConfig};
use futures::executor::block_on;
use timely::dataflow::operators::vec::UnorderedInput;
use timely::order::PartialOrder;

use crate::reference::{Reference, cone as plain_cone, reference};
use crate::tables::{Published, expected, follow, same};

const ASSOCIATE_ARCSEC: f64 = 2.0;
/// Two catalogues whose types are classes, and one that says nothing of them.
const CATALOGUES: [CatalogueId; 3] = [CatalogueId::typed(1), CatalogueId::typed(0), CatalogueId::untyped(0)];

/// Alerts of a simulated sky, a batch each: those of the objects that have most, and some others.
pub(crate) fn alerts(seed: u64) -> Vec<AlertBatch> {
    let config = SimulatorConfig { partitions: 3, limit: Some(6_000), ..SimulatorConfig::new(seed, 0) };
    let log = |partition| Arc::new(Log::new("simulator", &config.topic, 0, partition));
    let far = || 1_000_000_000_000;
    let mut simulator = Simulator::new(config.clone(), far).expect("a stream");
    let ends = simulator.extents().expect("extents");
    let stretches = ends.iter().map(|end| Stretch { log: log(end.partition), from: 0, until: Some(end.high) });
    simulator.read(&stretches.collect::<Vec<_>>()).expect("read");
    let mut decode = Decode::new(Arc::new(SchemaBook::new()));
    let mut single = Vec::new();
    while let Some(chunk) = simulator.poll(Duration::ZERO).expect("polled") {
        let claim = Arc::new(Budget::new(1).take(0));
        for batch in decode.decode(vec![(chunk, claim)]).alerts {
            single.extend((0..batch.places.len()).map(|row| AlertBatch {
                schema: batch.schema.clone(),
                rows: batch.rows.slice(row, 1),
                places: vec![batch.places[row].clone()],
                nights: vec![batch.nights[row]],
                observed_ms: None,
            }));
        }
    }
    let objects: Vec<ObjectId> = single.iter().map(|batch| light_rows(batch).0[0].object).collect();
    let mut often = BTreeMap::<ObjectId, usize>::new();
    objects.iter().for_each(|object| *often.entry(*object).or_insert(0) += 1);
    let mut ranked: Vec<_> = often.into_iter().map(|(object, times)| (std::cmp::Reverse(times), object)).collect();
    ranked.sort_unstable();
    let wanted: Vec<ObjectId> = ranked.iter().take(25).chain(ranked.iter().rev().take(5)).map(|(_, object)| *object).collect();
    let mut chosen: Vec<_> =
        single.into_iter().zip(objects).filter(|(_, object)| wanted.contains(object)).map(|(batch, _)| batch).collect();
    // Some are sent twice.
    let again: Vec<_> = chosen.iter().step_by(7).cloned().collect();
    chosen.extend(again.into_iter().map(|mut batch| {
        batch.places[0].offset += 1_000_000;
        batch
    }));
    chosen
}

/// Rows at and near some objects' places.
fn rows(alerts: &[AlertBatch]) -> Vec<Row> {
    let all = reference(alerts, &[], ASSOCIATE_ARCSEC);
    let places = all.objects.values().filter_map(|object| object.summary.position).enumerate();
    let row = |(index, place): (usize, fink_operators::objects::summary::Position)| Row {
        catalogue: CATALOGUES[index % 3],
        number: index as u32,
        ra_deg: Real(place.ra_deg.0),
        dec_deg: Real((place.dec_deg.0 + (index % 5) as f64 * 0.000_15).min(90.0)),
        radius_arcsec: Real32(1.5),
        motion: None,
        carried: Arc::new([["RRLyrae", "", "Galaxy", "Star"][index % 4].into()]),
    };
    places.filter(|(index, _)| index % 5 != 0).map(row).collect()
}

/// What enters between two asks.
#[derive(Clone, Default)]
struct Tick {
    now: Moment,
    live: Vec<usize>,
    late: Vec<usize>,
    past: Vec<usize>,
    /// Rows of catalogues that come and go.
    changes: Vec<Change>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Spreads batches, and changes of catalogues, over ticks, epochs and ways. The last ticks are empty, so that all rolls in.
fn script(seed: u64, batches: usize, rows: &[Row]) -> Vec<Tick> {
    let mut dice = Dice(seed);
    let (mut ticks, mut now) = (Vec::<Tick>::new(), Moment::new(0, 7));
    for _ in 0..9 {
        ticks.push(Tick { now, ..Tick::default() });
        now.tick += 1 + dice.below(2) as u64;
        now.epoch += u32::from(dice.below(3) == 0);
    }
    for batch in 0..batches {
        let (tick, way) = (dice.below(6), dice.below(3));
        let tick = &mut ticks[tick];
        [&mut tick.live, &mut tick.late, &mut tick.past][way].push(batch);
    }
    for row in rows {
        let came = dice.below(6);
        ticks[came].changes.push((row.clone(), 1));
        // Half of them stay; the others go, and of these half are there again, changed.
        if dice.below(2) == 0 {
            let gone = came + dice.below(7 - came);
            ticks[gone].changes.push((row.clone(), -1));
            let carried = Arc::new(["Star".into()]);
            ticks[gone].changes.extend((dice.below(2) == 0).then(|| (Row { carried, radius_arcsec: Real32(0.5), ..row.clone() }, 1)));
        }
    }
    // The last rolls.
    let last = ticks.len() - 1;
    for tick in &mut ticks[7..=last] {
        tick.now.epoch = now.epoch + 1;
    }
    ticks
}

impl Tick {
    /// The Moments at which its batches stand: late data is an epoch ahead.
    fn entered(&self) -> impl Iterator<Item = (usize, Moment)> {
        let ahead = Moment::new(self.now.epoch + 1, self.now.tick);
        let late = self.late.iter().chain(&self.past).map(move |batch| (*batch, ahead));
        self.live.iter().map(|batch| (*batch, self.now)).chain(late)
    }
}

/// The name of a tick's change of catalogues.
fn change_of(tick: &Tick) -> String {
    format!("at {}", tick.now)
}

/// A worker: enters its share of each tick when it is its turn, and attends to its desk meanwhile. The first one also changes
/// catalogues.
fn work(worker: &mut timely::worker::Worker, seat: (Seat, Tables), ticks: &[Tick], batches: &[AlertBatch], turn: &AtomicUsize) {
    let (index, peers) = (worker.index(), worker.peers());
    let (seat, tables) = seat;
    let (mut inputs, mut capabilities, mut desk) = worker.dataflow::<Moment, _, _>(|scope| {
        let ((live, live_capability), decoded) = scope.new_unordered_input::<Decoded>();
        let ((past, past_capability), history) = scope.new_unordered_input::<(AlertBatch, Arc<Claim>)>();
        let ((pieces, pieces_capability), changes) = scope.new_unordered_input::<(Piece, Arc<Claim>)>();
        let chosen = Chosen::of(Service::ALL.map(|(service, ..)| service));
        let (associate_arcsec, own) = (ASSOCIATE_ARCSEC, Vec::new());
        let parts = ServiceParts {
            chosen,
            associate_arcsec,
            history: None,
            catalogues: None,
            own,
            lines: None,
            seat,
            tables: Some(tables),
            bound: None,
            durable: None,
        };
        let sources = Sources { decoded: vec![decoded], past: Some(history), catalogues: Some(changes), lines: None, moves: None };
        let desk = services(scope, sources, parts);
        ((live, past, pieces), Some((live_capability, Some(past_capability), pieces_capability)), desk)
    });
    let mine = |batches: &[usize]| batches.iter().copied().filter(|batch| batch % peers == index).collect::<Vec<_>>();
    let last_past = ticks.iter().rposition(|tick| !tick.past.is_empty()).unwrap_or(0);
    let mut done = 0;
    while turn.load(Ordering::SeqCst) <= ticks.len() {
        while done < turn.load(Ordering::SeqCst) && done < ticks.len() {
            let tick = &ticks[done];
            let (live, past, pieces) = capabilities.as_mut().expect("held to the end");
            live.downgrade(&tick.now);
            let ahead = live.delayed(&Moment::new(tick.now.epoch + 1, tick.now.tick));
            let decoded = |batch: usize| Decoded { alerts: vec![batches[batch].clone()], ..Decoded::default() };
            inputs.0.activate().session(&*live).give_iterator(mine(&tick.live).into_iter().map(decoded));
            inputs.0.activate().session(&ahead).give_iterator(mine(&tick.late).into_iter().map(decoded));
            if let Some(held) = past {
                held.downgrade(&Moment::new(tick.now.epoch + 1, tick.now.tick));
                let claimed = |batch: usize| (batches[batch].clone(), Arc::new(Budget::new(1).take(0)));
                inputs.1.activate().session(&*held).give_iterator(mine(&tick.past).into_iter().map(claimed));
            }
            if done >= last_past {
                *past = None;
            }
            pieces.downgrade(&Moment::new(tick.now.epoch + 1, tick.now.tick));
            if index == 0 && !tick.changes.is_empty() {
                let job = ticks[..done].iter().filter(|tick| !tick.changes.is_empty()).count();
                let (some, others) = tick.changes.split_at(tick.changes.len() / 2);
                let claim = || Arc::new(Budget::new(1).take(0));
                let piece = |rows: &[Change], part| (Piece { job, rows: rows.to_vec(), part }, claim());
                inputs.2.activate().session(&*pieces).give_iterator([piece(some, Part::More), piece(others, Part::Last)].into_iter());
            }
            drop(ahead);
            live.downgrade(&Moment::new(tick.now.epoch, tick.now.tick + 1));
            done += 1;
        }
        worker.step_or_park(Some(Duration::from_millis(1)));
        desk.attend();
    }
    capabilities = None;
    drop(capabilities);
}

/// The rows that catalogues have at a Moment, after these changes.
fn held(changes: &[(&Change, Moment)], moment: Moment) -> Vec<Row> {
    let mut held = BTreeMap::<&Row, i8>::new();
    for ((row, change), _) in changes.iter().filter(|(_, at)| at.less_equal(&moment)) {
        *held.entry(row).or_insert(0) += change;
    }
    held.into_iter().filter(|(_, count)| *count > 0).map(|(row, _)| row.clone()).collect()
}

/// All answers, and whether they are complete.
fn ask(reader: &Reader, lease: &Lease, all: &Reference) -> Reference {
    let objects = all.objects.keys().filter_map(|id| block_on(object(reader, lease, *id, Curve::Whole)).expect("asked"));
    let objects = objects.map(|object| (object.id, object)).collect();
    let of = |night| (night, block_on(counts(reader, lease, night)).expect("asked"));
    Reference { objects, nights: block_on(nights(reader, lease)).expect("asked").into_iter().map(of).collect() }
}

fn play(seed: u64, workers: usize) {
    let batches = Arc::new(alerts(seed));
    let rows = rows(&batches);
    let ticks = Arc::new(script(seed, batches.len(), &rows));
    let all = reference(&batches, &rows, ASSOCIATE_ARCSEC);
    let register = Register::default();
    let changing: Vec<&Tick> = ticks.iter().filter(|tick| !tick.changes.is_empty()).collect();
    for (job, tick) in changing.iter().enumerate() {
        register.note(CatalogueAnswer { name: change_of(tick), ..CatalogueAnswer::default() });
        assert_eq!(register.begin(&change_of(tick)), job);
    }
    register.expect("catalogues", changing.iter().take(1).map(|tick| change_of(tick)));
    let (reader, seats) = open(workers, Some(History::elsewhere(Reading::Done, 1)), Some(register.clone()));
    // Half of them publish from the beginning, as if there were no history.
    let (archive, knows, from_the_beginning) = (Archive::in_memory(), reader.clone(), seed % 2 == 0);
    let (committer, _, routes) = Committer::start(archive.clone(), CommitOptions::default()).expect("a new archive");
    let complete = Box::new(move |moment| from_the_beginning || knows.knows_all(moment));
    let outputs = OutputsParts { archive: archive.clone(), committer: committer.clone(), routes, workers, complete };
    let options = OutputsOptions { every: Duration::ZERO, look: Duration::from_millis(2), ..OutputsOptions::default() };
    let outputs = Outputs::start(outputs, options).expect("started");
    let tables = (0..workers).map(|index| Tables { seat: outputs.seat(index), names: Names::default() });
    let seats: Mutex<Vec<_>> = Mutex::new(seats.into_iter().zip(tables.collect::<Vec<_>>()).map(Some).collect());
    let turn = Arc::new(AtomicUsize::new(0));
    let guards = {
        let (batches, ticks, turn) = (batches.clone(), ticks.clone(), turn.clone());
        timely::execute(timely::Config::process(workers), move |worker| {
            let seat = seats.lock().unwrap()[worker.index()].take().unwrap();
            work(worker, seat, &ticks, &batches, &turn);
        })
        .unwrap()
    };
    let (mut entered, mut changed) = (Vec::new(), Vec::new());
    for (index, tick) in ticks.iter().enumerate() {
        entered.extend(tick.entered());
        let ahead = Moment::new(tick.now.epoch + 1, tick.now.tick);
        changed.extend(tick.changes.iter().map(|change| (change, ahead)));
        turn.store(index + 1, Ordering::SeqCst);
        let lease = loop {
            match reader.lease() {
                Ok(lease) if lease.moment == tick.now => break lease,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let there: Vec<_> = entered.iter().filter(|(_, at)| at.less_equal(&tick.now)).map(|(batch, _)| batches[*batch].clone()).collect();
        let expected = reference(&there, &held(&changed, tick.now), ASSOCIATE_ARCSEC);
        let told = ask(&reader, &lease, &all);
        assert_eq!(told.objects, expected.objects, "at {} with seed {seed} and {workers} workers", tick.now);
        assert_eq!(told.nights, expected.nights, "at {} with seed {seed} and {workers} workers", tick.now);
        let past = ticks.iter().flat_map(|tick| tick.past.iter().map(move |_| Moment::new(tick.now.epoch + 1, tick.now.tick)));
        let all_past = past.clone().all(|at| at.less_equal(&tick.now));
        let counts = |tick_of: &&&Tick| Moment::new(tick_of.now.epoch + 1, tick_of.now.tick).less_equal(&tick.now);
        let first = changing.first().is_none_or(|first| counts(&first));
        assert!(!lease.complete || (all_past && first), "complete too early: at {} with seed {seed}", tick.now);
        let known: Vec<String> = register.catalogues().into_iter().filter(|c| c.state == "counts").map(|c| c.name).collect();
        let mut due: Vec<String> = changing.iter().filter(counts).map(|tick| change_of(tick)).collect();
        due.sort();
        assert_eq!(known, due, "at {} with seed {seed}", tick.now);
        for object in all.objects.values().step_by(4).filter_map(|object| object.summary.position) {
            let centre = (object.ra_deg.0, object.dec_deg.0);
            let near = block_on(cone(&reader, &lease, centre, 9_000.0, 1_000)).expect("asked");
            let near: Vec<_> = near.into_iter().map(|(separation, object)| (separation, object.id)).collect();
            assert_eq!(near, plain_cone(&expected, centre, 9_000.0), "around {centre:?} at {}", tick.now);
        }
    }
    while !reader.lease().expect("closed").complete {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The tables' thread goes last where the machine is busy: it may not have looked yet.
    while outputs.stand().moment.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(entered.len(), batches.len());
    assert!(all.objects.values().any(|object| object.summary.alerts > 1), "the sky has objects that are seen again");
    turn.store(usize::MAX, Ordering::SeqCst);
    guards.join().into_iter().for_each(|ended| ended.unwrap());
    assert!(outputs.stop(Duration::from_secs(60)), "the tables are written to the end");
    committer.stop().expect("all is committed");
    let met = follow(&archive, |published: &Published<'_>| {
        let there: Vec<_> =
            entered.iter().filter(|(_, at)| at.less_equal(&published.moment)).map(|(batch, _)| batches[*batch].clone()).collect();
        let expected = expected(&reference(&there, &held(&changed, published.moment), ASSOCIATE_ARCSEC));
        same(published.tables, &expected, &format!("at {} with seed {seed} and {workers} workers", published.moment));
    });
    assert!(met.publications > 0, "nothing was published: seed {seed}");
}

#[test]
fn answers_equal_the_reference_at_every_moment_on_one_worker() {
    (0..4).for_each(|seed| play(seed, 1));
}

#[test]
fn answers_equal_the_reference_at_every_moment_on_two_workers() {
    (10..14).for_each(|seed| play(seed, 2));
}

#[test]
fn answers_equal_the_reference_at_every_moment_on_four_workers() {
    (20..24).for_each(|seed| play(seed, 4));
}
