//! What was put into the sky comes back out of the alerts alone.
//!
//! | what | from | within |
//! |---|---|---|
//! | the period of an RR Lyrae of type ab | its alerts of four months | a thousandth, of five in six |
//! | the time of a supernova's maximum | its alerts of two months | 2.5 days |
//! | an asteroid's motion | two alerts of a night | four times the errors of its places, and 0.01 degrees a day |

use std::collections::BTreeMap;

use apache_avro::types::Value;
use fink_sources::simulator::seen::{Class, Seen, SurveyOptions, Telescope};
use fink_sources::simulator::survey::Survey;

use crate::stream::{Stream, at, config, number};

const NIGHT: i32 = 61_366;

fn parameter(parameters: &[(&'static str, f64)], name: &str) -> f64 {
    parameters.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no {name}: {parameters:?}")).1
}

/// The same survey without histories: where its alerts are, quickly.
fn quick(stream: &Stream) -> Survey {
    Survey::new(&SurveyOptions { history_days: 0, ..stream.survey().options().clone() }).unwrap()
}

/// The first objects of these visits that `wanted` likes, as first seen.
fn objects(survey: &Survey, visits: impl Iterator<Item = i64>, count: usize, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
    let mut found: BTreeMap<u64, Seen> = BTreeMap::new();
    for visit in visits {
        for index in 0..survey.options().alerts_per_visit {
            let seen = survey.seen(visit, index);
            if wanted(&seen) {
                found.entry(seen.object).or_insert(seen);
            }
        }
        if found.len() >= count {
            break;
        }
    }
    assert!(found.len() >= count, "{} such objects", found.len());
    found.into_values().take(count).collect()
}

/// Numbers of each object's alerts in the stream, within some nights.
fn alerts_of(survey: &Survey, objects: &[Seen], nights: std::ops::Range<i32>) -> Vec<Vec<u64>> {
    let mut found = vec![Vec::new(); objects.len()];
    let all = survey.options().alerts_per_visit;
    let visits = survey.visits_of(nights.start, (nights.end - nights.start).unsigned_abs());
    for visit in visits.filter(|visit| objects.iter().any(|object| object.visit.field == survey.visit(*visit).field)) {
        for index in 0..all {
            let object = survey.seen(visit, index).object;
            if let Some(which) = objects.iter().position(|wanted| wanted.object == object) {
                found[which].push((visit - survey.first_visit()) as u64 * u64::from(all) + u64::from(index));
            }
        }
    }
    found
}

/// Time (JD) and difference flux (nJy) in a filter, of all detections that ZTF's alerts tell of, themselves and their histories.
fn light_curve(stream: &mut Stream, numbers: &[u64], fid: f64) -> Vec<(f64, f64)> {
    let mut points: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for alert in numbers {
        let alert = stream.alert(*alert).value;
        let Value::Array(past) = at(&alert, &["prv_candidates"]) else { panic!("no history") };
        for candidate in past.iter().chain([at(&alert, &["candidate"])]) {
            let of = |name: &str| number(candidate, &[name]);
            let (Some(magnitude), Some(jd)) = (of("magpsf"), of("jd")) else { continue };
            let gained = matches!(at(candidate, &["isdiffpos"]), Value::String(word) if word == "t" || word == "1");
            if of("fid") == Some(fid) {
                let flux = 10f64.powf(0.4 * (31.4 - magnitude));
                points.insert(jd.to_bits(), (jd, if gained { flux } else { -flux }));
            }
        }
    }
    points.into_values().collect()
}

/// Phase dispersion (Stellingwerf 1978): how much the flux varies within bins of phase.
fn dispersion(points: &[(f64, f64)], period: f64) -> f64 {
    let mut bins = [(0.0, 0.0, 0.0); 12];
    for (jd, flux) in points {
        let bin = &mut bins[((jd / period).rem_euclid(1.0) * 12.0) as usize % 12];
        *bin = (bin.0 + 1.0, bin.1 + flux, bin.2 + flux * flux);
    }
    bins.iter().filter(|bin| bin.0 > 1.0).map(|(n, sum, squares)| squares - sum * sum / n).sum()
}

#[test]
fn periods_of_rr_lyrae_come_back() {
    let mut stream = Stream::new(&config(Telescope::Ztf, 7));
    let quick = quick(&stream);
    let wanted = |seen: &Seen| {
        let of = |name| parameter(&seen.truth.parameters, name);
        seen.class == Class::RrLyrae && of("mean_r_mag") < 16.5 && of("period_days") > 0.45
    };
    let mut right = 0;
    // A night's last visits: their fields can be seen for months yet.
    let all = objects(&quick, quick.visits_of(NIGHT, 1).rev(), 6, wanted);
    for (object, numbers) in all.iter().zip(alerts_of(&quick, &all, NIGHT..NIGHT + 120)) {
        let curves = [1.0, 2.0].map(|fid| light_curve(&mut stream, &numbers, fid));
        let points = curves.iter().map(Vec::len).sum::<usize>();
        // Where type ab has its periods, 0.44 to 0.77 days: a field that is looked at once a night, thrice within hours, leaves
        // periods a sidereal day apart in frequency hard to tell. So fine that phases drift by less than a twentieth.
        let span = curves.iter().map(|curve| curve[curve.len() - 1].0 - curve[0].0).fold(0.0, f64::max);
        let step = 0.05 / span;
        let frequencies = (0..(1.0 / step) as u32).map(|at| 1.3 + f64::from(at) * step);
        let of = |frequency: f64| curves.iter().map(|curve| dispersion(curve, 1.0 / frequency)).sum::<f64>();
        let best = frequencies.min_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap();
        let truth = parameter(&object.truth.parameters, "period_days");
        println!("{} alerts, {points} points over {span:.0} days: {:.5} for {truth:.5} days", numbers.len(), 1.0 / best);
        right += u32::from((1.0 / best / truth - 1.0).abs() < 1e-3);
    }
    assert!(right >= 5, "{right} of 6");
}

#[test]
fn times_of_supernovas_maxima_come_back() {
    let mut stream = Stream::new(&config(Telescope::Ztf, 7));
    let quick = quick(&stream);
    let night = NIGHT + 30;
    let wanted = |seen: &Seen| {
        let of = |name| parameter(&seen.truth.parameters, name);
        let peaked = || (f64::from(night) - 8.0..f64::from(night) + 4.0).contains(&of("peak_mjd"));
        seen.class == Class::SupernovaIa && of("peak_r_mag") < 18.3 && peaked()
    };
    let all = objects(&quick, quick.visits_of(night, 2), 3, wanted);
    for (object, numbers) in all.iter().zip(alerts_of(&quick, &all, night - 25..night + 30)) {
        let points = light_curve(&mut stream, &numbers, 2.0);
        let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
        let first = points[0].0;
        let top: Vec<_> = points.iter().filter(|point| point.1 > 0.7 * most).map(|(jd, flux)| (jd - first, flux / most)).collect();
        let found = first + vertex(&top) - 2_400_000.5;
        let truth = parameter(&object.truth.parameters, "peak_mjd");
        println!("{} alerts, {} points about the maximum: {found:.2} for {truth:.2}", numbers.len(), top.len());
        assert!(top.len() >= 6 && (found - truth).abs() < 2.5, "{found} for {truth}: {points:?}");
    }
}

/// The vertex of the parabola that fits points best.
fn vertex(points: &[(f64, f64)]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| f(*x, *y)).sum::<f64>();
    let n = points.len() as f64;
    let mean = sum(&|x, _| x) / n;
    let (s2, s3, s4) = (sum(&|x, _| (x - mean).powi(2)), sum(&|x, _| (x - mean).powi(3)), sum(&|x, _| (x - mean).powi(4)));
    let (y0, y1, y2) = (sum(&|_, y| y), sum(&|x, y| y * (x - mean)), sum(&|x, y| y * (x - mean).powi(2)));
    // Normal equations of a + b x + c x^2 with the mean taken off x.
    let (p, q) = (s4 - s2 * s2 / n, y2 - s2 * y0 / n);
    let c = (q * s2 - y1 * s3) / (p * s2 - s3 * s3);
    let b = (y1 - c * s3) / s2;
    mean - b / (2.0 * c)
}

#[test]
fn motions_of_asteroids_come_back() {
    let mut stream = Stream::new(&config(Telescope::Ztf, 7));
    let quick = quick(&stream);
    let all = u64::from(quick.options().alerts_per_visit);
    // By the name that the survey gives it: where and when, as measured, and the true motion.
    let mut before: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    let mut pairs = 0;
    'visits: for (visit, place) in quick.visits_of(NIGHT, 1).zip(0..) {
        for index in (0..all).filter(|index| quick.seen(visit, *index as u32).class == Class::Asteroid) {
            let alert = stream.alert(place * all + index);
            let Value::String(name) = at(&alert.value, &["candidate", "ssnamenr"]) else { panic!("an asteroid without a name") };
            let of = |field: &str| number(&alert.value, &["candidate", field]).unwrap();
            let now = [of("jd"), of("ra"), of("dec")];
            let Some(then) = before.insert(name.clone(), now) else { continue };
            let days = now[0] - then[0];
            // King's error of each place, of two places, and the floor of the survey's astrometry.
            let error = 1.5 * (0.6 * of("fwhm") * 1.012 / alert.snr() + 0.1) / 3600.0 / days;
            let rates = [(now[1] - then[1]) * now[2].to_radians().cos() / days, (now[2] - then[2]) / days];
            for (rate, truth) in rates.into_iter().zip(["rate_ra_deg_day", "rate_dec_deg_day"]) {
                let truth = parameter(&alert.told.parameters, truth);
                assert!((rate - truth).abs() < 4.0 * error + 0.01, "{name}: {rate} for {truth} within {error}");
            }
            pairs += 1;
            if pairs == 100 {
                break 'visits;
            }
        }
    }
    println!("{pairs} pairs");
    assert!(pairs > 30, "{pairs} pairs");
}
