//! The graph of services that follow an archive from a process of their own.
//!
//! ```text
//!            ┌────────── asks ◄──────────┐
//!            ▼                           │
//!  clock ─► beats ─┬─► live ───► services ─► answers    at (e, now): what each entry of the ledger added
//!                  │    ▲           ▲
//!                  │  follower      │
//!                  └─► history ─────┘                   at (e + 1, now): what the archive held when it was opened
//!                       ▲
//!                     replay
//! ```
//!
//! It is the archive's graph ([`crate::graph`]) without decoding, writers and commits. An entry's alerts are entered together by
//! one worker, entry by entry: so an answer knows all of an entry or nothing, and none whose elders it does not know.

use fink_dataflow::Moment;
use fink_dataflow::alerts::Decoded;
use fink_dataflow::beats::{End, Pace, Seat, beats, live};
use fink_dataflow::late::Lates;
use fink_dataflow::ticks::Ticks;
use fink_sources::archive::follow::{Added, Following};
use fink_sources::queue::Inlet;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{ConnectLoop, Feedback, Inspect, Probe};
use timely::worker::Worker;

use crate::services::desk::Desk;
use crate::services::{ServiceParts, services};

/// What a worker needs to run the graph.
pub struct Parts {
    /// Where the alerts of entries are drawn.
    pub seat: Seat<Inlet<Added>>,
    /// Who is told from which Moment on an entry's alerts are there.
    pub following: Following,
    /// The services.
    pub services: ServiceParts,
    /// The Moment to go on after.
    pub last: Moment,
    /// Where ticks come from.
    pub ticks: Ticks,
    /// Ends the beats.
    pub end: End,
}

/// Where the graph stands.
pub struct Probes {
    /// Behind what follows the ledger.
    pub live: ProbeHandle<Moment>,
    /// Where the worker answers; it must be attended to.
    pub desk: Desk,
}

/// Builds the graph on a worker.
pub fn build(worker: &mut Worker, parts: Parts) -> Probes {
    let Parts { seat, following, services: mut chosen, last, ticks, end } = parts;
    worker.dataflow_named::<Moment, _, _>("fink services", |scope| {
        let (closed, left) = (ProbeHandle::new(), ProbeHandle::new());
        let (asking, asks) = scope.feedback::<Vec<u32>>(());
        let beats = beats(scope, asks, Pace { last, ticks, closed: closed.clone(), late: left.clone(), end });

        let added = live::<Added>(scope, beats.clone(), seat).inspect_core(move |event| {
            let Ok((stamp, entries)) = event else { return };
            let Some(moment) = stamp.iter().copied().max() else { return };
            entries.iter().for_each(|(added, _)| following.entered(moment, added));
        });
        let alerts =
            added.map(|(added, claim)| Decoded { alerts: added.alerts, claims: vec![claim], ..Decoded::default() }).probe_with(&closed);

        let mut lates = Lates::new(scope, beats, left);
        let desk = services(scope, chosen.draw(vec![alerts], &mut lates), chosen);
        lates.asks().connect_loop(asking);
        Probes { live: closed, desk }
    })
}
