//! The graph, as one drawing.
//!
//! ```text
//!            ┌────────────── asks ◄──────────────┐
//!            ▼                                   │
//!  clock ─► beats ─┬─► live ─► decode ─┬─► archive ─► durable    at (e, now)
//!                  │    ▲       once   │             │
//!                  │   inlet           │             │
//!                  ├─► late ─► decode ─┼─► archive ─► durable    at (e + 1, now); one for each late source
//!                  │    ▲              │             │
//!                  │   inlet           ▼             │
//!                  ├─► history ─────► services ─► answers        at (e + 1, now); what the archive held before, if services run
//!                  │    ▲              ▲
//!                  │   inlet           │
//!                  └─► catalogues ─────┘                         at (e + 1, now); their rows as they change, if they are looked up; own tables too
//!                       ▲
//!                      inlet      (a source's thread each; a writer's thread each, and one committer)
//! ```
//!
//! This file only wires: what the boxes do is told where they are. Late data has a writer of its own, so that a live commit
//! waits for no late file; it is durable as its files close, and part of maintained answers when its epoch has rolled in.
//! The services' own part is drawn in [`services`](mod@crate::services); where none runs, nothing of it is built.

use std::sync::Arc;

use fink_dataflow::Moment;
use fink_dataflow::beats::{End, Pace, Seat, beats, live};
use fink_dataflow::late::{LateSeat, Lates};
use fink_dataflow::ports::Inlet;
use fink_dataflow::ticks::Ticks;
use fink_operators::decode::SchemaBook;
use fink_operators::decode::decode;
use fink_sinks::archive::operator::archive;
use fink_sinks::archive::writer::WriterHandle;
use fink_sinks::outputs::Durable;
use fink_sources::lanes::Lane;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{ConnectLoop, Feedback, Probe};
use timely::worker::Worker;

use crate::observed::Observed;
use crate::services::desk::Desk;
use crate::services::{ServiceParts, services};

/// What a worker needs to run the graph.
pub struct Parts<I> {
    /// Where live chunks are drawn, and how many bytes of them.
    pub seat: Seat<I>,
    /// The writer of live data.
    pub writer: WriterHandle,
    /// The late sources: where each draws, and its writer.
    pub late: Vec<(LateSeat<I>, WriterHandle)>,
    /// The services, if any run.
    pub services: Option<ServiceParts>,
    /// The schemas that messages do not carry.
    pub book: Arc<SchemaBook>,
    /// Learns the times of observation.
    pub observed: Observed,
    /// The latest Moment that an earlier run made durable.
    pub last: Moment,
    /// Where ticks come from.
    pub ticks: Ticks,
    /// Ends the beats.
    pub end: End,
}

/// Where the graph stands.
pub struct Probes {
    /// Behind the decoder of live data.
    pub live: ProbeHandle<Moment>,
    /// On the late sources' own streams.
    pub late: ProbeHandle<Moment>,
    /// Behind the archive: what is durable.
    pub durable: ProbeHandle<Moment>,
    /// Where the worker answers for the services; it must be attended to.
    pub desk: Option<Desk>,
    /// Tells the tables of answers what is durable; it must be attended to.
    pub watch: Option<Durable>,
}

/// Builds the graph on a worker; the probe tells what is durable.
pub fn build<I: Inlet + 'static>(worker: &mut Worker, parts: Parts<I>) -> ProbeHandle<Moment> {
    probed(worker, parts).durable
}

/// As [`build`], with all probes.
pub fn probed<I: Inlet + 'static>(worker: &mut Worker, parts: Parts<I>) -> Probes {
    let Parts { seat, writer, late: sources, services: chosen, book, observed, last, ticks, end } = parts;
    worker.dataflow_named::<Moment, _, _>("fink", |scope| {
        let (closed, left, durable) = (ProbeHandle::new(), ProbeHandle::new(), ProbeHandle::new());
        let (asking, asks) = scope.feedback::<Vec<u32>>(());
        let beats = beats(scope, asks, Pace { last, ticks, closed: closed.clone(), late: left.clone(), end });

        let messages = live(scope, beats.clone(), seat);
        let decoded = observed.watch(decode(messages, book.clone()), Lane::Live).probe_with(&closed);
        let mut all_decoded = vec![decoded.clone()];
        archive(decoded, writer).probe_with(&durable);

        let mut lates = Lates::new(scope, beats, left.clone());
        for (seat, writer) in sources {
            let decoded = observed.watch(decode(lates.draw(seat), book.clone()), Lane::Backlog);
            all_decoded.push(decoded.clone());
            archive(decoded, writer).probe_with(&durable);
        }

        let seat_of = |parts: &ServiceParts| parts.tables.as_ref().map(|tables| tables.seat.clone());
        let watch = chosen.as_ref().and_then(seat_of).map(|seat| seat.durable(durable.clone()));
        let desk = chosen.map(|mut parts| {
            parts.durable = Some(durable.clone());
            services(scope, parts.draw(all_decoded, &mut lates), parts)
        });
        lates.asks().connect_loop(asking);
        Probes { live: closed, late: left, durable, desk, watch }
    })
}
