//! First, last, counts, brightness, rates, colour and place of a light curve.

use fink_dataflow::detection::{Band, Kind, Point, Real, Real32, SurveyId};
use serde::{Deserialize, Serialize};

use super::curve::{Entry, Own, curve};
use super::fit::{Rate, rate};
use crate::classify::rules::Signs;
use crate::surveys;

/// What follows from an object's light curve.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Summary {
    /// The first detection, modified Julian date of TAI.
    pub first_mjd_tai: Real,
    /// The last detection.
    pub last_mjd_tai: Real,
    /// Detections, those in histories among them.
    pub detections: u32,
    /// Upper limits.
    pub limits: u32,
    /// Forced measurements.
    pub forced: u32,
    /// Alerts that came themselves, duplicates not counted.
    pub alerts: u32,
    /// Where it is; none for what moves.
    pub position: Option<Position>,
    /// Each band's brightness, from blue to red.
    pub bands: Box<[BandSummary]>,
    /// Its latest colour.
    pub colour: Option<Colour>,
    /// Its alerts in order of observation, as the rules see them.
    pub runs: Box<[Run]>,
}

impl Summary {
    /// The nights of its alerts, in days since 1970; a night may come more than once.
    pub fn nights(&self) -> impl Iterator<Item = i32> {
        self.runs.iter().flat_map(|run| run.nights.iter().map(|(night, _)| *night))
    }
}

/// A mean position.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Right ascension of the mean direction, ICRS, in degrees from 0 to 360.
    pub ra_deg: Real,
    /// Its declination.
    pub dec_deg: Real,
    /// The mean time, modified Julian date of TAI.
    pub mjd_tai: Real,
    /// Root mean square of the detections' distances to it, in arcseconds.
    pub scatter_arcsec: Real32,
}

/// A magnitude at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Measure {
    /// When, modified Julian date of TAI.
    pub mjd_tai: Real,
    /// AB magnitude of the difference to the template, of either sign.
    pub magnitude: Real32,
    /// Its standard error.
    pub error: Real32,
}

/// An object's brightness in one band.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct BandSummary {
    /// The band.
    pub band: Band,
    /// Detections in it.
    pub detections: u32,
    /// The latest.
    pub latest: Measure,
    /// The brightest of those above the template; of all, if none is above.
    pub peak: Measure,
    /// From the first detection to the peak.
    pub rise: Rate,
    /// From the peak to the last detection.
    pub decline: Rate,
}

/// The difference of two magnitudes, bluer minus redder, taken within half a day.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Colour {
    /// The bluer band.
    pub blue: Band,
    /// The redder band.
    pub red: Band,
    /// When the later of the two was taken, modified Julian date of TAI.
    pub mjd_tai: Real,
    /// The difference in magnitudes.
    pub magnitude: Real32,
    /// Its standard error.
    pub error: Real32,
}

/// Alerts in a row that look the same to the rules.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Run {
    /// When the first of them was observed, modified Julian date of TAI.
    pub mjd_tai: Real,
    /// The first of them.
    pub alert: i64,
    /// What the rules see.
    pub signs: Signs,
    /// The type that the alerts carry of a SIMBAD object at their place, if they do.
    pub cdsxmatch: Option<Box<str>>,
    /// How many alerts on which night; nights in days since 1970.
    pub nights: Box<[(i32, u32)]>,
}

/// How far apart in time the two magnitudes of a colour may be.
const COLOUR_DAYS_MAX: f64 = 0.5;
const ARCSEC_PER_RADIAN: f64 = 206_264.806_247_096_36;

/// Sums an object up from its entries, which come in order; `None` of no entries.
#[must_use]
pub fn summarise<'e>(survey: SurveyId, entries: impl Iterator<Item = &'e Entry>) -> Option<Summary> {
    let curve = curve(entries);
    if curve.is_empty() {
        return None;
    }
    let count = |kind| u32::try_from(curve.iter().filter(|e| e.point.kind == kind).count()).unwrap_or(u32::MAX);
    let (limits, forced) = (count(Kind::Limit), count(Kind::Forced));
    let alerts: Vec<(&Point, &Own)> = curve.iter().filter_map(|e| Some((&e.point, e.own.as_deref()?))).collect();
    let detections: Vec<&Point> = curve.iter().map(|e| &e.point).filter(|p| p.kind == Kind::Detection).collect();
    // A survey's objects stand still unless it says what they are.
    let moves = alerts.iter().any(|(_, own)| own.moves);
    Some(Summary {
        first_mjd_tai: detections.first().map_or(Real::NONE, |p| p.mjd_tai),
        last_mjd_tai: detections.last().map_or(Real::NONE, |p| p.mjd_tai),
        detections: u32::try_from(detections.len()).unwrap_or(u32::MAX),
        limits,
        forced,
        alerts: u32::try_from(alerts.len()).unwrap_or(u32::MAX),
        position: if moves { None } else { position(&detections) },
        bands: bands(&detections),
        colour: colour(&detections),
        runs: runs(survey, &alerts),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to what a row has room for")]
fn single(value: f64) -> Real32 {
    Real32(value as f32)
}

/// The mean direction of detections: the sum of their unit vectors.
fn position(detections: &[&Point]) -> Option<Position> {
    let placed = || detections.iter().filter(|p| p.ra_deg.some().is_some() && p.dec_deg.some().is_some());
    let (mut sum, mut days, mut count) = ([0.0; 3], 0.0, 0.0);
    let origin = placed().next()?.mjd_tai.0;
    for point in placed() {
        let unit = unit_vector(point.ra_deg.0, point.dec_deg.0);
        sum.iter_mut().zip(unit).for_each(|(sum, part)| *sum += part);
        days += point.mjd_tai.0 - origin;
        count += 1.0;
    }
    let length = sum.iter().map(|part| part * part).sum::<f64>().sqrt();
    let mean = sum.map(|part| part / length);
    let square = |point: &&&Point| {
        let unit = unit_vector(point.ra_deg.0, point.dec_deg.0);
        unit.iter().zip(mean).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
    };
    let squares: f64 = placed().map(|p| square(&p)).sum();
    let ra_deg = mean[1].atan2(mean[0]).to_degrees();
    Some(Position {
        ra_deg: Real(if ra_deg < 0.0 { ra_deg + 360.0 } else { ra_deg }),
        dec_deg: Real(mean[2].atan2(mean[0].hypot(mean[1])).to_degrees()),
        mjd_tai: Real(origin + days / count),
        scatter_arcsec: single((squares / count).sqrt() * ARCSEC_PER_RADIAN),
    })
}

fn unit_vector(ra_deg: f64, dec_deg: f64) -> [f64; 3] {
    let ((sin_ra, cos_ra), (sin_dec, cos_dec)) = (ra_deg.to_radians().sin_cos(), dec_deg.to_radians().sin_cos());
    [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec]
}

fn measure(point: &Point) -> Measure {
    let (magnitude, error) = point.magnitude().unwrap_or((f64::NAN, f64::NAN));
    Measure { mjd_tai: point.mjd_tai, magnitude: single(magnitude), error: single(error) }
}

fn bands(detections: &[&Point]) -> Box<[BandSummary]> {
    let mut present: Vec<Band> = Vec::with_capacity(6);
    for point in detections {
        if !present.contains(&point.band) {
            present.push(point.band);
        }
    }
    present.sort_by_key(|band| (band.redness(), *band));
    present.into_iter().map(|band| in_band(band, detections)).collect()
}

fn in_band(band: Band, detections: &[&Point]) -> BandSummary {
    let all = || detections.iter().copied().filter(|p| p.band == band);
    let above = all().any(|p| !p.negative);
    let counted = || all().filter(|p| !(above && p.negative)).filter_map(|p| Some((p, p.magnitude()?)));
    // The first of equals.
    let peak = counted().min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)).map(|(p, _)| p);
    let side = |is_in: &dyn Fn(Real) -> bool| {
        let points: Vec<_> = counted().filter(|(p, _)| is_in(p.mjd_tai)).map(|(p, (m, e))| (p.mjd_tai.0, m, e)).collect();
        rate(points.iter().copied())
    };
    let nothing = Measure { mjd_tai: Real::NONE, magnitude: Real32::NONE, error: Real32::NONE };
    BandSummary {
        band,
        detections: u32::try_from(all().count()).unwrap_or(u32::MAX),
        latest: all().last().map_or(nothing, measure),
        peak: peak.map_or(nothing, measure),
        rise: peak.map_or(Rate::NONE, |peak| side(&|time| time <= peak.mjd_tai)),
        decline: peak.map_or(Rate::NONE, |peak| side(&|time| time >= peak.mjd_tai)),
    }
}

/// The colour of the latest detection that has one of another band before it, no more than half a day.
fn colour(detections: &[&Point]) -> Option<Colour> {
    for (index, late) in detections.iter().enumerate().rev() {
        let before = detections[..index].iter().rev().take_while(|p| late.mjd_tai.0 - p.mjd_tai.0 <= COLOUR_DAYS_MAX);
        let Some(early) = before.into_iter().find(|p| p.band != late.band) else { continue };
        let of = |p: &Point| Some((p.band, p.magnitude()?));
        let (Some(a), Some(b)) = (of(early), of(late)) else { continue };
        let key = |band: Band| (band.redness(), band);
        let ((blue, (m_blue, e_blue)), (red, (m_red, e_red))) = if key(a.0) < key(b.0) { (a, b) } else { (b, a) };
        return Some(Colour { blue, red, mjd_tai: late.mjd_tai, magnitude: single(m_blue - m_red), error: single(e_blue.hypot(e_red)) });
    }
    None
}

fn runs(survey: SurveyId, alerts: &[(&Point, &Own)]) -> Box<[Run]> {
    let longitude_deg = surveys::of_id(survey).map_or(0.0, |survey| survey.longitude_deg);
    let cdsxmatch = |own: &Own| own.enriched.as_ref().map(|e| e.cdsxmatch.clone());
    let mut runs: Vec<(&Point, &Own, Vec<(i32, u32)>)> = Vec::new();
    for (point, own) in alerts {
        let night = night(point.mjd_tai.0, longitude_deg);
        match runs.last_mut().filter(|(_, first, _)| first.signs == own.signs && cdsxmatch(first) == cdsxmatch(own)) {
            Some((_, _, nights)) => match nights.last_mut().filter(|(last, _)| *last == night) {
                Some((_, count)) => *count += 1,
                None => nights.push((night, 1)),
            },
            None => runs.push((point, own, vec![(night, 1)])),
        }
    }
    let run = |(first, own, nights): (&Point, &Own, Vec<(i32, u32)>)| Run {
        mjd_tai: first.mjd_tai,
        alert: first.id,
        signs: own.signs,
        cdsxmatch: cdsxmatch(own),
        nights: nights.into(),
    };
    runs.into_iter().map(run).collect()
}

/// The observing night, in days since 1970; 0 where the time is absurd.
fn night(mjd_tai: f64, longitude_deg: f64) -> i32 {
    surveys::night(surveys::Scale::MjdTai.unix_s(mjd_tai), longitude_deg).unwrap_or(0)
}
