//! What a run of services needs: catalogues, history and desks, made before the graph is.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::beats::Seat as DrawSeat;
use fink_dataflow::budget::Budget;
use fink_dataflow::late::{Close, LateSeat};
use fink_dataflow::table::Archive;
use fink_operators::catalogue::{CatalogueId, Row};
use fink_sinks::archive::committer::Committer;
use fink_sinks::archive::routes::Routes;
use fink_sinks::outputs::{Outputs, OutputsOptions, OutputsParts};
use fink_sources::archive::Replay;
use fink_sources::archive::history::History;
use fink_sources::queue::Inlet;

use super::catalogues::{CatalogueFile, Names, load};
use super::desk::{Reader, Seat, Stand, open};
use super::roll::{Roller, Rolling};
use super::tables::Tables;
use super::{Chosen, Service, ServiceParts};

/// Threads that read the history.
const HISTORY_THREADS: usize = 2;
/// History rolls in in larger pieces than a backlog: nobody waits for a part of it, and each roll takes two ticks.
const HISTORY_CLOSE: Close = Close { messages: 1_000_000, ticks: 30 };

/// What services are told to do.
#[derive(Clone, Debug, Default)]
pub struct ServicesRun {
    /// Which run.
    pub chosen: Chosen,
    /// The catalogues.
    pub catalogues: Vec<CatalogueFile>,
    /// Those whose first column is a class, those that count most first.
    pub types: Vec<CatalogueId>,
    /// How near to each other two surveys' objects are one, in arcseconds.
    pub associate_arcsec: f64,
    /// How many archived alerts wait before their light rows are rolled.
    pub light_rows: u64,
    /// How often what changed of the answers is written to tables; `None`: never.
    pub tables_every: Option<Duration>,
    /// Why none runs although some were asked for.
    pub left_out: Option<String>,
}

impl ServicesRun {
    /// Leaves them out, for this reason.
    pub fn leave_out(&mut self, why: String) {
        (self.chosen, self.left_out) = (Chosen::default(), Some(why));
    }

    /// What is told where they were left out.
    #[must_use]
    pub fn none(&self) -> Option<Stand> {
        self.left_out.clone().map(|why| Stand { left_out: Some(why), ..Stand::default() })
    }
}

/// Services that are about to run, or run.
pub struct Services {
    run: ServicesRun,
    /// Who asks them.
    pub reader: Reader,
    seats: Mutex<Vec<Option<(Seat, Vec<Row>)>>>,
    history: Option<(History, Inlet<AlertBatch>)>,
    thread: Mutex<Option<JoinHandle<()>>>,
    outputs: Option<Outputs>,
    rolling: Mutex<Option<Rolling>>,
}

/// How long the tables of answers may take at the end; what is not published then is at the next start.
const TABLES_PATIENCE: Duration = Duration::from_secs(20);

impl Services {
    /// Reads the catalogues, and begins to read the history: all that the archive holds now. To be called when the archive is
    /// fenced, and before anything new is read.
    ///
    /// # Errors
    /// When a catalogue or the archive can't be read.
    pub fn start(
        run: &ServicesRun,
        archive: &Archive,
        workers: usize,
        committer: &Committer,
        routes: &Arc<Routes>,
    ) -> anyhow::Result<Self> {
        let replay = Replay::history(archive).context("the services can't read the archive")?;
        let mut services = Self::over(run, replay, None, workers)?;
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
    /// When a catalogue can't be read, or no thread can be had.
    pub fn over(run: &ServicesRun, replay: Replay, rate: Option<f64>, workers: usize) -> anyhow::Result<Self> {
        let rows = if run.chosen.has(Service::Crossmatch) { load(&run.catalogues)? } else { Vec::new() };
        let (history, thread) = if replay.rows() > 0 {
            tracing::info!(alerts = replay.rows(), "services read the archive's history, beside what comes now");
            let (history, inlet, thread) = History::start(replay, HISTORY_THREADS, rate)?;
            (Some((history, inlet)), Some(thread))
        } else {
            (None, None)
        };
        let (reader, seats) = open(workers, history.as_ref().map(|(history, _)| history.clone()));
        let mut shares: Vec<Vec<Row>> = (0..workers).map(|_| Vec::new()).collect();
        for (index, row) in rows.into_iter().enumerate() {
            shares[index % workers].push(row);
        }
        let seats = Mutex::new(seats.into_iter().zip(shares).map(Some).collect());
        Ok(Self { run: run.clone(), reader, seats, history, thread: Mutex::new(thread), outputs: None, rolling: Mutex::default() })
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
        let (seat, rows) = self.seats.lock().unwrap_or_else(PoisonError::into_inner)[index].take().expect("each worker is built once");
        let history = self.history.as_ref().map(|(_, inlet)| LateSeat {
            seat: DrawSeat { inlet: inlet.clone(), budget: budget.clone(), index },
            close: HISTORY_CLOSE,
            yields: yields.clone(),
        });
        let tables = self.outputs.as_ref().map(|outputs| Tables { seat: outputs.seat(index), names: self.names() });
        let ServicesRun { chosen, types, associate_arcsec, .. } = &self.run;
        let (chosen, types, associate_arcsec) = (chosen.clone(), types.as_slice().into(), *associate_arcsec);
        ServiceParts { chosen, rows, types, associate_arcsec, history, seat, tables }
    }

    /// How far the answers and their tables are.
    #[must_use]
    pub fn stand(&self) -> Stand {
        Stand { tables: self.outputs.as_ref().map(Outputs::stand), ..self.reader.stand() }
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
        Names::new(&self.run.catalogues, self.run.chosen.has(Service::Classify))
    }

    /// Which run.
    #[must_use]
    pub fn chosen(&self) -> &Chosen {
        &self.run.chosen
    }

    /// Reads no more history, and rolls no more.
    pub fn stop(&self) {
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
