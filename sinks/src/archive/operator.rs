//! The end of the graph: hands what was decoded to the worker's writer, and tells by its output's frontier what is durable.

use std::collections::BTreeMap;
use std::convert::Infallible;

use differential_dataflow::lattice::Lattice;
use fink_dataflow::alerts::Decoded;
use fink_dataflow::moment::Moment;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::writer::WriterHandle;

/// Archives what comes in. No rows come out: a Moment leaves the output's frontier when all that came in at it is durable.
///
/// When the input ends, the writer flushes, so that a shutdown never waits for the commit interval.
pub fn archive<'s>(input: StreamVec<'s, Moment, Decoded>, mut writer: WriterHandle) -> StreamVec<'s, Moment, Infallible> {
    let scope = input.scope();
    let mut builder = OperatorBuilder::new("Archive".to_owned(), scope.clone());
    writer.wake(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    // Connected: timely itself then holds the output back to the input's frontier and to what is retained here.
    let mut input = builder.new_input(input, Pipeline);
    let (_output, durable) = builder.new_output::<Vec<Infallible>>();
    builder.build(move |initial| {
        drop(initial);
        let mut open: BTreeMap<u64, CapabilitySet<Moment>> = BTreeMap::new();
        let mut ended = false;
        move |frontiers| {
            input.for_each_stamp(|capability, data| {
                let moment = capability.stamp().iter().copied().reduce(|a, b| a.join(&b)).unwrap_or_default();
                let number = writer.take(moment, data.flat_map(|batch| batch.drain(..)).collect());
                open.insert(number, capability.retain_stamp(0));
            });
            for numbers in writer.durable() {
                for number in numbers {
                    open.remove(&number).expect("a number becomes durable once, after it was taken");
                }
            }
            if frontiers[0].is_empty() && !ended {
                ended = true;
                writer.flush();
            }
        }
    });
    durable
}
