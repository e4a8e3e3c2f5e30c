//! The thread that brings catalogues into the graph: those of the configuration once, those of the archive as they are
//! declared.
//!
//! It goes by what is declared now against what it has handed over, so that a change which can't be read is tried again, and
//! the next one is found from where the graph is. What it can't read leaves the graph as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use differential_dataflow::{AsCollection, VecCollection};
use fink_dataflow::Moment;
use fink_dataflow::ports::{Load, Part};
use fink_dataflow::table::Archive;
use fink_operators::catalogue::Row;
use fink_sources::queue::{Bounds, Inlet, Outlet, queue};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::super::Pieces;
use super::CatalogueFile;
use super::declared::{Declaration, Declarations, Declared};
use super::register::{CatalogueAnswer, Register};

/// Rows of a piece: what a worker does with one takes about a millisecond, and then it looks after live data.
const ROWS: usize = 2_048;
/// One worker draws all: what belongs together is entered in order, by one who knows what is to come.
const BOUNDS: Bounds = Bounds { chunks_max: 32, bytes_max: 32 << 20, chunks_per_worker: usize::MAX, bytes_per_worker: usize::MAX };
/// How often it is looked for the next declaration: one request of the store.
const LOOK: Duration = Duration::from_millis(250);
/// The same of a store that is far.
const LOOK_FAR: Duration = Duration::from_secs(1);
/// How often what can't be read is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How soon a thread that waits sees that it should end.
const PATIENCE: Duration = Duration::from_millis(50);
/// As what the register knows those that are expected.
const WHOSE: &str = "catalogues";
/// How much less of a busy machine such a thread gets than others.
const NICE: i32 = 5;

/// Some rows of a change, each of which comes (1) or goes (-1).
#[derive(Clone, Debug)]
pub struct Piece<R = Row> {
    /// Which change.
    pub job: usize,
    /// The rows.
    pub rows: Vec<(R, i8)>,
    /// Whether more of it comes.
    pub part: Part,
}

impl<R: Clone + 'static> Load for Piece<R> {
    fn count(&self) -> usize {
        self.rows.len()
    }
    fn bytes(&self) -> usize {
        self.rows.len() * size_of::<(R, i8)>()
    }
    fn part(&self) -> Part {
        self.part
    }
}

/// A thread that brings changes into the graph.
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What such a thread hands over with.
pub struct Handing<R> {
    outlet: Outlet<Piece<R>>,
    stop: Arc<AtomicBool>,
}

impl<R: Clone + 'static> Handing<R> {
    /// Whether to end.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What says so.
    #[must_use]
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Hands over a change, piece by piece.
    pub fn give(&self, job: usize, changes: Vec<(R, i8)>) {
        let mut rows = changes.into_iter();
        loop {
            let some: Vec<(R, i8)> = rows.by_ref().take(ROWS).collect();
            let part = if rows.len() == 0 { Part::Last } else { Part::More };
            if !self.hand(Piece { job, rows: some, part }) || part == Part::Last {
                return;
            }
        }
    }

    /// Hands over a piece; `false`: it was told to end.
    #[must_use]
    pub fn hand(&self, mut piece: Piece<R>) -> bool {
        while let Err(back) = self.outlet.send(piece, PATIENCE) {
            if self.stopping() {
                return false;
            }
            piece = back;
        }
        true
    }

    /// Sleeps for so long, or until it should end.
    pub fn sleep(&self, long: Duration) {
        let until = Instant::now() + long;
        while !self.stopping() {
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return,
                left => std::thread::sleep(left.min(PATIENCE)),
            }
        }
    }
}

impl Feed {
    /// Runs `body` on a thread of its own, which is less urgent than others; what it hands over is drawn from the inlet.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn run<R: Clone + Send + 'static>(
        name: &str,
        body: impl FnOnce(&Handing<R>) + Send + 'static,
    ) -> std::io::Result<(Self, Inlet<Piece<R>>)> {
        let (outlet, inlet) = queue(BOUNDS);
        let stop = Arc::new(AtomicBool::new(false));
        let handing = Handing { outlet, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!(%error, "a thread that is not urgent runs as if it were");
            }
            body(&handing);
        })?;
        Ok((Self { stop, thread }, inlet))
    }

    /// Feeds the catalogues of these files and of this archive to whoever draws from the inlet.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(files: Vec<CatalogueFile>, archive: &Archive, register: &Register) -> std::io::Result<(Self, Inlet<Piece>)> {
        let look = if archive.url().scheme() == "file" { LOOK } else { LOOK_FAR };
        let (register, declarations) = (register.clone(), Declarations::of(archive));
        register.awaits(WHOSE);
        Self::run("catalogues", move |handing| Hand { handing, register, declarations, given: BTreeMap::new() }.run(&files, look))
    }

    /// Brings no more; what was handed over can still be drawn.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic has been reported by the hook.
        let _ = self.thread.join();
    }
}

/// What the thread of catalogues does.
struct Hand<'h> {
    handing: &'h Handing<Row>,
    register: Register,
    declarations: Declarations,
    /// The archive's catalogues as the graph has them.
    given: BTreeMap<String, Declared>,
}

impl Hand<'_> {
    fn run(&mut self, files: &[CatalogueFile], look: Duration) {
        let mut declared = loop {
            match self.declarations.last() {
                Ok(declared) => break declared,
                Err(error) => {
                    tracing::error!("the archive's catalogues can't be read, and are tried again: {error:#}");
                    self.handing.sleep(AGAIN);
                    if self.handing.stopping() {
                        return;
                    }
                }
            }
        };
        let all = files.iter().map(|file| &file.name).chain(declared.catalogues.iter().map(|declared| &declared.name));
        self.register.expect(WHOSE, all.cloned());
        for file in files {
            self.file(file);
        }
        let mut due = Some(Instant::now());
        while !self.handing.stopping() {
            if due.is_some_and(|at| Instant::now() >= at) {
                due = (!self.follow(&declared, files)).then(|| Instant::now() + AGAIN);
            }
            match self.declarations.next(declared.number + 1) {
                Ok(Some(next)) => (declared, due) = (next, Some(Instant::now())),
                Ok(None) => self.handing.sleep(look),
                Err(error) => {
                    tracing::warn!("can't look for changed catalogues: {error:#}");
                    self.handing.sleep(AGAIN);
                }
            }
        }
    }

    /// Brings a catalogue of the configuration.
    fn file(&self, file: &CatalogueFile) {
        let CatalogueFile { name, path, layout } = file;
        let answer = CatalogueAnswer {
            name: name.clone(),
            declared: "fink.toml".to_owned(),
            file: path.display().to_string(),
            radius_arcsec: layout.radius_arcsec,
            carry: layout.carry.clone(),
            classes: layout.id.is_typed(),
            ..CatalogueAnswer::default()
        };
        self.register.call(layout.id, name, &layout.carry);
        self.register.note(answer);
        match file.read() {
            Ok(found) => {
                let (rows, without_place) = (found.rows.len() as u64, found.placeless as u64);
                self.register.count(name, rows, without_place);
                tracing::info!(catalogue = name, rows, without_place, "catalogue read");
                self.handing.give(self.register.begin(name), found.rows.into_iter().map(|row| (row, 1)).collect());
            }
            Err(error) => self.fail(name, &error),
        }
    }

    /// Brings what differs between what is declared and what was given. Returns whether nothing is left.
    fn follow(&mut self, declared: &Declaration, files: &[CatalogueFile]) -> bool {
        let mut all = true;
        let gone: Vec<Declared> = self.given.values().filter(|given| declared.find(&given.name).is_none()).cloned().collect();
        for old in gone {
            match self.declarations.changes(Some(&old), None) {
                Ok(changes) => {
                    self.given.remove(&old.name);
                    tracing::info!(catalogue = old.name, "catalogue removed");
                    self.handing.give(self.register.begin_to_leave(&old.name), changes);
                }
                Err(error) => {
                    all = false;
                    self.fail(&old.name, &error);
                }
            }
        }
        for new in &declared.catalogues {
            let old = self.given.get(&new.name);
            if self.handing.stopping() || old.is_some_and(|old| old.version == new.version) {
                continue;
            }
            if files.iter().any(|file| file.name == new.name) {
                tracing::warn!(catalogue = new.name, "declared in fink.toml and in the archive: fink.toml's is taken");
                continue;
            }
            self.register.call(new.id, &new.name, &new.reading.carry);
            self.register.note(answer(new));
            match self.declarations.changes(old, Some(new)) {
                Ok(changes) => {
                    tracing::info!(catalogue = new.name, version = new.version, changes = changes.len(), "catalogue changes");
                    self.handing.give(self.register.begin(&new.name), changes);
                    self.given.insert(new.name.clone(), new.clone());
                }
                Err(error) => {
                    all = false;
                    self.fail(&new.name, &error);
                }
            }
        }
        all
    }

    fn fail(&self, name: &str, error: &anyhow::Error) {
        tracing::error!("{error:#}; answers know nothing of it");
        self.register.fail(name, format!("{error:#}"));
    }
}

/// The rows that come and go, each at the Moment at which its piece was drawn; the register is told of it.
#[must_use]
pub fn changes<'s, R: Clone + 'static>(pieces: Pieces<'s, R>, register: Option<Register>) -> VecCollection<'s, Moment, R, isize> {
    let rows = pieces.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Changes", |_capability, _info| {
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                // Any Moment of the stamp is one that the data may have.
                let Some(moment) = stamp.stamp().iter().copied().max() else { return };
                let mut session = output.session(&stamp);
                for (Piece { job, rows, part }, _claim) in data.flat_map(|container| container.drain(..)) {
                    session.give_iterator(rows.into_iter().map(|(row, change)| (row, moment, isize::from(change))));
                    register.iter().for_each(|register| register.entered(job, part, moment));
                }
            });
        }
    });
    rows.as_collection()
}

/// What is told of a catalogue that is declared in the archive.
#[must_use]
pub fn answer(declared: &Declared) -> CatalogueAnswer {
    let Declared { name, reading, classes, version, rows, without_place, .. } = declared;
    CatalogueAnswer {
        name: name.clone(),
        declared: "archive".to_owned(),
        file: reading.path.clone(),
        rows: *rows,
        without_place: *without_place,
        radius_arcsec: reading.radius_arcsec,
        carry: reading.carry.clone(),
        classes: *classes,
        version: Some(*version),
        state: "declared".to_owned(),
        ..CatalogueAnswer::default()
    }
}
