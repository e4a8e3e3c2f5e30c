//! Matches, associations, classes and counters against their references, while catalogues change.

use std::collections::BTreeMap;
use std::sync::Arc;

use fink_dataflow::Moment;
use fink_dataflow::detection::{LightAlert, ObjectId, Real, Real32};
use fink_operators::catalogue::{CatalogueId, Motion, Row};
use fink_operators::classify::history::{Classes, classes};
use fink_operators::classify::rules::{Rule, Signs, finkclass};
use fink_operators::classify::{Counted, classify, counts};
use fink_operators::crossmatch::{Association, Match, associations, matches, places};
use fink_operators::monitor::{self, counters, monitor};
use fink_operators::objects::summary::Summary;
use fink_operators::objects::{Entry, objects, summarise};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::Map;

use crate::harness::{Update, at, communications, moment, moments, run};
use crate::plain::curves;
use crate::world::{OBJECTS, alerts, place};

/// What goes in: alerts, and rows of catalogues.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
enum In {
    Alert(LightAlert),
    Row(Row),
}

/// What comes out of everything at once.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
enum Out {
    Match(ObjectId, Match),
    Association(ObjectId, Association),
    Classes(ObjectId, Classes),
    Counted(Counted),
    Counter(monitor::Counted),
}

/// Catalogues whose types are classes, the one that counts most first; and one that says nothing of them.
const TYPES: [CatalogueId; 2] = [CatalogueId::typed(3), CatalogueId::typed(7)];
const OTHER: CatalogueId = CatalogueId::untyped(0);
const RADIUS_ARCSEC: f64 = 1.0;

fn row(number: u32, near: u8, offset: (i8, i8), catalogue: u8, moves: bool) -> Row {
    let (ra, dec) = place(near);
    let radius = [1.5, 60.0, 0.4][usize::from(catalogue % 3)];
    let motion = Motion { ra: Real(300.0), dec: Real(-200.0), mjd: Real(57_388.5) };
    Row {
        catalogue: [TYPES[1], TYPES[0], OTHER][usize::from(catalogue % 3)],
        number,
        ra_deg: Real((ra + f64::from(offset.0) * 0.000_05).rem_euclid(360.0)),
        dec_deg: Real((dec + f64::from(offset.1) * 0.000_02).min(90.0)),
        radius_arcsec: Real32(radius),
        motion: moves.then(|| Box::new(motion)),
        carried: Arc::new([["RRLyrae", "", "Galaxy", "M"][(number % 4) as usize].into(), number.to_string().into()]),
    }
}

/// Rows that come, change and go.
fn rows() -> impl Strategy<Value = Vec<Update<Row>>> {
    let one = (0..OBJECTS, (any::<i8>(), any::<i8>()), any::<u8>(), any::<bool>());
    let one = (one, moment(), prop::option::weighted(0.5, moment()), any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let mut updates = Vec::new();
        for (number, ((near, offset, catalogue, moves), came, gone, changed)) in (0..).zip(all) {
            let before = row(number, near, offset, catalogue, moves);
            if let Some(gone) = gone {
                let gone = Moment::new(gone.epoch.max(came.epoch), gone.tick.max(came.tick));
                updates.push((before.clone(), gone, -1));
                if changed {
                    updates.push((row(number, near, (offset.1, offset.0), catalogue, moves), gone, 1));
                }
            }
            updates.push((before, came, 1));
        }
        updates
    })
}

fn summaries(alerts: &[LightAlert]) -> BTreeMap<ObjectId, Summary> {
    let sum = |(object, (points, own)): (ObjectId, crate::plain::Curve)| {
        let mut entries: Vec<Entry> = own.values().cloned().map(Entry::own).collect();
        entries.extend(points.into_values().map(Entry::repeated));
        entries.sort();
        (object, summarise(object.survey, entries.iter()).unwrap())
    };
    curves(alerts).into_iter().map(sum).collect()
}

/// The angle by vectors, not by the haversine formula.
fn angle_arcsec(a: (f64, f64), b: (f64, f64)) -> f64 {
    let unit = |(ra, dec): (f64, f64)| {
        let ((sa, ca), (sd, cd)) = (ra.to_radians().sin_cos(), dec.to_radians().sin_cos());
        [cd * ca, cd * sa, sd]
    };
    let (a, b) = (unit(a), unit(b));
    let chord = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    (2.0 * (chord / 2.0).asin()).to_degrees() * 3600.0
}

/// Every object with every row, and every other object.
fn expected(alerts: &[LightAlert], rows: &[Row], raw: &[(LightAlert, isize)]) -> BTreeMap<Out, isize> {
    let (mut out, summaries) = (BTreeMap::new(), summaries(alerts));
    for (object, summary) in &summaries {
        let mut matches = Vec::new();
        if let Some(position) = summary.position {
            let here = (position.ra_deg.0, position.dec_deg.0);
            for row in rows {
                let separation = angle_arcsec(here, row.at(position.mjd_tai.0));
                if separation <= f64::from(row.radius_arcsec.0) {
                    let (catalogue, number, carried) = (row.catalogue, row.number, Arc::clone(&row.carried));
                    let found = Match { catalogue, separation_arcsec: Real(separation), number, carried };
                    matches.push(found.clone());
                    out.insert(Out::Match(*object, found), 1);
                }
            }
            for (other, there) in &summaries {
                let Some(there) = there.position.filter(|_| other.survey != object.survey) else { continue };
                let separation = angle_arcsec(here, (there.ra_deg.0, there.dec_deg.0));
                if separation <= RADIUS_ARCSEC {
                    out.insert(Out::Association(*object, Association { separation_arcsec: Real(separation), other: *other }), 1);
                }
            }
        }
        matches.sort();
        let found = classes(&summary.runs, &matches);
        check(&found, alerts, *object);
        for change in &found.history {
            for (night, alerts) in &change.nights {
                let counted = Counted { survey: object.survey, night: *night, class: change.class() };
                *out.entry(Out::Counted(counted)).or_insert(0) += *alerts as isize;
            }
        }
        out.insert(Out::Classes(*object, found), 1);
    }
    for (alert, count) in raw {
        for counter in counters(alert) {
            *out.entry(Out::Counter(counter)).or_insert(0) += count;
        }
    }
    out.retain(|_, count| *count != 0);
    out
}

/// Each alert's class, asked for alone, is the one that the history has for it.
fn check(found: &Classes, alerts: &[LightAlert], object: ObjectId) {
    let (_, own) = &curves(alerts)[&object];
    let mut own: Vec<_> = own.values().collect();
    own.sort_by_key(|d| (d.point.mjd_tai, d.point.id));
    let typed = TYPES.iter().find_map(|id| found.nearest(*id).map(|m| m.carried[0].to_string()).filter(|kind| !kind.is_empty()));
    let class = |d: &fink_dataflow::detection::Detection| {
        let carried = d.traits.enriched.as_ref().map_or("Unknown".to_owned(), |e| e.cdsxmatch.to_string());
        let known = carried != "Unknown" && !carried.starts_with("Fail");
        let kind = if known { carried } else { typed.clone().unwrap_or(carried) };
        match finkclass(Signs::of(&d.traits), &kind) {
            Rule::Catalogue => kind,
            rule => rule.label().to_owned(),
        }
    };
    let told: Vec<String> = found
        .history
        .iter()
        .flat_map(|change| {
            let alerts: u32 = change.nights.iter().map(|(_, alerts)| alerts).sum();
            vec![change.class().to_string(); alerts as usize]
        })
        .collect();
    assert_eq!(told, own.into_iter().map(class).collect::<Vec<_>>());
    assert!(found.matches.is_sorted());
}

/// Angles to a hundred-thousandth of an arcsecond: the two formulas round differently.
fn rounded(out: BTreeMap<Out, isize>) -> BTreeMap<Out, isize> {
    let round = |angle: Real| Real((angle.0 * 1e5).round() / 1e5);
    let one = |out: Out| match out {
        Out::Match(object, found) => Out::Match(object, Match { separation_arcsec: round(found.separation_arcsec), ..found }),
        Out::Association(object, found) => {
            Out::Association(object, Association { separation_arcsec: round(found.separation_arcsec), ..found })
        }
        Out::Classes(object, mut classes) => {
            classes.matches.iter_mut().for_each(|m| m.separation_arcsec = round(m.separation_arcsec));
            Out::Classes(object, classes)
        }
        other => other,
    };
    out.into_iter().map(|(out, count)| (one(out), count)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn all_answers_equal_their_references_at_every_moment(alerts in alerts(), rows in rows()) {
        let mut updates: Vec<Update<In>> = alerts.iter().map(|(a, t, r)| (In::Alert(a.clone()), *t, *r)).collect();
        updates.extend(rows.iter().map(|(row, t, r)| (In::Row(row.clone()), *t, *r)));
        for communication in communications() {
            let came = run(communication, &updates, |input| {
                use differential_dataflow::AsCollection;
                let alerts = input.clone().flat_map(|(input, t, r)| if let In::Alert(alert) = input { Some((alert, t, r)) } else { None });
                let rows = input.flat_map(|(input, t, r)| if let In::Row(row) = input { Some((row, t, r)) } else { None });
                let counted = monitor(alerts.clone()).map(Out::Counter);
                let summaries = objects(alerts).summaries;
                let places = places(&summaries);
                let found = matches(&places, rows.as_collection());
                let classes = classify(&summaries, found.clone()).classes;
                let per_class = counts(classes.clone()).map(Out::Counted);
                let associated = associations(&places, RADIUS_ARCSEC).map(|(object, a)| Out::Association(object, a));
                let classes = classes.map(|(object, classes)| Out::Classes(object, classes));
                let found = found.map(|(object, found)| Out::Match(object, found));
                let all = [per_class.inner, associated.inner, classes.inner, found.inner];
                all.into_iter().fold(counted.inner, |all, more| all.concat(more)).as_collection()
            });
            for moment in moments() {
                let raw: Vec<_> = at(&alerts, moment).into_iter().collect();
                let there: Vec<_> = raw.iter().filter(|(_, count)| *count > 0).map(|(alert, _)| alert.clone()).collect();
                let rows: Vec<_> = at(&rows, moment).into_keys().collect();
                prop_assert_eq!(rounded(at(&came, moment)), rounded(expected(&there, &rows, &raw)), "at {}", moment);
            }
        }
    }
}
