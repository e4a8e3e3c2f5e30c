//! Where questions wait for the worker that holds the answer, and at which Moment it is given.
//!
//! ```text
//!  server's threads:  Reader ── lease: a Moment that all workers have closed ──► question ─► worker's Desk ─► its traces
//!                       ▲                                                                       │
//!                       └───────────────────────── the answer at that Moment ◄──────────────────┘
//! ```
//!
//! A [`Desk`] stands beside each worker, which comes to it between two steps: it notes what the worker has closed, lets the
//! traces forget what nobody can ask for any more, and answers. A question may go to several workers, one after another: all
//! are asked at one Moment, the last that every worker has closed, and while its [`Lease`] lives none forgets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use differential_dataflow::Hashable;
use differential_dataflow::trace::TraceReader;
use fink_dataflow::Moment;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::budget::Claim;
use fink_dataflow::detection::ObjectId;
use fink_dataflow::rules::Rule;
use fink_operators::objects::Entry;
use fink_sources::archive::history::{History, Reading};
use timely::dataflow::operators::Inspect;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::order::PartialOrder;
use timely::progress::Antichain;
use timely::scheduling::SyncActivator;
use tokio::sync::{Semaphore, oneshot};

use super::Traces;
use super::catalogues::register::Register;
use super::fetch::{Fetch, Known};
pub use super::stand::Stand;
use super::watch::Watch;

/// Questions that wait at a desk, at most.
const WAITING_MAX: usize = 1_024;

/// Light curves that are read from the archive at once; who asks for more waits.
const FETCHES: usize = 4;

/// What a worker is asked to do with its traces.
type Job = Box<dyn FnOnce(&mut Traces) + Send>;

/// Why there is no answer now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unready {
    /// No Moment is closed yet.
    #[error("the services are starting: no Moment is closed yet")]
    Starting,
    /// Too many questions wait.
    #[error("too many questions wait already")]
    Busy,
    /// The workers have ended.
    #[error("the services are stopping")]
    Stopping,
    /// What is asked for is not in memory, and can't be read.
    #[error("its light curve is in the archive, which can't be read now")]
    Away,
}

/// What all desks of a process share.
struct Shared {
    state: Mutex<State>,
    jobs: Vec<Sender<Job>>,
    wakers: Mutex<Vec<Option<SyncActivator>>>,
    history: Option<History>,
    register: Option<Register>,
    watch: Watch,
    /// Where light curves are that are not in memory.
    fetch: OnceLock<Fetch>,
    /// So many are read at once.
    fetching: Semaphore,
}

#[derive(Default)]
struct State {
    /// What each worker has closed.
    closed: Vec<Option<Moment>>,
    /// The Moments that are being asked at, and by how many.
    leases: BTreeMap<Moment, usize>,
    /// The least Moment after all Moments of history seen so far.
    past: Moment,
    /// Alerts of history seen so far.
    past_rows: u64,
    /// Whether all of history was seen.
    read: bool,
    /// What is not durable yet; `None`: all that is answered for is.
    undurable: Option<Vec<Moment>>,
}

impl State {
    /// The last Moment that every worker has closed. Closed Moments are a chain.
    fn floor(&self) -> Option<Moment> {
        self.closed.iter().copied().min().flatten()
    }
}

/// Opens the desks of so many workers: who asks, and each worker's seat. Answers are complete when they know the history, and
/// the register's catalogues.
#[must_use]
pub fn open(workers: usize, history: Option<History>, register: Option<Register>) -> (Reader, Vec<Seat>) {
    let (jobs, waiting): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(WAITING_MAX)).unzip();
    let state = State { closed: vec![None; workers], read: history.is_none(), ..State::default() };
    let wakers = Mutex::new((0..workers).map(|_| None).collect());
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        jobs,
        wakers,
        history,
        register,
        watch: Watch::default(),
        fetch: OnceLock::new(),
        fetching: Semaphore::new(FETCHES),
    });
    let seats = waiting.into_iter().enumerate().map(|(index, jobs)| Seat { index, shared: Arc::clone(&shared), jobs });
    let seats = seats.collect();
    (Reader { shared }, seats)
}

impl Shared {
    fn complete(&self, state: &State, moment: Moment) -> bool {
        let catalogues = self.register.as_ref().is_none_or(|register| register.complete(moment));
        state.read && state.past.less_equal(&moment) && catalogues
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's place at the desks, before its graph is built.
pub struct Seat {
    index: usize,
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
}

impl Seat {
    /// Where it is noted which catalogues count.
    pub(super) fn register(&self) -> Option<Register> {
        self.shared.register.clone()
    }

    /// Where it is noted when live alerts came.
    pub(super) fn watch(&self) -> Watch {
        self.shared.watch.clone()
    }

    /// Notes at which Moments history comes.
    pub(super) fn note<'s>(
        &self,
        past: StreamVec<'s, Moment, (AlertBatch, Arc<Claim>)>,
    ) -> StreamVec<'s, Moment, (AlertBatch, Arc<Claim>)> {
        use differential_dataflow::lattice::Lattice;
        let shared = Arc::clone(&self.shared);
        past.inspect_core(move |event| {
            if let Ok((stamp, batches)) = event {
                let mut state = shared.state();
                state.past_rows += batches.iter().map(|(batch, _)| batch.places.len() as u64).sum::<u64>();
                state.past = stamp.iter().fold(state.past, |past, moment| past.join(moment));
            }
        })
    }
}

/// A worker's desk.
pub struct Desk {
    seat: Seat,
    traces: Traces,
    /// Behind all answers.
    answered: ProbeHandle<Moment>,
    /// Behind the history.
    read: Option<ProbeHandle<Moment>>,
    /// Behind the archive, if this process writes it.
    durable: Option<ProbeHandle<Moment>>,
    closed: Option<Moment>,
}

impl Desk {
    /// A desk with these traces.
    pub(super) fn new(
        scope: Scope<'_, Moment>,
        seat: Seat,
        traces: Traces,
        answered: ProbeHandle<Moment>,
        read: Option<ProbeHandle<Moment>>,
        durable: Option<ProbeHandle<Moment>>,
    ) -> Self {
        // Any address of the dataflow will do: what counts is that the worker wakes.
        let waker = scope.worker().sync_activator_for(scope.addr().to_vec());
        seat.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner)[seat.index] = Some(waker);
        Self { seat, traces, answered, read, durable, closed: None }
    }

    /// What the worker does between two steps.
    pub fn attend(&mut self) {
        self.close();
        while let Ok(job) = self.seat.jobs.try_recv() {
            job(&mut self.traces);
        }
    }

    /// Notes what was closed, and forgets what nobody can ask for any more.
    fn close(&mut self) {
        // The order of the fields is that of epochs first: the least element is the live one.
        let open = self.answered.with_frontier(|frontier| frontier.iter().copied().min());
        let closed = open.and_then(|open| Some(Moment::new(open.epoch, open.tick.checked_sub(u64::from(Rule::Closed.holds()))?)));
        let Some(closed) = closed.filter(|closed| self.closed.is_none_or(|last| last != *closed && last.less_equal(closed))) else {
            return;
        };
        self.closed = Some(closed);
        // The frontier behind the archive is that of all workers.
        let undurable = self.durable.as_ref().map(|durable| durable.with_frontier(|frontier| frontier.to_vec()));
        let since = {
            let mut state = self.seat.shared.state();
            state.closed[self.seat.index] = Some(closed);
            state.undurable = undurable;
            if let (Some(read), Some(history)) = (&self.read, &self.seat.shared.history) {
                state.read |= read.done() && history.reading() == Reading::Done;
            }
            let floor = state.floor();
            // Before anybody can ask at it.
            if let (Some(floor), Some(register)) = (floor, &self.seat.shared.register) {
                register.closed(floor);
            }
            if let Some(floor) = floor {
                self.seat.shared.watch.closed(floor, chrono::Utc::now().timestamp_micros());
            }
            floor.map(|floor| state.leases.first_key_value().map_or(floor, |(lease, _)| floor.min(*lease)))
        };
        if let Some(since) = since {
            self.traces.forget(since);
        }
    }
}

impl Traces {
    /// Lets go of all that differs only before `since`.
    fn forget(&mut self, since: Moment) {
        let Self { counters, entries, summaries, places, associations, matches, classes, own } = self;
        counters.iter_mut().for_each(|trace| forget(trace, since));
        entries.iter_mut().for_each(|trace| forget(trace, since));
        summaries.iter_mut().for_each(|trace| forget(trace, since));
        places.iter_mut().for_each(|trace| forget(trace, since));
        associations.iter_mut().for_each(|trace| forget(trace, since));
        matches.iter_mut().for_each(|trace| forget(trace, since));
        classes.iter_mut().for_each(|trace| forget(trace, since));
        own.values_mut().for_each(|kept| kept.forget(since));
    }
}

/// Has a trace let go of all that differs only before `since`.
pub(crate) fn forget(trace: &mut impl TraceReader<Time = Moment>, since: Moment) {
    let since = Antichain::from_elem(since);
    trace.set_logical_compaction(since.borrow());
    trace.set_physical_compaction(since.borrow());
}

/// Asks the workers, from any thread. Clones are the same.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// The right to ask at a Moment, while it lives.
pub struct Lease {
    shared: Arc<Shared>,
    /// The Moment of which the answers are exact.
    pub moment: Moment,
    /// Whether they know all that was archived before this process.
    pub complete: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(count) = state.leases.get_mut(&self.moment) {
            *count -= 1;
            if *count == 0 {
                state.leases.remove(&self.moment);
            }
        }
    }
}

impl Reader {
    /// How far the answers are.
    #[must_use]
    pub fn stand(&self) -> Stand {
        let history = self.shared.history.as_ref();
        let failed = history.and_then(|history| match history.reading() {
            Reading::Failed(why) => Some(why),
            _ => None,
        });
        let state = self.shared.state();
        let moment = state.floor();
        let complete = moment.is_some_and(|moment| self.shared.complete(&state, moment));
        let moment = moment.map(|moment| moment.to_string());
        let without = self.shared.register.as_ref().map(Register::failures).unwrap_or_default();
        let (history, pace) = (history.map(History::rows), self.shared.watch.pace());
        Stand { moment, complete, history, failed, without, pace, ..Stand::default() }
    }

    /// The last Moment that all workers have closed.
    #[must_use]
    pub fn closed(&self) -> Option<Moment> {
        self.shared.state().floor()
    }

    /// Whether all that is answered of a Moment is in the archive.
    #[must_use]
    pub fn is_durable(&self, moment: Moment) -> bool {
        self.shared.state().undurable.iter().flatten().all(|open| !open.less_equal(&moment))
    }

    /// Whether so many alerts of the history are in the answers.
    #[must_use]
    pub fn has_read(&self, rows: u64) -> bool {
        let state = self.shared.state();
        state.past_rows >= rows && state.floor().is_some_and(|floor| state.past.less_equal(&floor))
    }

    /// Whether all that was archived before this process is in the answers, whatever catalogues are not.
    #[must_use]
    pub fn knows_history(&self) -> bool {
        let state = self.shared.state();
        state.read && state.floor().is_some_and(|floor| state.past.less_equal(&floor))
    }

    /// Where light curves are that are not in memory.
    pub fn fetches(&self, fetch: Fetch) {
        // It is said once.
        let _ = self.shared.fetch.set(fetch);
    }

    /// The entries of an object that are not in memory.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) async fn fetch(&self, object: ObjectId, known: Known) -> Result<BTreeSet<Entry>, Unready> {
        let fetch = self.shared.fetch.get().ok_or(Unready::Away)?.clone();
        let _turn = self.shared.fetching.acquire().await.map_err(|_| Unready::Stopping)?;
        // A thread of its own: those of the store's runtime are for what it stores.
        let (answer, read) = oneshot::channel();
        let thread = std::thread::Builder::new().name("fetch".into()).spawn(move || {
            // Who asked may have gone.
            let _ = answer.send(fetch.curves(&BTreeMap::from([(object, known)])));
        });
        thread.map_err(|_| Unready::Busy)?;
        let curves = read.await.map_err(|_| Unready::Stopping)?.map_err(|error| {
            tracing::warn!("a light curve can't be read from the archive: {:#}", anyhow::Error::from(error));
            Unready::Away
        })?;
        curves.into_values().next().ok_or(Unready::Away)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.jobs.len()
    }

    /// Asks one worker.
    ///
    /// # Errors
    /// When it can't answer.
    pub(super) async fn ask_worker<R: Send + 'static>(
        &self,
        worker: usize,
        question: impl FnOnce(&mut Traces) -> R + Send + 'static,
    ) -> Result<R, Unready> {
        self.send(worker, question)?.await.map_err(|_| Unready::Stopping)
    }

    /// Whether what is answered of a Moment knows all that was archived before this process.
    #[must_use]
    pub fn knows_all(&self, moment: Moment) -> bool {
        let state = self.shared.state();
        self.shared.complete(&state, moment)
    }

    /// The right to ask at the last Moment that all workers have closed.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn lease(&self) -> Result<Lease, Unready> {
        let mut state = self.shared.state();
        let moment = state.floor().ok_or(Unready::Starting)?;
        *state.leases.entry(moment).or_insert(0) += 1;
        let complete = self.shared.complete(&state, moment);
        drop(state);
        Ok(Lease { shared: Arc::clone(&self.shared), moment, complete })
    }

    /// Asks the worker that holds a key.
    ///
    /// # Errors
    /// When it can't answer.
    pub async fn ask<K: Hashable<Output = u64>, R: Send + 'static>(
        &self,
        key: &K,
        question: impl FnOnce(&mut Traces) -> R + Send + 'static,
    ) -> Result<R, Unready> {
        // As timely exchanges rows by the same hash.
        let worker = usize::try_from(key.hashed() % self.shared.jobs.len() as u64).expect("fewer workers than a usize counts");
        let answer = self.send(worker, question)?;
        answer.await.map_err(|_| Unready::Stopping)
    }

    /// Asks all workers.
    ///
    /// # Errors
    /// When one can't answer.
    pub async fn ask_all<R: Send + 'static>(
        &self,
        question: impl Fn(&mut Traces) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, Unready> {
        let asked = (0..self.shared.jobs.len()).map(|worker| self.send(worker, question.clone())).collect::<Result<Vec<_>, _>>()?;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.map_err(|_| Unready::Stopping)?);
        }
        Ok(answers)
    }

    fn send<R: Send + 'static>(
        &self,
        worker: usize,
        question: impl FnOnce(&mut Traces) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, Unready> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |traces| {
            // Who asked may have gone.
            let _ = answer.send(question(traces));
        });
        self.shared.jobs[worker].try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Unready::Busy,
            TrySendError::Disconnected(_) => Unready::Stopping,
        })?;
        if let Some(waker) = &self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner)[worker] {
            // A worker that is gone has dropped the job.
            let _ = waker.activate();
        }
        Ok(answered)
    }
}
