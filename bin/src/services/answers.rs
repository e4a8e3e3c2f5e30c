//! What is told of the answers, as JSON: plain numbers with their units in their names; what is not known is `null`. Ids of
//! alerts are texts, since 19 digits are more than a double holds.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};
use fink_dataflow::detection::{ObjectId, Point, Real, Real32};
use fink_operators::classify::history::{Change, Classes};
use fink_operators::crossmatch::Match;
use fink_operators::monitor::Counter;
use fink_operators::objects::fit::Rate;
use fink_operators::objects::summary::{BandSummary, Measure};
use fink_operators::surveys;
use serde::{Deserialize, Serialize};

use super::catalogues::Names;
use super::catalogues::register::CatalogueAnswer;
use super::desk::Lease;
use super::views::{Counts, Object};

/// An answer, and of when it is true.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer<A> {
    /// The Moment of which it is exact, as `epoch.tick`.
    pub moment: String,
    /// Whether it knows all that was archived before this process started.
    pub complete: bool,
    /// The answer.
    #[serde(flatten)]
    pub answer: A,
}

impl<A> Answer<A> {
    /// An answer at a lease's Moment.
    pub fn at(lease: &Lease, answer: A) -> Self {
        Self { moment: lease.moment.to_string(), complete: lease.complete, answer }
    }
}

/// What a service of one's own answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnAnswer {
    /// The service.
    pub service: String,
    /// What was asked for.
    pub key: String,
    /// All that it holds of it.
    pub answers: Vec<serde_json::Value>,
}

/// The catalogues of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CataloguesAnswer {
    /// The archive that it answers for.
    pub archive: String,
    /// They, by name.
    pub catalogues: Vec<CatalogueAnswer>,
}

/// An object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectAnswer {
    /// The survey's name for it.
    #[serde(rename = "objectId")]
    pub object_id: String,
    /// The survey.
    pub survey: String,
    /// Distance to the place that was asked for.
    pub separation_arcsec: Option<f64>,
    /// Mean right ascension, ICRS; none for what moves.
    pub ra_deg: Option<f64>,
    /// Mean declination.
    pub dec_deg: Option<f64>,
    /// Root mean square of the detections' distances to it.
    pub scatter_arcsec: Option<f64>,
    /// The first detection.
    pub first_mjd_tai: Option<f64>,
    /// The last detection.
    pub last_mjd_tai: Option<f64>,
    /// Detections, those that alerts repeat among them.
    pub detections: u32,
    /// Upper limits.
    pub limits: u32,
    /// Forced measurements.
    pub forced: u32,
    /// Alerts that came themselves, duplicates not counted.
    pub alerts: u32,
    /// What it is taken for now.
    pub class: Option<String>,
    /// What its alerts were taken for, in order of observation.
    pub classes: Vec<ChangeAnswer>,
    /// What stands at its place: by catalogue, nearest first.
    pub matches: Vec<MatchAnswer>,
    /// Other surveys' objects at its place, nearest first.
    pub associations: Vec<AssociationAnswer>,
    /// Its brightness by band, from blue to red.
    pub bands: Vec<BandAnswer>,
    /// Its latest colour.
    pub colour: Option<ColourAnswer>,
    /// Its light curve in order of observation; none of objects that a cone found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lightcurve: Vec<PointAnswer>,
}

/// From here on its alerts have this class.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// The class, in Fink's words.
    pub class: String,
    /// The rule that gave it.
    pub rule: String,
    /// When the first of them was observed.
    pub since_mjd_tai: Option<f64>,
    /// The first of them.
    pub alert: String,
    /// The catalogue that says so, and its row.
    pub catalogue: Option<(String, u32)>,
    /// How many alerts on which night.
    pub nights: BTreeMap<String, u32>,
}

/// A catalogue's row at the object's place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatchAnswer {
    /// The catalogue.
    pub catalogue: String,
    /// How far it is.
    pub separation_arcsec: f64,
    /// The row's number, from 0.
    pub row: u32,
    /// What it tells, by column.
    pub carried: BTreeMap<String, String>,
}

/// Another survey's object at the object's place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AssociationAnswer {
    /// That survey's name for it.
    #[serde(rename = "objectId")]
    pub object_id: String,
    /// The survey.
    pub survey: String,
    /// How far it is.
    pub separation_arcsec: f64,
}

/// An object's brightness in a band.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BandAnswer {
    /// The band.
    pub band: char,
    /// Detections in it.
    pub detections: u32,
    /// The latest.
    pub latest: MeasureAnswer,
    /// The brightest.
    pub peak: MeasureAnswer,
    /// From the first detection to the peak: magnitudes a day, and the error.
    pub rise_mag_per_day: (Option<f64>, Option<f64>),
    /// From the peak to the last.
    pub decline_mag_per_day: (Option<f64>, Option<f64>),
}

/// A magnitude at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasureAnswer {
    /// When.
    pub mjd_tai: Option<f64>,
    /// AB magnitude of the difference's size.
    pub magnitude: Option<f64>,
    /// Its error.
    pub error: Option<f64>,
}

/// A colour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ColourAnswer {
    /// The bluer band and the redder.
    pub bands: (char, char),
    /// When the later of the two was taken.
    pub mjd_tai: Option<f64>,
    /// The difference.
    pub magnitude: Option<f64>,
    /// Its error.
    pub error: Option<f64>,
}

/// A point of a light curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointAnswer {
    /// `detection`, `limit` or `forced`.
    pub kind: String,
    /// The survey's number of it.
    pub id: String,
    /// Whether an alert of its own brought it.
    pub alert: bool,
    /// When it was observed.
    pub mjd_tai: Option<f64>,
    /// The band.
    pub band: char,
    /// AB magnitude of the difference's size.
    pub magnitude: Option<f64>,
    /// Its error.
    pub magnitude_error: Option<f64>,
    /// The difference's flux.
    pub flux_njy: Option<f64>,
    /// Its error.
    pub flux_error_njy: Option<f64>,
    /// What would just have been seen, in the survey's unit.
    pub limit: Option<f64>,
    /// Whether it is fainter than the template.
    pub negative: bool,
}

/// The objects of a cone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConeAnswer {
    /// Nearest first.
    pub objects: Vec<ObjectAnswer>,
}

/// One object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneAnswer {
    /// The object.
    pub object: ObjectAnswer,
}

/// Counts, night by night.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatisticsAnswer {
    /// The nights.
    pub nights: Vec<NightAnswer>,
}

/// The counts of a night.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NightAnswer {
    /// The local date at which the night began; none: alerts without a time.
    pub night: Option<String>,
    /// All alerts, duplicates among them, as in the archive.
    pub alerts: i64,
    /// Those of which the services know nothing more.
    pub unlit: i64,
    /// By topic and partition.
    pub partitions: BTreeMap<String, i64>,
    /// By survey and band.
    pub bands: BTreeMap<String, i64>,
    /// Visits.
    pub visits: i64,
    /// By class, duplicates not counted.
    pub classes: BTreeMap<String, i64>,
}

fn real(value: Real) -> Option<f64> {
    value.some().filter(|value| value.is_finite())
}

fn single(value: Real32) -> Option<f64> {
    // Through its decimal digits, lest 18.3 is told as 18.299999237060547.
    value.some().filter(|value| value.is_finite()).and_then(|value| value.to_string().parse().ok())
}

/// A survey's name.
#[must_use]
pub fn survey(object: &ObjectId) -> String {
    surveys::of_id(object.survey).map_or_else(|| object.survey.0.to_string(), |survey| survey.name.to_owned())
}

/// A night (days since 1970) as a date.
#[must_use]
pub fn date(night: i32) -> String {
    NaiveDate::from_num_days_from_ce_opt(night + NaiveDate::default().num_days_from_ce())
        .map_or_else(|| night.to_string(), |date| date.to_string())
}

/// A date as a night; also as `20261122`.
#[must_use]
pub fn night(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").or_else(|_| NaiveDate::parse_from_str(text, "%Y%m%d")).ok()?;
    Some(date.num_days_from_ce() - NaiveDate::default().num_days_from_ce())
}

/// Tells an object.
#[must_use]
pub fn object(object: &Object, separation_arcsec: Option<f64>, names: &Names) -> ObjectAnswer {
    let Object { id, summary, classes, associations, curve } = object;
    let place = summary.position;
    ObjectAnswer {
        object_id: id.name().to_owned(),
        survey: survey(id),
        separation_arcsec,
        ra_deg: place.and_then(|p| real(p.ra_deg)),
        dec_deg: place.and_then(|p| real(p.dec_deg)),
        scatter_arcsec: place.and_then(|p| single(p.scatter_arcsec)),
        first_mjd_tai: real(summary.first_mjd_tai),
        last_mjd_tai: real(summary.last_mjd_tai),
        detections: summary.detections,
        limits: summary.limits,
        forced: summary.forced,
        alerts: summary.alerts,
        class: classes.as_ref().filter(|_| names.classify).and_then(Classes::current).map(|change| change.class().to_string()),
        classes: classes
            .iter()
            .filter(|_| names.classify)
            .flat_map(|c| c.history.iter().map(|change| told_change(change, names)))
            .collect(),
        matches: classes.iter().flat_map(|c| c.matches.iter().map(|found| told_match(found, names))).collect(),
        associations: associations
            .iter()
            .map(|a| AssociationAnswer {
                object_id: a.other.name().to_owned(),
                survey: survey(&a.other),
                separation_arcsec: a.separation_arcsec.0,
            })
            .collect(),
        bands: summary.bands.iter().map(band).collect(),
        colour: summary.colour.map(|c| ColourAnswer {
            bands: (char::from(c.blue.0), char::from(c.red.0)),
            mjd_tai: real(c.mjd_tai),
            magnitude: single(c.magnitude),
            error: single(c.error),
        }),
        lightcurve: curve.iter().map(|(point, own)| told_point(point, *own)).collect(),
    }
}

fn told_change(change: &Change, names: &Names) -> ChangeAnswer {
    ChangeAnswer {
        class: change.class().to_string(),
        rule: format!("{:?}", change.rule).to_lowercase(),
        since_mjd_tai: real(change.mjd_tai),
        alert: change.alert.to_string(),
        catalogue: change.row.map(|(catalogue, row)| (names.of(catalogue), row)),
        nights: change.nights.iter().map(|(night, alerts)| (date(*night), *alerts)).collect(),
    }
}

fn told_match(found: &Match, names: &Names) -> MatchAnswer {
    let columns = names.columns(found.catalogue);
    MatchAnswer {
        catalogue: names.of(found.catalogue),
        separation_arcsec: found.separation_arcsec.0,
        row: found.number,
        carried: columns.iter().zip(found.carried.iter()).map(|(name, value)| (name.clone(), value.to_string())).collect(),
    }
}

fn band(of: &BandSummary) -> BandAnswer {
    let measure = |m: &Measure| MeasureAnswer { mjd_tai: real(m.mjd_tai), magnitude: single(m.magnitude), error: single(m.error) };
    let rate = |r: &Rate| (single(r.mag_per_day), single(r.error));
    BandAnswer {
        band: char::from(of.band.0),
        detections: of.detections,
        latest: measure(&of.latest),
        peak: measure(&of.peak),
        rise_mag_per_day: rate(&of.rise),
        decline_mag_per_day: rate(&of.decline),
    }
}

fn told_point(point: &Point, alert: bool) -> PointAnswer {
    let (magnitude, flux) = (point.magnitude(), point.flux_njy());
    // No more digits than a single has: what was stored is one.
    let short = |value: f64| Some(value).filter(|value| value.is_finite()).and_then(|value| format!("{value:.6e}").parse().ok());
    PointAnswer {
        kind: point.kind.word().to_owned(),
        id: point.id.to_string(),
        alert,
        mjd_tai: real(point.mjd_tai),
        band: char::from(point.band.0),
        magnitude: magnitude.and_then(|(value, _)| short(value)),
        magnitude_error: magnitude.and_then(|(_, error)| short(error)),
        flux_njy: flux.and_then(|(value, _)| short(value)),
        flux_error_njy: flux.and_then(|(_, error)| short(error)),
        limit: single(point.limit),
        negative: point.negative,
    }
}

/// Tells the counts of a night.
#[must_use]
pub fn counts(night: Option<i32>, counts: &Counts) -> NightAnswer {
    let name = |id| surveys::of_id(id).map_or("?", |survey| survey.name);
    let mut answer = NightAnswer { night: night.map(date), ..NightAnswer::default() };
    for (counter, count) in &counts.counters {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        match counter {
            Counter::Partition(log) => {
                answer.alerts += count;
                *answer.partitions.entry(log.log().to_string()).or_insert(0) += count;
            }
            Counter::Unlit(_) => answer.unlit += count,
            Counter::Band(id, band) => *answer.bands.entry(format!("{} {}", name(*id), char::from(band.0))).or_insert(0) += count,
            Counter::Visit(..) => answer.visits += 1,
        }
    }
    for ((_, class), count) in &counts.classes {
        *answer.classes.entry(class.to_string()).or_insert(0) += i64::try_from(*count).unwrap_or(i64::MAX);
    }
    answer
}
