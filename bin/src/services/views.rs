//! What is read of the arrangements at a Moment.
//!
//! A trace holds updates; what a key has at a Moment is the sum of those that are not after it. So late data that has not rolled
//! in yet stands in the same trace and is not seen.

use std::collections::HashMap;
use std::sync::Arc;

use differential_dataflow::trace::cursor::{BatchCursor, BatchVal, Cursor, cursor_list};
use differential_dataflow::trace::{Navigable, TraceReader};
use fink_dataflow::Moment;
use fink_dataflow::detection::{ObjectId, Point};
use fink_operators::classify::history::{Classes, classes};
use fink_operators::crossmatch::sky::{cells, within_arcsec};
use fink_operators::crossmatch::{Association, Place};
use fink_operators::monitor::Counter;
use fink_operators::objects::{Entry, Summary, curve, own_alerts, summarise};
use timely::order::PartialOrder;
use timely::progress::frontier::AntichainRef;

use super::desk::{Lease, Reader, Unready};
use super::fetch::Known;
use super::{Class, Traces};

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which.
    pub id: ObjectId,
    /// What follows from its light curve.
    pub summary: Summary,
    /// What stands there and what it is taken for; none where neither is looked for.
    pub classes: Option<Classes>,
    /// Other surveys' objects at its place, nearest first.
    pub associations: Vec<Association>,
    /// Its light curve, in order of observation, and which points are alerts of their own; empty unless asked for.
    pub curve: Vec<(Point, bool)>,
}

/// An object as a worker holds it; and where its light curve is away, what of it is not. Then the summary is of when it left.
type Held = (Object, Option<Vec<Entry>>);

/// The counts of a night.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Alerts by counter.
    pub counters: Vec<(Counter, isize)>,
    /// Alerts by class.
    pub classes: Vec<(Class, isize)>,
}

/// Whether the light curve is wanted too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// Yes.
    Whole,
    /// No.
    None,
}

/// An object by its id; `None`: it is not known.
///
/// # Errors
/// When a worker can't answer.
pub async fn object(reader: &Reader, lease: &Lease, id: ObjectId, wanted: Curve) -> Result<Option<Object>, Unready> {
    let at = lease.moment;
    let Some((mut object, away)) = reader.ask(&id, move |traces| view(traces, id, at, wanted)).await? else { return Ok(None) };
    if let Some(here) = away {
        let mut entries = reader.fetch(id, Known::of(&object.summary, own_alerts(here.iter().map(Into::into)))).await?;
        entries.extend(here);
        object.curve = told(entries.iter());
        if let Some(summary) = summarise(id.survey, entries.iter()) {
            object.classes = object.classes.map(|known| classes(&summary.runs, &known.matches));
            object.summary = summary;
        }
    }
    Ok(Some(object))
}

fn told<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<(Point, bool)> {
    curve(entries).into_iter().map(|entry| (entry.point, entry.own.is_some())).collect()
}

/// The objects within a radius (arcseconds) of a place, nearest first, with their distance; at most `most`.
///
/// # Errors
/// When a worker can't answer.
pub async fn cone(
    reader: &Reader,
    lease: &Lease,
    centre: (f64, f64),
    radius_arcsec: f64,
    most: usize,
) -> Result<Vec<(f64, Object)>, Unready> {
    let at = lease.moment;
    let mut touched = Vec::new();
    cells(centre.0, centre.1, radius_arcsec, |cell| touched.push(cell));
    // A cursor goes forward only.
    touched.sort_unstable();
    touched.dedup();
    let touched: Arc<[u64]> = touched.into();
    let near = reader.ask_all(move |traces| {
        let mut near: Vec<(f64, ObjectId)> = Vec::new();
        if let Some(places) = &mut traces.places {
            values(places, &touched, at, |_, place: &Place, _| {
                let separation = within_arcsec(centre, (place.ra_deg.0, place.dec_deg.0), radius_arcsec);
                near.extend(separation.map(|separation| (separation, place.object)));
            });
        }
        near
    });
    let mut near: Vec<_> = near.await?.into_iter().flatten().collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    near.truncate(most);
    // Each worker is asked once: one that is busy makes the whole wait once.
    let ids: Arc<[ObjectId]> = near.iter().map(|(_, id)| *id).collect();
    let seen = reader.ask_all(move |traces| ids.iter().filter_map(|id| view(traces, *id, at, Curve::None)).collect::<Vec<_>>());
    let mut seen: HashMap<ObjectId, Object> = seen.await?.into_iter().flatten().map(|(object, _)| (object.id, object)).collect();
    Ok(near.into_iter().filter_map(|(separation, id)| Some((separation, seen.remove(&id)?))).collect())
}

/// The counts of a night (days since 1970; `None`: alerts without a night). Visits are counted only where they are asked for.
///
/// # Errors
/// When a worker can't answer.
pub async fn counts(reader: &Reader, lease: &Lease, night: Option<i32>) -> Result<Counts, Unready> {
    let at = lease.moment;
    let counters = reader.ask(&night, move |traces| {
        let mut counters = Vec::new();
        if let Some(trace) = &mut traces.counters {
            values(trace, &[night], at, |_, counter, count| counters.push((counter.clone(), count)));
        }
        counters
    });
    let counters = counters.await?;
    let Some(night) = night else { return Ok(Counts { counters, classes: Vec::new() }) };
    let classes = reader.ask(&night, move |traces| {
        let mut classes = Vec::new();
        if let Some(trace) = &mut traces.classes {
            values(trace, &[night], at, |_, class, count| classes.push((class.clone(), count)));
        }
        classes
    });
    Ok(Counts { counters, classes: classes.await? })
}

/// The nights that have alerts, in order; `None` stands for alerts without a night.
///
/// # Errors
/// When a worker can't answer.
pub async fn nights(reader: &Reader, lease: &Lease) -> Result<Vec<Option<i32>>, Unready> {
    let at = lease.moment;
    let nights = reader.ask_all(move |traces| traces.counters.as_mut().map_or(Vec::new(), |trace| keys(trace, at)));
    let mut nights: Vec<_> = nights.await?.into_iter().flatten().collect();
    nights.sort_unstable();
    Ok(nights)
}

fn view(traces: &mut Traces, id: ObjectId, at: Moment, wanted: Curve) -> Option<Held> {
    let mut summary = None;
    values(traces.summaries.as_mut()?, &[id], at, |_, found: &Summary, _| summary = Some(found.clone()));
    let summary = summary?;
    let mut associations = Vec::new();
    if let Some(trace) = &mut traces.associations {
        values(trace, &[id], at, |_, association, _| associations.push(association.clone()));
    }
    let classes = traces.matches.as_mut().map(|trace| {
        let mut matches = Vec::new();
        values(trace, &[id], at, |_, found, _| matches.extend_from_slice(found));
        classes(&summary.runs, &matches)
    });
    let mut entries = Vec::new();
    if let (Curve::Whole, Some(trace)) = (wanted, &mut traces.entries) {
        values(trace, &[id], at, |_, entry, _| entries.push(Entry::from(entry)));
    }
    // It is the last in their order.
    let away = entries.pop_if(|last| last.is_away()).map(|_| std::mem::take(&mut entries));
    Some((Object { id, summary, classes, associations, curve: told(entries.iter()) }, away))
}

/// Calls `each` with all that these keys, which are in order, have at a Moment, and how often.
pub(crate) fn values<K, Tr>(trace: &mut Tr, wanted: &[K], at: Moment, mut each: impl FnMut(&K, BatchVal<'_, Tr>, isize))
where
    K: Ord,
    Tr: TraceReader<Time = Moment, Batch: Navigable>,
    BatchCursor<Tr>: for<'a> Cursor<Key<'a> = &'a K, Time = Moment, Diff = isize>,
{
    let Some(batches) = trace.batches_through(AntichainRef::new(&[])) else { return };
    let (mut cursor, batches) = cursor_list(batches);
    for key in wanted {
        cursor.seek_key(&batches, key);
        if cursor.get_key(&batches) != Some(key) {
            continue;
        }
        while let Some(value) = cursor.get_val(&batches) {
            let count = count::<BatchCursor<Tr>>(|each| cursor.map_times(&batches, each), at);
            if count != 0 {
                each(key, value, count);
            }
            cursor.step_val(&batches);
        }
    }
}

/// The keys that have anything at a Moment.
fn keys<K, Tr>(trace: &mut Tr, at: Moment) -> Vec<K>
where
    K: Ord + Clone,
    Tr: TraceReader<Time = Moment, Batch: Navigable>,
    BatchCursor<Tr>: for<'a> Cursor<Key<'a> = &'a K, Time = Moment, Diff = isize>,
{
    let mut keys = Vec::new();
    let Some(batches) = trace.batches_through(AntichainRef::new(&[])) else { return keys };
    let (mut cursor, batches) = cursor_list(batches);
    while let Some(key) = cursor.get_key(&batches) {
        let mut there = false;
        while !there && cursor.val_valid(&batches) {
            there = count::<BatchCursor<Tr>>(|each| cursor.map_times(&batches, each), at) != 0;
            cursor.step_val(&batches);
        }
        if there {
            keys.push(key.clone());
        }
        cursor.step_key(&batches);
    }
    keys
}

/// How often a value is there at a Moment, of its updates.
pub(crate) fn count<C: Cursor<Time = Moment, Diff = isize>>(
    updates: impl FnOnce(&mut dyn FnMut(C::TimeGat<'_>, C::DiffGat<'_>)),
    at: Moment,
) -> isize {
    let mut count = 0;
    updates(&mut |time, diff| count += if C::owned_time(time).less_equal(&at) { C::owned_diff(diff) } else { 0 });
    count
}
