//! Light rows as a stream.

use fink_dataflow::Moment;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::detection::LightAlert;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::light_rows;
use crate::monitor::{Counted, unlit_counters};
use crate::objects::LightAlerts;

/// Batches of alerts as light rows, each at the Moment at which it came; and the counters of alerts that have no light row.
///
/// `batches` tells what one item of the stream holds; the item is dropped before the next is looked at.
pub fn light<'s, D: Clone + 'static>(
    items: StreamVec<'s, Moment, D>,
    batches: impl Fn(&D) -> &[AlertBatch] + 'static,
) -> (LightAlerts<'s, Moment>, StreamVec<'s, Moment, (Counted, Moment, isize)>) {
    let mut builder = OperatorBuilder::new("Light".to_owned(), items.scope());
    let mut items = builder.new_input(items, Pipeline);
    let (lit, alerts) = builder.new_output();
    let mut lit = OutputBuilder::<_, CapacityContainerBuilder<Vec<(LightAlert, Moment, isize)>>>::from(lit);
    let (unlit, counters) = builder.new_output();
    let mut unlit = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Counted, Moment, isize)>>>::from(unlit);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_frontiers| {
            let (mut lit, mut unlit) = (lit.activate(), unlit.activate());
            items.for_each_stamp(|capability, data| {
                // Any Moment of the stamp is one that the data may have.
                let Some(moment) = capability.stamp().iter().copied().max() else { return };
                let mut rows = lit.session(&capability);
                let mut counters = Vec::new();
                for item in data.flat_map(|container| container.drain(..)) {
                    for batch in batches(&item) {
                        let (alerts, without) = light_rows(batch);
                        rows.give_iterator(alerts.into_iter().map(|alert| (alert, moment, 1)));
                        counters.extend(without.iter().flat_map(unlit_counters).map(|counted| (counted, moment, 1)));
                    }
                }
                if !counters.is_empty() {
                    unlit.session(&capability).give_iterator(counters.into_iter());
                }
            });
        }
    });
    (alerts, counters)
}
