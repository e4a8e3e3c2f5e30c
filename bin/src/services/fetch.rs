//! Light curves that are in the archive and not in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fink_dataflow::detection::ObjectId;
use fink_dataflow::table::Archive;
use fink_operators::objects::{Entry, Summary, summarise};
use fink_operators::surveys::light_rows;
use fink_sources::archive::select::Objects;
use fink_sources::archive::{Replay, ReplayError, Selection};

/// Threads that read.
const THREADS: usize = 2;

/// What is known of an object that is to be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Known {
    /// The nights of its alerts, in days since 1970.
    pub nights: BTreeSet<i32>,
    /// How many alerts must be found, duplicates not counted.
    pub alerts: u32,
}

impl Known {
    /// What a summary tells, of which so many alerts are in memory: these may be none that are archived.
    #[must_use]
    pub fn of(summary: &Summary, here: usize) -> Self {
        let alerts = summary.alerts.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX));
        Self { nights: summary.nights().collect(), alerts }
    }
}

/// All entries of objects, each once, in their order.
pub type Curves = BTreeMap<ObjectId, BTreeSet<Entry>>;

/// Reads light curves from an archive: from its table of light rows, and from the alerts that this does not hold yet.
#[derive(Clone)]
pub struct Fetch {
    archive: Archive,
    stop: Arc<AtomicBool>,
}

impl Fetch {
    /// From this archive.
    #[must_use]
    pub fn new(archive: &Archive) -> Self {
        Self { archive: archive.clone(), stop: Arc::default() }
    }

    /// The same, which ends when this is set; what it returns then is of no use.
    #[must_use]
    pub fn ends_with(&self, stop: Arc<AtomicBool>) -> Self {
        Self { archive: self.archive.clone(), stop }
    }

    /// The entries of these objects; of one that can't be found whole, none.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn curves(&self, wanted: &BTreeMap<ObjectId, Known>) -> Result<Curves, ReplayError> {
        let nights = wanted.values().flat_map(|known| known.nights.iter().copied()).collect();
        let mut curves = self.of_nights(wanted.keys(), Some(nights))?;
        curves.retain(|object, entries| is_whole(*object, entries, wanted));
        // One whose alerts are in other nights than their times say.
        let others: Vec<_> = wanted.keys().filter(|object| !curves.contains_key(object)).collect();
        if !others.is_empty() {
            let mut found = self.of_nights(others.into_iter(), None)?;
            found.retain(|object, entries| is_whole(*object, entries, wanted));
            curves.append(&mut found);
        }
        Ok(curves)
    }

    fn of_nights<'o>(&self, objects: impl Iterator<Item = &'o ObjectId>, nights: Option<BTreeSet<i32>>) -> Result<Curves, ReplayError> {
        let mut curves: Curves = objects.map(|object| (*object, BTreeSet::new())).collect();
        let names = curves.keys().map(|object| object.name().to_owned()).collect();
        let objects = Objects::Named(Arc::new(names));
        let selection = Selection { objects, some_nights: nights.map(Arc::new), ..Selection::default() };
        Replay::history_of(&self.archive, selection)?.ends_with(Arc::clone(&self.stop)).run(THREADS, |batch| {
            for alert in light_rows(&batch).0 {
                if let Some(entries) = curves.get_mut(&alert.object) {
                    entries.extend(Entry::all_of(alert));
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(curves)
    }
}

/// Whether all alerts that are known of are there.
fn is_whole(object: ObjectId, entries: &BTreeSet<Entry>, wanted: &BTreeMap<ObjectId, Known>) -> bool {
    let alerts = summarise(object.survey, entries.iter()).map_or(0, |summary| summary.alerts);
    !entries.is_empty() && wanted.get(&object).is_some_and(|known| alerts >= known.alerts)
}
