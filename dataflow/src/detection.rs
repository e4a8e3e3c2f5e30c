//! The light row: what the services know of an alert, whichever survey sent it.
//!
//! | type | what it is | bytes |
//! |---|---|---|
//! | [`ObjectId`] | a survey, and its name for an object | 24 |
//! | [`Point`] | one point of a light curve | 56 |
//! | [`Detection`] | an alert's own point, what rules ask of the alert, and where it stands in its log | 112 |
//! | [`LightAlert`] | a detection, its object, and the points of the alert's history | |
//!
//! All are totally ordered, so that differential dataflow can hold them, and survive a channel between processes. Text of
//! fixed length stands in the row itself; logs are shared.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::Log;

macro_rules! real {
    ($(#[$doc:meta])* $name:ident, $float:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, Serialize, Deserialize)]
        pub struct $name(pub $float);

        impl $name {
            /// No number.
            pub const NONE: Self = Self(<$float>::NAN);

            /// The number, unless it is none.
            #[must_use]
            pub fn some(self) -> Option<$float> {
                (!self.0.is_nan()).then_some(self.0)
            }

            /// All NaNs are one, and so are the zeroes.
            fn canonical(self) -> $float {
                if self.0.is_nan() { <$float>::NAN } else { self.0 + 0.0 }
            }
        }

        impl From<$float> for $name {
            fn from(value: $float) -> Self {
                Self(value)
            }
        }
        impl From<Option<$float>> for $name {
            fn from(value: Option<$float>) -> Self {
                value.map_or(Self::NONE, Self)
            }
        }
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                // Ordinary numbers, which nearly all are, compare in one step.
                self.0.partial_cmp(&other.0).unwrap_or_else(|| self.canonical().total_cmp(&other.canonical()))
            }
        }
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.canonical().to_bits().hash(state);
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

real!(
    /// A double with a total order: NaN, which stands for none, equals itself and is the greatest.
    Real, f64
);
real!(
    /// A single with a total order: NaN, which stands for none, equals itself and is the greatest.
    Real32, f32
);

/// A survey's number, from its table of differences. Numbers are for rows in memory: whatever is stored or shown has the
/// survey's name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct SurveyId(pub u8);

/// The longest name of an object, in bytes.
pub const OBJECT_NAME_BYTES_MAX: usize = 22;

/// An object, by its survey's name for it: `ZTF21abiuvdk`, or a number in decimal digits (LSST's `diaObjectId`).
#[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// The survey.
    pub survey: SurveyId,
    bytes: u8,
    name: [u8; OBJECT_NAME_BYTES_MAX],
}

impl ObjectId {
    /// The object of this name; `None` if the name is empty or longer than [`OBJECT_NAME_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(survey: SurveyId, name: &str) -> Option<Self> {
        let bytes = u8::try_from(name.len()).ok().filter(|n| (1..=OBJECT_NAME_BYTES_MAX).contains(&usize::from(*n)))?;
        let mut fixed = [0; OBJECT_NAME_BYTES_MAX];
        fixed[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { survey, bytes, name: fixed })
    }

    /// The survey's name for the object.
    #[must_use]
    pub fn name(&self) -> &str {
        // A row that was made by this type holds text; one that came over a broken wire is still no reason to end.
        std::str::from_utf8(&self.name[..usize::from(self.bytes).min(OBJECT_NAME_BYTES_MAX)]).unwrap_or("?")
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.survey.0, self.name())
    }
}

/// A log that many rows share.
#[derive(Clone, Debug)]
pub struct LogRef(Arc<Log>);

thread_local! {
    /// The logs that this worker's rows came with from other processes, each once.
    static LOGS: RefCell<HashSet<Arc<Log>>> = RefCell::new(HashSet::new());
}

impl LogRef {
    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.0
    }
}

impl From<Arc<Log>> for LogRef {
    fn from(log: Arc<Log>) -> Self {
        Self(log)
    }
}
impl PartialEq for LogRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}
impl Eq for LogRef {}
impl PartialOrd for LogRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for LogRef {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}
impl Hash for LogRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl Serialize for LogRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for LogRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let log = Log::deserialize(deserializer)?;
        Ok(LOGS.with_borrow_mut(|logs| match logs.get(&log) {
            Some(known) => Self(Arc::clone(known)),
            None => {
                let shared = Arc::new(log);
                logs.insert(Arc::clone(&shared));
                Self(shared)
            }
        }))
    }
}

/// Where an alert stands: source, topic, partition, offset, record, in this order.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The message's log.
    pub log: LogRef,
    /// The message's offset.
    pub offset: i64,
    /// The record's index in its message.
    pub record: i32,
}

/// What a point of a light curve is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Something was seen.
    Detection,
    /// Nothing was seen that is brighter than the limit.
    Limit,
    /// Photometry at the object's known place, seen or not.
    Forced,
    /// No point of a light curve: it stands in memory for those that are away, in the archive. The last in their order.
    Away,
}

impl Kind {
    /// The word that tables and answers have for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Detection => "detection",
            Self::Limit => "limit",
            Self::Forced => "forced",
            Self::Away => "away",
        }
    }
}

/// What the numbers of a point mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// AB magnitudes.
    Magnitude,
    /// Nanojansky.
    NanoJansky,
}

/// A passband, by its letter: `u g r i z y` in ASCII, or another survey's own; `?` where it is not known.
#[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Band(pub u8);

impl Band {
    /// Not known.
    pub const UNKNOWN: Self = Self(b'?');

    /// Its place from blue to red; bands of unknown colour come last.
    #[must_use]
    pub fn redness(self) -> u8 {
        b"ugrizy".iter().zip(0..).find(|(letter, _)| **letter == self.0).map_or(u8::MAX, |(_, place)| place)
    }
}

impl fmt::Debug for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(self.0))
    }
}

/// One point of an object's light curve. Within its object, kind and id say which one it is: copies of it that come in the
/// histories of later alerts may differ in a rounding.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Point {
    /// What it is.
    pub kind: Kind,
    /// The survey's number of it: of the alert for detections, of the image for limits, of the measurement when forced.
    pub id: i64,
    /// When it was observed: modified Julian date, TAI.
    pub mjd_tai: Real,
    /// Right ascension, ICRS, in degrees; none where only the object has a place.
    pub ra_deg: Real,
    /// Declination, ICRS, in degrees.
    pub dec_deg: Real,
    /// The brightness of the difference to the template, in `unit`; none for limits.
    pub value: Real32,
    /// Its standard error, in `unit`.
    pub error: Real32,
    /// What would just have been seen, in `unit`; none where the survey does not say.
    pub limit: Real32,
    /// How real the survey takes it to be, from 0 (bogus) to 1.
    pub score: Real32,
    /// The passband.
    pub band: Band,
    /// What the numbers mean.
    pub unit: Unit,
    /// Whether the object is fainter than its template.
    pub negative: bool,
}

/// 2.5 / ln 10.
const MAGNITUDES_PER_E: f64 = 1.085_736_204_758_129_6;
/// The AB magnitude of one nanojansky (Rubin's `mag = 31.4 - 2.5 log10(flux / nJy)`).
const NJY_ZERO_POINT: f64 = 31.4;

impl Point {
    /// The AB magnitude of the difference's size and its error, for detections of either sign; `None` for what has none.
    #[must_use]
    pub fn magnitude(&self) -> Option<(f64, f64)> {
        let (value, error) = (f64::from(self.value.some()?), f64::from(self.error.0));
        match self.unit {
            Unit::Magnitude => Some((value, error)),
            Unit::NanoJansky if value == 0.0 => None,
            Unit::NanoJansky => Some((NJY_ZERO_POINT - 2.5 * value.abs().log10(), MAGNITUDES_PER_E * error / value.abs())),
        }
    }

    /// The flux of the difference and its error in nanojansky, negative where the object is fainter than its template.
    #[must_use]
    pub fn flux_njy(&self) -> Option<(f64, f64)> {
        let (value, error) = (f64::from(self.value.some()?), f64::from(self.error.0));
        match self.unit {
            Unit::NanoJansky => Some((value, error)),
            Unit::Magnitude => {
                let size = 10f64.powf((NJY_ZERO_POINT - value) / 2.5);
                Some((if self.negative { -size } else { size }, size * error / MAGNITUDES_PER_E))
            }
        }
    }
}

/// What Fink's own streams carry beside the survey's fields: the answers of models and services that ran elsewhere.
/// Numbers are probabilities from 0 to 1, none where there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Enriched {
    /// The SIMBAD type of the object at this place; `Unknown` where there is none.
    pub cdsxmatch: Box<str>,
    /// Microlensing, by LIA.
    pub mulens: Real,
    /// Supernova Ia against other types, by SuperNNova.
    pub snn_snia_vs_nonia: Real,
    /// Supernova against all else, by SuperNNova.
    pub snn_sn_vs_all: Real,
    /// Supernova Ia, by a random forest.
    pub rf_snia_vs_nonia: Real,
    /// Kilonova, by a random forest.
    pub rf_kn_vs_nonkn: Real,
}

/// What rules ask of an alert beyond its own point.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Traits {
    /// Days from the first detection at this place to the alert.
    pub age_days: Real,
    /// Detections at this place, by the survey's count; -1: it does not say.
    pub detections: i32,
    /// How real a neural network takes the alert to be, from 0 to 1.
    pub drb: Real32,
    /// How starlike SExtractor takes the source to be, from 0 to 1.
    pub classtar: Real32,
    /// Fink's Solar System label: 3 known to the survey, 2 candidate by Fink's rule, 1 seen for the first time, 0 none.
    pub roid: u8,
    /// Whether it is part of a track of satellites or debris.
    pub tracklet: bool,
    /// What others found out, where the alert carries it.
    pub enriched: Option<Arc<Enriched>>,
}

/// An alert, as the services see it.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Detection {
    /// Its own point; `point.id` is the alert's id.
    pub point: Point,
    /// What rules ask of it.
    pub traits: Traits,
    /// Where it stands in its log.
    pub address: Address,
}

impl PartialOrd for Detection {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Detection {
    /// By kind and id, and among alerts of one id by time and address: of duplicates the first counts.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |d: &Self| (d.point.kind, d.point.id, d.point.mjd_tai);
        (key(self).cmp(&key(other)))
            .then_with(|| self.address.cmp(&other.address))
            .then_with(|| self.point.cmp(&other.point))
            .then_with(|| self.traits.cmp(&other.traits))
    }
}

/// An alert with all that it tells about its object.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct LightAlert {
    /// The object.
    pub object: ObjectId,
    /// The alert.
    pub detection: Detection,
    /// The visit (exposure) in which it was seen, by the survey's number; -1: it does not say.
    pub visit: i64,
    /// Its observing night: the local date at which it began, in days since 1970.
    pub night: Option<i32>,
    /// Earlier points of the same object, as the alert repeats them.
    pub history: Vec<Point>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_totally_ordered() {
        let mut sorted = [Real(f64::NAN), Real(1.0), Real(-f64::NAN), Real(f64::NEG_INFINITY), Real(-0.0), Real(0.0)];
        sorted.sort();
        assert_eq!(sorted[0].0, f64::NEG_INFINITY);
        assert_eq!(Real(-0.0), Real(0.0));
        assert_eq!(Real(f64::NAN), Real(-f64::NAN));
        assert!(Real(f64::NAN) > Real(f64::INFINITY));
        assert_eq!((Real::from(None), Real::NONE.some(), Real(2.0).some()), (Real::NONE, None, Some(2.0)));
    }

    #[test]
    fn rows_are_small() {
        assert_eq!(size_of::<ObjectId>(), 24);
        assert_eq!(size_of::<Point>(), 56);
        assert_eq!(size_of::<Detection>(), 112);
    }

    #[test]
    fn names_stand_in_the_row_if_they_fit() {
        let id = |name: &str| ObjectId::new(SurveyId(1), name);
        assert_eq!(id("ZTF21abiuvdk").map(|id| id.name().to_owned()).as_deref(), Some("ZTF21abiuvdk"));
        assert_eq!(id(&i64::MIN.to_string()).map(|id| id.name().len()), Some(20));
        assert!(id("").is_none() && id(&"x".repeat(23)).is_none() && id(&"x".repeat(22)).is_some());
        assert!(id("a") < id("b") && id("a") < ObjectId::new(SurveyId(2), "a"));
    }

    #[test]
    fn magnitude_and_flux_are_each_others_inverse() {
        let point = |value: f32, unit, negative| Point {
            kind: Kind::Detection,
            id: 1,
            mjd_tai: Real(60_000.0),
            ra_deg: Real(10.0),
            dec_deg: Real(-5.0),
            value: Real32(value),
            error: Real32(0.1),
            limit: Real32::NONE,
            score: Real32::NONE,
            band: Band(b'g'),
            unit,
            negative,
        };
        // 3631 Jy is magnitude 0 of AB, so that 1 nJy is 31.4 to 0.0001.
        let (flux, _) = point(31.4, Unit::Magnitude, false).flux_njy().unwrap();
        assert!((flux - 1.0).abs() < 1e-6, "{flux}");
        let (flux, error) = point(18.5, Unit::Magnitude, true).flux_njy().unwrap();
        let mut back = point(flux as f32, Unit::NanoJansky, true);
        back.error = Real32(error as f32);
        let (magnitude, error) = back.magnitude().unwrap();
        assert!((magnitude - 18.5).abs() < 1e-5 && (error - 0.1).abs() < 1e-5 && flux < 0.0);
        assert_eq!(point(f32::NAN, Unit::Magnitude, false).magnitude(), None);
        assert_eq!(point(0.0, Unit::NanoJansky, false).magnitude(), None);
    }

    #[test]
    fn logs_that_come_over_a_wire_are_shared_again() {
        let log = LogRef::from(Arc::new(Log::new("kafka:x", "ztf", 0, 3)));
        let address = Address { log, offset: 7, record: 0 };
        let json = serde_json::to_string(&address).unwrap();
        let (one, two): (Address, Address) = (serde_json::from_str(&json).unwrap(), serde_json::from_str(&json).unwrap());
        assert_eq!(one, address);
        assert!(Arc::ptr_eq(one.log.log(), two.log.log()));
    }
}
