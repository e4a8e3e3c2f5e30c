//! The other processes, as one of them sees them: how they come together, their letters, and who is how far.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::Log;
use fink_dataflow::mesh::{Mesh, MeshError, Place};
use fink_dataflow::post::{Letter, Post};
use fink_dataflow::table::entry::{Entry, State};
use fink_dataflow::table::ledger::Ledger;
use fink_dataflow::table::store::{Archive, wait};
use fink_sinks::archive::committer::{Committer, Hears};
use fink_sinks::archive::deputies::{Ask, Asks, Clerk, Deputy, Told};
use fink_sinks::archive::routes::Routes;
use serde::{Deserialize, Serialize};

use super::Again;
use crate::process::Process;
use crate::session::{Figures, Session};
use crate::settings::{ArchiveRun, Input};

/// How often it is said for whom a process waits.
const SAY: Duration = Duration::from_secs(10);

/// What only the leading process decides, told to all before they begin.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Begin {
    /// The generation that this run writes as.
    pub generation: u64,
    /// The ledger's next entry.
    pub next: u64,
    /// When the run began: a simulated stream is the same for all.
    pub now_ms: i64,
    /// Offsets at which processes died.
    pub suspects: Vec<(Log, Range<i64>)>,
}

/// A process of the cluster, as it last said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its index.
    pub process: usize,
    /// Where the others reach it.
    pub address: String,
    /// Its process id, on its machine.
    pub pid: u32,
    /// Messages of its share that are durable.
    pub messages: u64,
    /// Offsets of its share that are not durable yet; `None` while its source is not known.
    pub lag: Option<u64>,
    /// The durable frontier as it sees it.
    pub frontier: String,
    /// Bytes of messages in flight.
    pub in_flight_bytes: u64,
    /// For how long it has said nothing, in seconds; `None`: it never did.
    pub silent_s: Option<f64>,
    /// What keeps it from going on, if anything does.
    pub trouble: Option<String>,
}

/// What a process says of itself, every second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Report {
    pid: u32,
    caught_up: bool,
    figures: Figures,
}

/// What letters say.
#[derive(Debug, Deserialize, Serialize)]
enum Mail {
    Ask(Ask),
    Told(Told),
    Report(Box<Report>),
    Stop,
}

/// The connected processes, before the graph runs.
pub(crate) struct Joined {
    pub mesh: Mesh,
    pub crew: Crew,
    letters: Receiver<Letter>,
}

/// The others, while the graph runs. Clones are the same.
#[derive(Clone)]
pub(crate) struct Crew {
    pub place: Place,
    pub post: Post,
    stop: Arc<AtomicBool>,
    reports: Arc<Mutex<BTreeMap<usize, (Instant, Report)>>>,
}

/// What must be the same at all processes.
fn terms(run: &ArchiveRun) -> String {
    let input = match &run.input {
        Input::Kafka(kafka) => format!("topics {} from {:?}", kafka.topics.join(","), kafka.from),
        Input::Simulator(s) => format!("simulator {} ({}, {}/s, {}, {:?}, {:?})", s.topic, s.seed, s.rate, s.partitions, s.survey, s.size),
        Input::Files(files) => format!("files {}", files.folder.display()),
    };
    format!("{} workers, lanes: {:?}, {input}", run.workers, run.lanes)
}

/// Says for whom a process waits; `false`: it was asked to stop.
fn waiting(session: &Session) -> impl FnMut(&str) -> bool + '_ {
    let (mut said, mut reported) = (None::<Instant>, None::<Instant>);
    move |what| {
        if said.is_none_or(|at| at.elapsed() >= SAY) {
            tracing::info!("{what}");
            said = Some(Instant::now());
        }
        if reported.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            session.report(&Figures { trouble: Some(what.to_owned()), ..Figures::default() });
            reported = Some(Instant::now());
        }
        !session.stopping()
    }
}

/// What a person must know of an error, and whether a new start helps.
fn told(error: MeshError) -> anyhow::Error {
    let again = match &error {
        MeshError::Gone { .. } | MeshError::Workers(_) => true,
        MeshError::Listen { source, .. } => source.kind() == std::io::ErrorKind::AddrInUse,
        MeshError::Unlike { .. } => false,
    };
    if again { Again(error.to_string()).into() } else { error.into() }
}

/// Waits for all other processes; `None`: it was asked to stop meanwhile.
pub(crate) fn join(run: &ArchiveRun, place: &Place, session: &Session) -> anyhow::Result<Option<Joined>> {
    let Some(mesh) = Mesh::join(place.clone(), terms(run), waiting(session)).map_err(told)? else { return Ok(None) };
    tracing::info!(process = place.process, processes = place.processes(), "all processes are connected");
    let (post, letters) = Post::open(place.process, run.workers);
    let crew = Crew { place: place.clone(), post, stop: Arc::default(), reports: Arc::default() };
    Ok(Some(Joined { mesh, crew, letters }))
}

impl Joined {
    /// The leading process has taken the archive: the others are told, and all go. `false`: it was asked to stop.
    pub(crate) fn lead(&mut self, begin: &Begin, session: &Session) -> anyhow::Result<bool> {
        Ok(self.mesh.lead(begin, waiting(session)).map_err(told)?.is_some())
    }

    /// What the leading process decided, and the ledger's state that all go on from; `None`: it was asked to stop.
    pub(crate) fn follow(&mut self, archive: &Archive, session: &Session) -> anyhow::Result<Option<(Begin, State)>> {
        let Some(begin) = self.mesh.begin::<Begin>(waiting(session)).map_err(told)? else { return Ok(None) };
        let reading = archive.clone();
        let (_, state) = wait(async move { Ledger::open(&reading).await })?;
        if state.generation != begin.generation || state.next < begin.next {
            anyhow::bail!(
                "process 0 writes its archive as generation {}, and what this process finds at {archive} is of generation {}: all processes \
                 must reach the same archive (HDFS, S3, or a folder that all machines share)",
                begin.generation,
                state.generation
            );
        }
        Ok(Some((begin, state)))
    }

    /// This process is ready, and waits until all are. `false`: it was asked to stop.
    pub(crate) fn ready(&mut self, session: &Session) -> anyhow::Result<bool> {
        Ok(self.mesh.ready(waiting(session)).map_err(told)?.is_some())
    }

    /// Has the committer of this process serve the others: their letters are read from now on.
    pub(crate) fn serve(self, committer: Committer, routes: Arc<Routes>) -> std::io::Result<(Mesh, Crew)> {
        let sender = self.crew.clone();
        let clerk = Clerk::new(committer, routes, Arc::new(move |to, told| sender.send(to, &Mail::Told(told))));
        self.read(move |from, mail| match mail {
            Mail::Ask(ask) => clerk.asked(from, ask).map_err(|error| error.to_string()),
            other => Err(format!("process {from} says what is not for this one: {other:?}")),
        })
    }

    /// Has this deputy hear of what the leading process says.
    pub(crate) fn obey(self, deputy: Deputy) -> std::io::Result<(Mesh, Crew)> {
        self.read(move |from, mail| match mail {
            Mail::Told(told) => deputy.told(told),
            other => Err(format!("process {from} says what is not for this one: {other:?}")),
        })
    }

    fn read(self, mut take: impl FnMut(usize, Mail) -> Result<(), String> + Send + 'static) -> std::io::Result<(Mesh, Crew)> {
        let Self { mesh, crew, letters } = self;
        let of = crew.clone();
        std::thread::Builder::new().name("letters".to_owned()).spawn(move || {
            for Letter { from, text, .. } in letters {
                let taken = match serde_json::from_str(&text) {
                    Ok(Mail::Stop) => {
                        of.stop.store(true, Ordering::Relaxed);
                        Ok(())
                    }
                    Ok(Mail::Report(report)) => {
                        of.reports().insert(from, (Instant::now(), *report));
                        Ok(())
                    }
                    Ok(mail) => take(from, mail),
                    Err(error) => Err(format!("a letter of process {from} can't be read: {error}")),
                };
                // The panic ends the process, before it does harm.
                taken.unwrap_or_else(|what| panic!("the processes of the cluster do not understand each other: {what}"));
            }
        })?;
        Ok((mesh, crew))
    }
}

impl Crew {
    fn send(&self, to: usize, mail: &Mail) {
        self.post.send(to, serde_json::to_string(mail).expect("a letter is plain data"));
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let here = self.place.process;
        (0..self.place.processes()).filter(move |process| *process != here)
    }

    fn reports(&self) -> MutexGuard<'_, BTreeMap<usize, (Instant, Report)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the others of every entry.
    pub(crate) fn hears(&self) -> Hears {
        let crew = self.clone();
        Hears(Arc::new(move |entry: &Arc<Entry>| {
            let text = serde_json::to_string(&Mail::Told(Told::Entry(entry.clone()))).expect("a letter is plain data");
            crew.others().for_each(|to| crew.post.send(to, text.clone()));
        }))
    }

    /// Sends what a deputy asks.
    pub(crate) fn asks(&self) -> Asks {
        let crew = self.clone();
        Arc::new(move |ask| crew.send(0, &Mail::Ask(ask)))
    }

    /// Whether all are to stop.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Has all stop in order; once.
    pub(crate) fn stop(&self) {
        if !self.stop.swap(true, Ordering::Relaxed) {
            self.others().for_each(|to| self.send(to, &Mail::Stop));
        }
    }

    /// Tells the leading process how this one is.
    pub(crate) fn report(&self, figures: &Figures, caught_up: bool) {
        let pid = std::process::id();
        self.send(0, &Mail::Report(Box::new(Report { pid, caught_up, figures: figures.clone() })));
    }

    /// Whether all others have caught up.
    pub(crate) fn caught_up(&self) -> bool {
        let reports = self.reports();
        self.others().all(|process| reports.get(&process).is_some_and(|(_, report)| report.caught_up))
    }

    /// Adds what the others said to the leading process's figures, and its own share (`mine`) to the list of all.
    pub(crate) fn complete(&self, figures: &mut Figures, mine: u64) {
        let here = Member {
            process: self.place.process,
            address: self.place.addresses[self.place.process].clone(),
            pid: Process::current().pid,
            messages: mine,
            lag: figures.lag,
            frontier: figures.frontier.clone(),
            in_flight_bytes: figures.in_flight_bytes,
            silent_s: Some(0.0),
            trouble: figures.trouble.clone(),
        };
        let reports = self.reports();
        let mut members = vec![here];
        for process in self.others() {
            let address = self.place.addresses[process].clone();
            let Some((at, Report { pid, figures: theirs, .. })) = reports.get(&process) else {
                (figures.lag, figures.backlog) = (None, None);
                members.push(Member { process, address, ..Member::default() });
                continue;
            };
            let add = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
            (figures.lag, figures.backlog) = (add(figures.lag, theirs.lag), add(figures.backlog, theirs.backlog));
            figures.in_flight_bytes += theirs.in_flight_bytes;
            let trouble = || theirs.trouble.as_ref().map(|why| format!("process {process}: {why}"));
            figures.trouble = figures.trouble.take().or_else(trouble);
            if let (Some(standing), Some(more)) = (&mut figures.standing, &theirs.standing) {
                standing.add(more);
            }
            members.push(Member {
                process,
                address,
                pid: *pid,
                messages: theirs.messages,
                lag: theirs.lag,
                frontier: theirs.frontier.clone(),
                in_flight_bytes: theirs.in_flight_bytes,
                silent_s: Some(at.elapsed().as_secs_f64()),
                trouble: theirs.trouble.clone(),
            });
        }
        figures.members = members;
    }

    /// Offsets that the others are behind: all, and of them what their live lanes are.
    pub(crate) fn behind(&self) -> u64 {
        self.reports().values().filter_map(|(_, report)| report.figures.lag).sum()
    }

    /// Who has said nothing for so long, as far as this process can know: all report to the leading one only.
    pub(crate) fn silent(&self, bound: Duration) -> Vec<String> {
        let reports = self.reports();
        let silent = |process: &usize| reports.get(process).is_some_and(|(at, _)| at.elapsed() >= bound);
        let who = |process: usize| format!("process {process} at {} has said nothing for {bound:?}", self.place.addresses[process]);
        self.others().filter(silent).map(who).collect()
    }
}
