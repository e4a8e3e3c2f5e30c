//! What came: linear counters, which agree with the archive's to the last alert.
//!
//! Every row counts, duplicates among them, as in the archive. What a row adds does not depend on any other, so that nothing
//! is kept but the sums, and a row taken back takes back what it added.

use std::collections::HashMap;
use std::hash::Hash;

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

/// What alerts are counted by.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Counter {
    /// A partition of a topic of a source.
    Partition(LogRef),
    /// A survey's observing night, in days since 1970; none where the alert has no time, or an absurd one.
    Night(SurveyId, Option<i32>),
    /// A survey's visit.
    Visit(SurveyId, i64),
    /// A survey's band.
    Band(SurveyId, Band),
}

/// What an alert is counted under.
pub fn counters(alert: &LightAlert) -> [Counter; 4] {
    let survey = alert.object.survey;
    [
        Counter::Partition(alert.detection.address.log.clone()),
        Counter::Night(survey, alert.night),
        Counter::Visit(survey, alert.visit),
        Counter::Band(survey, alert.detection.point.band),
    ]
}

/// Counts alerts: the collection holds each counter as often as there are alerts.
pub fn monitor<'s, T: Timestamp + Lattice + Ord + Hash>(alerts: LightAlerts<'s, T>) -> VecCollection<'s, T, Counter, isize> {
    let sums = alerts.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Count", |_capability, _info| {
        // Added up where they are, so that a batch sends a few sums and not four rows an alert.
        let mut sums: HashMap<(Counter, T), isize> = HashMap::new();
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                for container in data {
                    for (alert, time, diff) in container.iter() {
                        for counter in counters(alert) {
                            sums.entry((counter, time.clone())).or_insert(0).plus_equals(diff);
                        }
                    }
                }
                let sums = sums.drain().filter(|(_, sum)| *sum != 0);
                output.session(&stamp).give_iterator(sums.map(|((counter, time), sum)| (counter, time, sum)));
            });
        }
    });
    sums.as_collection().consolidate()
}
