//! Runs a dataflow over updates at Moments, and looks at its answers at every Moment.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use differential_dataflow::{ExchangeData, VecCollection};
use fink_dataflow::Moment;
use proptest::prelude::*;
use timely::communication::Config as Communication;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::UnorderedInput;
use timely::order::PartialOrder;
use timely::{Config, WorkerConfig};

/// One change of a collection.
pub type Update<D> = (D, Moment, isize);

/// Moments have epochs below this.
pub const EPOCHS: u32 = 3;
/// Moments have ticks below this.
pub const TICKS: u64 = 4;

/// All Moments that a test looks at.
pub fn moments() -> impl Iterator<Item = Moment> {
    (0..EPOCHS).flat_map(|epoch| (0..TICKS).map(move |tick| Moment::new(epoch, tick)))
}

/// Any Moment: most updates are live, the others late.
pub fn moment() -> impl Strategy<Value = Moment> {
    (0..EPOCHS, 0..TICKS).prop_map(|(epoch, tick)| Moment::new(epoch, tick))
}

/// One, two and four workers, that hand each other values, or bytes.
pub fn communications() -> Vec<Communication> {
    vec![Communication::Thread, Communication::Process(2), Communication::Process(4), Communication::ProcessBinary(2)]
}

/// What a collection holds at a Moment.
pub fn at<D: Ord + Clone>(updates: &[Update<D>], moment: Moment) -> BTreeMap<D, isize> {
    let mut held = BTreeMap::new();
    for (data, _, diff) in updates.iter().filter(|(_, time, _)| time.less_equal(&moment)) {
        *held.entry(data.clone()).or_insert(0) += diff;
    }
    held.retain(|_, count| *count != 0);
    held
}

/// Runs `build` over the updates, spread over the workers and handed over tick by tick, and returns what came out.
pub fn run<I, O, F>(communication: Communication, updates: &[Update<I>], build: F) -> Vec<Update<O>>
where
    I: ExchangeData + Send + Sync,
    O: ExchangeData + Send,
    F: for<'s> Fn(StreamVec<'s, Moment, Update<I>>) -> VecCollection<'s, Moment, O, isize> + Send + Sync + 'static,
{
    let (send, receive) = channel();
    let send = Mutex::new(send);
    let updates: Arc<Vec<Update<I>>> = Arc::new(updates.to_vec());
    let config = Config { communication, worker: WorkerConfig::default() };
    let guards = timely::execute(config, move |worker| {
        let send = send.lock().unwrap().clone();
        let probe = ProbeHandle::new();
        let watch = probe.clone();
        let (mut input, mut capability) = worker.dataflow::<Moment, _, _>(|scope| {
            let (input, stream) = scope.new_unordered_input::<CapacityContainerBuilder<Vec<Update<I>>>>();
            build(stream).inspect(move |update| send.send(update.clone()).unwrap()).probe_with(&watch);
            input
        });
        for tick in 0..TICKS {
            let mine = updates.iter().enumerate().filter(|(index, _)| index % worker.peers() == worker.index());
            // Late rows come along with the live ones of their tick, at a Moment beyond the capability's.
            let now = mine.filter(|(_, (_, time, _))| time.tick == tick).map(|(_, update)| update.clone());
            input.activate().session(&capability).give_iterator(now);
            capability.downgrade(&Moment::new(0, tick + 1));
            // Some ticks are worked off on their own, others together.
            if tick % 2 == 0 {
                while probe.less_than(&Moment::new(0, tick + 1)) {
                    worker.step();
                }
            }
        }
    })
    .unwrap();
    drop(guards);
    receive.into_iter().collect()
}
