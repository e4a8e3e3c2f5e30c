//! The clock as an operator, and the live source that follows it.
//!
//! Worker 0 runs the [`Clock`] and broadcasts its beats inside the dataflow; no other clock decides anything. All inputs
//! that only control are disconnected from the outputs, so data frontiers depend on the sources' own capabilities alone.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::scheduling::SyncActivator;

use crate::budget::{Budget, Claim};
use crate::clock::{Beat, Clock};
use crate::message::Chunk;
use crate::moment::Moment;

/// Messages that a live operator hands on in one activation, before it lets other operators run.
const MESSAGES_PER_TURN: usize = 512;

/// Wakes operators from other threads, and tells them that the end has come.
#[derive(Clone, Default)]
pub struct Bell {
    inner: Arc<BellInner>,
}

#[derive(Default)]
struct BellInner {
    over: AtomicBool,
    sleepers: Mutex<Vec<SyncActivator>>,
}

impl Bell {
    /// Has `sleeper` woken whenever the bell rings.
    pub fn hang(&self, sleeper: SyncActivator) {
        self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper);
    }

    /// Wakes the first `count` sleepers, in the order in which they came; a worker that is gone is passed over.
    pub fn ring(&self, count: usize) {
        for sleeper in self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter().take(count) {
            let _ = sleeper.activate();
        }
    }

    /// How many sleepers there are.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The end: what hears the bell drops its capabilities when nothing is left to do.
    pub fn end(&self) {
        self.inner.over.store(true, Ordering::Release);
        self.ring(usize::MAX);
    }

    /// Whether the end has come.
    #[must_use]
    pub fn over(&self) -> bool {
        self.inner.over.load(Ordering::Acquire)
    }
}

/// What the beats need to know beside the asks.
pub struct Pace {
    /// The Moment to go on after.
    pub last: Moment,
    /// The length of a tick.
    pub period: Duration,
    /// Probe behind the live data: how far the graph has closed.
    pub closed: ProbeHandle<Moment>,
    /// Probe on the late sources' own streams; empty where there are none.
    pub late: ProbeHandle<Moment>,
    /// Ends the beats; a bell of its own, so that the news of chunks wakes live operators only.
    pub end: Bell,
}

/// Issues beats on worker 0 and broadcasts them. `asks` are the epochs that late sources ask to close.
pub fn beats<'s>(scope: Scope<'s, Moment>, asks: StreamVec<'s, Moment, u32>, pace: Pace) -> StreamVec<'s, Moment, Beat> {
    let mut builder = OperatorBuilder::new("beats".to_owned(), scope);
    let mut asks = builder.new_input_connection(asks, Exchange::new(|_: &u32| 0), []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Beat>>>::from(output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(Rc::clone(&address));
    pace.end.hang(scope.worker().sync_activator_for(address.to_vec()));
    again.activate();
    let first = scope.index() == 0;
    builder.build(move |mut capabilities| {
        // The capability stays at the minimum: nothing depends on the frontier of a control stream.
        let mut capability = capabilities.pop().filter(|_| first);
        let mut clock = Clock::after(pace.last);
        let mut next = Instant::now();
        move |_frontiers| {
            let mut say = Vec::new();
            asks.for_each(|_, epochs| say.extend(epochs.drain(..).filter_map(|epoch| clock.ask(epoch))));
            if pace.end.over() {
                capability = None;
            }
            let Some(capability) = &capability else { return };
            let now = Instant::now();
            let periods = if now < next { 0 } else { 1 + u64::try_from((now - next).as_nanos() / pace.period.as_nanos()).unwrap_or(0) };
            let closed = closed_tick(&pace.closed, clock.now());
            let left = |epoch| pace.late.with_frontier(|frontier| frontier.iter().all(|moment| moment.epoch > epoch));
            say.extend(clock.due(periods, closed, left));
            if periods > 0 {
                next += pace.period * u32::try_from(periods).unwrap_or(u32::MAX);
            }
            again.activate_after(next.saturating_duration_since(now));
            if !say.is_empty() {
                output.activate().session(capability).give_iterator(say.into_iter());
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

/// Where a live operator draws its chunks.
#[derive(Clone)]
pub struct Inlet {
    /// The chunks; shared by all workers of the process, so that work spreads when logs are fewer than workers.
    pub chunks: Receiver<Chunk>,
    /// The bound on bytes in flight.
    pub budget: Budget,
    /// Wakes the operator when chunks come.
    pub bell: Bell,
}

/// A live source: enters what it draws at the Moment of the last beat. It ends when the senders of its channel are gone
/// and the channel is empty.
pub fn live<'s>(scope: Scope<'s, Moment>, beats: StreamVec<'s, Moment, Beat>, inlet: Inlet) -> StreamVec<'s, Moment, (Chunk, Arc<Claim>)> {
    let mut builder = OperatorBuilder::new("live".to_owned(), scope);
    let mut beats = builder.new_input_connection(beats, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Chunk, Arc<Claim>)>>>::from(output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(Rc::clone(&address));
    let waker = scope.worker().sync_activator_for(address.to_vec());
    inlet.bell.hang(waker.clone());
    again.activate();
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
                if !inlet.budget.open() {
                    inlet.budget.wake(waker.clone());
                    // Bytes may have come back between the two: then nobody would wake us.
                    if inlet.budget.open() {
                        again.activate();
                    }
                    break;
                }
                match inlet.chunks.try_recv() {
                    Ok(chunk) => {
                        turn += chunk.messages.len() + 1;
                        let claim = Arc::new(inlet.budget.take(chunk.bytes()));
                        drawn.push((chunk, claim));
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        ended = true;
                        break;
                    }
                }
            }
            if turn >= MESSAGES_PER_TURN {
                again.activate();
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
    use std::sync::mpsc;

    use bytes::Bytes;
    use timely::dataflow::operators::{Inspect, Probe};

    use super::*;
    use crate::message::{Log, Message};

    fn chunk(offset: i64, bytes: usize) -> Chunk {
        let payload = Some(Bytes::from(vec![7; bytes]));
        let message = Message { offset, timestamp_ms: None, key: None, payload };
        Chunk { log: Arc::new(Log::new("test", "t", 0, 0)), span: offset..offset + 1, messages: vec![message], received_us: 0 }
    }

    /// Every chunk comes out once, at Moments after `last`, on any number of workers, although the budget holds two at a time.
    fn all_pass(workers: usize) {
        let (send, receive) = crossbeam_channel::bounded(4);
        let (seen_to, seen) = mpsc::channel();
        let (budget, bell, last) = (Budget::new(100), Bell::default(), Moment::new(3, 70));
        let (inlet, ring, end) = (Inlet { chunks: receive, budget: budget.clone(), bell: bell.clone() }, bell, Bell::default());
        let over = end.clone();
        let feeder = std::thread::spawn(move || {
            for offset in 0..500 {
                send.send(chunk(offset, 60)).expect("the workers outlive the feeder");
                ring.ring(1);
            }
            drop(send);
            ring.end();
            over.end();
        });
        timely::execute(timely::Config::process(workers), move |worker| {
            let (inlet, end, seen_to) = (inlet.clone(), end.clone(), seen_to.clone());
            let probe = ProbeHandle::new();
            worker.dataflow::<Moment, _, _>(|scope| {
                let asks = timely::dataflow::operators::generic::operator::empty(scope);
                let (closed, late) = (probe.clone(), ProbeHandle::new());
                let beats = beats(scope, asks, Pace { last, period: Duration::from_millis(1), closed, late, end });
                live(scope, beats, inlet)
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
