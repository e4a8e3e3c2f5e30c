//! What the catalogues are called, and since which Moment each counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use differential_dataflow::lattice::Lattice;
use fink_dataflow::Moment;
use fink_dataflow::ports::Part;
use fink_operators::catalogue::CatalogueId;
use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;
use timely::progress::Antichain;

/// How a catalogue is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogueAnswer {
    /// Its name.
    pub name: String,
    /// Where it is declared: `fink.toml`, or `archive`.
    pub declared: String,
    /// Its file.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Lines of its file that have no place on the sky.
    pub without_place: u64,
    /// How near an object must be.
    pub radius_arcsec: f64,
    /// The columns that a match tells.
    pub carry: Vec<String>,
    /// Whether its first carried column is a class.
    pub classes: bool,
    /// The change of the archive's catalogues that made it what it is; none of `fink.toml`.
    pub version: Option<u64>,
    /// `reading`, `rolling in`, `counts`, `leaving`, or `failed`; `declared` where nobody who runs was asked.
    pub state: String,
    /// The last Moment that could be asked at when its last change was noticed, as `epoch.tick`.
    pub noticed: Option<String>,
    /// The first Moment that could be asked at and of which it counts.
    pub since: Option<String>,
    /// Why it can't be read.
    pub failed: Option<String>,
}

/// A change that is on its way into the graph.
#[derive(Default)]
struct Job {
    name: String,
    entered: Moment,
    all: bool,
    /// Whether nothing is left of the catalogue then.
    leaves: bool,
}

/// What came of a name, as far as that is over.
#[derive(Default)]
struct Came {
    /// The number of its last change.
    last: usize,
    /// From which Moments on it is known.
    known: Antichain<Moment>,
}

/// A catalogue's name, and the columns that it tells.
pub type Named = (Arc<str>, Arc<[String]>);

#[derive(Default)]
struct Inner {
    catalogues: BTreeMap<String, CatalogueAnswer>,
    names: BTreeMap<CatalogueId, Named>,
    /// Changes on their way, by number.
    jobs: BTreeMap<usize, Job>,
    /// How many were begun.
    begun: usize,
    came: BTreeMap<String, Came>,
    /// What was there when the process started, by whose it is; `None`: it is not known yet.
    first: BTreeMap<&'static str, Option<BTreeSet<String>>>,
    floor: Option<Moment>,
    /// What is wrong with what is no catalogue, by name.
    troubles: BTreeMap<String, String>,
}

/// What is known of the catalogues of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Register {
    inner: Arc<Mutex<Inner>>,
}

impl Register {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers are not complete before it is said what is expected.
    pub fn awaits(&self, whose: &'static str) {
        self.inner().first.insert(whose, None);
    }

    /// What the process starts with: answers are not complete without it.
    pub fn expect(&self, whose: &'static str, names: impl IntoIterator<Item = String>) {
        self.inner().first.insert(whose, Some(names.into_iter().collect()));
    }

    /// What a catalogue is called, for as long as the process runs.
    pub fn call(&self, id: CatalogueId, name: &str, columns: &[String]) {
        self.inner().names.insert(id, (name.into(), columns.into()));
    }

    /// The name and the columns of a catalogue.
    #[must_use]
    pub fn name(&self, id: CatalogueId) -> Option<Named> {
        self.inner().names.get(&id).cloned()
    }

    /// A change of a catalogue is about to be read.
    pub fn note(&self, catalogue: CatalogueAnswer) {
        let mut inner = self.inner();
        let since = inner.catalogues.get(&catalogue.name).and_then(|before| before.since.clone());
        let noticed = inner.floor.map(|moment| moment.to_string());
        let reading = CatalogueAnswer { state: "reading".to_owned(), since, noticed, ..catalogue };
        inner.catalogues.insert(reading.name.clone(), reading);
    }

    /// It has so many rows, and so many lines without a place.
    pub fn count(&self, name: &str, rows: u64, without_place: u64) {
        if let Some(catalogue) = self.inner().catalogues.get_mut(name) {
            (catalogue.rows, catalogue.without_place) = (rows, without_place);
        }
    }

    /// It can't be read.
    pub fn fail(&self, name: &str, why: String) {
        if let Some(catalogue) = self.inner().catalogues.get_mut(name) {
            (catalogue.state, catalogue.failed) = ("failed".to_owned(), Some(why));
        }
    }

    /// What is wrong with something that is no catalogue, for a person; `None`: it is right again.
    pub fn trouble(&self, name: &str, why: Option<String>) {
        let mut inner = self.inner();
        match why {
            Some(why) => drop(inner.troubles.insert(name.to_owned(), why)),
            None => drop(inner.troubles.remove(name)),
        }
    }

    /// A change begins to come in; returns the number that its pieces carry.
    pub fn begin(&self, name: &str) -> usize {
        self.job(name, "rolling in", false)
    }

    /// As [`Register::begin`], of all rows that a catalogue had: nothing is left of it then.
    pub fn begin_to_leave(&self, name: &str) -> usize {
        self.job(name, "leaving", true)
    }

    fn job(&self, name: &str, state: &str, leaves: bool) -> usize {
        let mut inner = self.inner();
        if let Some(catalogue) = inner.catalogues.get_mut(name) {
            (catalogue.state, catalogue.failed) = (state.to_owned(), None);
        }
        let number = inner.begun;
        inner.begun += 1;
        inner.jobs.insert(number, Job { name: name.to_owned(), leaves, ..Job::default() });
        inner.came.entry(name.to_owned()).or_default().last = number;
        number
    }

    /// A piece of a change entered the graph.
    pub fn entered(&self, job: usize, part: Part, moment: Moment) {
        if let Some(job) = self.inner().jobs.get_mut(&job) {
            job.entered = job.entered.join(&moment);
            job.all |= part == Part::Last;
        }
    }

    /// All workers have closed this Moment.
    pub fn closed(&self, floor: Moment) {
        let mut inner = self.inner();
        if inner.floor == Some(floor) {
            return;
        }
        inner.floor = Some(floor);
        let Inner { jobs, came, catalogues, first, .. } = &mut *inner;
        for (number, job) in jobs.extract_if(.., |_, job| job.all && job.entered.less_equal(&floor)) {
            tracing::info!(catalogue = job.name, since = %floor, "the catalogue's change counts");
            let came = came.entry(job.name.clone()).or_default();
            came.known.insert(job.entered);
            if came.last == number {
                if job.leaves {
                    catalogues.remove(&job.name);
                    // Answers that know nothing of it are complete again.
                    first.values_mut().flatten().for_each(|first| {
                        first.remove(&job.name);
                    });
                } else if let Some(catalogue) = catalogues.get_mut(&job.name).filter(|catalogue| catalogue.state == "rolling in") {
                    (catalogue.state, catalogue.since) = ("counts".to_owned(), Some(floor.to_string()));
                }
            }
        }
    }

    /// Whether the answers of a Moment know all catalogues that the process started with.
    #[must_use]
    pub fn complete(&self, moment: Moment) -> bool {
        let inner = self.inner();
        let comes = |name: &String| inner.jobs.values().any(|job| job.name == *name && job.all && job.entered.less_equal(&moment));
        let counts = |name: &String| inner.came.get(name).is_some_and(|came| came.known.less_equal(&moment)) || comes(name);
        inner.first.values().all(|first| first.as_ref().is_some_and(|first| first.iter().all(counts)))
    }

    /// All catalogues, by name.
    #[must_use]
    pub fn catalogues(&self) -> Vec<CatalogueAnswer> {
        self.inner().catalogues.values().cloned().collect()
    }

    /// What is wrong with any of them, for a person.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let inner = self.inner();
        let failed = inner.catalogues.values().filter_map(|catalogue| catalogue.failed.clone());
        failed.chain(inner.troubles.values().cloned()).collect()
    }
}
