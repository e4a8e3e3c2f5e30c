//! What a run of services needs: catalogues, history and desks, begun before the graph is.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::beats::Seat as DrawSeat;
use fink_dataflow::budget::Budget;
use fink_dataflow::late::{Close, LateSeat};
use fink_dataflow::table::Archive;
use fink_sinks::archive::committer::Committer;
use fink_sinks::archive::routes::Routes;
use fink_sinks::outputs::{Outputs, OutputsOptions, OutputsParts};
use fink_sources::archive::Replay;
use fink_sources::archive::history::History;
use fink_sources::queue::Inlet;

use super::bound::{Bound, BoundParts, Moved, Told, pass_rows};
use super::catalogues::feed::{Feed, Piece};
use super::catalogues::register::Register;
use super::catalogues::{CatalogueFile, Names};
use super::desk::{Reader, Seat, Stand, open};
use super::fetch::Fetch;
use super::roll::{Roller, Rolling};
use super::tables::Tables;
use super::{Chosen, Service, ServiceParts};
use crate::own::Own;
use crate::own::lines::{self, Line};

/// Threads that read the history.
const HISTORY_THREADS: usize = 2;
/// History rolls in in larger pieces than a backlog: nobody waits for a part of it, and each roll takes two ticks.
const HISTORY_CLOSE: Close = Close { messages: 1_000_000, ticks: 30 };
/// A change of a catalogue, or of a table of one's own, rolls in when it is whole, and then at once.
const WHOLE_CLOSE: Close = Close { messages: usize::MAX, ticks: u64::MAX };

/// What services are told to do.
#[derive(Clone, Debug, Default)]
pub struct ServicesRun {
    /// Which run.
    pub chosen: Chosen,
    /// The catalogues that the configuration declares.
    pub catalogues: Vec<CatalogueFile>,
    /// How near to each other two surveys' objects are one, in arcseconds.
    pub associate_arcsec: f64,
    /// How many archived alerts wait before their light rows are rolled.
    pub light_rows: u64,
    /// Light curves of objects that were last seen before the latest so many nights leave memory; `None`: none does.
    pub memory_nights: Option<usize>,
    /// How often what changed of the answers is written to tables; `None`: never.
    pub tables_every: Option<Duration>,
    /// Services of one's own that run beside them.
    pub own: Vec<Own>,
    /// Why none runs although some were asked for.
    pub left_out: Option<String>,
}

impl ServicesRun {
    /// Leaves them out, for this reason.
    pub fn leave_out(&mut self, why: String) {
        (self.chosen, self.left_out) = (Chosen::default(), Some(why));
        self.own.clear();
    }

    /// What is told where they were left out.
    #[must_use]
    pub fn none(&self) -> Option<Stand> {
        self.left_out.clone().map(|why| Stand { left_out: Some(why), ..Stand::default() })
    }

    /// The names of all that run.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.chosen.names().into_iter().chain(self.own.iter().map(|own| own.name().to_owned())).collect()
    }
}

/// Services that are about to run, or run.
pub struct Services {
    run: ServicesRun,
    /// Who asks them.
    pub reader: Reader,
    /// What is known of the catalogues.
    pub register: Register,
    /// The archive's place.
    pub archive: String,
    seats: Mutex<Vec<Option<Seat>>>,
    history: Option<(History, Inlet<AlertBatch>)>,
    thread: Mutex<Option<JoinHandle<()>>>,
    outputs: Option<Outputs>,
    rolling: Mutex<Option<Rolling>>,
    catalogues: Option<Inlet<Piece>>,
    lines: Option<Inlet<Piece<Line>>>,
    bound: Option<(Told, Inlet<Piece<Moved>>)>,
    feeds: Mutex<Vec<Feed>>,
}

/// How a worker draws from any late source.
struct Draws<'d> {
    budget: &'d Budget,
    yields: &'d Arc<dyn Fn() -> bool + Send + Sync>,
    index: usize,
}

impl Draws<'_> {
    fn seat<I: Clone>(&self, inlet: &I, close: Close) -> LateSeat<I> {
        let seat = DrawSeat { inlet: inlet.clone(), budget: self.budget.clone(), index: self.index };
        LateSeat { seat, close, yields: self.yields.clone() }
    }
}

/// How long the tables of answers may take at the end; what is not published then is at the next start.
const TABLES_PATIENCE: Duration = Duration::from_secs(20);

impl Services {
    /// Begins to read the catalogues, and the history: all that the archive holds now. To be called when the archive is fenced,
    /// and before anything new is read.
    ///
    /// # Errors
    /// When the archive can't be read, or no thread can be had.
    pub fn start(
        run: &ServicesRun,
        archive: &Archive,
        workers: usize,
        committer: &Committer,
        routes: &Arc<Routes>,
    ) -> anyhow::Result<Self> {
        let replay = Replay::history(archive).context("the services can't read the archive")?;
        let mut services = Self::over(run, archive, (replay, None), workers)?;
        let knows = services.reader.clone();
        let outputs = run.tables_every.map(|every| {
            let (archive, committer, routes) = (archive.clone(), committer.clone(), Arc::clone(routes));
            let complete = Box::new(move |moment| knows.knows_all(moment));
            let options = OutputsOptions { every, ..OutputsOptions::default() };
            Outputs::start(OutputsParts { archive, committer, routes, workers, complete }, options)
        });
        services.outputs = outputs.transpose().context("no thread for the tables of answers")?;
        Ok(services)
    }

    /// As [`Services::start`], with a history that was opened already, read at so many alerts a second at most, and without
    /// tables: those are the archive's writer's.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn over(run: &ServicesRun, archive: &Archive, (replay, rate): (Replay, Option<f64>), workers: usize) -> anyhow::Result<Self> {
        let register = Register::default();
        let looked_up = run.chosen.has(Service::Crossmatch);
        let feed = looked_up.then(|| Feed::start(run.catalogues.clone(), archive, &register)).transpose()?;
        let (feed, catalogues) = feed.unzip();
        let has_tables = run.own.iter().any(|own| !own.tables().is_empty());
        let (tables, lines) = has_tables.then(|| lines::start(&run.own, &register)).transpose()?.unzip();
        let bound = run.memory_nights.filter(|_| run.chosen.has(Service::Objects));
        let bound = bound.map(|nights| Bound::new(nights, replay.light().cloned()));
        let (history, thread) = if replay.rows() > 0 {
            let total = replay.rows();
            tracing::info!(alerts = total, "services read the archive's history, beside what comes now");
            let (history, inlet, thread) = match bound.as_ref().map(Bound::told) {
                None => History::start(replay, HISTORY_THREADS, rate)?,
                Some(told) => {
                    let passes = move || replay.passes(pass_rows(total));
                    History::start_in_passes(passes, total, HISTORY_THREADS, rate, move |rows| told.pass(rows))?
                }
            };
            (Some((history, inlet)), Some(thread))
        } else {
            (None, None)
        };
        let (reader, seats) = open(workers, history.as_ref().map(|(history, _)| history.clone()), looked_up.then(|| register.clone()));
        reader.fetches(Fetch::new(archive));
        let bound = bound.map(|bound| {
            let told = bound.told();
            bound.start(archive, reader.clone()).map(|(feed, inlet)| (feed, (told, inlet)))
        });
        let (bound, moves) = bound.transpose()?.unzip();
        let seats = Mutex::new(seats.into_iter().map(Some).collect());
        let (thread, run, archive) = (Mutex::new(thread), run.clone(), archive.place());
        let feeds = Mutex::new(feed.into_iter().chain(tables).chain(bound).collect());
        Ok(Self {
            run,
            reader,
            register,
            archive,
            seats,
            history,
            thread,
            catalogues,
            lines,
            bound: moves,
            feeds,
            outputs: None,
            rolling: Mutex::default(),
        })
    }

    /// Rolls light rows from now on, once the history is known.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn roll(&self, roller: Roller) -> std::io::Result<()> {
        let rolling = roller.start(self.run.light_rows, self.reader.clone())?;
        *self.rolling.lock().unwrap_or_else(PoisonError::into_inner) = Some(rolling);
        Ok(())
    }

    /// A worker's parts.
    pub fn parts(&self, index: usize, budget: &Budget, yields: &Arc<dyn Fn() -> bool + Send + Sync>) -> ServiceParts {
        let seat = self.seats.lock().unwrap_or_else(PoisonError::into_inner)[index].take().expect("each worker is built once");
        let draws = Draws { budget, yields, index };
        let history = self.history.as_ref().map(|(_, inlet)| draws.seat(inlet, HISTORY_CLOSE));
        let catalogues = self.catalogues.as_ref().map(|inlet| draws.seat(inlet, WHOLE_CLOSE));
        let lines = self.lines.as_ref().map(|inlet| draws.seat(inlet, WHOLE_CLOSE));
        let tables = self.outputs.as_ref().map(|outputs| Tables { seat: outputs.seat(index), names: self.names() });
        let bound = self.bound.as_ref().map(|(told, inlet)| {
            let seat = Some(draws.seat(inlet, HISTORY_CLOSE));
            BoundParts { seat, told: told.clone() }
        });
        let ServicesRun { chosen, associate_arcsec, own, .. } = self.run.clone();
        ServiceParts { chosen, associate_arcsec, history, catalogues, own, lines, seat, tables, bound, durable: None }
    }

    /// How far the answers and their tables are.
    #[must_use]
    pub fn stand(&self) -> Stand {
        let away = self.bound.as_ref().map(|(told, _)| told.stand());
        Stand { tables: self.outputs.as_ref().map(Outputs::stand), away, ..self.reader.stand() }
    }

    /// Publishes what is final, when the workers have ended.
    pub fn publish(&self) {
        if self.outputs.as_ref().is_some_and(|outputs| !outputs.stop(TABLES_PATIENCE)) {
            tracing::warn!("the tables of answers are not up to date: the next start publishes the difference");
        }
    }

    /// What the catalogues are called.
    #[must_use]
    pub fn names(&self) -> Names {
        Names::new(&self.register, self.run.chosen.has(Service::Classify))
    }

    /// The services of one's own that run.
    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.run.own.iter().map(Own::name)
    }

    /// Which run.
    #[must_use]
    pub fn chosen(&self) -> &Chosen {
        &self.run.chosen
    }

    /// Reads no more history, and no more catalogues; rolls no more.
    pub fn stop(&self) {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(Feed::stop);
        if let Some(rolling) = self.rolling.lock().unwrap_or_else(PoisonError::into_inner).take() {
            rolling.stop();
        }
        if let Some((history, _)) = &self.history {
            history.stop();
        }
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic has been reported by the hook.
            let _ = thread.join();
        }
    }
}
