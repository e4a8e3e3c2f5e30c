//! Which points an object's light curve has: each once, however often it was sent.

use std::cmp::Ordering;

use fink_dataflow::detection::{Detection, Kind, Point};
use serde::{Deserialize, Serialize};

/// What an alert adds to its object: itself, or a point that it repeats.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// An alert. These come first in order, duplicates beside each other, the one that counts first.
    Own(Detection),
    /// A point of some alert's history.
    Repeated(Point),
}

impl Entry {
    /// The point.
    #[must_use]
    pub fn point(&self) -> &Point {
        match self {
            Self::Own(detection) => &detection.point,
            Self::Repeated(point) => point,
        }
    }
}

/// The light curve of an object's entries, which come in order, and the alerts that count, both in order of observation.
///
/// Each point once, by kind and id: as its own alert has it, else the least of its copies. Of an alert sent several times
/// the least by (time, source, topic, partition, offset) counts.
#[must_use]
pub fn curve<'e>(entries: impl Iterator<Item = &'e Entry>) -> (Vec<&'e Point>, Vec<&'e Detection>) {
    let (mut points, mut alerts): (Vec<&Point>, Vec<&Detection>) = Default::default();
    let key = |point: &Point| (point.kind, point.id);
    // Those of alerts stand before `own`, ordered by key; what is repeated comes in the same order after them, so that
    // one walk finds who is there already.
    let (mut own, mut at) = (0, 0);
    for entry in entries {
        match entry {
            Entry::Own(detection) => {
                if alerts.last().is_none_or(|last| key(&last.point) != key(&detection.point)) {
                    points.push(&detection.point);
                    alerts.push(detection);
                    own += 1;
                }
            }
            Entry::Repeated(point) => {
                while at < own && key(points[at]) < key(point) {
                    at += 1;
                }
                let known = at < own && key(points[at]) == key(point);
                let copy = points.len() > own && key(points[points.len() - 1]) == key(point);
                if !known && !copy {
                    points.push(point);
                }
            }
        }
    }
    points.sort_by(|a, b| observed(a, b));
    alerts.sort_by(|a, b| observed(&a.point, &b.point));
    (points, alerts)
}

/// The order of observation.
fn observed(a: &Point, b: &Point) -> Ordering {
    let key = |p: &Point| (p.mjd_tai, p.kind as u8, p.id);
    key(a).cmp(&key(b))
}

/// Whether something was seen, by the survey itself.
pub(super) fn is_detection(point: &Point) -> bool {
    point.kind == Kind::Detection
}
