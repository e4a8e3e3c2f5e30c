//! What an object is: its light curve, and what follows from it, kept up to date alert by alert.
//!
//! | module | what it is |
//! |---|---|
//! | [`curve`] | which points an object's light curve has: each once, however often it was sent |
//! | [`summary`] | first, last, counts, brightness, rates, colour and place of a light curve |
//! | [`fit`] | a straight line through magnitudes |
//! | [`packed`], [`compact`] | entries, times and counts in few bytes, as they are kept |
//!
//! ```text
//!  light alerts ─► to the object's worker ─► entries by object ─► summaries by object
//!                  (each whole, once)        (the light curves)   (first … colour, runs of alerts for the rules)
//! ```
//!
//! A summary is a function of the set of an object's entries, so late rows, duplicates and retractions are all one: the
//! object is summed up again from what it then has.
//!
//! Entries may leave memory and come back ([`Away`]): one entry then stands for them, and the summary stays as it was, so that
//! nothing that follows from it changes. An object of which more is seen meanwhile is told of; whoever keeps the entries
//! brings them back, and it is summed up again.

pub mod compact;
pub mod curve;
pub mod fit;
pub mod packed;
pub mod summary;

use std::rc::Rc;

use differential_dataflow::batcher::merge::MergeBatcher;
use differential_dataflow::batcher::merge::vec::VecMerger;
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ord_neu::{OrdValBatch, OrdValBuilder};
use differential_dataflow::trace::implementations::spine_fueled::Spine;
use differential_dataflow::trace::implementations::{ContainerChunker, OffsetList, ValBuilder, ValSpine};
use differential_dataflow::{Hashable, VecCollection};
use fink_dataflow::detection::{LightAlert, ObjectId};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concat, Exchange as _, Operator};
use timely::progress::Timestamp;

use compact::{Counts, Times};
pub use curve::{Entry, Own, curve, own_alerts};
use fink_dataflow::detection::Kind;
use packed::Packed;
pub use summary::{Summary, summarise};

/// What is kept by object.
pub type ByObject<'s, T, V> = Arranged<'s, TraceAgent<ValSpine<ObjectId, V, T, isize>>>;

/// How light curves lie in memory.
pub type Curves<T> = (Vec<ObjectId>, Packed, Times<T>, Counts, OffsetList);
/// Light curves by object, over time.
pub type CurveSpine<T> = Spine<Rc<OrdValBatch<Curves<T>>>>;
type CurveBatcher<T> =
    MergeBatcher<ContainerChunker<CurveUpdates<T>>, VecMerger<(ObjectId, Entry), T, isize>, OrdValBuilder<Curves<T>, CurveUpdates<T>>>;
type CurveUpdates<T> = Vec<((ObjectId, Entry), T, isize)>;

/// Light alerts that came or went.
pub type LightAlerts<'s, T> = StreamVec<'s, T, (LightAlert, T, isize)>;

/// The objects.
pub struct Objects<'s, T: Timestamp + Lattice> {
    /// What their light curves are made of; [`curve()`] makes them of it.
    pub entries: Arranged<'s, TraceAgent<CurveSpine<T>>>,
    /// What follows from their light curves, one an object.
    pub summaries: ByObject<'s, T, Summary>,
}

/// Light curves that are not all in memory.
pub struct Away<'s, T: Timestamp + Lattice> {
    /// Entries that leave, and [`Entry::away`] in their place; entries that come back, and it goes. What leaves or comes back of
    /// an object does so at one time, and what leaves is all that was there at a time before that, which was closed.
    pub moves: VecCollection<'s, T, (ObjectId, Entry), isize>,
    /// Is told of objects that are away and of which more came, with their summary as it was, and how many alerts came; perhaps more
    /// than once.
    pub wanted: Box<dyn FnMut(ObjectId, &Summary, usize)>,
}

/// Keeps objects up to date with the alerts.
pub fn objects<'s, T: Timestamp + Lattice + Ord>(alerts: LightAlerts<'s, T>) -> Objects<'s, T> {
    objects_in_part(alerts, None)
}

/// As [`objects`], while some of their light curves are away.
pub fn objects_in_part<'s, T: Timestamp + Lattice + Ord>(alerts: LightAlerts<'s, T>, away: Option<Away<'s, T>>) -> Objects<'s, T> {
    // One row goes to the object's worker, not one for each point of its history.
    let home = Exchange::new(|(alert, _, _): &(LightAlert, T, isize)| alert.object.hashed());
    let entries = alerts.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(home, "Entries", |_capability, _info| {
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                let mut session = output.session(&stamp);
                for (alert, time, diff) in data.flat_map(|container| container.drain(..)) {
                    let object = alert.object;
                    session.give_iterator(Entry::all_of(alert).map(|entry| ((object, entry), time.clone(), diff)));
                }
            });
        }
    });
    let (moves, mut wanted) = away.map(|away| (away.moves, away.wanted)).unzip();
    let entries = match moves {
        Some(moves) => entries.concat(moves.inner.exchange(|((object, _), _, _)| object.hashed())),
        None => entries,
    };
    let entries = arrange_core::<_, _, CurveBatcher<T>, CurveSpine<T>>(entries, Pipeline, "light curves by object", CurveBatcher::new);
    let summaries = entries.clone().reduce_core::<_, ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, _, _>(
        "summaries by object",
        move |object, entries, before: &mut Vec<(Summary, isize)>, changes| {
            // It is the last in their order.
            let summary = if entries.last().is_some_and(|(seen, _)| seen.point.kind == Kind::Away) {
                // What it was summed up to stays; what came since waits for the rest. Where two times meet of which neither knew that
                // it was to leave, each has a summary of its own: that of more alerts.
                let known = before.iter().filter(|(_, count)| *count > 0).map(|(summary, _)| summary);
                let known = known.max_by_key(|summary| (summary.alerts, *summary)).cloned();
                if let (2.., Some(wanted), Some(known)) = (entries.len(), &mut wanted, &known) {
                    wanted(*object, known, own_alerts(entries.iter().map(|(seen, _)| *seen)));
                }
                known
            } else {
                let there: Vec<Entry> = entries.iter().filter(|(_, count)| *count > 0).map(|(seen, _)| Entry::from(*seen)).collect();
                summarise(object.survey, there.iter())
            };
            changes.extend(summary.map(|summary| (summary, 1)));
            changes.extend(before.drain(..).map(|(summary, count)| (summary, -count)));
            consolidate(changes);
        },
        |buffer, object, updates| {
            buffer.clear();
            buffer.extend(updates.drain(..).map(|(summary, time, diff)| ((*object, summary), time, diff)));
        },
    );
    Objects { entries, summaries }
}
