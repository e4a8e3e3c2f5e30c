//! What an object is taken for, when that changed, and why.
//!
//! | module | what it is |
//! |---|---|
//! | [`rules`] | Fink's classification of one alert |
//! | [`history`] | the classes of an object's alerts, in order of observation |
//!
//! ```text
//!  summaries (runs of alerts) ──┬─► classes by the rules alone ──────────────────────┬─► classes ─► counts
//!                               │                                                   │
//!                               └─► join ─► minus these, plus those with the match ─┘
//!  matches ─► matches by object ──┘
//! ```
//!
//! Most objects have no match, and nothing is kept for them here: their classes follow from their summaries as these pass.
//!
//! The Moment at which a class changed is that of the update which changed it: the classes as they were are retracted
//! there, and as they are inserted.

pub mod history;
pub mod rules;

use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use fink_dataflow::detection::{ObjectId, SurveyId};
use serde::{Deserialize, Serialize};
use timely::progress::Timestamp;

use crate::crossmatch::Match;
use crate::objects::{ByObject, Summary};
use history::{Classes, classes};

/// What stands at an object's place: by catalogue, nearest first.
pub type Matches = Box<[Match]>;

/// What objects are taken for.
pub struct Classified<'s, T: Timestamp + Lattice> {
    /// The matches of those objects that have any.
    pub matches: ByObject<'s, T, Matches>,
    /// The classes of all objects, one an object.
    pub classes: VecCollection<'s, T, (ObjectId, Classes), isize>,
}

/// Alerts of a night that are taken for something.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Counted {
    /// The survey.
    pub survey: SurveyId,
    /// The observing night, in days since 1970.
    pub night: i32,
    /// The class.
    pub class: Arc<str>,
}

/// All matches of each object that has any.
pub fn by_object<'s, T: Timestamp + Lattice + Ord>(matches: VecCollection<'s, T, (ObjectId, Match), isize>) -> ByObject<'s, T, Matches> {
    matches.arrange_by_key_named("matches").reduce_abelian::<_, ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, _, _>(
        "matches by object",
        |_object, found, output| {
            let found: Matches = found.iter().filter(|(_, count)| *count > 0).map(|(found, _)| (*found).clone()).collect();
            output.extend((!found.is_empty()).then_some((found, 1)));
        },
        |buffer, object, updates| {
            buffer.clear();
            buffer.extend(updates.drain(..).map(|(matches, time, diff)| ((*object, matches), time, diff)));
        },
    )
}

/// Keeps the classes of all objects.
pub fn classify<'s, T: Timestamp + Lattice + Ord>(
    summaries: &ByObject<'s, T, Summary>,
    matches: VecCollection<'s, T, (ObjectId, Match), isize>,
) -> Classified<'s, T> {
    let matches = by_object(matches);
    let alone = summaries.clone().flat_map_ref(|object, summary| Some((*object, classes(&summary.runs, &[]))));
    // A match takes the place of what would have been without one.
    let changed = summaries.clone().join_core(matches.clone(), |object, summary, found| {
        [(*object, classes(&summary.runs, found), 1), (*object, classes(&summary.runs, &[]), -1)]
    });
    let changed = changed.explode(|(object, classes, diff)| Some(((object, classes), diff)));
    Classified { matches, classes: alone.concat(changed).consolidate() }
}

/// How many alerts of each survey and night are taken for what: a linear count, which late data and new catalogues correct.
pub fn counts<'s, T: Timestamp + Lattice + Ord>(
    classes: VecCollection<'s, T, (ObjectId, Classes), isize>,
) -> VecCollection<'s, T, Counted, isize> {
    let alerts = classes.flat_map(|(object, classes)| {
        let survey = object.survey;
        classes.history.into_iter().map(|change| (change.class(), change.nights)).flat_map(move |(class, nights)| {
            nights.into_iter().map(move |(night, alerts)| (Counted { survey, night, class: Arc::clone(&class) }, alerts))
        })
    });
    alerts.explode(|(counted, alerts)| Some((counted, isize::try_from(alerts).unwrap_or(isize::MAX)))).consolidate()
}
