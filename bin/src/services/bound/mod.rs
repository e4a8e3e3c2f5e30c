//! The bound on memory: light curves of objects that were not seen for many nights leave it, and come back when they are seen again.
//!
//! ```text
//!                      ┌──────── a scan: objects last seen before the latest N nights ◄──── traces, a chunk at a time
//!   a thread ◄─────────┤
//!      │               └──────── wanted: objects that are away, and of which more came ◄─── summaries
//!      ▼
//!   late: (−entries, +away) or (+entries, −away) ─► entries by object           at (e + 1, now), an object at one Moment
//! ```
//!
//! What leaves is the light curve, which is most of an object's memory. Its summary stays, and with it its place, its matches and
//! its classes: so counts, cones, associations and the tables of answers are what they would be without a bound, and a new
//! catalogue corrects all of them. Which objects leave follows from the times of observation alone; when they do is a matter of
//! the clock, and no answer depends on it.
//!
//! | file | what it is |
//! |---|---|
//! | [`told`] | what the workers tell the thread |
//! | `leaving` | which objects may leave, looked up in a worker's traces |
//!
//! An object leaves when all that is known of it is durable. Of one that is away, an alert waits for the light curve, which is
//! read from the archive; its summary is as it was until then. Who asks for it by its id is answered from both.

pub mod told;

mod leaving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use fink_dataflow::Coverage;
use fink_dataflow::detection::ObjectId;
use fink_dataflow::late::LateSeat;
use fink_dataflow::ports::Part;
use fink_dataflow::table::Archive;
use fink_operators::objects::Entry;
use fink_sources::queue::Inlet;
use futures::executor::block_on;

use super::Traces;
use super::catalogues::feed::{Feed, Handing, Piece};
use super::desk::{Reader, Unready};
use super::fetch::{Fetch, Known};
use leaving::{ENTRIES, leaving};
pub use told::{AwayStand, Told};
use told::{COMES_BACK, LEAVES, Over};

/// An entry that comes or goes.
pub type Moved = (ObjectId, Entry);
/// Objects that are read from the archive at once.
const FETCHED: usize = 4_096;
/// Light rows of a history that are read until those that may leave have left, at the least; and passes, at most.
const PASS_ROWS: u64 = 2_000_000;
const PASSES: u64 = 32;
/// How soon it is looked again.
const LOOK: Duration = Duration::from_millis(10);
/// The pause between two scans at the least and at the most, and how many times as long as a scan it is.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(1_800);
const PAUSE_PER_SCAN: u32 = 50;
/// The pause after the archive could not be read.
const AGAIN: Duration = Duration::from_secs(2);

/// How many rows of a history of so many are one pass.
#[must_use]
pub fn pass_rows(all: u64) -> u64 {
    PASS_ROWS.max(all.div_ceil(PASSES))
}

/// What a worker's services need to know of it.
pub struct BoundParts {
    /// Where entries that leave or come back are drawn.
    pub seat: Option<LateSeat<Inlet<Piece<Moved>>>>,
    /// Is told what came in, and what is wanted.
    pub told: Told,
}

/// Has light curves leave that were last seen before so many nights; what leaves and comes back is drawn from the inlet.
pub struct Bound {
    told: Told,
    waiting: Receiver<(ObjectId, Known)>,
    nights: usize,
    /// The messages whose rows come pass by pass, an object's together.
    light: Option<Arc<Coverage>>,
}

impl Bound {
    /// Keeps the light curves of objects that were seen in the latest so many nights; and until all of history is read, those of
    /// which rows are there that do not come with the others of their object, as those of these messages do.
    #[must_use]
    pub fn new(nights: usize, light: Option<Arc<Coverage>>) -> Self {
        let (wanted, waiting) = unbounded();
        Self { told: Told::new(wanted, nights), waiting, nights, light }
    }

    /// Who tells it.
    #[must_use]
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Begins.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(self, archive: &Archive, reader: Reader) -> std::io::Result<(Feed, Inlet<Piece<Moved>>)> {
        let fetch = Fetch::new(archive);
        Feed::run("bound", move |handing| {
            let Self { told, waiting, nights: keeps, light } = self;
            let _over = Over(told.clone());
            let (nights, wanted, back) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
            let (fetch, later) = (fetch.ends_with(handing.stop()), VecDeque::new());
            Hand { handing, told, waiting, reader, fetch, keeps, light, nights, wanted, back, later, counts: (0, 0), again: None }.run();
        })
    }
}

/// What the thread does.
struct Hand<'h> {
    handing: &'h Handing<Moved>,
    told: Told,
    waiting: Receiver<(ObjectId, Known)>,
    reader: Reader,
    fetch: Fetch,
    /// How many nights' objects stay.
    keeps: usize,
    light: Option<Arc<Coverage>>,
    /// The nights of all alerts that were met.
    nights: BTreeSet<i32>,
    /// What is to come back.
    wanted: BTreeMap<ObjectId, Known>,
    /// What came back since it left last.
    back: BTreeSet<ObjectId>,
    /// What could not be found whole, and when it is looked for again.
    later: VecDeque<(Instant, ObjectId, Known)>,
    /// How many left at the last scan, and how many came back since.
    counts: (usize, usize),
    /// When the archive may be read again.
    again: Option<Instant>,
}

impl Hand<'_> {
    fn run(&mut self) {
        let (mut due, mut pause) = (Instant::now(), PAUSE);
        while !self.handing.stopping() {
            self.bring_back();
            let pass = self.told.due();
            let ready = match pass {
                Some((_, rows)) => self.reader.has_read(rows),
                None => Instant::now() >= due && self.reader.knows_history(),
            };
            if !(ready && self.told.settled(self.reader.closed())) {
                if let Ok((object, known)) = self.waiting.recv_timeout(LOOK) {
                    self.want(object, known);
                }
                continue;
            }
            let (left, back) = self.counts;
            let began = Instant::now();
            self.counts = (0, 0);
            // Which nights there are is known when all objects were looked at.
            let nights = self.nights.clone();
            let light = self.light.clone().filter(|_| pass.is_some());
            let scanned = self.scan(&light).and_then(|()| if self.nights == nights { Ok(()) } else { self.scan(&light) });
            if let Err(why) = scanned {
                tracing::debug!(%why, "light curves that may leave memory can't be asked for now");
                std::thread::sleep(LOOK);
                continue;
            }
            // What comes back as soon as it has left had better stay for a while.
            pause = if back * 2 > left { pause.saturating_mul(4) } else { PAUSE };
            pause = pause.max(began.elapsed() * PAUSE_PER_SCAN).min(PAUSE_MAX);
            due = Instant::now() + pause;
            if self.counts.0 > 0 {
                tracing::info!(objects = self.counts.0, took = ?began.elapsed(), "light curves left memory");
            }
            if let Some((number, _)) = pass
                && self.settle().is_ok()
            {
                self.told.passed(number);
            }
        }
    }

    /// Waits until what leaves has left.
    fn settle(&mut self) -> Result<(), Unready> {
        self.wait(|hand| hand.told.settled(hand.reader.closed()))
    }

    /// Waits until something is so, and brings back what is wanted meanwhile.
    fn wait(&mut self, so: impl Fn(&Self) -> bool) -> Result<(), Unready> {
        while !so(self) {
            if self.handing.stopping() {
                return Err(Unready::Stopping);
            }
            self.bring_back();
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn want(&mut self, object: ObjectId, known: Known) {
        if !self.back.contains(&object) {
            self.wanted.insert(object, known);
        }
    }

    /// Hands over what some objects' light curves become, each in one piece.
    fn give(&self, moves: impl Iterator<Item = Vec<(Moved, i8)>>, job: usize) -> bool {
        // Who comes back is waited for.
        let part = if job == LEAVES { Part::Alone } else { Part::Last };
        let mut moves = moves.peekable();
        while moves.peek().is_some() {
            let mut rows = Vec::new();
            while rows.len() < ENTRIES
                && let Some(more) = moves.next()
            {
                rows.extend(more);
            }
            if job == LEAVES {
                self.told.give();
            }
            if !self.handing.hand(Piece { job, rows, part }) {
                return false;
            }
        }
        true
    }

    /// Brings back what is wanted.
    fn bring_back(&mut self) {
        while let Ok((object, known)) = self.waiting.try_recv() {
            self.want(object, known);
        }
        while let Some((_, object, known)) = self.later.pop_front_if(|(at, ..)| *at <= Instant::now()) {
            self.want(object, known);
        }
        if self.wanted.is_empty() || self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        let some: BTreeMap<_, _> = self.wanted.iter().take(FETCHED).map(|(object, known)| (*object, known.clone())).collect();
        let began = Instant::now();
        let curves = match self.fetch.curves(&some) {
            Ok(curves) => curves,
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("light curves can't be read from the archive, tried again: {error:#}");
                self.again = Some(Instant::now() + AGAIN);
                return;
            }
        };
        if self.handing.stopping() {
            return;
        }
        self.again = None;
        for (object, known) in some {
            self.wanted.remove(&object);
            if curves.contains_key(&object) {
                self.back.insert(object);
            } else {
                // What is in the ledger may not be in its table yet. Its summary stays what it was.
                tracing::warn!(?object, "not all alerts of a light curve that left memory are found; tried again");
                self.later.push_back((Instant::now() + AGAIN, object, known));
            }
        }
        self.counts.1 += curves.len();
        self.told.came_back(curves.len());
        tracing::debug!(objects = curves.len(), took = ?began.elapsed(), "light curves come back");
        let moves = curves.into_iter().map(|(object, entries)| {
            let entries = entries.into_iter().map(|entry| ((object, entry), 1));
            entries.chain([((object, Entry::away()), -1)]).collect()
        });
        self.give(moves, COMES_BACK);
    }

    /// Looks at all objects once, and has those leave that may: where it is given, those of these messages alone.
    fn scan(&mut self, light: &Option<Arc<Coverage>>) -> Result<(), Unready> {
        let since = self.nights.iter().rev().nth(self.keeps.saturating_sub(1)).copied();
        // What left is not to leave again.
        self.settle()?;
        // All of it at one Moment: what came since is more of an object than left.
        let lease = self.reader.lease()?;
        let at = lease.moment;
        self.wait(|hand| hand.reader.is_durable(at))?;
        for worker in 0..self.reader.workers() {
            let mut from = None;
            loop {
                if self.handing.stopping() {
                    return Err(Unready::Stopping);
                }
                let light = light.clone();
                let looks = move |traces: &mut Traces| leaving(traces, at, from, since, light.as_deref());
                let chunk = block_on(self.reader.ask_worker(worker, looks))??;
                self.nights.extend(chunk.nights);
                if !chunk.objects.is_empty() {
                    self.counts.0 += chunk.objects.len();
                    self.told.left(chunk.objects.len());
                    for (object, _) in &chunk.objects {
                        self.back.remove(object);
                    }
                    let moves = chunk.objects.into_iter().map(|(object, entries)| {
                        let entries = entries.into_iter().flat_map(|(entry, count)| {
                            // As often as it is there, in changes as small as a piece has them.
                            let mut left = count;
                            std::iter::from_fn(move || {
                                let some = i8::try_from(left.min(100)).ok().filter(|some| *some > 0)?;
                                left -= isize::from(some);
                                Some(((object, entry.clone()), -some))
                            })
                        });
                        entries.chain([((object, Entry::away()), 1)]).collect()
                    });
                    if !self.give(moves, LEAVES) {
                        return Err(Unready::Stopping);
                    }
                }
                self.bring_back();
                match chunk.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }
}
