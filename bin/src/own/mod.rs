//! Services of one's own: a crate that composes fink's operators with its own, and runs beside the others in `fink start`.
//!
//! ```text
//!  alerts ──────────┐
//!  summaries ───────┤
//!  matches ─────────┼─► your operators ─► (key, answer) ─► /api/v1/own/NAME?key=KEY
//!  classes ─────────┤                                      at a closed Moment, with `complete`
//!  tables of yours ─┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`answers`] | what a service answers with, and how it is kept |
//! | [`lines`] | tables of one's own: files whose lines come and go |
//!
//! Your program is `fink` with one command line and one service more: see `docs/own-service.md` and `bin/examples/`.

pub mod answers;
pub mod lines;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use differential_dataflow::VecCollection;
use fink_dataflow::Moment;
use fink_dataflow::detection::ObjectId;
use fink_operators::classify::Matches;
use fink_operators::classify::history::Classes;
use fink_operators::objects::{ByObject, LightAlerts, Summary};
use timely::dataflow::{ProbeHandle, Scope};

pub use answers::Answers;
use answers::Kept;
use lines::Line;

use crate::services::Service;

/// What builds a service's part of the graph, on each worker.
type Build = Arc<dyn for<'s> Fn(Inputs<'s>) -> Answers<'s> + Send + Sync>;

/// A service of one's own.
#[derive(Clone)]
pub struct Own {
    name: String,
    about: String,
    tables: Vec<(String, PathBuf)>,
    build: Build,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("name", &self.name).field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Own {
    /// A service of this name, and what it does in a few words. `build` is called once on each worker, and must build the same
    /// on all of them; what it answers is a collection of keys and answers ([`Answers::by_key`]).
    ///
    /// # Panics
    /// When the name is no plain word, or one of fink's own services'.
    #[must_use]
    pub fn new(name: &str, about: &str, build: impl for<'s> Fn(Inputs<'s>) -> Answers<'s> + Send + Sync + 'static) -> Self {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(plain, "`{name}` is no name for a service: take lower-case letters, digits and -");
        let taken = ["archive", "all", "simulator"].contains(&name) || !Service::named(name).is_empty();
        assert!(!taken, "`{name}` is a service of fink's own: take another name");
        Self { name: name.to_owned(), about: about.to_owned(), tables: Vec::new(), build: Arc::new(build) }
    }

    /// With a table of its own: a file of lines, which come and go as the file changes ([`Inputs::table`]).
    #[must_use]
    pub fn with_table(mut self, name: &str, file: impl Into<PathBuf>) -> Self {
        self.tables.push((name.to_owned(), file.into()));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Its tables: name and file.
    #[must_use]
    pub fn tables(&self) -> &[(String, PathBuf)] {
        &self.tables
    }

    pub(crate) fn build<'s>(&self, inputs: Inputs<'s>) -> Answers<'s> {
        (self.build)(inputs)
    }
}

/// What a service sees. Every collection has all of history and what comes now, each row at the Moment at which it came; late
/// data and changed catalogues correct it. They are cheap to clone.
#[derive(Clone)]
pub struct Inputs<'s> {
    /// Where it is built.
    pub scope: Scope<'s, Moment>,
    /// Light rows of all alerts, duplicates among them, as they came.
    pub alerts: LightAlerts<'s, Moment>,
    /// What follows from each object's light curve, one an object.
    pub summaries: ByObject<'s, Moment, Summary>,
    /// What stands in catalogues at the places of those objects that have anything there.
    pub matches: ByObject<'s, Moment, Matches>,
    /// What each object is taken for, one an object.
    pub classes: VecCollection<'s, Moment, (ObjectId, Classes), isize>,
    pub(crate) tables: Vec<(String, VecCollection<'s, Moment, String, isize>)>,
}

impl<'s> Inputs<'s> {
    /// The lines of one of the service's tables, as they are now: a line that goes is retracted. All of a change of the file
    /// is there from one Moment on.
    ///
    /// # Panics
    /// When the service was not given a table of this name ([`Own::with_table`]).
    #[must_use]
    pub fn table(&self, name: &str) -> VecCollection<'s, Moment, String, isize> {
        let found = self.tables.iter().find(|(own, _)| own == name);
        found.unwrap_or_else(|| panic!("the service has no table `{name}`: give it one, with_table(\"{name}\", FILE)")).1.clone()
    }
}

/// Builds services of one's own; `lines` are those of all their tables, numbered service by service.
pub(crate) fn build<'s>(
    services: &[Own],
    inputs: &Inputs<'s>,
    lines: &VecCollection<'s, Moment, Line, isize>,
    answered: &ProbeHandle<Moment>,
) -> BTreeMap<String, Box<dyn Kept>> {
    let mut number = 0;
    let mut kept = BTreeMap::new();
    for service in services {
        let mut tables = Vec::new();
        for (name, _) in service.tables() {
            let own = number;
            tables.push((name.clone(), lines.clone().flat_map(move |(table, line)| (table == own).then_some(line))));
            number += 1;
        }
        let answers = service.build(Inputs { tables, ..inputs.clone() });
        kept.insert(service.name.clone(), answers.kept(answered));
    }
    kept
}

static OWN: OnceLock<Vec<Own>> = OnceLock::new();

/// The services that this program has beside fink's.
#[must_use]
pub fn known() -> &'static [Own] {
    OWN.get().map_or(&[], Vec::as_slice)
}

/// The program: fink's command line, with services of one's own. To be called by `main`, which returns what this returns.
///
/// # Panics
/// When it is called twice, or two services have one name.
#[must_use]
pub fn program(services: impl IntoIterator<Item = Own>) -> ExitCode {
    let services: Vec<Own> = services.into_iter().collect();
    for (index, service) in services.iter().enumerate() {
        assert!(services[..index].iter().all(|other| other.name != service.name), "two services are called `{}`", service.name);
    }
    assert!(OWN.set(services).is_ok(), "a program starts once");
    crate::cli::program()
}
