//! What services say of simulated objects, compared with the truth.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use indicatif::HumanCount;
use serde::Serialize;

use super::ask::look;
use super::show::columns;
use crate::services::answers::{Answer, OneAnswer};

/// An object as the truth has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its true class.
    pub(super) class: String,
    /// Its alerts that the archive holds.
    pub(super) alerts: BTreeSet<i64>,
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
    /// What they are taken for.
    taken_for: BTreeMap<String, u64>,
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
        let mut table = vec![["class", "objects", "unknown", "miscounted", "taken for"].map(str::to_owned)];
        for (class, said) in &self.classes {
            let taken: Vec<String> = said.taken_for.iter().map(|(name, count)| format!("{name} {}", HumanCount(*count))).collect();
            let [objects, unknown, miscounted] = [said.objects, said.unknown, said.miscounted].map(|count| HumanCount(count).to_string());
            table.push([class.clone(), objects, unknown, miscounted, taken.join(", ")]);
        }
        let state = if self.complete { "complete" } else { "NOT complete: history is still coming in" };
        let verdict =
            if self.right() { "all objects are known, with all of their alerts" } else { "NOT all objects are known as they are" };
        format!("{}\nservices at Moment {}, {state}\n{verdict}\n", columns(&table), self.moment)
    }
}
