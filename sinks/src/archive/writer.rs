//! The writer: turns what was decoded into Parquet files, and closes groups. One thread a worker, away from timely's own,
//! since a row group blocks for milliseconds.
//!
//! A group closes when it is [`WriterOptions::commit_interval`] old, counted from its first chunk, when it holds
//! [`WriterOptions::group_bytes_max`], or on a flush. Under memory pressure the largest file is closed first, and stays in
//! the group. [`Writer`] decides all this without a clock or a thread of its own; [`start`] gives it both.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use differential_dataflow::lattice::Lattice;
use fink_dataflow::alerts::{Decoded, Passed};
use fink_dataflow::moment::Moment;
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::store::Archive;
use timely::scheduling::SyncActivator;

use super::files::{ClosedFile, Files, FilesError};
use super::group::{Group, GroupSink};
use super::memory::Memory;
use super::routes::Routes;
use super::upload::{Stored, Stuck, Uploader};

/// Groups that may be closed and not durable; beyond, the writer waits for the committer.
const UNDONE_MAX: usize = 16;
/// How often a writer with an open group looks whether the backlog has ended.
const BACKLOG_LOOK: Duration = Duration::from_millis(250);

/// How a writer groups.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The worker that it serves.
    pub worker: usize,
    /// The writing generation; it begins the files' names.
    pub generation: u64,
    /// The age at which a group closes.
    pub commit_interval: Duration,
    /// The bytes at which a group closes.
    pub group_bytes_max: usize,
    /// What holds while there is a backlog.
    pub backlog: Backlog,
    /// How much less of a busy machine its thread gets than others: the niceness of late data's writers.
    pub nice: u8,
}

/// Whether the run works off a backlog: then a commit makes nothing visible that anybody waits for by the second, and groups
/// may grow, since each file costs what a hundred rows do. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    large: Arc<AtomicBool>,
    /// When it was last large.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Backlog {
    /// The age at which a group closes while the backlog is large.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// From so many messages on it is large.
    pub const LARGE: u64 = 5_000;

    /// Notes how many messages are to come.
    pub fn note(&self, messages: u64) {
        let large = messages >= Self::LARGE;
        self.large.store(large, Ordering::Relaxed);
        if large {
            *lock(&self.last) = Some(Instant::now());
        }
    }

    /// Whether it is large, or was less than `ago` before.
    pub(super) fn was_large(&self, ago: Duration) -> bool {
        self.is_large() || lock(&self.last).is_some_and(|last| last.elapsed() < ago)
    }

    pub(super) fn is_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }
}

/// What the writers of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Where files are stored.
    pub archive: Archive,
    /// Which table a schema goes to.
    pub routes: Arc<Routes>,
    /// The bound on open files.
    pub memory: Arc<Memory>,
    /// Who takes closed groups.
    pub sink: Arc<dyn GroupSink>,
    /// What keeps files from being stored.
    pub stuck: Stuck,
}

/// What the operator tells its writer.
enum Command {
    Take(u64, Moment, Vec<Decoded>),
    Flush,
}

/// The operator's end of a writer; dropping it flushes and ends the thread.
pub struct WriterHandle {
    commands: Sender<Command>,
    acks: Arc<Acks>,
    next: u64,
}

impl WriterHandle {
    /// Gives the writer something to make durable, and returns its number. Nothing becomes durable of what is given to a writer
    /// that has ended: ask its [`WriterThread`] why.
    pub fn take(&mut self, moment: Moment, decoded: Vec<Decoded>) -> u64 {
        let number = self.next;
        self.next += 1;
        drop(self.commands.send(Command::Take(number, moment, decoded)));
        number
    }

    /// Closes the open group now, whatever its age.
    pub fn flush(&self) {
        // A writer that is gone has flushed.
        let _ = self.commands.send(Command::Flush);
    }

    /// Has this activator woken when something became durable.
    pub fn wake(&self, activator: SyncActivator) {
        *lock(&self.acks.activator) = Some(activator);
    }

    /// What became durable since the last call, as ranges of the numbers that [`WriterHandle::take`] gave.
    #[must_use]
    pub fn durable(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *lock(&self.acks.durable))
    }
}

/// What a worker's operator asks of its writer, for whoever plays the writer.
pub enum Task {
    /// Make this durable; then say so by its number.
    Take(u64, Moment, Vec<Decoded>),
    /// Close the open group now.
    Flush,
}

/// The writer's end of a [`WriterHandle`], played by hand: for whoever drives a graph step by step.
pub struct Desk {
    inbox: Receiver<Command>,
    acks: Arc<Acks>,
}

impl Desk {
    /// A handle, and the desk behind it.
    #[must_use]
    pub fn new() -> (WriterHandle, Self) {
        let (commands, inbox) = crossbeam_channel::unbounded();
        let acks = Arc::new(Acks::default());
        (WriterHandle { commands, acks: Arc::clone(&acks), next: 0 }, Self { inbox, acks })
    }

    /// What is asked next, if anything is.
    #[must_use]
    pub fn next(&self) -> Option<Task> {
        Some(match self.inbox.try_recv().ok()? {
            Command::Take(number, moment, decoded) => Task::Take(number, moment, decoded),
            Command::Flush => Task::Flush,
        })
    }

    /// What was taken under these numbers is durable.
    pub fn durable(&self, numbers: Range<u64>) {
        self.acks.done(numbers);
    }
}

/// What came back from the committer.
#[derive(Default)]
struct Acks {
    durable: Mutex<Vec<Range<u64>>>,
    activator: Mutex<Option<SyncActivator>>,
    undone: Mutex<usize>,
    changed: Condvar,
}

impl Acks {
    fn done(&self, numbers: Range<u64>) {
        lock(&self.durable).push(numbers);
        if let Some(activator) = &*lock(&self.activator) {
            // A worker that is gone needs no waking.
            let _ = activator.activate();
        }
    }

    /// Waits until the committer is near enough to take another group.
    fn wait(&self) {
        let mut undone = lock(&self.undone);
        while *undone >= UNDONE_MAX {
            undone = self.changed.wait(undone).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One group on its way; counted until it is done, or dropped by a committer that gave up.
struct Undone(Arc<Acks>);

impl Undone {
    fn new(acks: &Arc<Acks>) -> Self {
        *lock(&acks.undone) += 1;
        Self(Arc::clone(acks))
    }
}

impl Drop for Undone {
    fn drop(&mut self) {
        *lock(&self.0.undone) -= 1;
        self.0.changed.notify_all();
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer's thread.
pub struct WriterThread {
    thread: JoinHandle<Result<(), FilesError>>,
    failed: Arc<AtomicBool>,
}

impl WriterThread {
    /// Whether the thread has ended by an error.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits until the thread has ended: after its handle was dropped, and all its groups were handed on.
    ///
    /// # Errors
    /// What ended it early.
    ///
    /// # Panics
    /// When the thread did.
    pub fn join(self) -> Result<(), FilesError> {
        self.thread.join().expect("the writer's thread does not panic")
    }
}

/// Starts the writer of a worker.
///
/// # Errors
/// When no thread can be had.
pub fn start(options: WriterOptions, shared: Shared) -> std::io::Result<(WriterHandle, WriterThread)> {
    let (commands, inbox) = crossbeam_channel::unbounded();
    let acks = Arc::new(Acks::default());
    let handle = WriterHandle { commands, acks: Arc::clone(&acks), next: 0 };
    let name = format!("writer-{}{}", options.worker, if options.nice > 0 { "-late" } else { "" });
    let failed = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failed);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // On Linux a thread's own.
        if options.nice > 0
            && let Err(error) = rustix::process::nice(options.nice.into())
        {
            tracing::debug!(%error, "late data is written at the common priority");
        }
        let result = run(&inbox, Writer::new(options, shared, acks));
        if let Err(error) = &result {
            fails.store(true, Ordering::Release);
            tracing::error!(%error, "the writer can't go on");
        }
        result
    })?;
    Ok((handle, WriterThread { thread, failed }))
}

fn run(inbox: &Receiver<Command>, mut writer: Writer) -> Result<(), FilesError> {
    loop {
        let command = match writer.deadline() {
            // The backlog may end before the deadline that it has put off.
            Some(deadline) => inbox.recv_deadline(deadline.min(Instant::now() + BACKLOG_LOOK)),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match command {
            Ok(Command::Take(number, moment, decoded)) => writer.take(Instant::now(), number, moment, decoded)?,
            Ok(Command::Flush) => writer.flush()?,
            Err(RecvTimeoutError::Timeout) => writer.tick(Instant::now())?,
            Err(RecvTimeoutError::Disconnected) => return writer.finish(),
        }
    }
}

/// What is in the group that is open.
struct OpenGroup {
    since: Instant,
    numbers: Range<u64>,
    moment: Moment,
    passed: Vec<Passed>,
    stored: Vec<Stored>,
    /// Bytes of the files that were closed already.
    closed_bytes: usize,
}

/// The writer's decisions: no thread, no clock.
struct Writer {
    options: WriterOptions,
    shared: Shared,
    acks: Arc<Acks>,
    files: Files,
    group: Option<OpenGroup>,
    uploader: Uploader,
}

impl Writer {
    fn new(options: WriterOptions, shared: Shared, acks: Arc<Acks>) -> Self {
        let files = Files::new(Arc::clone(&shared.routes), Arc::clone(&shared.memory), options.generation);
        let uploader = Uploader::new(shared.archive.clone(), Arc::clone(&shared.stuck), Arc::clone(&shared.sink));
        Self { options, shared, acks, files, group: None, uploader }
    }

    /// When the open group closes by age.
    fn deadline(&self) -> Option<Instant> {
        let Self { options: WriterOptions { commit_interval, backlog, .. }, .. } = self;
        let interval = if backlog.is_large() { Backlog::INTERVAL.max(*commit_interval) } else { *commit_interval };
        self.group.as_ref().map(|group| group.since + interval)
    }

    fn take(&mut self, now: Instant, number: u64, moment: Moment, decoded: Vec<Decoded>) -> Result<(), FilesError> {
        if self.group.is_none() {
            self.acks.wait();
        }
        let group = self.group.get_or_insert_with(|| OpenGroup {
            since: now,
            numbers: number..number,
            moment,
            passed: Vec::new(),
            stored: Vec::new(),
            closed_bytes: 0,
        });
        group.numbers.end = number + 1;
        group.moment = group.moment.join(&moment);
        for part in decoded {
            if let Some(group) = &mut self.group {
                group.passed.extend(part.passed);
            }
            for batch in part.alerts {
                self.files.alerts(&batch)?;
                drop(batch);
                self.relieve()?;
            }
            self.files.rejects(&part.rejects)?;
            if !self.files.is_empty() {
                failpoint("mid-file");
            }
            // The rows are the open files' now, which have a bound of their own.
            drop(part.claims);
            drop(part.rejects);
            self.relieve()?;
        }
        if self.is_full() { self.flush() } else { self.tick(now) }
    }

    /// Whether the open group is large enough. One that is a single file closes before that file must give way to others:
    /// else it would be a large file and crumbs.
    fn is_full(&self) -> bool {
        let bytes = self.files.open_bytes() + self.group.as_ref().map_or(0, |group| group.closed_bytes);
        let share = self.shared.memory.share();
        bytes >= self.options.group_bytes_max || (self.files.largest() > bytes / 4 * 3 && bytes >= share - share / 8)
    }

    /// Closes the group if it is old enough.
    fn tick(&mut self, now: Instant) -> Result<(), FilesError> {
        if self.deadline().is_some_and(|deadline| deadline <= now) { self.flush() } else { Ok(()) }
    }

    /// Under memory pressure closes the largest files, until enough is on its way to the store, and waits for that.
    fn relieve(&mut self) -> Result<(), FilesError> {
        loop {
            // Read first: what is given back from here on ends the wait.
            let freed = self.shared.memory.freed();
            if !self.shared.memory.presses(self.files.held()) {
                return Ok(());
            }
            let leaving = self.files.held() - self.files.open_bytes();
            if leaving >= self.files.open_bytes() {
                self.shared.memory.wait(freed);
            } else if let Some(file) = self.files.close_largest()? {
                self.store(file);
            }
        }
    }

    fn store(&mut self, file: ClosedFile) {
        let group = self.group.as_mut().expect("files are open only inside of a group");
        group.closed_bytes += file.charge.bytes();
        group.stored.push(self.uploader.put(file));
    }

    /// Closes the open group, if there is one.
    fn flush(&mut self) -> Result<(), FilesError> {
        while let Some(file) = self.files.close_first()? {
            self.store(file);
        }
        let Some(open) = self.group.take() else { return Ok(()) };
        let (acks, undone, numbers) = (Arc::clone(&self.acks), Undone::new(&self.acks), open.numbers);
        let done = Box::new(move || {
            drop(undone);
            acks.done(numbers);
        });
        let group = Group { worker: self.options.worker, moment: open.moment, passed: open.passed, files: Vec::new(), done };
        self.uploader.close(group, open.stored);
        Ok(())
    }

    fn finish(mut self) -> Result<(), FilesError> {
        self.flush()?;
        self.uploader.finish();
        Ok(())
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
