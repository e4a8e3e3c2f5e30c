//! The services' part of the graph, and how their answers are read.
//!
//! ```text
//!  decoded: live, late ─┬─► light ─┬─► monitor ─► counters by night
//!  history (archive) ───┘  rows    └─► objects ─┬─► light curves, summaries by object ──────────────┐
//!                                               └─► places by cell ─┬─► associations by object      │
//!     late: catalogues' rows, as they change ──────► cross-match ◄──┘                               │
//!                                                        └─► matches by object ─► classify ◄────────┘
//!                                                                                    └─► classes by night
//!     late: lines of own tables ─► services of one's own, over all of these ─► answers by key
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`desk`] | where questions wait for the worker that holds the answer, and at which Moment it is given |
//! | [`views`] | what is read of the arrangements at a Moment |
//! | [`answers`] | what is told of it, as JSON |
//! | [`catalogues`] | which catalogues there are, and how their rows come into the graph |
//! | [`bound`] | has light curves leave memory of objects that were not seen for long, and come back |
//! | [`fetch`] | reads such from the archive |
//! | [`watch`] | how many alerts came in and were answered for, and how long that took |
//! | [`stand`] | how far all of it is |
//! | [`start`] | what a run of services needs |
//! | [`roll`] | rolls what is archived into the table of light rows, which a later start reads |
//! | [`tables`] | what is kept of it as tables of the archive |
//! | [`tidy`] | how arrangements are merged while nothing comes |
//! | `trial` | a service that misbehaves, for tests |
//!
//! Nothing of the archive depends on any of it: the archive's frontiers do not see the services', and a chunk of messages is
//! let go by both. What services hold in memory is what they answer from.

pub mod answers;
pub mod bound;
pub mod catalogues;
pub mod desk;
pub mod fetch;
pub mod roll;
pub mod stand;
pub mod start;
pub mod tables;
pub mod tidy;
mod trial;
pub mod views;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::{AsCollection, operators::arrange::TraceAgent};
use fink_dataflow::Moment;
use fink_dataflow::alerts::{AlertBatch, Decoded};
use fink_dataflow::budget::Claim;
use fink_dataflow::detection::{ObjectId, SurveyId};
use fink_dataflow::late::{LateSeat, Lates};
use fink_operators::catalogue::Row;
use fink_operators::classify::{self, Matches};
use fink_operators::crossmatch::{Association, Place, associations, matches, places};
use fink_operators::monitor::{Counter, monitor};
use fink_operators::objects::{Away, CurveSpine, Summary, objects_in_part};
use fink_operators::surveys::operator::light;
use fink_sources::queue::Inlet;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Concatenate, Inspect, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use crate::own::answers::Kept;
use crate::own::lines::Line;
use crate::own::{self, Inputs, Own};
use bound::{BoundParts, Moved, Told};
use catalogues::feed::{Piece, changes};
use desk::{Desk, Seat};
use fetch::Known;
use tables::{Count, Tables};

/// A service.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Service {
    /// Counts.
    Monitor,
    /// Light curves and what follows from them.
    Objects,
    /// What stands at the objects' places.
    Crossmatch,
    /// What the objects are taken for.
    Classify,
}

impl Service {
    /// All, with their names and what each does.
    pub const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Objects, "objects", "keeps the light curve of each object, and what follows from it"),
        (Self::Crossmatch, "crossmatch", "finds what stands in catalogues and other surveys at each object's place"),
        (Self::Classify, "classify", "says what each object is taken for, since when, and why"),
        (Self::Monitor, "monitor", "counts alerts by partition, night, band and visit"),
    ];

    /// The services of this name: one, or all of them by `services`; none by any other.
    #[must_use]
    pub fn named(name: &str) -> Vec<Self> {
        Self::ALL.into_iter().filter(|(_, own, _)| name == "services" || name == *own).map(|(service, ..)| service).collect()
    }

    /// What it can't be without.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Monitor | Self::Objects => &[],
            Self::Crossmatch => &[Self::Objects],
            Self::Classify => &[Self::Objects, Self::Crossmatch],
        }
    }
}

/// Which services run: those that were asked for, and those that they need.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chosen(BTreeSet<Service>);

impl Chosen {
    /// These, and what they need.
    #[must_use]
    pub fn of(services: impl IntoIterator<Item = Service>) -> Self {
        Self(services.into_iter().flat_map(|service| service.needs().iter().copied().chain([service])).collect())
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one runs.
    #[must_use]
    pub fn has(&self, service: Service) -> bool {
        self.0.contains(&service)
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        Service::ALL.into_iter().filter(|(service, ..)| self.has(*service)).map(|(_, name, _)| name.to_owned()).collect()
    }
}

/// What a worker's services need.
pub struct ServiceParts {
    /// Which run.
    pub chosen: Chosen,
    /// How near to each other two surveys' objects are one, in arcseconds.
    pub associate_arcsec: f64,
    /// Where the history is drawn; `None`: there is none.
    pub history: Option<LateSeat<Inlet<AlertBatch>>>,
    /// Where changes of catalogues are drawn; `None`: nothing is looked up in any.
    pub catalogues: Option<LateSeat<Inlet<Piece>>>,
    /// Services of one's own; they need all others but the monitor.
    pub own: Vec<Own>,
    /// Where changes of their tables' lines are drawn, if they have any.
    pub lines: Option<LateSeat<Inlet<Piece<Line>>>>,
    /// What has light curves leave memory, if any do.
    pub bound: Option<BoundParts>,
    /// Behind the archive, if this process writes it: what is durable.
    pub durable: Option<ProbeHandle<Moment>>,
    /// Where questions come in.
    pub seat: Seat,
    /// Where answers are kept as tables; `None`: they are not.
    pub tables: Option<Tables>,
}

/// What is kept for readers.
pub type Trace<K, V> = TraceAgent<ValSpine<K, V, Moment, isize>>;

/// Alerts of a night that are taken for something: what, by which survey.
pub type Class = (SurveyId, Arc<str>);

/// All that is kept for readers; what does not run is `None`.
#[derive(Default)]
pub struct Traces {
    /// Counters by night.
    pub counters: Option<Trace<Option<i32>, Counter>>,
    /// Light curves by object.
    pub entries: Option<TraceAgent<CurveSpine<Moment>>>,
    /// Summaries by object.
    pub summaries: Option<Trace<ObjectId, Summary>>,
    /// Places by cell.
    pub places: Option<Trace<u64, Place>>,
    /// Associations by object.
    pub associations: Option<Trace<ObjectId, Association>>,
    /// Matches by object.
    pub matches: Option<Trace<ObjectId, Matches>>,
    /// Classes by night.
    pub classes: Option<Trace<i32, Class>>,
    /// Answers of services of one's own, by service.
    pub own: BTreeMap<String, Box<dyn Kept>>,
}

/// A history as it is drawn.
pub type Past<'s> = StreamVec<'s, Moment, (AlertBatch, Arc<Claim>)>;
/// Changes of catalogues as they are drawn.
pub type Pieces<'s, R = Row> = StreamVec<'s, Moment, (Piece<R>, Arc<Claim>)>;

/// What was drawn for the services.
pub struct Sources<'s> {
    /// All that is decoded, live and late.
    pub decoded: Vec<StreamVec<'s, Moment, Decoded>>,
    /// The history, if there is any.
    pub past: Option<Past<'s>>,
    /// Changes of catalogues.
    pub catalogues: Option<Pieces<'s>>,
    /// Lines of the own services' tables.
    pub lines: Option<Pieces<'s, Line>>,
    /// Entries of light curves that leave memory and come back.
    pub moves: Option<Pieces<'s, Moved>>,
}

impl ServiceParts {
    /// Draws from all late sources that there are, beside what is decoded.
    pub fn draw<'s>(&mut self, decoded: Vec<StreamVec<'s, Moment, Decoded>>, lates: &mut Lates<'s>) -> Sources<'s> {
        Sources {
            decoded,
            past: self.history.take().map(|seat| lates.draw(seat)),
            catalogues: self.catalogues.take().map(|seat| lates.draw(seat)),
            lines: self.lines.take().map(|seat| lates.draw(seat)),
            moves: self.bound.as_mut().and_then(|bound| bound.seat.take()).map(|seat| lates.draw(seat)),
        }
    }
}

/// Builds the services on a worker.
pub fn services<'s>(scope: Scope<'s, Moment>, sources: Sources<'s>, parts: ServiceParts) -> Desk {
    let Sources { decoded, past, catalogues, lines, moves } = sources;
    let ServiceParts { chosen, own, associate_arcsec, seat, tables, bound, durable, .. } = parts;
    let answered = ProbeHandle::new();
    // What comes live is the first.
    let watch = seat.watch();
    let mut decoded = decoded.into_iter();
    let live = decoded.next().map(|live| {
        live.inspect_core(move |event| {
            if let Ok((stamp, decoded)) = event {
                stamp.iter().copied().max().into_iter().for_each(|moment| watch.came(moment, decoded));
            }
        })
    });
    let mut lit: Vec<_> = live.into_iter().chain(decoded).map(|decoded| light(decoded, |decoded: &Decoded| &decoded.alerts)).collect();
    let read = past.map(|past| {
        let (read, past) = seat.note(past).probe();
        lit.push(light(past, |(batch, _claim)| std::slice::from_ref(batch)));
        read
    });
    let (alerts, unlit): (Vec<_>, Vec<_>) = lit.into_iter().unzip();
    let (alerts, unlit) = (trial::trial(scope.concatenate(alerts)), scope.concatenate(unlit));
    let mut counted = Vec::new();
    let mut traces = Traces::default();

    if chosen.has(Service::Monitor) {
        let counters = monitor(alerts.clone()).concat(unlit.as_collection()).arrange_by_key_named("counters by night");
        if tables.is_some() {
            counted.push(counters.clone().as_collection(|night, counter| Count::Counter(*night, counter.clone())));
        }
        counters.stream.probe_with(&answered);
        traces.counters = Some(counters.trace);
    }
    if chosen.has(Service::Objects) {
        let away = bound.zip(moves).map(|(bound, moves)| away(bound.told, moves));
        let objects = objects_in_part(alerts.clone(), away);
        tables.iter().for_each(|tables| tables.objects(&objects.summaries));
        let places = places(&objects.summaries);
        if chosen.has(Service::Crossmatch) {
            let associations = associations(&places, associate_arcsec).arrange_by_key_named("associations by object");
            let pieces = catalogues.unwrap_or_else(|| empty(scope));
            let found = matches(&places, changes(pieces, seat.register()));
            if let Some(tables) = &tables {
                tables.matches(found.clone());
                tables.associations(associations.clone().as_collection(|object, other| (*object, other.clone())));
            }
            let matches = if chosen.has(Service::Classify) {
                let classified = classify::classify(&objects.summaries, found);
                tables.iter().for_each(|tables| tables.classes(classified.classes.clone()));
                let counts = classify::counts(classified.classes.clone());
                let classes =
                    counts.map(|counted| (counted.night, (counted.survey, counted.class))).arrange_by_key_named("classes by night");
                if tables.is_some() {
                    counted.push(classes.clone().as_collection(|night, class| Count::Class(*night, class.clone())));
                }
                classes.stream.probe_with(&answered);
                traces.classes = Some(classes.trace);
                if !own.is_empty() {
                    let lines = changes(lines.unwrap_or_else(|| empty(scope)), seat.register());
                    let (summaries, matches) = (objects.summaries.clone(), classified.matches.clone());
                    let inputs =
                        Inputs { scope, alerts: alerts.clone(), summaries, matches, classes: classified.classes, tables: Vec::new() };
                    traces.own = own::build(&own, &inputs, &lines, &answered);
                }
                classified.matches
            } else {
                classify::by_object(found)
            };
            associations.stream.probe_with(&answered);
            matches.stream.probe_with(&answered);
            (traces.associations, traces.matches) = (Some(associations.trace), Some(matches.trace));
        }
        objects.entries.stream.probe_with(&answered);
        objects.summaries.stream.probe_with(&answered);
        places.stream.probe_with(&answered);
        traces.entries = Some(objects.entries.trace);
        (traces.summaries, traces.places) = (Some(objects.summaries.trace), Some(places.trace));
    }
    if let Some(tables) = tables
        && chosen.has(Service::Monitor)
    {
        tables.counts(differential_dataflow::collection::concatenate(scope, counted));
    }
    Desk::new(scope, seat, traces, answered, read, durable)
}

/// Light curves that leave memory and come back, as the objects know of it.
fn away(told: Told, moves: Pieces<'_, Moved>) -> Away<'_, Moment> {
    let enters = told.clone();
    let moves = moves.inspect_core(move |event| {
        if let Ok((stamp, pieces)) = event {
            let pieces = || pieces.iter().map(|(piece, _claim)| piece);
            stamp.iter().copied().max().into_iter().for_each(|moment| enters.entered(pieces(), moment));
        }
    });
    Away { moves: changes(moves, None), wanted: Box::new(move |object, summary, here| told.wanted(object, Known::of(summary, here))) }
}
