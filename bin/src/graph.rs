//! The graph, as one drawing.
//!
//! ```text
//!  clock ─► beats ─┐
//!                  ▼
//!  inlet ───────► live ─► decode ─► archive ─► durable
//!  (a source's thread)    once      (a writer's thread, and one committer)
//! ```
//!
//! This file only wires: what the boxes do is told where they are.

use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::Moment;
use fink_dataflow::beats::{End, Pace, Seat, beats, live};
use fink_dataflow::ports::Inlet;
use fink_operators::decode::SchemaBook;
use fink_operators::decode::decode;
use fink_sinks::archive::operator::archive;
use fink_sinks::archive::writer::WriterHandle;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::operator::empty;
use timely::worker::Worker;

/// What a worker needs to run the graph.
pub struct Parts<I> {
    /// Where chunks are drawn, and how many bytes of them.
    pub seat: Seat<I>,
    /// The schemas that messages do not carry.
    pub book: Arc<SchemaBook>,
    /// The worker's writer.
    pub writer: WriterHandle,
    /// The latest Moment that an earlier run made durable.
    pub last: Moment,
    /// The length of a tick.
    pub tick: Duration,
    /// Ends the beats.
    pub end: End,
}

/// Builds the graph on a worker; the probe tells what is durable.
pub fn build<I: Inlet + 'static>(worker: &mut Worker, parts: Parts<I>) -> ProbeHandle<Moment> {
    let Parts { seat, book, writer, last, tick, end } = parts;
    worker.dataflow_named::<Moment, _, _>("fink", |scope| {
        let (closed, late, durable) = (ProbeHandle::new(), ProbeHandle::new(), ProbeHandle::new());
        let asks = empty(scope);
        let beats = beats(scope, asks, Pace { last, period: tick, closed: closed.clone(), late, end });
        let messages = live(scope, beats, seat);
        let decoded = decode(messages, book).probe_with(&closed);
        archive(decoded, writer).probe_with(&durable);
        durable
    })
}
