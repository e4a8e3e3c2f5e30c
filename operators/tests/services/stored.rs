//! Light rows that were stored, and left out what an object has anyway, come to the same objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use fink_dataflow::alerts::Place;
use fink_dataflow::detection::{LightAlert, ObjectId, Point};
use fink_operators::objects::{Entry, curve};
use fink_operators::surveys::light::Unlit;
use fink_operators::surveys::light_rows;
use fink_operators::surveys::stored::{Stored, rows, schema, store, thin};
use proptest::prelude::*;

use crate::world::alerts;

fn place(alert: &LightAlert) -> Place {
    let address = &alert.detection.address;
    Place { log: Arc::clone(address.log.log()), offset: address.offset, record: address.record, timestamp_ms: Some(5), received_us: 7 }
}

/// The light curves that alerts come to, and which of their points are alerts of their own.
fn curves(alerts: &[LightAlert]) -> BTreeMap<ObjectId, Vec<(Point, bool)>> {
    let mut entries: BTreeMap<ObjectId, Vec<Entry>> = BTreeMap::new();
    for alert in alerts {
        let of = entries.entry(alert.object).or_default();
        of.push(Entry::own(alert.detection.clone()));
        of.extend(alert.history.iter().copied().map(Entry::repeated));
    }
    let curve = |mut entries: Vec<Entry>| {
        entries.sort();
        curve(entries.iter()).into_iter().map(|entry| (entry.point, entry.own.is_some())).collect()
    };
    entries.into_iter().map(|(object, entries)| (object, curve(entries))).collect()
}

fn sorted(mut alerts: Vec<LightAlert>) -> Vec<LightAlert> {
    alerts.iter_mut().for_each(|alert| alert.night = Some(20_000));
    alerts.sort();
    alerts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_come_back_as_they_were_and_thinned_ones_to_the_same_curves(updates in alerts(), dark in prop::collection::vec(0i64..5, 0..3)) {
        let came: Vec<LightAlert> = updates.into_iter().filter(|(_, _, diff)| *diff > 0).map(|(alert, _, _)| alert).collect();
        let mut all: Vec<Stored> = came.iter().map(|alert| Stored { place: place(alert), row: Ok(alert.clone()) }).collect();
        let log = Arc::new(fink_dataflow::Log::new("test", "dark", 0, 0));
        all.extend(dark.iter().map(|offset| {
            let place = Place { log: log.clone(), offset: *offset, record: 0, timestamp_ms: None, received_us: 7 };
            Stored { row: Err(Unlit { place: place.clone(), night: Some(20_000), reason: "it names no object" }), place }
        }));
        let schema = schema();
        let whole = store(&schema, &all, Some(20_000)).unwrap();
        let (lit, unlit) = light_rows(&whole);
        prop_assert_eq!(unlit.iter().map(|u| u.place.offset).collect::<Vec<_>>(), dark.clone());
        prop_assert_eq!(sorted(lit), sorted(came.clone()));
        // Their places tell the rows that have something from those that have nothing.
        let again = rows(&whole);
        prop_assert_eq!(again.len(), all.len());
        prop_assert!(again.iter().zip(&all).all(|(a, b)| a.row.is_ok() == b.row.is_ok() && a.place.offset == b.place.offset));

        thin(&mut all);
        let thinned = store(&schema, &all, Some(20_000)).unwrap();
        let (lit, unlit) = light_rows(&thinned);
        prop_assert_eq!((lit.len(), unlit.len()), (came.len(), dark.len()));
        prop_assert!(lit.is_sorted_by_key(|alert| (alert.object, alert.detection.point.mjd_tai)));
        let points = |alerts: &[LightAlert]| alerts.iter().map(|alert| alert.history.len()).sum::<usize>();
        prop_assert!(points(&lit) <= points(&came));
        prop_assert_eq!(curves(&lit), curves(&came));
    }
}
