//! The classes of an object's alerts, in order of observation.

use std::sync::Arc;

use fink_dataflow::detection::Real;
use serde::{Deserialize, Serialize};

use super::rules::{Rule, UNKNOWN, finkclass};
use crate::catalogue::CatalogueId;
use crate::crossmatch::Match;
use crate::objects::summary::Run;

/// What an object is taken for.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Classes {
    /// What stands at its place: by catalogue, nearest first.
    pub matches: Box<[Match]>,
    /// What its alerts were taken for, one after another; the last is what it is taken for now.
    pub history: Box<[Change]>,
}

/// From here on, an object's alerts have this class.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Change {
    /// When the first of them was observed, modified Julian date of TAI.
    pub mjd_tai: Real,
    /// The first of them.
    pub alert: i64,
    /// The rule that gave it.
    pub rule: Rule,
    /// The type of what stands there, where that is the class.
    pub kind: Option<Arc<str>>,
    /// The catalogue and row that say so; none where the alert carries the type.
    pub row: Option<(CatalogueId, u32)>,
    /// How many alerts on which night; nights in days since 1970.
    pub nights: Box<[(i32, u32)]>,
}

impl Change {
    /// The class, in Fink's words.
    #[must_use]
    pub fn class(&self) -> Arc<str> {
        self.kind.clone().unwrap_or_else(|| self.rule.label().into())
    }
}

impl Classes {
    /// What the object is taken for now.
    #[must_use]
    pub fn current(&self) -> Option<&Change> {
        self.history.last()
    }

    /// The nearest match in a catalogue.
    #[must_use]
    pub fn nearest(&self, catalogue: CatalogueId) -> Option<&Match> {
        self.matches.iter().find(|found| found.catalogue == catalogue)
    }
}

/// The classes of an object's alerts, of which `runs` tells, where `matches` (by catalogue, nearest first) stand at its place.
///
/// The type at an alert's place is the one that it carries, if that is known; else that of the nearest match in the first
/// catalogue of types ([`CatalogueId::typed`]) whose nearest has one; else whatever it carries.
#[must_use]
pub fn classes(runs: &[Run], matches: &[Match]) -> Classes {
    let nearest = matches.chunk_by(|a, b| a.catalogue == b.catalogue).map(|of_one| &of_one[0]);
    let mut types = nearest.filter(|found| found.catalogue.is_typed());
    let typed = types.find_map(|found| Some((found, found.carried.first()?)).filter(|(_, kind)| !kind.is_empty()));
    let mut history: Vec<(Change, Vec<(i32, u32)>)> = Vec::new();
    for run in runs {
        let carried = run.cdsxmatch.as_deref().unwrap_or(UNKNOWN);
        let (kind, row) = match typed {
            Some((found, kind)) if carried == UNKNOWN || carried.starts_with("Fail") => (&**kind, Some((found.catalogue, found.number))),
            _ => (carried, None),
        };
        let rule = finkclass(run.signs, kind);
        let (kind, row) = if rule == Rule::Catalogue { (Some(kind), row) } else { (None, None) };
        match history.last_mut().filter(|(last, _)| last.rule == rule && last.kind.as_deref() == kind && last.row == row) {
            Some((_, nights)) => {
                for (night, alerts) in &run.nights {
                    match nights.last_mut().filter(|(last, _)| last == night) {
                        Some((_, count)) => *count += alerts,
                        None => nights.push((*night, *alerts)),
                    }
                }
            }
            None => {
                let kind = kind.map(Arc::from);
                let change = Change { mjd_tai: run.mjd_tai, alert: run.alert, rule, kind, row, nights: Box::default() };
                history.push((change, run.nights.to_vec()));
            }
        }
    }
    let history = history.into_iter().map(|(change, nights)| Change { nights: nights.into(), ..change });
    Classes { matches: matches.into(), history: history.collect() }
}
