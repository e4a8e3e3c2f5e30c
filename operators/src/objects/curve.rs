//! Which points an object's light curve has: each once, however often it was sent.

use std::cmp::Ordering;
use std::sync::Arc;

use fink_dataflow::detection::{Address, Band, Detection, Enriched, Kind, LightAlert, Point, Real, Real32, Unit};
use serde::{Deserialize, Serialize};

use super::packed::Seen;
use crate::classify::rules::Signs;

/// What an alert adds to its object: itself, or a point that it repeats.
///
/// Most entries are repeated points, of which there are tens an alert: what only alerts have stands apart. Where many are kept,
/// they are [`super::packed`].
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The point.
    pub point: Point,
    /// What an alert of its own adds to it.
    pub own: Option<Box<Own>>,
}

/// What an alert has beside its point.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Own {
    /// Where it stands in its log.
    pub address: Address,
    /// What the rules see of it.
    pub signs: Signs,
    /// Whether the survey knows it to move.
    pub moves: bool,
    /// What others found out, where the alert carries it.
    pub enriched: Option<Arc<Enriched>>,
}

impl Entry {
    /// An alert's own.
    #[must_use]
    pub fn own(detection: Detection) -> Self {
        let Detection { point, traits, address } = detection;
        let signs = Signs::of(&traits);
        Self { point, own: Some(Box::new(Own { address, signs, moves: traits.roid == 3, enriched: traits.enriched })) }
    }

    /// All that an alert adds: itself, and the points that it repeats.
    pub fn all_of(alert: LightAlert) -> impl Iterator<Item = Self> {
        std::iter::once(Self::own(alert.detection)).chain(alert.history.into_iter().map(Self::repeated))
    }

    /// A point of some alert's history.
    #[must_use]
    pub fn repeated(point: Point) -> Self {
        Self { point, own: None }
    }

    /// What stands for the entries of an object that are away.
    #[must_use]
    pub fn away() -> Self {
        let (none, single) = (Real::NONE, Real32::NONE);
        Self::repeated(Point {
            kind: Kind::Away,
            id: 0,
            mjd_tai: none,
            ra_deg: none,
            dec_deg: none,
            value: single,
            error: single,
            limit: single,
            score: single,
            band: Band(0),
            unit: Unit::Magnitude,
            negative: false,
        })
    }

    /// Whether it stands for entries that are away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.point.kind == Kind::Away
    }

    fn key(&self) -> (Kind, i64) {
        (self.point.kind, self.point.id)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// As [`Seen`]: copies of a point stand beside each other, the one that counts first.
    fn cmp(&self, other: &Self) -> Ordering {
        Seen::from(self).cmp(&Seen::from(other))
    }
}

/// How many alerts of their own there are among entries, which come in order.
pub fn own_alerts<'e>(entries: impl Iterator<Item = Seen<'e>>) -> usize {
    let mut ids: Vec<i64> = entries.filter(|seen| seen.own.is_some()).map(|seen| seen.point.id).collect();
    ids.dedup();
    ids.len()
}

/// The light curve of an object's entries, which come in order: each point once, in order of observation.
#[must_use]
pub fn curve<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<&'e Entry> {
    let mut curve: Vec<&Entry> = Vec::new();
    for entry in entries {
        if curve.last().is_none_or(|last| last.key() != entry.key()) {
            curve.push(entry);
        }
    }
    // The order of observation.
    curve.sort_by_key(|entry| (entry.point.mjd_tai, entry.key()));
    curve
}
