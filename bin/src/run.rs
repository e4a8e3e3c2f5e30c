//! Carries out what was asked: starts the graph, and waits for its end.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use fink_dataflow::beats::{End as BeatsEnd, Seat};
use fink_dataflow::budget::Budget;
use fink_dataflow::late::{Close, LateSeat};
use fink_dataflow::message::Log;
use fink_dataflow::moment::Moment;
use fink_dataflow::post::Post;
use fink_dataflow::table::store;
use fink_dataflow::ticks::Ticks;
use fink_sinks::archive::committer::CommitOptions;
use fink_sinks::archive::compacting::CompactionOptions;
use fink_sinks::archive::memory::Memory;
use fink_sinks::archive::upload::Stuck;
use fink_sinks::archive::writer::{self, Shared, WriterHandle, WriterOptions, WriterThread};
use fink_sinks::outputs::Durable;
use fink_sources::lanes::Lane;
use fink_sources::progress::ReaderState;
use fink_sources::queue::Inlet;
use fink_sources::reader::{Reader, Settings};
use fink_sources::simulator::send::{Summary as Sent, send};
use timely::communication::WorkerGuards;
use timely::worker::Worker;

use crate::careful::{Careful, Deaths};
use crate::cluster::crew::{Begin, Crew, Joined, join};
use crate::cluster::keep::Keep;
use crate::cluster::pulse::Pulse;
use crate::cluster::seat::Seated;
use crate::cluster::{Again, silence};
use crate::gauges::{Frontiers, Gauges};
use crate::graph::{Parts, probed};
use crate::input;
use crate::lags::Lags;
use crate::observed::Observed;
use crate::rundir::Seat as Place;
use crate::serve::{Board, Server, routes};
use crate::services::desk::Desk;
use crate::services::roll::Roller;
use crate::services::start::Services;
use crate::services::tidy;
use crate::session::{Figures, Session};
use crate::settings::{ArchiveRun, Commit, Fence, Lanes, SimulatorRun};
use crate::standing::Trend;

/// The length of a tick of live time.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How much less of a busy machine late data's writers get than live data's.
const LATE_NICE: u8 = 5;
/// What a backlog leaves is larger than this, and not worth writing again: bytes.
const BACKLOG_FILE: u64 = 48 << 20;
/// How often the main thread looks whether it is time to end.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// How often it tells people how things stand.
pub(crate) const REPORT: Duration = Duration::from_secs(1);

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The last figures.
    pub figures: Figures,
    /// Whether all was durable that the topics held at the start.
    pub caught_up: bool,
}

/// Archives what the input gives until the session is asked to stop, or the run's own end.
///
/// # Errors
/// A text for a person, when it can't start or can't go on.
pub fn run_archive(run: &ArchiveRun, session: &Session) -> anyhow::Result<Summary> {
    let began = Instant::now();
    let board = Board::default();
    let serve = |address| Server::start(address, routes(board.clone())).with_context(|| format!("can't listen at {address}"));
    // Answers are of no use if nobody can ask.
    let anywhere = (!run.services.chosen.is_empty()).then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let leads = run.cluster.as_ref().is_none_or(|cluster| cluster.place.leads());
    // Of a cluster one process tells of all.
    let server = run.http.or(anywhere).filter(|_| leads).map(serve).transpose()?;
    if let Some(server) = &server {
        session.serve(server.address(), &run.services.names());
    }
    let pulse = Pulse::start(session.flag())?;
    let joined = match &run.cluster {
        Some(cluster) => {
            session.sit(Place { process: cluster.place.process, processes: cluster.place.processes() });
            let Some(joined) = join(run, &cluster.place, session)? else { return Ok(Summary::default()) };
            Some(joined)
        }
        None => None,
    };
    let Some(graph) = Running::start(run, joined, session)? else { return Ok(Summary::default()) };
    board.answer_by(graph.services.as_deref());
    let mut reported = None;
    let mut trend = Trend::default();
    let mut reader_failed = None;
    loop {
        if let Some(why) = graph.gauges.committer.failed() {
            // Nothing that is open will ever be durable: there is nothing to wait for.
            graph.abandon();
            return Err(anyhow!(why));
        }
        if graph.writer_has_failed() {
            return Err(graph.give_up());
        }
        let progress = graph.reader.progress();
        let (mut figures, caught_up) = graph.gauges.read(&progress);
        graph.lags.note(&progress, run.lanes, graph.crew.as_ref().map_or(0, Crew::behind));
        if reported.is_none_or(|at: Instant| at.elapsed() >= REPORT) {
            figures.standing = Some(graph.gauges.stand(&progress, &mut trend));
            figures.services = graph.services.as_ref().map(|services| services.stand()).or_else(|| run.services.none());
            graph.tell(&mut figures, caught_up);
            session.report(&figures);
            board.publish(&figures);
            if graph.has_moved() {
                pulse.runs();
            }
            reported = Some(Instant::now());
        }
        if let ReaderState::Stopped(why) = &progress.state {
            reader_failed = Some(why.clone());
        }
        let all_caught_up = caught_up && leads && graph.crew.as_ref().is_none_or(Crew::caught_up);
        // Of a cluster one process judges for all.
        let over = leads && (run.end.after.is_some_and(|after| began.elapsed() >= after) || (run.end.caught_up && all_caught_up));
        let told = graph.crew.as_ref().is_some_and(Crew::stopping);
        if told {
            session.stop();
        }
        if over || told || session.stopping() || progress.state == ReaderState::Ended || reader_failed.is_some() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    let crew = graph.crew.clone();
    let (figures, caught_up) = graph.stop()?;
    let caught_up = caught_up && crew.as_ref().is_none_or(|crew| !leads || crew.caught_up());
    drop(server);
    session.report(&figures);
    match reader_failed {
        Some(why) => bail!("reading stopped: {why}"),
        None => Ok(Summary { figures, caught_up }),
    }
}

/// The graph and all its threads.
struct Running {
    gauges: Gauges,
    lags: Lags,
    end: BeatsEnd,
    services: Option<Arc<Services>>,
    reader: Reader,
    writers: Vec<WriterThread>,
    workers: WorkerGuards<()>,
    deaths: Option<Deaths>,
    crew: Option<Crew>,
    last: Moment,
}

impl Running {
    /// Starts all; `None`: it was asked to stop while it waited for others.
    fn start(run: &ArchiveRun, joined: Option<Joined>, session: &Session) -> anyhow::Result<Option<Self>> {
        let archive = store::open(&run.archive, &run.store)?;
        let lags = Lags::default();
        let Some(mut seated) = Seated::take(&archive, commit_options(run, &lags), joined, session)? else { return Ok(None) };
        let joined = seated.joined();
        let Seated { keep, before, routes, now_ms, share, begin, .. } = seated;
        let keeper = keep.keeper(share.map(|_| &before));
        // Before anything new is read: what the archive holds now is the services' history.
        let services = match &keep {
            Keep::Here(committer) if !run.services.chosen.is_empty() => {
                Some(Services::start(&run.services, &archive, run.workers, committer, &routes)?)
            }
            _ => None,
        };
        let services = services.map(Arc::new);
        let input::Opened { source, another, rules } = input::source(run, &*keeper, now_ms, share)?;
        let (book, schemas) = input::schemas(run)?;
        let (deaths, begin) = match begin {
            Some(begin) => (None, begin),
            None => {
                let first = |log: &Log| Some((log.clone(), before.stored(log)?.first_missing(i64::MAX)));
                let firsts: Vec<(Log, i64)> = before.logs.keys().filter_map(first).collect();
                let (deaths, suspects) = Deaths::note(&archive, before.generation, &firsts);
                let (generation, next, suspects) = (before.generation, before.next, suspects.into_iter().collect());
                (Some(deaths), Begin { generation, next, now_ms, suspects })
            }
        };
        let Some(others) = Seated::go(joined, &keep, &routes, &begin, session)? else {
            keep.stop()?;
            return Ok(None);
        };
        let (mesh, crew) = others.unzip();
        let mine = |(log, _): &(Log, _)| share.is_none_or(|share| share.has(&log.topic, log.partition));
        let schemas = Careful::over(schemas, book.clone(), begin.suspects.into_iter().filter(mine).collect());
        let settings = Settings { rules, ..Settings::default() };
        let (reader, inlet, late) = match another.filter(|_| run.lanes == Lanes::Two) {
            Some(open) => {
                let (reader, live, late) = Reader::start_two(source, open, keeper, schemas, settings)?;
                (reader, live, Some(late))
            }
            None => {
                let (reader, inlet) = Reader::start(source, keeper, schemas, settings)?;
                (reader, inlet, None)
            }
        };

        if let (Some(services), Keep::Here(committer)) = (&services, &keep) {
            services.roll(Roller { archive: archive.clone(), committer: committer.clone(), routes: routes.clone() })?;
        }

        // Of a worker's two writers one is busy: a backlog waits for live data, and what live data leaves is small.
        let memory = Memory::new(run.commit.writers_bytes, run.workers);
        let shared = Shared { archive, routes, memory, sink: keep.sink(), stuck: Stuck::default() };
        let mut writers = Writers { generation: before.generation, commit: &run.commit, shared: &shared, threads: Vec::new() };
        let mut handles = Vec::new();
        for worker in 0..run.workers {
            let live = writers.start(worker, &lags, Lane::Live)?;
            let late = late.as_ref().map(|_| writers.start(worker, &lags, Lane::Backlog)).transpose()?;
            handles.push(Mutex::new(Some((live, late))));
        }
        let writers = writers.threads;

        let (budget, end, last) = (Budget::new(run.in_flight_bytes), BeatsEnd::default(), before.moment);
        let (frontiers, observed) = (Arc::new(Mutex::new(Frontiers::after(last))), Observed::default());
        let parts = {
            let (budget, end, yields, services) = (budget.clone(), end.clone(), lags.yields(inlet.clone()), services.clone());
            let observed = observed.clone();
            move |index: usize| {
                let (writer, late_writer) =
                    handles[index].lock().unwrap_or_else(PoisonError::into_inner).take().expect("each worker is built once");
                let seat = |inlet: &Inlet| Seat { inlet: inlet.clone(), budget: budget.clone(), index };
                let late_seat = |inlet| LateSeat { seat: seat(inlet), close: Close::default(), yields: yields.clone() };
                Parts::<Inlet> {
                    seat: seat(&inlet),
                    writer,
                    late: late.iter().map(late_seat).zip(late_writer).collect(),
                    services: services.as_ref().map(|services| services.parts(index, &budget, &yields)),
                    book: book.clone(),
                    observed: observed.clone(),
                    last,
                    ticks: Ticks::Every(TICK),
                    end: end.clone(),
                }
            }
        };
        let (seen, settled, post) = (frontiers.clone(), observed.clone(), crew.as_ref().map(|crew| crew.post.clone()));
        // Workers are numbered over all processes; what they need here, from 0.
        let first = crew.as_ref().map_or(0, |crew| crew.place.process * run.workers);
        let work = move |worker: &mut Worker| {
            post.iter().for_each(|post| post.build(worker));
            let mut probes = probed(worker, parts(worker.index() - first));
            while !probes.durable.done() {
                worker.step_or_park(None);
                probes.desk.iter_mut().for_each(Desk::attend);
                probes.watch.iter_mut().for_each(Durable::note);
                seen.lock().unwrap_or_else(PoisonError::into_inner).note(&probes);
                settled.settle(&probes.durable);
            }
            // All data of all processes is durable: nobody has anything to say any more.
            post.iter().for_each(Post::close);
        };
        let config = config(run.workers, !run.services.chosen.is_empty());
        let workers = match mesh {
            Some(mesh) => mesh.workers(run.workers, config.worker, work).map_err(|error| Again(error.to_string()))?,
            None => timely::execute(config, work).map_err(|error| anyhow!("the workers can't start: {error}"))?,
        };
        if let (Some(crew), Some(cluster)) = (&crew, &run.cluster) {
            silence::watch(crew, &frontiers, cluster.silence)?;
        }
        let leads = deaths.is_some();
        let gauges = Gauges { committer: keep, share, leads, before, budget, stuck: shared.stuck, frontiers, observed };
        Ok(Some(Self { gauges, lags, end, services, reader, writers, workers, deaths, crew, last }))
    }

    /// Adds to the figures what the others said, or says to the one that leads how this one is.
    fn tell(&self, figures: &mut Figures, caught_up: bool) {
        match &self.crew {
            Some(crew) if crew.place.leads() => crew.complete(figures, self.gauges.own()),
            Some(crew) => crew.report(figures, caught_up),
            None => {}
        }
    }

    /// Whether the graph has closed anything yet in this run: all workers of all processes take part.
    fn has_moved(&self) -> bool {
        self.gauges.frontiers.lock().unwrap_or_else(PoisonError::into_inner).live.tick > self.last.tick + 1
    }

    /// Reads no more, and makes durable what was read.
    fn stop(self) -> anyhow::Result<(Figures, bool)> {
        self.crew.iter().for_each(Crew::stop);
        self.reader.stop();
        self.services.iter().for_each(|services| services.stop());
        self.end.come();
        while self.workers.guards().iter().any(|worker| !worker.is_finished()) {
            if let Some(why) = self.gauges.committer.failed() {
                self.abandon();
                return Err(anyhow!(why));
            }
            if self.writer_has_failed() {
                return Err(self.give_up());
            }
            std::thread::sleep(LOOK / 4);
        }
        let progress = self.reader.progress();
        self.reader.join();
        for worker in self.workers.join() {
            worker.map_err(|error| anyhow!("a worker failed: {error}"))?;
        }
        for writer in self.writers {
            writer.join().context("a writer failed")?;
        }
        self.services.iter().for_each(|services| services.publish());
        self.gauges.committer.clone().stop()?;
        Ok(self.gauges.read(&progress))
    }

    /// Whether a writer can't go on.
    fn writer_has_failed(&self) -> bool {
        self.writers.iter().any(WriterThread::has_failed)
    }

    /// Why a writer ended. What did that would do it again: it counts as a death, and the third start looks for the message.
    fn give_up(mut self) -> anyhow::Error {
        let failed = self.writers.iter().position(WriterThread::has_failed).map(|index| self.writers.swap_remove(index));
        let why = failed.and_then(|writer| writer.join().err()).map_or_else(|| anyhow!("it ended too early"), anyhow::Error::from);
        let alone = self.crew.is_none();
        std::mem::forget(self);
        let why = why.context("a writer can't go on; nothing is lost: start again, and what it stumbles over is found and rejected");
        if alone { why } else { Again(format!("{why:#}")).into() }
    }

    /// Leaves all threads to the end of the process.
    fn abandon(self) {
        let Self { deaths, gauges, lags, end, services, reader, writers, workers, crew, last: _ } = self;
        drop(deaths);
        std::mem::forget((gauges, lags, end, services, reader, writers, workers, crew));
    }
}

/// So many workers in this process; with services, they merge what these keep.
pub(crate) fn config(workers: usize, services: bool) -> timely::Config {
    let mut config = timely::Config::process(workers);
    if services {
        tidy::configure(&mut config.worker);
    }
    config
}

fn commit_options(run: &ArchiveRun, lags: &Lags) -> CommitOptions {
    let Commit { compact_bytes, vacuum_after, .. } = &run.commit;
    CommitOptions {
        take_over: run.fence == Fence::TakeOver,
        file_retention: *vacuum_after,
        // A file outlives its time by as much again at the most, and an hour.
        vacuum_every: Some((*vacuum_after).clamp(Duration::from_secs(5), Duration::from_secs(3_600))),
        compaction: compact_bytes.map(|bytes| CompactionOptions {
            enough_bytes: (bytes / 2).min(BACKLOG_FILE),
            whole_bytes: bytes / 2,
            full_bytes: bytes,
            backlog: lags.all.clone(),
            ..CompactionOptions::default()
        }),
        ..CommitOptions::default()
    }
}

/// Starts writers, one a worker and lane.
struct Writers<'r> {
    generation: u64,
    commit: &'r Commit,
    shared: &'r Shared,
    threads: Vec<WriterThread>,
}

impl Writers<'_> {
    fn start(&mut self, worker: usize, lags: &Lags, lane: Lane) -> std::io::Result<WriterHandle> {
        let (backlog, nice) = match lane {
            Lane::Live => (lags.live.clone(), 0),
            Lane::Backlog => (lags.late.clone(), LATE_NICE),
        };
        let Commit { interval, group_bytes, .. } = self.commit;
        let (commit_interval, group_bytes_max) = (*interval, *group_bytes);
        let options = WriterOptions { worker, generation: self.generation, commit_interval, group_bytes_max, backlog, nice };
        let (handle, thread) = writer::start(options, self.shared.clone())?;
        self.threads.push(thread);
        Ok(handle)
    }
}

/// Sends alerts to a Kafka topic until the session is asked to stop, or the run's own end.
///
/// # Errors
/// A text for a person, when it can't start or can't go on.
pub fn run_simulator(run: &SimulatorRun, session: &Session) -> anyhow::Result<Sent> {
    let began = Instant::now();
    let sent = send(&run.feed, &run.options, |so_far| {
        session.report(&Figures { messages: so_far.sent, bytes: so_far.bytes, trouble: so_far.error.clone(), ..Figures::default() });
        let over = session.stopping() || run.end.after.is_some_and(|after| began.elapsed() >= after);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if sent.failed > 0 {
        bail!("{} of {} messages were not taken: {}", sent.failed, sent.sent + sent.failed, sent.error.unwrap_or_default());
    }
    Ok(sent)
}
