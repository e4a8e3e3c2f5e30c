//! The whole sky through the eyes of a survey.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::simulator::seen::{Band, Class, Detection, Telescope};

fn small(telescope: Telescope) -> Survey {
    Survey::new(&SurveyOptions::small(telescope, 11)).unwrap()
}

fn visits(survey: &Survey, count: i64) -> Vec<Seen> {
    let first = survey.first_visit();
    let all = survey.options().alerts_per_visit;
    (first..first + count).flat_map(|visit| (0..all).map(move |index| (visit, index))).map(|(v, i)| survey.seen(v, i)).collect()
}

#[test]
fn any_order_any_thread_and_any_clone_gives_the_same_alerts() {
    for telescope in [Telescope::Ztf, Telescope::Lsst] {
        let survey = small(telescope);
        let first = survey.first_visit();
        let sequence: Vec<Seen> = visits(&survey, 6);
        let places = || (0..6i64).flat_map(|visit| (0..40u32).map(move |index| (visit, index)));
        // Four threads on one survey's stores, each taking every fourth alert.
        let shared: Vec<Vec<Seen>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let survey = survey.clone();
                    scope.spawn(move || places().skip(thread).step_by(4).map(|(v, i)| survey.seen(first + v, i)).collect())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (at, seen) in sequence.iter().enumerate() {
            assert_eq!(shared[at % 4][at / 4], *seen);
        }
        // Another survey, backwards.
        let other = small(telescope);
        for (at, (visit, index)) in places().enumerate().collect::<Vec<_>>().into_iter().rev().step_by(7) {
            assert_eq!(other.seen(first + visit, index), sequence[at]);
        }
    }
}

/// Every bit of some alerts. When one changes, streams that archives began can't be gone on with.
#[test]
fn alerts_are_those_of_every_machine_and_release() {
    for (telescope, golden) in [(Telescope::Ztf, 0x782f_7881_9cad_a3c0), (Telescope::Lsst, 0xb763_04e9_c5e4_daa1)] {
        let text: String = visits(&small(telescope), 2).iter().map(|seen| format!("{seen:?}")).collect();
        assert_eq!(xxh3_64(text.as_bytes()), golden, "{telescope:?} {:#018x}", xxh3_64(text.as_bytes()));
    }
}

#[test]
fn another_seed_is_another_sky() {
    let other = Survey::new(&SurveyOptions::small(Telescope::Ztf, 12)).unwrap();
    let survey = small(Telescope::Ztf);
    let ours: BTreeSet<u64> = visits(&survey, 2).iter().map(|seen| seen.detection.ra_deg.to_bits()).collect();
    assert!(visits(&other, 2).iter().all(|seen| !ours.contains(&seen.detection.ra_deg.to_bits())));
}

#[test]
fn both_surveys_look_at_the_same_sky() {
    let options = SurveyOptions { alerts_per_visit: 400, history_days: 0, ..SurveyOptions::small(Telescope::Ztf, 5) };
    let ztf = Survey::new(&options).unwrap();
    let lsst = Survey::new(&SurveyOptions { telescope: Telescope::Lsst, faint_objects: 10_000, ..options }).unwrap();
    let stars = |survey: &Survey| -> BTreeMap<u64, (Class, u64)> {
        let looks = survey.visits_of(61_366, 1).map(|visit| survey.inner.look(visit));
        let star = |followed: &patch::Followed| (followed.object.number, (followed.object.class, followed.object.ra_deg.to_bits()));
        looks.flat_map(|look| look.patch.lasting.iter().map(star).collect::<Vec<_>>()).collect()
    };
    let (a, b) = (stars(&ztf), stars(&lsst));
    let both = a.keys().filter(|number| b.contains_key(number)).count();
    assert!(both > 20, "{both} objects seen by both of {} and {}", a.len(), b.len());
    assert!(a.iter().all(|(number, star)| b.get(number).is_none_or(|other| other == star)));
}

#[test]
fn every_visit_gives_as_many_alerts_each_with_a_number_of_its_own() {
    for telescope in [Telescope::Ztf, Telescope::Lsst] {
        let survey = small(telescope);
        let (mut numbers, mut last) = (BTreeSet::new(), 0);
        for seen in visits(&survey, 20) {
            assert!(numbers.insert(seen.detection.alert) && seen.detection.alert < 1 << 46 && seen.object < 1 << 48);
            assert!(seen.visit.number >= last);
            last = seen.visit.number;
            let once = matches!(seen.class, Class::Asteroid | Class::SatelliteGlint | Class::CosmicRay);
            assert!(once || seen.class == Class::BadSubtraction || seen.object < 8_031_810_176, "{:?} {}", seen.class, seen.object);
            assert!(seen.detection.snr >= 5.0 && (0.0..=1.0).contains(&seen.detection.real_bogus));
            assert!((0.0..360.0).contains(&seen.detection.ra_deg) && seen.detection.dec_deg.abs() < 90.0);
            assert!(seen.scene.middle_arcsec.iter().all(|offset| offset.abs() <= 0.5 * seen.scene.pixel_arcsec + 1e-9));
            assert!(seen.neighbours.is_sorted_by(|a, b| a.distance_arcsec <= b.distance_arcsec));
        }
        assert_eq!(numbers.len(), 20 * 40);
        assert_eq!(survey.place(41), (survey.first_visit() + 1, 1));
    }
}

/// What every history says of visits of which all alerts are known must be what those alerts said, no less and no more.
#[test]
fn histories_tell_what_was_sent() {
    for telescope in [Telescope::Ztf, Telescope::Lsst] {
        let options =
            SurveyOptions { history_visits: 1000, history_days: 20, alerts_per_visit: 100, ..SurveyOptions::small(telescope, 11) };
        let survey = Survey::new(&options).unwrap();
        let night = options.first_night_mjd;
        // One field's visits, over some nights: the field that is seen most.
        let visits = || survey.visits_of(night, 4);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        visits().for_each(|visit| *counts.entry(survey.visit(visit).field).or_default() += 1);
        let field = counts.into_iter().max_by_key(|(_, count)| *count).expect("a field").0;
        let of_field: Vec<i64> = visits().filter(|visit| survey.visit(*visit).field == field).collect();
        let mut sent: BTreeMap<(u64, i64), Detection> = BTreeMap::new();
        let mut told = 0;
        for visit in &of_field {
            for index in 0..100 {
                let seen = survey.seen(*visit, index);
                assert!(seen.history.is_sorted_by(|a, b| a.visit.mjd_tai < b.visit.mjd_tai));
                assert!(
                    seen.history
                        .iter()
                        .all(|past| past.visit.mjd_tai < seen.visit.mjd_tai && seen.visit.mjd_tai - past.visit.mjd_tai <= 20.0)
                );
                let known = seen.history.iter().filter(|past| of_field.contains(&past.visit.number));
                let known: Vec<_> = known.filter_map(|past| past.detection.clone().map(|found| (past.visit.number, found))).collect();
                let before: Vec<_> =
                    sent.range((seen.object, i64::MIN)..(seen.object, *visit)).map(|(key, found)| (key.1, found.clone())).collect();
                assert_eq!(known, before, "{:?} {}", seen.class, seen.object);
                told += known.len();
                for past in &seen.history {
                    assert_eq!(*past.visit, *survey.visit(past.visit.number));
                    if let Some(found) = &past.detection {
                        assert_eq!(found.difference_njy, past.forced.difference_njy);
                    }
                }
                let all = seen.history.iter().filter(|past| past.detection.is_some()).count() as u32;
                assert_eq!((seen.detections, seen.visits), (all + 1, seen.history.len() as u32 + 1));
                assert!(sent.insert((seen.object, *visit), seen.detection).is_none(), "an object twice in a visit");
            }
        }
        assert!(told > 15, "{told}");
    }
}

#[test]
fn classes_come_in_sensible_numbers_and_scores_tell_bogus_from_real() {
    let options = SurveyOptions { alerts_per_visit: 250, history_days: 0, ..SurveyOptions::ztf(3) };
    let survey = Survey::new(&options).unwrap();
    let mut counts: BTreeMap<Class, u32> = BTreeMap::new();
    let (mut real, mut bogus) = (Vec::new(), Vec::new());
    // A night of new moon, and one of full moon.
    for visit in survey.visits_of(61_383, 1).step_by(13).chain(survey.visits_of(61_368, 1).step_by(29)) {
        for index in 0..250 {
            let seen = survey.seen(visit, index);
            *counts.entry(seen.class).or_default() += 1;
            if seen.class.is_bogus() { bogus.push(seen.detection.real_bogus) } else { real.push(seen.detection.real_bogus) }
        }
    }
    let of = |class: Class| f64::from(counts.get(&class).copied().unwrap_or(0));
    let all: f64 = counts.values().map(|count| f64::from(*count)).sum();
    for class in Class::ALL {
        assert!(of(class) > 0.0 || class == Class::Kilonova, "no {class:?} in {counts:?}");
    }
    let share = real.len() as f64 / all;
    assert!((0.15..0.8).contains(&share), "{share} real: {counts:?}");
    assert!(of(Class::Agn) > of(Class::SupernovaIa) && of(Class::SupernovaIa) > of(Class::TidalDisruption), "{counts:?}");
    let above = |scores: &[f64]| scores.iter().filter(|score| **score > 0.55).count() as f64 / scores.len() as f64;
    assert!(above(&real) > 0.9 && above(&bogus) < 0.12, "{} {}", above(&real), above(&bogus));
}

#[test]
fn memory_is_bounded_over_many_visits() {
    let survey = Survey::new(&SurveyOptions { history_days: 0, ..SurveyOptions::ztf(3) }).unwrap();
    let first = survey.first_visit();
    // A million alerts are 4,000 visits; each is made whole when one of its alerts is asked for.
    let (mut looks, mut patches, mut nights) = (0, 0, 0);
    for visit in (first..first + 4000).step_by(10) {
        let _ = survey.seen(visit, 0);
        looks = looks.max(survey.inner.looks.weight());
        patches = patches.max(survey.inner.patches.weight());
        nights = nights.max(survey.inner.nights.weight());
    }
    assert!(looks <= ALERTS_KEPT && patches <= OBJECTS_KEPT && nights <= 40, "{looks} {patches} {nights}");
    assert!(looks > ALERTS_KEPT * 9 / 10, "the bound was reached: {looks}");
}

/// The first alert of a class that `wanted` likes, going through the night's visits.
fn find(survey: &Survey, wanted: impl Fn(&Seen) -> bool) -> Seen {
    let options = survey.options();
    let all = options.alerts_per_visit;
    let quick = Survey::new(&SurveyOptions { history_days: 0, ..options.clone() }).unwrap();
    survey
        .visits_of(options.first_night_mjd, 2)
        .flat_map(|visit| (0..all).map(move |index| (visit, index)))
        .find(|(visit, index)| wanted(&quick.seen(*visit, *index)))
        .map(|(visit, index)| survey.seen(visit, index))
        .expect("such an alert within two nights")
}

fn parameter(seen: &Seen, name: &str) -> f64 {
    seen.truth.parameters.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no {name}: {:?}", seen.truth)).1
}

/// Time and difference flux of the detections in a band that an alert tells of.
fn light_curve(seen: &Seen, band: Band) -> Vec<(f64, f64)> {
    let past = seen.history.iter().filter(|past| past.visit.band == band);
    let mut points: Vec<_> =
        past.filter_map(|past| past.detection.as_ref().map(|found| (past.visit.mjd_tai, found.difference_njy))).collect();
    if seen.visit.band == band {
        points.push((seen.visit.mjd_tai, seen.detection.difference_njy));
    }
    points
}

/// Phase dispersion (Stellingwerf 1978): how much the flux varies within bins of phase, of how much it does at all.
fn dispersion(points: &[(f64, f64)], period: f64) -> f64 {
    let mut bins = [(0.0, 0.0, 0.0); 12];
    for (mjd, flux) in points {
        let bin = &mut bins[((mjd / period).rem_euclid(1.0) * 12.0) as usize % 12];
        *bin = (bin.0 + 1.0, bin.1 + flux, bin.2 + flux * flux);
    }
    let within: f64 = bins.iter().filter(|bin| bin.0 > 1.0).map(|(n, sum, squares)| squares - sum * sum / n).sum();
    within
}

#[test]
fn an_rr_lyraes_period_is_found_in_its_alert() {
    let options = SurveyOptions { history_days: 200, history_visits: 2000, ..SurveyOptions::small(Telescope::Ztf, 2) };
    let survey = Survey::new(&options).unwrap();
    let bright = |seen: &Seen| {
        seen.class == Class::RrLyrae && parameter(seen, "mean_r_mag") < 16.5 && (0.53..0.7).contains(&parameter(seen, "period_days"))
    };
    let seen = find(&survey, bright);
    let points = light_curve(&seen, Band::G);
    assert!(points.len() > 60, "{} points", points.len());
    // From 0.2 to 1 day, so fine that phases drift by less than a tenth over the history.
    let step = 0.05 / 200.0;
    let frequencies = (0..16_000).map(|at| 1.0 + f64::from(at) * step);
    let best = frequencies.min_by(|a, b| dispersion(&points, 1.0 / a).total_cmp(&dispersion(&points, 1.0 / b))).unwrap();
    let (found, truth) = (1.0 / best, parameter(&seen, "period_days"));
    assert!((found / truth - 1.0).abs() < 1e-3, "{found} for {truth} days from {} points", points.len());
}

#[test]
fn a_supernovas_peak_is_found_in_its_alert() {
    let options = SurveyOptions { history_days: 100, history_visits: 2000, ..SurveyOptions::ztf(2) };
    let survey = Survey::new(&options).unwrap();
    let now = f64::from(options.first_night_mjd);
    let seen = find(&survey, |seen| {
        let peaked = |seen| (now - 35.0..now - 18.0).contains(&parameter(seen, "peak_mjd"));
        seen.class == Class::SupernovaIa && parameter(seen, "peak_r_mag") < 18.8 && peaked(seen)
    });
    let points = light_curve(&seen, Band::R);
    assert!(points.len() > 10, "{} points", points.len());
    // A parabola through the points of the upper half.
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let top: Vec<_> = points.iter().filter(|point| point.1 > 0.7 * most).map(|(mjd, flux)| (mjd - now, flux / most)).collect();
    let found = now + vertex(&top);
    let truth = parameter(&seen, "peak_mjd");
    assert!((found - truth).abs() < 2.5, "{found} for {truth} from {} points", top.len());
    assert!(seen.history.iter().all(|past| past.detection.is_none() || past.visit.mjd_tai > truth - 40.0), "seen before it exploded");
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
fn an_asteroids_motion_is_that_of_its_orbit() {
    let survey = Survey::new(&SurveyOptions { history_days: 0, alerts_per_visit: 100, ..SurveyOptions::ztf(2) }).unwrap();
    let mut seen_before: BTreeMap<u32, Seen> = BTreeMap::new();
    let mut pairs = 0;
    'visits: for visit in survey.visits_of(survey.options().first_night_mjd, 1) {
        for index in 0..100 {
            let seen = survey.seen(visit, index);
            let Some(moving) = &seen.moving else { continue };
            assert!(moving.offset_arcsec < 2.0 && seen.class == Class::Asteroid);
            let Some(before) = seen_before.insert(moving.number, seen.clone()) else { continue };
            let days = seen.visit.mjd_tai - before.visit.mjd_tai;
            let (a, b) = (&before.detection, &seen.detection);
            assert_ne!(before.object, seen.object);
            let ra = (b.ra_deg - a.ra_deg) * a.dec_deg.to_radians().cos() / days;
            let dec = (b.dec_deg - a.dec_deg) / days;
            let error = (a.position_error_arcsec.hypot(b.position_error_arcsec)) / 3600.0 / days;
            // Three sigma of the places, and what the rate changes over an hour.
            let tolerance = 4.0 * error + 0.01;
            assert!((ra - moving.rate_ra_deg_day).abs() < tolerance, "{ra} for {}", moving.rate_ra_deg_day);
            assert!((dec - moving.rate_dec_deg_day).abs() < tolerance, "{dec} for {}", moving.rate_dec_deg_day);
            assert!(moving.rate_ra_deg_day.hypot(moving.rate_dec_deg_day) > 0.01);
            pairs += 1;
            if pairs == 100 {
                break 'visits;
            }
        }
    }
    assert!(pairs > 30, "{pairs} pairs");
}

#[test]
fn what_is_at_a_place_stays_there() {
    let options = SurveyOptions { history_visits: 1000, history_days: 60, ..SurveyOptions::small(Telescope::Ztf, 2) };
    let survey = Survey::new(&options).unwrap();
    let seen = find(&survey, |seen| seen.class == Class::Cepheid || seen.class == Class::Mira);
    assert!(seen.detections > 20);
    for past in seen.history.iter().filter_map(|past| past.detection.as_ref()) {
        let away = site::separation_deg(past.ra_deg, past.dec_deg, seen.truth.ra_deg, seen.truth.dec_deg) * 3600.0;
        assert!(away < 6.0 * past.position_error_arcsec, "{away}");
        assert_eq!(past.detector, seen.detection.detector);
    }
    assert!(seen.neighbours[0].distance_arcsec < 1.0 && seen.neighbours[0].star_score > 0.9);
}
