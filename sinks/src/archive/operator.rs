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
    let mut builder = OperatorBuilder::new("Archive".to_owned(), scope);
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use crossbeam_channel::unbounded;
    use fink_dataflow::table::entry::State;
    use fink_dataflow::table::store::Archive;
    use timely::dataflow::operators::Probe;
    use timely::dataflow::operators::vec::UnorderedInput;

    use super::super::group::Group;
    use super::super::memory::Memory;
    use super::super::routes::Routes;
    use super::super::samples::{batch, decoded, ztf};
    use super::super::writer::{Backlog, Shared, WriterOptions, start};
    use super::*;

    #[test]
    fn a_moment_leaves_the_frontier_when_it_is_durable_and_not_before() {
        let (give, groups) = unbounded::<Group>();
        let shared = Shared {
            archive: Archive::in_memory(),
            routes: Arc::new(Routes::new(&State::default()).expect("an empty state")),
            memory: Memory::new(usize::MAX, 1),
            sink: Arc::new(move |group| give.send(group).expect("the test listens")),
            stuck: Arc::default(),
        };
        // Only the end of the input, or a flush, closes a group.
        let options = WriterOptions {
            worker: 0,
            generation: 1,
            commit_interval: Duration::from_secs(3600),
            group_bytes_max: usize::MAX,
            backlog: Backlog::default(),
            nice: 0,
        };
        let (handle, thread) = start(options, shared).expect("started");
        let handle = Mutex::new(Some(handle));
        timely::execute_directly(move |worker| {
            let handle = handle.lock().expect("not poisoned").take().expect("one worker");
            let (mut input, capability, probe) = worker.dataflow::<Moment, _, _>(|scope| {
                let ((input, capability), stream) = scope.new_unordered_input::<Decoded>();
                let (probe, _) = archive(stream, handle).probe();
                (input, capability, probe)
            });
            let (live, late) = (capability.delayed(&Moment::new(0, 3)), capability.delayed(&Moment::new(1, 2)));
            drop(capability);
            let part = |offset| decoded(vec![batch(&ztf(false), &[offset], 10, |_| Some(20_000))], vec![]);
            input.activate().session(&live).give(part(0));
            input.activate().session(&late).give(part(1));
            drop(live);
            for _ in 0..100 {
                worker.step();
            }
            assert!(probe.less_equal(&Moment::new(0, 3)) && probe.less_equal(&Moment::new(1, 2)), "nothing is durable");
            assert!(groups.is_empty());
            drop(late);
            let group = loop {
                worker.step_or_park(Some(Duration::from_millis(1)));
                if let Ok(group) = groups.try_recv() {
                    break group;
                }
            };
            assert_eq!((group.moment, group.passed.len()), (Moment::new(1, 3), 2));
            for _ in 0..100 {
                worker.step();
            }
            assert!(probe.less_equal(&Moment::new(0, 3)), "closed is not durable");
            (group.done)();
            while !probe.done() {
                worker.step_or_park(None);
            }
        });
        thread.join().expect("ended");
    }
}
