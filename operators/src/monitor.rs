//! What came: linear counters, which agree with the archive's to the last alert.
//!
//! Every row counts, duplicates among them, as in the archive. What a row adds does not depend on any other, so that nothing
//! is kept but the sums, and a row taken back takes back what it added.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use differential_dataflow::difference::Semigroup;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::{AsCollection, VecCollection};
use fink_dataflow::detection::{Band, LightAlert, LogRef, SurveyId};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::progress::Timestamp;

use crate::objects::LightAlerts;
use crate::surveys::light::Unlit;

/// What alerts of a night are counted by. Visits, of which there are many, come last.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Counter {
    /// A partition of a topic of a source: all alerts.
    Partition(LogRef),
    /// The same: those of which the services know nothing more, since they lack an object, an id, a time or a place.
    Unlit(LogRef),
    /// A survey's band.
    Band(SurveyId, Band),
    /// A survey's visit.
    Visit(SurveyId, i64),
}

/// A counter of an observing night (in days since 1970; none where the alert has no time, or an absurd one).
pub type Counted = (Option<i32>, Counter);

/// What an alert is counted under.
pub fn counters(alert: &LightAlert) -> [Counted; 3] {
    let survey = alert.object.survey;
    [
        Counter::Partition(alert.detection.address.log.clone()),
        Counter::Band(survey, alert.detection.point.band),
        Counter::Visit(survey, alert.visit),
    ]
    .map(|counter| (alert.night, counter))
}

/// What an alert without a light row is counted under.
pub fn unlit_counters(unlit: &Unlit) -> [Counted; 2] {
    let log = LogRef::from(Arc::clone(&unlit.place.log));
    [Counter::Partition(log.clone()), Counter::Unlit(log)].map(|counter| (unlit.night, counter))
}

/// Counts alerts: the collection holds each counter as often as there are alerts.
pub fn monitor<'s, T: Timestamp + Lattice + Ord + Hash>(alerts: LightAlerts<'s, T>) -> VecCollection<'s, T, Counted, isize> {
    let sums = alerts.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Count", |_capability, _info| {
        // Added up where they are, so that a batch sends a few sums and not three rows an alert.
        let mut sums: HashMap<(Counted, T), isize> = HashMap::new();
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                for container in data {
                    for (alert, time, diff) in container.iter() {
                        for counted in counters(alert) {
                            sums.entry((counted, time.clone())).or_insert(0).plus_equals(diff);
                        }
                    }
                }
                let sums = sums.drain().filter(|(_, sum)| *sum != 0);
                output.session(&stamp).give_iterator(sums.map(|((counted, time), sum)| (counted, time, sum)));
            });
        }
    });
    sums.as_collection()
}
