//! Objects against their reference.

use std::collections::BTreeMap;

use fink_dataflow::Moment;
use fink_dataflow::detection::{Kind, LightAlert, ObjectId, Point, Real32};
use fink_operators::objects::summary::Summary;
use fink_operators::objects::{Away, Entry, curve, objects, objects_in_part, summarise};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use timely::dataflow::operators::vec::Map;
use timely::order::PartialOrder;

use differential_dataflow::AsCollection;

use crate::harness::{Update, at, communications, moment, moments, run};
use crate::plain::{Curve, curves, detections, peak, slope};
use crate::world::{OBJECTS, alerts, object};

/// What comes to objects of which some are away.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
enum Came {
    Alert(Box<LightAlert>),
    Move(ObjectId, Box<Entry>),
}

/// An object's entries at a Moment, and how often each is there.
fn entries_at(updates: &[Update<LightAlert>], object: ObjectId, moment: Moment) -> BTreeMap<Entry, isize> {
    let mut entries = BTreeMap::new();
    for (alert, _, count) in updates.iter().filter(|(alert, time, _)| alert.object == object && time.less_equal(&moment)) {
        let repeated = alert.history.iter().cloned().map(Entry::repeated);
        for entry in repeated.chain([Entry::own(alert.detection.clone())]) {
            *entries.entry(entry).or_insert(0) += count;
        }
    }
    entries
}

/// What a Moment's alerts are, each as often as it is there.
pub fn alerts_at(updates: &[Update<LightAlert>], moment: Moment) -> Vec<LightAlert> {
    let held = at(updates, moment);
    held.into_iter().filter(|(_, count)| *count > 0).map(|(alert, _)| alert).collect()
}

fn close(a: Real32, b: f64) -> bool {
    (f64::from(a.0) - b).abs() <= 1e-4 * (1.0 + b.abs())
}

/// Compares a summary with what the plain light curve says.
fn check(summary: &Summary, plain: &Curve) {
    let of_kind = |kind| plain.0.values().filter(|p| p.kind == kind).count() as u32;
    assert_eq!((summary.limits, summary.forced, summary.alerts), (of_kind(Kind::Limit), of_kind(Kind::Forced), plain.1.len() as u32));
    let seen = detections(plain);
    assert_eq!(summary.detections, seen.len() as u32);
    assert_eq!(Some(summary.first_mjd_tai), seen.first().map(|p| p.mjd_tai));
    assert_eq!(Some(summary.last_mjd_tai), seen.last().map(|p| p.mjd_tai));
    assert_eq!(summary.position.is_none(), plain.1.values().any(|d| d.traits.roid == 3));
    let bands: std::collections::BTreeSet<_> = seen.iter().map(|p| p.band).collect();
    assert_eq!(summary.bands.len(), bands.len());
    for band in &summary.bands {
        let of_band: Vec<_> = seen.iter().filter(|p| p.band == band.band).collect();
        assert_eq!((band.detections, band.latest.mjd_tai), (of_band.len() as u32, of_band.last().unwrap().mjd_tai));
        let Some((best, counted)) = peak(&seen, band.band) else {
            assert!(band.peak.magnitude.some().is_none());
            continue;
        };
        assert_eq!(band.peak.mjd_tai, best.mjd_tai);
        assert!(close(band.peak.magnitude, best.magnitude().unwrap().0));
        for (rate, rising) in [(band.rise, true), (band.decline, false)] {
            let side = counted.iter().filter(|p| if rising { p.mjd_tai <= best.mjd_tai } else { p.mjd_tai >= best.mjd_tai });
            let side: Vec<_> = side.map(|p| (p.mjd_tai.0, p.magnitude().unwrap().0, p.magnitude().unwrap().1)).collect();
            match slope(&side) {
                Some((mag_per_day, error)) => {
                    assert!(close(rate.mag_per_day, mag_per_day) && close(rate.error, error), "{rate:?} {side:?}")
                }
                None => assert!(rate.mag_per_day.some().is_none(), "{rate:?}"),
            }
        }
    }
}

/// What the reference says of every object: summed up from its own plain list of points.
fn expected(alerts: &[LightAlert]) -> BTreeMap<ObjectId, Summary> {
    let mut all = BTreeMap::new();
    for (object, plain) in curves(alerts) {
        let mut entries: Vec<Entry> = plain.1.values().cloned().map(Entry::own).collect();
        let is_own = |p: &Point| p.kind == Kind::Detection && plain.1.contains_key(&p.id);
        entries.extend(plain.0.values().filter(|p| !is_own(p)).cloned().map(Entry::repeated));
        entries.sort();
        assert_eq!(curve(entries.iter()).len(), plain.0.len(), "a curve of distinct points is itself");
        let summary = summarise(object.survey, entries.iter()).unwrap();
        check(&summary, &plain);
        all.insert(object, summary);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn objects_equal_their_reference_at_every_moment(updates in alerts()) {
        for communication in communications() {
            let came = run(communication, &updates, |alerts| {
                objects(alerts).summaries.as_collection(|object, summary: &Summary| (*object, summary.clone()))
            });
            for moment in moments() {
                let is: BTreeMap<_, _> = at(&came, moment).into_iter().map(|((object, summary), count)| {
                    assert_eq!(count, 1);
                    (object, summary)
                }).collect();
                prop_assert_eq!(is, expected(&alerts_at(&updates, moment)), "at {}", moment);
            }
        }
    }

    /// Those that leave and come back, at any Moments, are summed up to what they would be if they had stayed; but for those of
    /// which more came while they were away, and these are asked for.
    #[test]
    fn objects_that_leave_and_come_back_are_what_they_were(
        updates in alerts(),
        moves in prop::collection::vec(prop::option::weighted(0.7, (moment(), moment())), usize::from(OBJECTS)),
    ) {
        let updates: Vec<_> = updates.into_iter().filter(|(_, _, count)| *count > 0).collect();
        let mut away = BTreeMap::new();
        let mut came: Vec<Update<Came>> =
            updates.iter().map(|(alert, time, count)| (Came::Alert(Box::new(alert.clone())), *time, *count)).collect();
        for (number, (seen, back)) in (0..OBJECTS).zip(moves).filter_map(|(number, moved)| Some((number, moved?))) {
            // What leaves was seen at a Moment that was closed before it does.
            let left = Moment::new(seen.epoch.max(back.epoch), seen.tick + 1);
            let back = Moment::new(left.epoch, left.tick.max(back.tick));
            let (object, entries) = (object(number), entries_at(&updates, object(number), seen));
            if entries.is_empty() {
                continue;
            }
            away.insert(object, (seen, left, back));
            let move_of = |entry: &Entry| Came::Move(object, Box::new(entry.clone()));
            came.extend(entries.iter().map(|(entry, count)| (move_of(entry), left, -count)));
            came.extend([(move_of(&Entry::away()), left, 1), (move_of(&Entry::away()), back, -1)]);
            came.extend(entries.keys().map(|entry| (move_of(entry), back, 1)));
        }
        for communication in communications() {
            let wanted = Arc::new(Mutex::new(BTreeSet::new()));
            let asked = Arc::clone(&wanted);
            let told = run(communication, &came, move |came| {
                let alerts = came.clone().flat_map(|(came, time, count)| match came {
                    Came::Alert(alert) => Some((*alert, time, count)),
                    Came::Move(..) => None,
                });
                let moves = came.flat_map(|(came, time, count)| match came {
                    Came::Alert(_) => None,
                    Came::Move(object, entry) => Some(((object, *entry), time, count)),
                });
                let asked = Arc::clone(&asked);
                let wanted = Box::new(move |object: ObjectId, _: &Summary, _| _ = asked.lock().unwrap().insert(object));
                let away = Away { moves: moves.as_collection(), wanted };
                objects_in_part(alerts, Some(away)).summaries.as_collection(|object, summary: &Summary| (*object, summary.clone()))
            });
            for moment in moments() {
                let mut is: BTreeMap<_, _> = at(&told, moment).into_iter().map(|((object, summary), count)| {
                    assert_eq!(count, 1);
                    (object, summary)
                }).collect();
                let mut right = expected(&alerts_at(&updates, moment));
                for (object, (seen, left, back)) in &away {
                    let is_away = left.less_equal(&moment) && !back.less_equal(&moment);
                    if is_away && entries_at(&updates, *object, moment) != entries_at(&updates, *object, *seen) {
                        prop_assert!(is.remove(object).is_some() && right.remove(object).is_some());
                        prop_assert!(wanted.lock().unwrap().contains(object), "{:?} is not asked for", object);
                    }
                }
                prop_assert_eq!(is, right, "at {}", moment);
            }
        }
    }
}
