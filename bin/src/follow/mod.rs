//! Services as a process of their own: they follow what an archive commits, on this machine or another.
//!
//! They read the archive's ledger and tables, and write neither; the archive knows nothing of them. What they know of a
//! message they know after it is durable, a part of a second later than services in the archive's own process. What they do
//! (die, stand still, eat the machine's memory) is not the archive's trouble.
//!
//! | file | what it is |
//! |---|---|
//! | [`graph`] | the graph, as one drawing |

pub mod graph;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use fink_dataflow::Moment;
use fink_dataflow::beats::{End as BeatsEnd, Seat};
use fink_dataflow::budget::Budget;
use fink_dataflow::table::store;
use fink_sources::archive::follow::{Added, FollowError, Follower, Following};
use fink_sources::archive::{Replay, ReplayError};
use fink_sources::queue::Inlet;
use timely::communication::WorkerGuards;

use crate::run::{LOOK, REPORT, TICK, config};
use crate::serve::{Board, Server, routes};
use crate::services::start::Services;
use crate::session::{Figures, Session};
use crate::settings::FollowRun;
use graph::{Parts, build};

/// How often it is looked whether there is an archive yet.
const WAIT: Duration = Duration::from_secs(1);
/// How much less of a busy machine followers get than others: their niceness is raised by so much.
const NICE: i32 = 5;
/// Entries that wait for the workers before history lets them go first.
const LIVE_WAITS: usize = 2;

/// Answers of an archive that others write, until the session is asked to stop, or the run's own end.
///
/// # Errors
/// A text for a person, when it can't start or can't go on.
pub fn run_services(run: &FollowRun, session: &Session) -> anyhow::Result<Figures> {
    // All threads are this one's children, and as modest: on a machine that both share, the archive goes first.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "runs with the archive's priority");
    }
    let began = Instant::now();
    let (board, server) = listen(run, session)?;
    let over = || session.stopping() || run.after.is_some_and(|after| began.elapsed() >= after);
    let tell = |figures: &Figures| {
        session.report(figures);
        board.publish(figures);
    };
    let (mut figures, mut last) = (Figures::default(), Moment::default());
    // Once more for each time that the archive went on without us.
    while let Some((replay, follower)) = open(run, &over, &mut |why| tell(&Figures { trouble: Some(why), ..Figures::default() }))? {
        last = Moment::new(last.epoch.max(follower.moment().epoch), last.tick.max(follower.moment().tick));
        let running = Running::start(run, (replay, None), Some(follower), last)?;
        board.answer_by(Some(&running.services));
        let mut reported: Option<Instant> = None;
        let lost = loop {
            if let Some(why) = running.following.lost() {
                break Some(why);
            }
            if over() {
                break None;
            }
            if reported.is_none_or(|at| at.elapsed() >= REPORT) {
                tell(&running.figures());
                reported = Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        };
        figures = running.figures();
        last = running.last();
        running.stop()?;
        let Some(why) = lost else { break };
        tracing::warn!("{why}: reads the archive again");
        board.answer_later();
    }
    drop(server);
    session.report(&figures);
    Ok(figures)
}

/// Answers of a part of an archive, as it was when it was opened, read at so many alerts a second at most. `done` is told once, when
/// the answers know all of it: how many alerts, in how long, and where they are given. Then it goes on answering until the
/// session is asked to stop.
///
/// # Errors
/// As [`run_services`]; also when the archive can't be read to its end.
pub fn run_replay(
    run: &FollowRun,
    (replay, rate): (Replay, Option<f64>),
    session: &Session,
    done: impl FnOnce(u64, Duration, SocketAddr),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let (board, server) = listen(run, session)?;
    let running = Running::start(run, (replay, rate), None, Moment::default())?;
    board.answer_by(Some(&running.services));
    let (mut done, mut reported) = (Some(done), None::<Instant>);
    let mut failed = None;
    while !session.stopping() {
        let stand = running.services.reader.stand();
        failed = stand.failed;
        if failed.is_some() {
            break;
        }
        if stand.complete
            && let Some(done) = done.take()
        {
            done(stand.history.map_or(0, |(read, _)| read), began.elapsed(), server.address());
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            let mut figures = running.figures();
            figures.messages = figures.services.as_ref().and_then(|stand| stand.history).map_or(0, |(read, _)| read);
            session.report(&figures);
            board.publish(&figures);
            reported = Some(Instant::now());
        }
        std::thread::sleep(LOOK);
    }
    running.stop()?;
    drop(server);
    failed.map_or(Ok(()), |why| Err(anyhow!("the archive can't be read: {why}")))
}

/// Begins to answer, at a port that is free where none was named: answers are of no use if nobody can ask.
fn listen(run: &FollowRun, session: &Session) -> anyhow::Result<(Board, Server)> {
    let board = Board::default();
    let address = run.http.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = Server::start(address, routes(board.clone())).with_context(|| format!("can't listen at {address}"))?;
    session.serve(server.address(), &run.services.names());
    Ok((board, server))
}

/// Opens the archive; waits for one where there is none yet. `None`: it was asked to stop meanwhile.
fn open(run: &FollowRun, over: &dyn Fn() -> bool, waiting: &mut dyn FnMut(String)) -> anyhow::Result<Option<(Replay, Follower)>> {
    let archive = store::open(&run.archive, &run.store)?;
    while !over() {
        match Follower::open(&archive) {
            Ok(opened) => return Ok(Some(opened)),
            Err(error @ (FollowError::Retry(ReplayError::None(_)) | FollowError::Lost(_))) => waiting(format!("{error}: waits for it")),
            Err(error) => return Err(error).context("the services can't read the archive"),
        }
        std::thread::sleep(WAIT);
    }
    Ok(None)
}

/// The graph and all its threads.
struct Running {
    services: Arc<Services>,
    following: Following,
    budget: Budget,
    end: BeatsEnd,
    closed: Arc<Mutex<Moment>>,
    thread: JoinHandle<()>,
    workers: WorkerGuards<()>,
}

impl Running {
    /// Over a history, read at so many alerts a second at most, and what follows it, if anything does.
    fn start(run: &FollowRun, (replay, rate): (Replay, Option<f64>), follower: Option<Follower>, last: Moment) -> anyhow::Result<Self> {
        let archive = store::open(&run.archive, &run.store)?;
        let services = Arc::new(Services::over(&run.services, &archive, (replay, rate), run.workers)?);
        let (following, inlet, thread) = follower.map_or_else(Following::nothing, Following::start)?;
        let (budget, end, closed) = (Budget::new(run.in_flight_bytes), BeatsEnd::default(), Arc::new(Mutex::new(last)));
        let waits = inlet.clone();
        let yields: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || waits.waiting().0 > LIVE_WAITS);
        let parts = {
            let (services, following, budget, end) = (services.clone(), following.clone(), budget.clone(), end.clone());
            move |index: usize| Parts {
                seat: Seat::<Inlet<Added>> { inlet: inlet.clone(), budget: budget.clone(), index },
                following: following.clone(),
                services: services.parts(index, &budget, &yields),
                last,
                ticks: fink_dataflow::ticks::Ticks::Every(TICK),
                end: end.clone(),
            }
        };
        let seen = closed.clone();
        let workers = timely::execute(config(run.workers, true), move |worker| {
            let mut probes = build(worker, parts(worker.index()));
            while !probes.live.done() {
                worker.step_or_park(None);
                probes.desk.attend();
                if let Some(open) = probes.live.with_frontier(|frontier| frontier.iter().copied().min()) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen = seen.max(Moment::new(open.epoch, open.tick.saturating_sub(1)));
                }
            }
        })
        .map_err(|error| anyhow!("the workers can't start: {error}"))?;
        Ok(Self { services, following, budget, end, closed, thread, workers })
    }

    /// The last Moment that was closed.
    fn last(&self) -> Moment {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> Figures {
        let mut stand = self.services.stand();
        if let Some(moment) = self.services.reader.closed().filter(|_| self.following.is_at_work()) {
            let within = self.following.within(moment);
            (stand.entries, stand.until_ms) = (Some(within.entries), within.until_ms);
        }
        Figures {
            messages: self.following.alerts(),
            frontier: self.last().to_string(),
            in_flight_bytes: self.budget.used() as u64,
            trouble: self.following.trouble(),
            services: Some(stand),
            ..Figures::default()
        }
    }

    /// Reads no more, and ends.
    fn stop(self) -> anyhow::Result<()> {
        self.following.stop();
        self.services.stop();
        self.end.come();
        // A panic has been reported by the hook.
        let _ = self.thread.join();
        for worker in self.workers.join() {
            worker.map_err(|error| anyhow!("a worker failed: {error}"))?;
        }
        Ok(())
    }
}
