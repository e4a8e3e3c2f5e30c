//! Which objects may leave memory, looked up in a worker's traces a chunk at a time.

use std::collections::BTreeSet;

use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::{BatchCursor, Cursor, cursor_list};
use fink_dataflow::detection::{Address, ObjectId};
use fink_dataflow::{Coverage, Moment};
use fink_operators::objects::{Entry, Summary};
use timely::progress::frontier::AntichainRef;

use super::super::desk::Unready;
use super::super::views::{count, values};
use super::super::{Trace, Traces};

/// Objects that a worker looks at in one turn, and entries of those that leave: about a millisecond.
const OBJECTS: usize = 512;
pub(super) const ENTRIES: usize = 4_096;

/// What a worker found in one turn.
#[derive(Default)]
pub(super) struct Leaving {
    /// Objects that may leave, with their entries and how often each is there.
    pub(super) objects: Vec<(ObjectId, Vec<(Entry, isize)>)>,
    /// The nights of all that it looked at.
    pub(super) nights: BTreeSet<i32>,
    /// Where to go on; `None`: it was the last.
    pub(super) next: Option<ObjectId>,
}

/// Looks at some objects, from one on: those that were last seen before the night `since` may leave.
pub(super) fn leaving(
    traces: &mut Traces,
    at: Moment,
    from: Option<ObjectId>,
    since: Option<i32>,
    light: Option<&Coverage>,
) -> Result<Leaving, Unready> {
    let (Some(summaries), Some(entries)) = (&mut traces.summaries, &mut traces.entries) else { return Ok(Leaving::default()) };
    let Some(batches) = summaries.batches_through(AntichainRef::new(&[])) else { return Err(Unready::Starting) };
    let (mut cursor, batches) = cursor_list(batches);
    if let Some(from) = &from {
        cursor.seek_key(&batches, from);
    }
    let (mut leaving, mut old, mut looked) = (Leaving::default(), Vec::new(), 0);
    while let Some(object) = cursor.get_key(&batches) {
        if looked == OBJECTS {
            leaving.next = Some(*object);
            break;
        }
        looked += 1;
        let mut last = None;
        while let Some(summary) = cursor.get_val(&batches) {
            let summary: &Summary = summary;
            if count::<BatchCursor<Trace<ObjectId, Summary>>>(|each| cursor.map_times(&batches, each), at) > 0 {
                leaving.nights.extend(summary.nights());
                last = summary.nights().max();
            }
            cursor.step_val(&batches);
        }
        if since.is_some_and(|since| last.is_some_and(|last| last < since)) {
            old.push(*object);
        }
        cursor.step_key(&batches);
    }
    let mut taken = 0;
    for object in old {
        if taken > ENTRIES {
            // The rest has its turn next.
            leaving.next = Some(object);
            break;
        }
        let (mut curve, mut stays) = (Vec::new(), false);
        values(entries, &[object], at, |_, seen, count| {
            let entry = Entry::from(seen);
            let is_of = |light: &Coverage| entry.own.as_ref().is_none_or(|own| holds(light, &own.address));
            stays |= entry.is_away() || count < 0 || !light.is_none_or(is_of);
            curve.push((entry, count));
        });
        taken += curve.len();
        if !(stays || curve.is_empty()) {
            leaving.objects.push((object, curve));
        }
    }
    Ok(leaving)
}

fn holds(light: &Coverage, address: &Address) -> bool {
    light.get(address.log.log()).is_some_and(|offsets| offsets.contains(address.offset))
}
