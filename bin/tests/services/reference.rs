//! What the answers should be, computed anew from a list of alerts.

use std::collections::{BTreeMap, BTreeSet};

use fink::services::views::{Counts, Object};
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::detection::{LightAlert, ObjectId, Real};
use fink_operators::catalogue::Row;
use fink_operators::classify::history::classes;
use fink_operators::crossmatch::sky::separation_arcsec;
use fink_operators::crossmatch::{Association, Place, match_of};
use fink_operators::monitor::{Counter, counters, unlit_counters};
use fink_operators::objects::{Entry, curve, summarise};
use fink_operators::surveys::light_rows;

/// All answers at once.
#[derive(Debug, PartialEq)]
pub struct Reference {
    pub objects: BTreeMap<ObjectId, Object>,
    pub nights: BTreeMap<Option<i32>, Counts>,
}

/// The answers of these batches, with these rows of catalogues.
pub fn reference(batches: &[AlertBatch], rows: &[Row], associate_arcsec: f64) -> Reference {
    let (mut alerts, mut counted) = (Vec::new(), BTreeMap::<(Option<i32>, Counter), isize>::new());
    for batch in batches {
        let (lit, unlit) = light_rows(batch);
        unlit.iter().flat_map(unlit_counters).for_each(|counter| *counted.entry(counter).or_insert(0) += 1);
        lit.iter().flat_map(counters).for_each(|counter| *counted.entry(counter).or_insert(0) += 1);
        alerts.extend(lit);
    }
    let mut objects = objects(alerts, rows);
    let places: Vec<_> = objects.values().filter_map(place).collect();
    for object in objects.values_mut() {
        let Some(own) = place(object) else { continue };
        for other in places.iter().filter(|other| other.object.survey != own.object.survey) {
            let separation = separation_arcsec((own.ra_deg.0, own.dec_deg.0), (other.ra_deg.0, other.dec_deg.0));
            if separation <= associate_arcsec {
                object.associations.push(Association { separation_arcsec: Real(separation), other: other.object });
            }
        }
        object.associations.sort();
    }
    let mut nights = BTreeMap::<Option<i32>, Counts>::new();
    for ((night, counter), count) in counted {
        nights.entry(night).or_default().counters.push((counter, count));
    }
    let mut by_class = BTreeMap::new();
    for object in objects.values() {
        for change in object.classes.iter().flat_map(|classes| &classes.history) {
            for (night, alerts) in &change.nights {
                *by_class.entry((*night, (object.id.survey, change.class()))).or_insert(0) += *alerts as isize;
            }
        }
    }
    for ((night, class), count) in by_class {
        nights.entry(Some(night)).or_default().classes.push((class, count));
    }
    Reference { objects, nights }
}

fn objects(alerts: Vec<LightAlert>, rows: &[Row]) -> BTreeMap<ObjectId, Object> {
    let mut entries = BTreeMap::<ObjectId, BTreeSet<Entry>>::new();
    for alert in alerts {
        let object = entries.entry(alert.object).or_default();
        object.insert(Entry::own(alert.detection));
        object.extend(alert.history.into_iter().map(Entry::repeated));
    }
    let one = |(id, entries): (ObjectId, BTreeSet<Entry>)| {
        let summary = summarise(id.survey, entries.iter()).expect("it has entries");
        let curve = curve(entries.iter()).into_iter().map(|entry| (entry.point, entry.own.is_some())).collect();
        let mut object = Object { id, summary, classes: None, associations: Vec::new(), curve };
        let place = place(&object);
        let mut matches: Vec<_> = place.iter().flat_map(|place| rows.iter().filter_map(move |row| match_of(place, row))).collect();
        matches.sort();
        object.classes = Some(classes(&object.summary.runs, &matches));
        (id, object)
    };
    entries.into_iter().map(one).collect()
}

fn place(object: &Object) -> Option<Place> {
    let position = object.summary.position?;
    Some(Place { object: object.id, ra_deg: position.ra_deg, dec_deg: position.dec_deg, mjd_tai: position.mjd_tai })
}

/// The objects of a cone, nearest first.
pub fn cone(reference: &Reference, centre: (f64, f64), radius_arcsec: f64) -> Vec<(f64, ObjectId)> {
    let near = reference.objects.values().filter_map(place).filter_map(|place| {
        let separation = separation_arcsec(centre, (place.ra_deg.0, place.dec_deg.0));
        (separation <= radius_arcsec).then_some((separation, place.object))
    });
    let mut near: Vec<_> = near.collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    near
}
