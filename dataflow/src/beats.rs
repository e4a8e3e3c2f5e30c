//! The clock as an operator, and the live source that follows it.
//!
//! Worker 0 runs the [`Clock`] and broadcasts its beats inside the dataflow; no other clock decides anything. All inputs
//! that only control are disconnected from the outputs, so data frontiers depend on the sources' own capabilities alone.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::scheduling::{Activator, SyncActivator};

use crate::budget::{Budget, Claim};
use crate::clock::{Beat, Clock};
use crate::moment::Moment;
use crate::ports::{Drawn, Inlet, Load};
use crate::ticks::{Metronome, Ticks};

/// Messages that a live operator hands on in one activation, before it lets other operators run.
const MESSAGES_PER_TURN: usize = 512;

/// The end of a run, told from another thread.
#[derive(Clone, Default)]
pub struct End {
    inner: Arc<EndInner>,
}

#[derive(Default)]
struct EndInner {
    come: AtomicBool,
    sleepers: Mutex<Vec<SyncActivator>>,
}

impl End {
    /// Has `sleeper` woken when the end comes.
    fn wake(&self, sleeper: SyncActivator) {
        self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper);
    }

    /// Lets it come.
    pub fn come(&self) {
        self.inner.come.store(true, Ordering::Release);
        for sleeper in self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A worker that is gone needs no waking.
            let _ = sleeper.activate();
        }
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.inner.come.load(Ordering::Acquire)
    }
}

/// What the beats need to know beside the asks.
pub struct Pace {
    /// The Moment to go on after.
    pub last: Moment,
    /// Where ticks come from.
    pub ticks: Ticks,
    /// Probe behind the live data: how far the graph has closed.
    pub closed: ProbeHandle<Moment>,
    /// Probe on the late sources' own streams; empty where there are none.
    pub late: ProbeHandle<Moment>,
    /// Ends the beats.
    pub end: End,
}

/// Issues beats on worker 0 and broadcasts them. `asks` are the epochs that late sources ask to close.
pub fn beats<'s>(scope: Scope<'s, Moment>, asks: StreamVec<'s, Moment, u32>, pace: Pace) -> StreamVec<'s, Moment, Beat> {
    let mut builder = OperatorBuilder::new("beats".to_owned(), scope);
    let mut asks = builder.new_input_connection(asks, Exchange::new(|_: &u32| 0), []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Beat>>>::from(output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(Rc::clone(&address));
    pace.end.wake(scope.worker().sync_activator_for(address.to_vec()));
    let mut metronome = Metronome::new(pace.ticks, scope.worker().sync_activator_for(address.to_vec()));
    again.activate();
    let first = scope.index() == 0;
    builder.build(move |mut capabilities| {
        // The capability stays at the minimum: nothing depends on the frontier of a control stream.
        let mut capability = capabilities.pop().filter(|_| first);
        let mut clock = Clock::after(pace.last);
        move |_frontiers| {
            let mut say = Vec::new();
            asks.for_each(|_, epochs| say.extend(epochs.drain(..).filter_map(|epoch| clock.ask(epoch))));
            let Some(held) = &capability else { return };
            let (periods, wait) = metronome.periods();
            let closed = closed_tick(&pace.closed, clock.now());
            let left = |epoch| pace.late.with_frontier(|frontier| frontier.iter().all(|moment| moment.epoch > epoch));
            say.extend(clock.due(periods, closed, left));
            wait.into_iter().for_each(|wait| again.activate_after(wait));
            if !say.is_empty() {
                output.activate().session(held).give_iterator(say.into_iter());
            }
            // After the first beat at the earliest: what waits in the inlets is still drawn, at the last Moment.
            if pace.end.has_come() {
                capability = None;
            }
        }
    });
    stream.broadcast()
}

/// The first tick that the graph has not closed for live data; the present one where nothing is open.
fn closed_tick(probe: &ProbeHandle<Moment>, now: Moment) -> u64 {
    probe.with_frontier(|frontier| {
        frontier.iter().filter(|moment| moment.epoch <= now.epoch).map(|moment| moment.tick).min().unwrap_or(now.tick)
    })
}

/// Where and how much a live operator draws.
pub struct Seat<I> {
    /// Where chunks come from; shared by all workers of the process, so that work spreads when logs are fewer than workers.
    pub inlet: I,
    /// The bound on bytes in flight.
    pub budget: Budget,
    /// The worker's index in its process.
    pub index: usize,
}

/// How an operator draws from its seat.
pub(crate) struct Draw<I> {
    seat: Seat<I>,
    again: Activator,
    waker: SyncActivator,
}

/// What a [`Draw`] gave.
pub(crate) enum Given<C> {
    /// A chunk, and the claim for its bytes.
    Chunk((C, Arc<Claim>)),
    /// Nothing: the budget is not open, and wakes the operator when it is.
    Full,
    /// Nothing now; the inlet wakes the operator when there is something.
    Nothing,
    /// Nothing ever again.
    Ended,
}

impl<I> Draw<I> {
    /// Draws for the operator at `address`, and has it activated a first time.
    pub(crate) fn new<C>(scope: Scope<'_, Moment>, address: Rc<[usize]>, seat: Seat<I>) -> Self
    where
        I: Inlet<C>,
    {
        let waker = scope.worker().sync_activator_for(address.to_vec());
        let again = scope.activator_for(address);
        seat.inlet.register(seat.index, waker.clone());
        again.activate();
        Self { seat, again, waker }
    }

    /// The next chunk, while the budget is as `is_open` wants it.
    pub(crate) fn next<C: Load>(&self, is_open: fn(&Budget) -> bool) -> Given<C>
    where
        I: Inlet<C>,
    {
        let Seat { inlet, budget, index } = &self.seat;
        if !is_open(budget) {
            budget.wake(self.waker.clone());
            // Bytes may have come back between the two: then nobody would wake us.
            if is_open(budget) {
                self.again.activate();
            }
            return Given::Full;
        }
        match inlet.draw(*index) {
            Drawn::Chunk(chunk) => {
                let claim = Arc::new(budget.take(chunk.bytes()));
                Given::Chunk((chunk, claim))
            }
            Drawn::Nothing => Given::Nothing,
            Drawn::Ended => Given::Ended,
        }
    }

    /// Has the operator activated once more, after so long.
    pub(crate) fn again(&self, after: Duration) {
        self.again.activate_after(after);
    }
}

/// A live source: enters what it draws at the Moment of the last beat, while the budget is open. It ends when its inlet has.
pub fn live<'s, C: Load>(
    scope: Scope<'s, Moment>,
    beats: StreamVec<'s, Moment, Beat>,
    seat: Seat<impl Inlet<C> + 'static>,
) -> StreamVec<'s, Moment, (C, Arc<Claim>)> {
    let mut builder = OperatorBuilder::new("live".to_owned(), scope);
    let mut beats = builder.new_input_connection(beats, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(C, Arc<Claim>)>>>::from(output);
    let draw = Draw::new::<C>(scope, builder.operator_info().address, seat);
    builder.build(move |mut capabilities| {
        let mut capability: Option<Capability<Moment>> = capabilities.pop();
        move |_frontiers| {
            beats.for_each(|_, beats| {
                for beat in beats.drain(..) {
                    if let Some(capability) = &mut capability {
                        capability.downgrade(&beat.now);
                    }
                }
            });
            // Before its first beat it would enter data at the minimum, before what an earlier run made durable.
            let Some(held) = capability.as_ref().filter(|held| held.time().tick > 0) else { return };
            let (mut drawn, mut turn, mut ended) = (Vec::new(), 0, false);
            while turn < MESSAGES_PER_TURN {
                match draw.next(Budget::open) {
                    Given::Chunk(given) => {
                        turn += given.0.count() + 1;
                        drawn.push(given);
                    }
                    Given::Full | Given::Nothing => break,
                    Given::Ended => {
                        ended = true;
                        break;
                    }
                }
            }
            if turn >= MESSAGES_PER_TURN {
                draw.again(Duration::ZERO);
            }
            if !drawn.is_empty() {
                output.activate().session(held).give_container(&mut drawn);
            }
            if ended {
                capability = None;
            }
        }
    });
    stream
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc;

    use bytes::Bytes;
    use timely::dataflow::operators::{Inspect, Probe};

    use super::*;
    use crate::message::{Chunk, Log, Message};

    fn chunk(offset: i64, bytes: usize) -> Chunk {
        let payload = Some(Bytes::from(vec![7; bytes]));
        let message = Message { offset, timestamp_ms: None, key: None, payload };
        Chunk { log: Arc::new(Log::new("test", "t", 0, 0)), span: offset..offset + 1, messages: vec![message], received_us: 0 }
    }

    /// A queue that is as long as it gets.
    #[derive(Clone, Default)]
    struct Queue {
        state: Arc<Mutex<(VecDeque<Chunk>, Vec<SyncActivator>, bool)>>,
    }

    impl Queue {
        fn push(&self, chunk: Option<Chunk>) {
            let mut state = self.state.lock().expect("no panic");
            state.2 = chunk.is_none();
            state.0.extend(chunk);
            state.1.iter().for_each(|waker| waker.activate().unwrap_or_default());
        }
    }

    impl Inlet for Queue {
        fn register(&self, _index: usize, waker: SyncActivator) {
            self.state.lock().expect("no panic").1.push(waker);
        }
        fn draw(&self, _index: usize) -> Drawn {
            let mut state = self.state.lock().expect("no panic");
            match state.0.pop_front() {
                Some(chunk) => Drawn::Chunk(chunk),
                None if state.2 => Drawn::Ended,
                None => Drawn::Nothing,
            }
        }
    }

    /// Every chunk comes out once, at Moments after `last`, on any number of workers, although the budget holds two at a time.
    fn all_pass(workers: usize) {
        let (seen_to, seen) = mpsc::channel();
        let (queue, budget, end, last) = (Queue::default(), Budget::new(100), End::default(), Moment::new(3, 70));
        let (into, over, bound) = (queue.clone(), end.clone(), budget.clone());
        let feeder = std::thread::spawn(move || {
            (0..500).for_each(|offset| into.push(Some(chunk(offset, 60))));
            into.push(None);
            over.come();
        });
        timely::execute(timely::Config::process(workers), move |worker| {
            let (queue, budget, end, seen_to) = (queue.clone(), bound.clone(), end.clone(), seen_to.clone());
            let probe = ProbeHandle::new();
            worker.dataflow::<Moment, _, _>(|scope| {
                let asks = timely::dataflow::operators::generic::operator::empty(scope);
                let (closed, late) = (probe.clone(), ProbeHandle::new());
                let beats = beats(scope, asks, Pace { last, ticks: Ticks::Every(Duration::from_millis(1)), closed, late, end });
                live(scope, beats, Seat { inlet: queue, budget, index: scope.index() })
                    .inspect_core(move |event| {
                        let Ok((stamp, chunks)) = event else { return };
                        let moment = stamp.iter().copied().max().expect("a chunk has a Moment");
                        chunks.iter().for_each(|(chunk, _)| seen_to.send((moment, chunk.span.start)).expect("seen"));
                    })
                    .probe_with(&probe);
            });
            while worker.step_or_park(None) {}
        })
        .expect("workers start")
        .join()
        .into_iter()
        .for_each(|ended| ended.expect("no worker panics"));
        feeder.join().expect("the feeder ends");
        let mut offsets: Vec<_> = seen.iter().map(|(moment, offset)| (offset, moment)).collect();
        offsets.sort_unstable();
        assert!(offsets.iter().all(|(_, moment)| moment.tick > 70), "{offsets:?}");
        assert_eq!(offsets.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
        assert_eq!(budget.used(), 0);
        assert!(budget.peak() <= 100 + 60 * (workers + 1), "peak {}", budget.peak());
    }

    #[test]
    fn one_worker_draws_all() {
        all_pass(1);
    }

    #[test]
    fn several_workers_share_the_chunks() {
        all_pass(3);
    }
}
