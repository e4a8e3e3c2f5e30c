//! What services say of simulated objects, compared with the truth.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use indicatif::HumanCount;
use serde::Serialize;

use super::ask::look;
use super::show::columns;
use super::truths::NAME;
use crate::services::answers::{Answer, OneAnswer};

/// What the columns about a catalogue are called.
const MATCHED: [&str; 5] = ["own row", "other's nearer", "missed", "not in it: a row", "none"];
const NO_MATCH: Matched = Matched { own: 0, other: 0, missed: 0, stranger: 0, none: 0 };

/// An object as the truth has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its true class.
    pub(super) class: String,
    /// Its alerts that the archive holds.
    pub(super) alerts: BTreeSet<i64>,
    /// Whether the catalogue of this sky has it; `None` where none was named.
    pub(super) catalogued: Option<bool>,
}

/// What services say of the objects of a class.
#[derive(Debug, Default, Serialize)]
struct Said {
    /// Objects of which the archive holds an alert.
    objects: u64,
    /// Of these, those that the services do not know.
    unknown: u64,
    /// Of these, those of which they count other alerts than the archive holds.
    miscounted: u64,
    /// Of those that are known, what became of their match with the catalogue of this sky.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<Matched>,
    /// What they are taken for.
    taken_for: BTreeMap<String, u64>,
}

/// Objects by their match with the catalogue of this sky.
#[derive(Debug, Default, Serialize)]
struct Matched {
    /// In the catalogue, and nearest to their own row.
    own: u64,
    /// In the catalogue, and nearer to another object's row than to their own.
    other: u64,
    /// In the catalogue, without their own row.
    missed: u64,
    /// Not in the catalogue, with another object's row.
    stranger: u64,
    /// Not in the catalogue, without any row.
    none: u64,
}

impl Matched {
    /// Counts an object: its name, whether the catalogue has it, and the names of the rows at its place, nearest first.
    fn add<'a>(&mut self, name: &str, catalogued: bool, mut rows: impl Iterator<Item = &'a str>) {
        let first = rows.next();
        let count = match (catalogued, first) {
            (true, Some(row)) if row == name => &mut self.own,
            (true, _) if rows.any(|row| row == name) => &mut self.other,
            (true, _) => &mut self.missed,
            (false, Some(_)) => &mut self.stranger,
            (false, None) => &mut self.none,
        };
        *count += 1;
    }
}

/// The whole comparison.
#[derive(Debug, Default, Serialize)]
pub(super) struct Classes {
    /// The Moment of the answers.
    moment: String,
    /// Whether the services had all of the archive's history by then.
    complete: bool,
    classes: BTreeMap<String, Said>,
}

impl Classes {
    /// Asks the process at `address` of every object.
    ///
    /// # Errors
    /// When it does not answer, or runs no services.
    pub(super) fn ask(address: &str, objects: &BTreeMap<String, Known>) -> anyhow::Result<Self> {
        let progress: Option<serde_json::Value> = look(address, "/progress", &[])?;
        let services = progress.map(|progress| progress["services"].clone()).unwrap_or_default();
        ensure!(!services.is_null(), "{address} runs no services: start them beside the archive, `fink start archive services`");
        let mut classes = Self {
            moment: services["moment"].as_str().unwrap_or("?").to_owned(),
            complete: services["complete"].as_bool().unwrap_or(false),
            classes: BTreeMap::new(),
        };
        for (object, known) in objects {
            let answer: Option<Answer<OneAnswer>> =
                look(address, "/api/v1/objects", &[("objectId", object.clone())]).with_context(|| format!("object {object}"))?;
            let said = classes.classes.entry(known.class.clone()).or_default();
            said.objects += 1;
            let Some(Answer { answer: OneAnswer { object }, .. }) = answer else {
                said.unknown += 1;
                continue;
            };
            said.miscounted += u64::from(object.alerts as usize != known.alerts.len());
            if let Some(catalogued) = known.catalogued {
                let names = object.matches.iter().filter_map(|row| row.carried.get(NAME).map(String::as_str));
                said.matched.get_or_insert_default().add(&object.object_id, catalogued, names);
            }
            *said.taken_for.entry(object.class.unwrap_or_else(|| "no class".to_owned())).or_default() += 1;
        }
        Ok(classes)
    }

    /// Whether the services know every object, and count its alerts as they are.
    pub(super) fn right(&self) -> bool {
        self.classes.values().all(|said| said.unknown == 0 && said.miscounted == 0)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let matched = self.classes.values().any(|said| said.matched.is_some());
        let heads = [&["class", "objects", "unknown", "miscounted"][..], if matched { &MATCHED } else { &[] }, &["taken for"]].concat();
        let mut table = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for (class, said) in &self.classes {
            let taken: Vec<String> = said.taken_for.iter().map(|(name, count)| format!("{name} {}", HumanCount(*count))).collect();
            let mut counts = vec![said.objects, said.unknown, said.miscounted];
            if matched {
                let Matched { own, other, missed, stranger, none } = said.matched.as_ref().unwrap_or(&NO_MATCH);
                counts.extend([own, other, missed, stranger, none].map(|count| *count));
            }
            let counts = counts.into_iter().map(|count| HumanCount(count).to_string());
            table.push([class.clone()].into_iter().chain(counts).chain([taken.join(", ")]).collect());
        }
        let state = if self.complete { "complete" } else { "NOT complete: history is still coming in" };
        let verdict =
            if self.right() { "all objects are known, with all of their alerts" } else { "NOT all objects are known as they are" };
        format!("{}\nservices at Moment {}, {state}\n{verdict}\n", columns(&table), self.moment)
    }
}
