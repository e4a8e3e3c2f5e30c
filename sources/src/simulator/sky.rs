//! Which object each alert is about, and what was seen of it: functions of seed, partition and offset alone.

use super::config::SimulatorConfig;
use super::dice::{Dice, power_of_ten, sine};
use super::record::{Alert, Detection, Observation};
use super::stamp::Scene;

const OBJECT: u64 = 1;
const ORDER: u64 = 2;
const OBSERVATION: u64 = 3;
const STAMP: u64 = 4;

const ZERO_POINT: f64 = 26.2;
const CANDID_MIDDLE: i64 = 3_000_000_000_000_000_000;

/// An object of a partition's pool.
struct Object {
    id: String,
    ra: f64,
    dec: f64,
    /// Mean magnitude of its difference.
    magnitude: f64,
    amplitude: f64,
    period_days: f64,
    phase: f64,
    /// Whether it is detected from round 0 on only; before, there are upper limits.
    newborn: bool,
    field: i32,
    rcid: i32,
    position: [f32; 2],
    star: f64,
    distnr: f64,
    magnr: f64,
    known: Option<String>,
}

/// The alert at `offset` of `partition`.
///
/// Each partition observes its objects one after another, a round of all of them and then the next round, in an order
/// that each round shifts. So an object's earlier observations are at offsets that can be computed; those before offset
/// 0 were made before the stream began.
pub(super) fn alert(config: &SimulatorConfig, partition: i32, offset: i64) -> Alert {
    let objects = i64::from(config.alerts.objects);
    let round = offset.div_euclid(objects);
    let index = (offset.rem_euclid(objects) + shift(config, partition, round)).rem_euclid(objects);
    let object = object(config, partition, index);
    let earlier = |round: i64| round * objects + (index - shift(config, partition, round)).rem_euclid(objects);

    // The stream began in the middle of its objects' lives, newborn ones excepted.
    let history = i64::from(config.alerts.history);
    let (covered_first, detected_first) = if object.newborn { (-history / 2, 0) } else { (-history, -history) };
    let observed: Vec<Observation> =
        (covered_first.max(round - history)..round).map(|round| observe(config, &object, partition, earlier(round), round)).collect();
    Alert {
        now: observe(config, &object, partition, offset, round),
        history: if observed.is_empty() { None } else { Some(observed) },
        ndethist: (round - detected_first + 1) as i32,
        ncovhist: (round - covered_first + 1) as i32,
        jdstarthist: julian_date(config, partition, earlier(detected_first)),
        object_id: object.id,
    }
}

/// What the alert's cut-outs show.
pub(super) fn scene(config: &SimulatorConfig, partition: i32, offset: i64, alert: &Alert) -> Scene {
    let mut dice = Dice::new(&[config.seed, STAMP, partition as u64, offset as u64]);
    let counts = |magnitude: f64| power_of_ten(0.4 * (ZERO_POINT - magnitude)) / 5.0;
    let Some(detection) = &alert.now.detection else {
        return Scene { science: 0.0, template: 0.0, sky: 0.0, noise: [1.0, 1.0], windows: [0, 0] };
    };
    let (there, change) = (counts(f64::from(detection.magnr)), counts(f64::from(detection.magpsf)));
    // What is fainter than before was at least as bright as the change.
    let (science, template) = if detection.isdiffpos == "t" { (there + change, there) } else { (there, there + change) };
    Scene {
        science: science as f32,
        template: template as f32,
        sky: detection.sky,
        // Every alert's noise has a width of its own, so that no pixel of one stamp stands in another.
        noise: [dice.within(8.0, 12.0) as f32, dice.within(2.0, 4.0) as f32],
        windows: [dice.bits(), dice.bits()],
    }
}

/// By how much a round shifts the order of the objects.
fn shift(config: &SimulatorConfig, partition: i32, round: i64) -> i64 {
    Dice::new(&[config.seed, ORDER, partition as u64, round as u64]).below(u64::from(config.alerts.objects)) as i64
}

fn object(config: &SimulatorConfig, partition: i32, index: i64) -> Object {
    let mut dice = Dice::new(&[config.seed, OBJECT, partition as u64, index as u64]);
    // Evenly over the part of the sphere that the survey sees.
    let dec = loop {
        let dec = dice.within(-28.0, 88.0);
        if dice.within(0.0, 1.0) < sine(dec / 360.0 + 0.25) {
            break dec;
        }
    };
    Object {
        id: object_id(config.start_ms, partition, index),
        ra: dice.within(0.0, 360.0),
        dec,
        magnitude: dice.within(16.5, 19.5),
        amplitude: dice.within(0.05, 0.8),
        period_days: dice.within(0.2, 100.0),
        phase: dice.within(0.0, 1.0),
        newborn: dice.below(8) == 0,
        field: 245 + dice.below(637) as i32,
        rcid: dice.below(64) as i32,
        position: [dice.within(20.0, 3050.0) as f32, dice.within(20.0, 3050.0) as f32],
        star: dice.within(0.0, 1.0),
        distnr: dice.within(0.05, 3.0),
        magnr: dice.within(15.0, 21.5),
        known: (dice.below(16) == 0).then(|| dice.below(600_000).to_string()),
    }
}

/// `SIM`, the year in which the stream began, and seven letters.
fn object_id(start_ms: i64, partition: i32, index: i64) -> String {
    let year = 1970 + start_ms / 31_556_952_000;
    let mut number = index as u64 * 4096 + partition as u64;
    let mut letters = [b'a'; 10];
    let mut used = 0;
    while number > 0 || used < 7 {
        letters[used] = b'a' + (number % 26) as u8;
        number /= 26;
        used += 1;
    }
    let mut id = format!("SIM{:02}", year % 100);
    id.extend(letters[..used].iter().rev().map(|letter| char::from(*letter)));
    id
}

/// When `offset` was observed: the time at which it is due, spread over nights backwards where that is asked for.
fn julian_date(config: &SimulatorConfig, partition: i32, offset: i64) -> f64 {
    let nights = i64::from(config.alerts.nights);
    let back_ms = offset.rem_euclid(nights) * 86_400_000;
    (config.due_ms(partition, offset) - back_ms) as f64 / 86_400_000.0 + 2_440_587.5
}

fn observe(config: &SimulatorConfig, object: &Object, partition: i32, offset: i64, round: i64) -> Observation {
    let mut dice = Dice::new(&[config.seed, OBSERVATION, partition as u64, offset as u64]);
    let jd = julian_date(config, partition, offset);
    let nid = (jd - 2_457_754.5) as i32;
    let fid = 1 + dice.below(2) as i32;
    let rcid = object.rcid;
    let diffmaglim = dice.within(19.8, 20.8);
    let exposure = (jd - jd.floor()) * 1e6;
    let detection = (round >= 0 || !object.newborn).then(|| detect(object, jd, diffmaglim, candid(partition, offset), &mut dice));
    Observation {
        jd,
        fid,
        pid: i64::from(nid) * 100_000_000 + exposure as i64 * 100 + i64::from(rcid),
        diffmaglim: diffmaglim as f32,
        nid,
        rcid,
        field: object.field,
        detection,
    }
}

/// Unlike any other of the stream, as each partition and offset has its own.
fn candid(partition: i32, offset: i64) -> i64 {
    CANDID_MIDDLE + offset * 4096 + i64::from(partition)
}

fn detect(object: &Object, jd: f64, diffmaglim: f64, candid: i64, dice: &mut Dice) -> Detection {
    let phase = jd / object.period_days + object.phase;
    let light = sine(phase);
    let faintness = object.magnitude - object.amplitude * light;
    let error = (0.2 * power_of_ten(0.4 * (faintness - diffmaglim))).max(0.01);
    let magnitude = faintness + error * dice.normal();
    let scatter = 0.1 / 3600.0;
    let (ra, dec) = (object.ra + scatter * dice.normal(), object.dec + scatter * dice.normal());
    Detection {
        candid,
        isdiffpos: if light > -0.3 { "t" } else { "f" },
        position: object.position,
        ra: if ra < 0.0 { ra + 360.0 } else { ra },
        dec,
        magpsf: magnitude as f32,
        sigmapsf: error as f32,
        distnr: object.distnr as f32,
        magnr: object.magnr as f32,
        sigmagnr: (0.01 + 0.001 * object.magnr) as f32,
        nearest: [object.ra, object.dec + object.distnr / 3600.0],
        sky: dice.within(100.0, 300.0) as f32,
        magdiff: (0.08 * dice.normal()) as f32,
        fwhm: dice.within(1.5, 4.0) as f32,
        classtar: (0.7 + 0.3 * object.star) as f32,
        nbad: if dice.below(10) == 0 { 1 } else { 0 },
        nneg: dice.below(8) as i32,
        rb: dice.within(0.3, 1.0) as f32,
        drb: dice.within(0.4, 1.0) as f32,
        known: object.known.as_ref().map(|name| (dice.within(0.1, 5.0) as f32, object.magnitude as f32, name.clone())),
        catalogued: [object.distnr as f32, object.star as f32, (object.magnr + 0.5) as f32, object.magnr as f32],
        scorr: 1.0857 / error,
    }
}
