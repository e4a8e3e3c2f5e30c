//! An archive that grows: what it holds, as a [`Replay`], and after that what each entry of its ledger adds.
//!
//! A [`Follower`] writes nothing and takes no fence: any number of them follow an archive, from any machine. Entries are read by
//! number, one after another, and name the files that they add; files that only move rows (a compaction) are not read. So
//! each row comes once, in the order of the commits, whatever is compacted meanwhile.
//!
//! The tables are opened first and the ledger is read after, which is never behind them. A table may be behind the ledger: what
//! it lacks is then followed, entry by entry, though the entries are older than the others.
//!
//! Who is asleep for hours finds files vacuumed, or entries cleaned. Then nothing that follows can be told from what was missed
//! ([`FollowError::Lost`]), and the archive must be opened again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fink_dataflow::Moment;
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::ports::Load;
use fink_dataflow::table::entry::{Entry, State, TableChange};
use fink_dataflow::table::store::{runtime, wait};
use fink_dataflow::table::{Archive, Ledger, LedgerError};
use timely::order::PartialOrder;

use super::rows::{Layout, Shelf};
use super::{FileReader, Replay, ReplayError, Selection, Wanted};
use crate::queue::{Bounds, Inlet, Outlet, queue};

/// How often it is looked for the next entry. Each look reads one small object that is not there.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often, where no entry comes, it is looked whether the ledger went on without us.
const PASSED_EVERY: Duration = Duration::from_secs(10);
/// Entries and bytes of light rows that wait for the workers. One worker draws them, so that they come in order.
const BOUNDS: Bounds = Bounds { chunks_max: 64, bytes_max: 64 << 20, chunks_per_worker: usize::MAX, bytes_per_worker: usize::MAX };
/// How often one who waits for room looks whether it was told to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why there is no next entry.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// What comes next was cleaned away: open the archive again.
    #[error("the archive went on without us: {0}")]
    Lost(String),
    /// It may work if tried again.
    #[error(transparent)]
    Retry(#[from] ReplayError),
}

impl From<LedgerError> for FollowError {
    fn from(error: LedgerError) -> Self {
        Self::Retry(error.into())
    }
}

/// The alerts that an entry of the ledger added.
#[derive(Clone, Debug)]
pub struct Added {
    /// The entry's number.
    pub entry: u64,
    /// When it was put by its writer's clock, in milliseconds since 1970 UTC.
    pub written_ms: i64,
    /// The alerts, without cutouts.
    pub alerts: Vec<AlertBatch>,
}

impl Load for Added {
    fn count(&self) -> usize {
        self.alerts.iter().map(Load::count).sum()
    }
    fn bytes(&self) -> usize {
        self.alerts.iter().map(Load::bytes).sum()
    }
}

/// Follows an archive's ledger.
pub struct Follower {
    archive: Archive,
    ledger: Arc<Ledger>,
    state: State,
    /// The entry to be read next.
    next: u64,
    /// The last entry of each table that the history has.
    had: BTreeMap<Arc<str>, u64>,
    layouts: BTreeMap<Arc<str>, Arc<Layout>>,
    shelf: Shelf,
    /// When it was last looked whether the ledger went on without us.
    looked: Option<Instant>,
}

impl Follower {
    /// Opens an archive: what it holds now, and what follows.
    ///
    /// # Errors
    /// When there is no archive, or it can't be read; where that is because it went on meanwhile, the next try will do.
    pub fn open(archive: &Archive) -> Result<(Replay, Self), FollowError> {
        let replay = Replay::to_follow(archive)?;
        let (ledger, had) = (replay.ledger.clone(), replay.applied.clone());
        let state = runtime().block_on(ledger.read())?;
        let missed = runtime().block_on(missed(&ledger, &state, &had))?;
        let next = missed.first().copied().unwrap_or(state.next);
        let shelf = Shelf::new(ledger.clone(), state.routes.clone());
        let (archive, layouts, looked) = (archive.clone(), BTreeMap::new(), None);
        Ok((replay, Self { archive, ledger, state, next, had, layouts, shelf, looked }))
    }

    /// The entry to be read next: all below were told, or are in the history.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.next
    }

    /// The Moment that the archive had reached.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.state.moment
    }

    /// What the next entry adds; `None`: there is no next entry yet.
    ///
    /// # Errors
    /// See [`FollowError`]; after a [`FollowError::Retry`] the same entry is tried again.
    pub fn poll(&mut self) -> Result<Option<Added>, FollowError> {
        let (ledger, number) = (self.ledger.clone(), self.next);
        let Some(entry) = wait(async move { ledger.entry(number).await })? else {
            return self.look_around().map(|()| None);
        };
        let mut alerts = Vec::new();
        let routed = |table: &Arc<str>| {
            let mut routes = self.state.routes.values().chain(&entry.routes);
            routes.any(|route| route.table == *table)
        };
        let has = |change: &TableChange| self.had.get(&change.table).is_some_and(|had| *had >= number);
        let changes: Vec<_> = entry.tables.iter().filter(|change| change.data_change && routed(&change.table) && !has(change)).collect();
        self.shelf.learn(&entry.routes);
        for change in changes {
            let layout = self.layout(change)?;
            for file in &change.adds {
                let selection = Selection::default();
                let reader = FileReader { archive: &self.archive, selection: &selection, wanted: Wanted::Light };
                let read = reader.read(&layout, file, &mut self.shelf, |batch| {
                    alerts.push(batch);
                    true
                });
                read.map_err(|error| lost_or_not(error, number))?;
            }
        }
        // Only now: what failed above is tried again.
        if number == self.state.next {
            self.state.apply(&entry).map_err(LedgerError::from)?;
        }
        self.next = number + 1;
        let Entry { written_ms, .. } = entry;
        Ok(Some(Added { entry: number, written_ms, alerts }))
    }

    /// How a table's rows are laid out after a change.
    fn layout(&mut self, change: &TableChange) -> Result<Arc<Layout>, ReplayError> {
        if change.schema.is_none()
            && let Some(layout) = self.layouts.get(&change.table)
        {
            return Ok(layout.clone());
        }
        let known = || self.state.tables.get(&change.table).map(|table| table.schema.as_str());
        let schema = change.schema.as_deref().or_else(known).unwrap_or_default();
        let layout = Arc::new(Layout::of(&change.table, schema).ok_or_else(|| ReplayError::Foreign(change.table.clone()))?);
        self.layouts.insert(change.table.clone(), layout.clone());
        Ok(layout)
    }

    /// Looks now and then whether the entry that does not come was cleaned away.
    fn look_around(&mut self) -> Result<(), FollowError> {
        if self.looked.is_none_or(|at| at.elapsed() >= PASSED_EVERY) {
            self.passed()?;
            self.looked = Some(Instant::now());
        }
        Ok(())
    }

    /// An error where the next entry was there once.
    fn passed(&self) -> Result<(), FollowError> {
        let (ledger, number) = (self.ledger.clone(), self.next);
        // What was passed may have been put since it was looked for.
        let gone =
            wait(async move { Ok::<_, LedgerError>(ledger.passed(number).await?.is_some() && ledger.entry(number).await?.is_none()) })?;
        if gone { Err(FollowError::Lost(format!("entry {number} of its ledger was cleaned before it was read"))) } else { Ok(()) }
    }
}

/// The entries up to `state` that tables do not have which `had` tells of.
async fn missed(ledger: &Ledger, state: &State, had: &BTreeMap<Arc<str>, u64>) -> Result<BTreeSet<u64>, FollowError> {
    let mut missed = BTreeSet::new();
    let tables: BTreeSet<&Arc<str>> = state.routes.values().map(|route| &route.table).collect();
    for table in tables {
        let (had, mut at) = (had.get(table).copied(), state.tables.get(table).map(|table| table.last));
        while let Some(number) = at.filter(|number| had.is_none_or(|had| had < *number)) {
            missed.insert(number);
            let cleaned = || FollowError::Lost(format!("entry {number} is in the ledger, not in table {table}, and was cleaned"));
            let entry = ledger.entry(number).await?.ok_or_else(cleaned)?;
            at = entry.tables.iter().find(|change| change.table == *table).and_then(|change| change.previous);
        }
    }
    Ok(missed)
}

/// A file that is no longer there was replaced, and vacuumed since.
fn lost_or_not(error: ReplayError, entry: u64) -> FollowError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if matches!(at.downcast_ref(), Some(object_store::Error::NotFound { .. })) {
            return FollowError::Lost(format!("a file of entry {entry} was replaced and deleted before it was read ({error})"));
        }
        cause = at.source();
    }
    FollowError::Retry(error)
}

/// A follower at work. Clones are the same.
#[derive(Clone, Default)]
pub struct Following {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<Place>,
}

/// Where a follower is.
#[derive(Default)]
struct Place {
    /// Entries that were handed over and not seen in the graph.
    handed: usize,
    /// Those that the graph has, each with the Moment from which on it does, as far as nobody asked of a later one.
    entered: VecDeque<(Moment, u64, i64)>,
    /// The last entry, with its time, that every answer has.
    within: Option<(u64, i64)>,
    /// All entries below were handed over, or add nothing.
    next: u64,
    /// When it was last seen that there was no other, in milliseconds since 1970 UTC.
    looked_ms: Option<i64>,
    alerts: u64,
    trouble: Option<String>,
    lost: Option<String>,
}

/// What an answer has of an archive that is followed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Within {
    /// All entries of the ledger below this.
    pub entries: u64,
    /// All that was committed by then, in milliseconds since 1970 UTC.
    pub until_ms: Option<i64>,
    /// Whether entries are known that it does not have.
    pub behind: bool,
}

impl Following {
    /// Follows on a thread of its own, and hands what entries add to whoever draws it, entry by entry.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(follower: Follower) -> std::io::Result<(Self, Inlet<Added>, JoinHandle<()>)> {
        let (outlet, inlet) = queue(BOUNDS);
        let following = Self::default();
        following.place().next = follower.at();
        let own = following.clone();
        let thread = std::thread::Builder::new().name("follow".into()).spawn(move || own.run(follower, &outlet))?;
        Ok((following, inlet, thread))
    }

    /// Follows nothing: for a replay of what is there.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn nothing() -> std::io::Result<(Self, Inlet<Added>, JoinHandle<()>)> {
        let (outlet, inlet) = queue(BOUNDS);
        let following = Self::default();
        let own = following.clone();
        let wait = move || {
            while !own.stopped() {
                std::thread::sleep(PATIENCE);
            }
            // Until then nothing has ended.
            drop(outlet);
        };
        let thread = std::thread::Builder::new().name("follow".into()).spawn(wait)?;
        Ok((following, inlet, thread))
    }

    fn run(&self, mut follower: Follower, outlet: &Outlet<Added>) {
        while !self.stopped() {
            let began_ms = now_ms();
            match follower.poll() {
                Ok(Some(added)) => {
                    if !added.alerts.is_empty() && !self.hand(added, outlet) {
                        return;
                    }
                    let mut place = self.place();
                    (place.next, place.trouble) = (follower.at(), None);
                }
                Ok(None) => {
                    let mut place = self.place();
                    (place.looked_ms, place.trouble) = (Some(began_ms), None);
                    drop(place);
                    std::thread::sleep(LOOK);
                }
                Err(FollowError::Lost(why)) => {
                    self.place().lost = Some(why);
                    return;
                }
                Err(FollowError::Retry(error)) => {
                    self.place().trouble = Some(super::history::chain(&error));
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Hands over what an entry added; `false`: it was told to stop.
    fn hand(&self, added: Added, outlet: &Outlet<Added>) -> bool {
        let rows = added.count() as u64;
        {
            let mut place = self.place();
            place.handed += 1;
            place.alerts += rows;
        }
        let mut waiting = added;
        while !self.stopped() {
            match outlet.send(waiting, PATIENCE) {
                Ok(()) => return true,
                Err(back) => waiting = back,
            }
        }
        false
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the graph has what an entry added, from this Moment on.
    pub fn entered(&self, moment: Moment, added: &Added) {
        let mut place = self.place();
        place.handed -= 1;
        place.entered.push_back((moment, added.entry, added.written_ms));
    }

    /// What an answer at `moment` has. Asked of a chain of Moments, in order.
    #[must_use]
    pub fn within(&self, moment: Moment) -> Within {
        let mut place = self.place();
        while place.entered.front().is_some_and(|(from, ..)| from.less_equal(&moment)) {
            place.within = place.entered.pop_front().map(|(_, entry, written_ms)| (entry, written_ms));
        }
        let (entries, until_ms) = place.within.map_or((0, None), |(entry, written_ms)| (entry + 1, Some(written_ms)));
        let behind = place.handed > 0 || !place.entered.is_empty();
        if behind {
            return Within { entries, until_ms, behind };
        }
        Within { entries: entries.max(place.next), until_ms: until_ms.max(place.looked_ms), behind }
    }

    /// Whether there is anything that it follows.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.place().next > 0
    }

    /// Alerts that were handed over.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.place().alerts
    }

    /// When it was last seen that there is no further entry, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn looked_ms(&self) -> Option<i64> {
        self.place().looked_ms
    }

    /// What keeps it from reading on, while it tries again.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.place().trouble.clone()
    }

    /// Why it can't go on: the archive must be opened again.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.place().lost.clone()
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Reads no more.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_entries_that_were_entered_by_its_moment() {
        let following = Following::default();
        let added = |entry: u64| Added { entry, written_ms: 1_000 * entry.cast_signed(), alerts: Vec::new() };
        let at = |tick| following.within(Moment::new(0, tick));
        following.place().next = 5;
        assert_eq!(at(1), Within { entries: 5, until_ms: None, behind: false }, "all that was there when it was opened");
        following.place().handed = 2;
        assert!(at(1).behind);
        following.entered(Moment::new(0, 3), &added(5));
        following.entered(Moment::new(1, 4), &added(7));
        (following.place().next, following.place().looked_ms) = (9, Some(8_500));
        assert_eq!(at(2), Within { entries: 0, until_ms: None, behind: true });
        assert_eq!(at(3), Within { entries: 6, until_ms: Some(5_000), behind: true });
        assert_eq!(at(4), Within { entries: 6, until_ms: Some(5_000), behind: true }, "of a later epoch");
        let all = following.within(Moment::new(1, 4));
        assert_eq!(all, Within { entries: 9, until_ms: Some(8_500), behind: false }, "entries that add nothing are in, too");
    }
}
