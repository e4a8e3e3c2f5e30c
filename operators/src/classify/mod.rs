//! What an object is taken for, when that changed, and why.
//!
//! | module | what it is |
//! |---|---|
//! | [`rules`] | Fink's classification of one alert |
//! | [`history`] | the classes of an object's alerts, in order of observation |
//!
//! ```text
//!  summaries (runs of alerts) ─┐
//!                              ├─► evidence by object ─► classes by object ─► counts by survey, night and class
//!  matches ────────────────────┘
//! ```
//!
//! The Moment at which a class changed is that of the update which changed it: the classes as they were are retracted
//! there, and as they are inserted.

pub mod history;
pub mod rules;

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use fink_dataflow::detection::{ObjectId, SurveyId};
use serde::{Deserialize, Serialize};
use timely::progress::Timestamp;

use crate::catalogue::CatalogueId;
use crate::crossmatch::Match;
use crate::objects::summary::Run;
use crate::objects::{ByObject, Summary};
use history::{Classes, classes};

/// What is known of an object that its class depends on.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// Its alerts, as the rules see them.
    Runs(Box<[Run]>),
    /// A catalogue's row at its place.
    Match(Match),
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

/// Keeps the classes of all objects. `types`: the catalogues whose types are classes, those that count most first.
pub fn classify<'s, T: Timestamp + Lattice + Ord>(
    summaries: &ByObject<'s, T, Summary>,
    matches: VecCollection<'s, T, (ObjectId, Match), isize>,
    types: &[CatalogueId],
) -> ByObject<'s, T, Classes> {
    let types: Rc<[CatalogueId]> = types.into();
    let runs = summaries.clone().flat_map_ref(|object, summary| Some((*object, Evidence::Runs(summary.runs.clone()))));
    let evidence = runs.concat(matches.map(|(object, found)| (object, Evidence::Match(found))));
    evidence.arrange_by_key_named("evidence by object").reduce_abelian::<_, ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, _, _>(
        "classes by object",
        move |_object, evidence, output| {
            output.extend(classes(evidence.iter().filter(|(_, count)| *count > 0).map(|(e, _)| *e), &types).map(|c| (c, 1)));
        },
        |buffer, object, updates| {
            buffer.clear();
            buffer.extend(updates.drain(..).map(|(classes, time, diff)| ((*object, classes), time, diff)));
        },
    )
}

/// How many alerts of each survey and night are taken for what: a linear count, which late data and new catalogues correct.
pub fn counts<'s, T: Timestamp + Lattice + Ord>(classes: &ByObject<'s, T, Classes>) -> VecCollection<'s, T, Counted, isize> {
    let alerts = classes.clone().flat_map_ref(|object, classes| {
        let survey = object.survey;
        let changes: Vec<_> = classes.history.iter().map(|change| (change.class(), change.nights.clone())).collect();
        changes.into_iter().flat_map(move |(class, nights)| {
            nights.into_iter().map(move |(night, alerts)| (Counted { survey, night, class: Arc::clone(&class) }, alerts))
        })
    });
    alerts.explode(|(counted, alerts)| Some((counted, isize::try_from(alerts).unwrap_or(isize::MAX)))).consolidate()
}
