//! LSST's alert, as of schema 11.0: our own writing of its field names, types, nullability and units.
//!
//! An alert is about a detection (diaSource) of an object beyond the Solar System (diaObject, with the history of its
//! place) or of a moving one (ssSource and its orbit, without a history). Fluxes are nJy, times are TAI.

use std::sync::LazyLock;

use super::datum::Datum;
use super::field::{
    Field, array, double, float, int, long, null, or_null, record, schema, some_boolean, some_double, some_float, some_long, some_text,
    typed, write, write_array,
};
use super::lsst_object::{DIA_OBJECT, Statistics};
use super::lsst_solar::{MPC_ORBITS, SS_SOURCE};
use crate::simulator::dice::Dice;
use crate::simulator::seen::{Class, Detection, Past, Seen, Visit};

pub(super) const NAMESPACE: &str = "lsst.v11_0";
/// The id under which the schema's version stands in the survey's registry: 100 times major, plus minor.
pub const SCHEMA_ID: u32 = 1100;

/// Each kind of number in a range of its own, as at the survey.
const SOURCE_FIRST: i64 = 170_000_000_000_000_000;
const OBJECT_FIRST: i64 = 171_000_000_000_000_000;
const SOLAR_FIRST: i64 = 21_000_000_000_000_000;
const PIXEL_ARCSEC: f64 = 0.2;
/// Pixels of the point spread function's picture, 41 x 41, that a flux is fitted to.
const FITTED_PIXELS: i32 = 1681;

/// The schema as one line of JSON.
pub static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    let of = |name: &str| format!(r#""{NAMESPACE}.{name}""#);
    let fields = [
        typed("diaSourceId", r#""long""#),
        or_null("observation_reason", r#""string""#),
        or_null("target_name", r#""string""#),
        typed("diaSource", &schema(NAMESPACE, "diaSource", DIA_SOURCE)),
        or_null("prvDiaSources", &array(&of("diaSource"))),
        or_null("prvDiaForcedSources", &array(&schema(NAMESPACE, "diaForcedSource", DIA_FORCED_SOURCE))),
        or_null("diaObject", &schema(NAMESPACE, "diaObject", &DIA_OBJECT)),
        or_null("ssSource", &schema(NAMESPACE, "ssSource", SS_SOURCE)),
        or_null("mpc_orbits", &schema(NAMESPACE, "mpc_orbits", MPC_ORBITS)),
        or_null("cutoutDifference", r#""bytes""#),
        or_null("cutoutScience", r#""bytes""#),
        or_null("cutoutTemplate", r#""bytes""#),
    ];
    record(NAMESPACE, "alert", &fields)
});

/// Appends the alert's datum; `cutouts` (science, template, difference) are FITS files.
pub(super) fn encode(seen: &Seen, cutouts: &[Vec<u8>; 3], out: &mut Vec<u8>) {
    let now =
        Past { visit: seen.visit.clone(), detector: seen.detection.detector, detection: Some(seen.detection.clone()), forced: seen.forced };
    let detected: Vec<&Past> = seen.history.iter().filter(|past| past.detection.is_some()).collect();
    let mut datum = Datum(out);
    datum.long(source_id(&seen.detection));
    datum.some(Some("wide_survey"), Datum::text);
    datum.some(Some(&*format!("field_{}", seen.visit.field)), Datum::text);
    write(DIA_SOURCE, seen, &now, &mut datum);
    write_array(DIA_SOURCE, seen, detected.into_iter(), &mut datum);
    write_array(DIA_FORCED_SOURCE, seen, seen.history.iter(), &mut datum);
    let statistics = seen.moving.is_none().then(|| Statistics::of(seen, &now));
    datum.some(statistics, |datum, statistics| write(&DIA_OBJECT, seen, &statistics, datum));
    datum.some(seen.moving.as_ref(), |datum, moving| write(SS_SOURCE, seen, moving, datum));
    datum.some(seen.moving.as_ref(), |datum, moving| write(MPC_ORBITS, seen, moving, datum));
    let [science, template, difference] = cutouts;
    for bytes in [difference, science, template] {
        datum.present();
        datum.bytes(bytes);
    }
}

/// The number by which the survey knows a detection.
pub(super) fn source_id(detection: &Detection) -> i64 {
    SOURCE_FIRST + detection.alert as i64
}

/// The number by which the survey knows an object beyond the Solar System.
pub(super) fn object_id(seen: &Seen) -> i64 {
    OBJECT_FIRST + seen.object as i64
}

/// The number by which the survey knows a moving object.
pub(super) fn solar_id(seen: &Seen) -> Option<i64> {
    seen.moving.as_ref().map(|moving| SOLAR_FIRST + i64::from(moving.number))
}

/// The night's date and the visit's number in it, as digits.
fn visit_id(visit: &Visit) -> i64 {
    let [year, month, day] = date(visit.night_mjd);
    ((year * 100 + month) * 100 + day) * 100_000 + i64::from(visit.in_night)
}

/// Year, month, day of a modified Julian day (Richards 2013, Explanatory Supplement to the Astronomical Almanac, 15.11.3).
fn date(mjd: i32) -> [i64; 3] {
    let julian = i64::from(mjd) + 2_400_001;
    let f = julian + 1401 + (4 * julian + 274_277) / 146_097 * 3 / 4 - 38;
    let e = 4 * f + 3;
    let h = 5 * (e % 1461 / 4) + 2;
    let (day, month) = (h % 153 / 5 + 1, (h / 153 + 2) % 12 + 1);
    [e / 1461 - 4716 + (14 - month) / 12, month, day]
}

fn of(past: &Past, value: impl FnOnce(&Detection) -> f64) -> Option<f32> {
    past.detection.as_ref().map(|detection| value(detection) as f32)
}

fn place(seen: &Seen, past: &Past, value: fn(&Detection) -> f64) -> f64 {
    value(past.detection.as_ref().unwrap_or(&seen.detection))
}

fn flag(past: &Past, value: fn(&Detection) -> bool) -> Option<bool> {
    past.detection.as_ref().map(value)
}

/// Second moments (xx, yy, xy) of the source's profile, arcsec^2.
fn moments(detection: &Detection) -> [f64; 3] {
    let sigma = detection.fwhm_pixels * PIXEL_ARCSEC / 2.354_82;
    let (long, short) = (sigma * sigma * detection.elongation, sigma * sigma / detection.elongation);
    let angle = detection.angle_deg * std::f64::consts::PI / 180.0;
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    [long * cos * cos + short * sin * sin, long * sin * sin + short * cos * cos, (long - short) * sin * cos]
}

/// Second moments of the point spread function, arcsec^2.
fn psf_moments(past: &Past) -> f64 {
    let sigma = past.visit.seeing_fwhm_arcsec / 2.354_82;
    sigma * sigma
}

/// A goodness of fit about what it should be for so many pixels.
fn chi2(past: &Past, which: u64) -> f64 {
    f64::from(FITTED_PIXELS) * Dice::new(&[past.visit.number as u64, u64::from(past.detector), which]).within(0.93, 1.1)
}

fn forced_id(seen: &Seen, past: &Past) -> i64 {
    (Dice::new(&[past.visit.number as u64, seen.object]).bits() >> 2) as i64
}

/// Whether a detection lies within so many pixels of its CCD's edge.
fn at_edge(detection: &Detection, pixels: f64) -> bool {
    [detection.x, 4072.0 - detection.x, detection.y, 4000.0 - detection.y].into_iter().any(|away| away < pixels)
}

/// A flag that the simulated pipeline never raises.
macro_rules! never {
    ($name:literal) => {
        some_boolean($name, "", |_, _| Some(false))
    };
}

static DIA_SOURCE: &[Field<Past>] = &[
    long("diaSourceId", "", |_, p| p.detection.as_ref().map_or(0, source_id)),
    long("visit", "", |_, p| visit_id(&p.visit)),
    int("detector", "", |_, p| p.detector.into()),
    some_long("diaObjectId", "", |s, _| s.moving.is_none().then(|| object_id(s))),
    some_long("ssObjectId", "", |s, _| solar_id(s)),
    null("parentDiaSourceId", "long"),
    double("midpointMjdTai", "d", |_, p| p.visit.mjd_tai),
    double("ra", "deg", |s, p| place(s, p, |d| d.ra_deg)),
    some_float("raErr", "deg", |_, p| of(p, |d| d.position_error_arcsec / 3600.0)),
    double("dec", "deg", |s, p| place(s, p, |d| d.dec_deg)),
    some_float("decErr", "deg", |_, p| of(p, |d| d.position_error_arcsec / 3600.0)),
    some_float("ra_dec_Cov", "deg^2", |_, p| of(p, |_| 0.0)),
    float("x", "pixel", |s, p| place(s, p, |d| d.x) as f32),
    some_float("xErr", "pixel", |_, p| of(p, |d| d.position_error_arcsec / PIXEL_ARCSEC)),
    float("y", "pixel", |s, p| place(s, p, |d| d.y) as f32),
    some_float("yErr", "pixel", |_, p| of(p, |d| d.position_error_arcsec / PIXEL_ARCSEC)),
    never!("centroid_flag"),
    some_float("apFlux", "nJy", |_, p| of(p, |d| d.aperture_njy)),
    some_float("apFluxErr", "nJy", |_, p| of(p, |d| d.aperture_error_njy)),
    never!("apFlux_flag"),
    some_boolean("apFlux_flag_apertureTruncated", "", |_, p| flag(p, |d| at_edge(d, 12.0))),
    some_boolean("isNegative", "", |_, p| flag(p, |d| d.difference_njy < 0.0)),
    some_float("snr", "", |_, p| of(p, |d| d.snr)),
    some_float("psfFlux", "nJy", |_, p| of(p, |d| d.difference_njy)),
    some_float("psfFluxErr", "nJy", |_, p| of(p, |d| d.difference_error_njy)),
    null("psfLnL", "float"),
    some_float("psfChi2", "", |_, p| of(p, |_| chi2(p, 1))),
    int("psfNdata", "", |_, _| FITTED_PIXELS),
    never!("psfFlux_flag"),
    some_boolean("psfFlux_flag_edge", "", |_, p| flag(p, |d| at_edge(d, 20.0))),
    never!("psfFlux_flag_noGoodPixels"),
    some_float("trailFlux", "nJy", |_, p| of(p, |d| d.trail.map_or(d.difference_njy, |trail| trail.flux_njy))),
    some_float("trailFluxErr", "nJy", |_, p| of(p, |d| d.difference_error_njy)),
    some_double("trailRa", "deg", |_, p| p.detection.as_ref().map(|d| d.ra_deg)),
    null("trailRaErr", "float"),
    some_double("trailDec", "deg", |_, p| p.detection.as_ref().map(|d| d.dec_deg)),
    null("trailDecErr", "float"),
    some_float("trailLength", "arcsec", |_, p| of(p, |d| d.trail.map_or(0.0, |trail| trail.length_arcsec))),
    null("trailLengthErr", "float"),
    some_float("trailAngle", "deg", |_, p| of(p, |d| d.trail.map_or(0.0, |trail| trail.angle_deg))),
    null("trailAngleErr", "float"),
    some_float("trailChi2", "", |_, p| of(p, |_| chi2(p, 2))),
    int("trailNdata", "", |_, _| FITTED_PIXELS),
    some_boolean("trail_flag_edge", "", |_, p| flag(p, |d| d.trail.is_some() && at_edge(d, 20.0))),
    some_float("dipoleMeanFlux", "nJy", |_, p| p.detection.as_ref()?.dipole.map(|dipole| dipole.mean_njy as f32)),
    some_float("dipoleMeanFluxErr", "nJy", |_, p| p.detection.as_ref()?.dipole.map(|_| p.forced.difference_error_njy as f32)),
    some_float("dipoleFluxDiff", "nJy", |_, p| p.detection.as_ref()?.dipole.map(|dipole| dipole.difference_njy as f32)),
    some_float("dipoleFluxDiffErr", "nJy", |_, p| p.detection.as_ref()?.dipole.map(|_| p.forced.difference_error_njy as f32)),
    some_float("dipoleLength", "arcsec", |_, p| p.detection.as_ref()?.dipole.map(|dipole| dipole.length_arcsec as f32)),
    some_float("dipoleAngle", "deg", |_, p| p.detection.as_ref()?.dipole.map(|dipole| dipole.angle_deg as f32)),
    some_float("dipoleChi2", "", |_, p| p.detection.as_ref()?.dipole.map(|_| chi2(p, 3) as f32)),
    int("dipoleNdata", "", |_, p| if p.detection.as_ref().is_some_and(|d| d.dipole.is_some()) { FITTED_PIXELS } else { 0 }),
    some_float("scienceFlux", "nJy", |_, p| of(p, |d| d.science_njy)),
    some_float("scienceFluxErr", "nJy", |_, p| of(p, |d| d.science_error_njy)),
    never!("forced_PsfFlux_flag"),
    never!("forced_PsfFlux_flag_edge"),
    never!("forced_PsfFlux_flag_noGoodPixels"),
    some_float("templateFlux", "nJy", |_, p| of(p, |d| d.template_njy)),
    some_float("templateFluxErr", "nJy", |_, p| of(p, |d| d.template_error_njy)),
    some_float("ixx", "arcsec^2", |_, p| of(p, |d| moments(d)[0])),
    some_float("iyy", "arcsec^2", |_, p| of(p, |d| moments(d)[1])),
    some_float("ixy", "arcsec^2", |_, p| of(p, |d| moments(d)[2])),
    some_float("ixxPSF", "arcsec^2", |_, p| of(p, |_| psf_moments(p))),
    some_float("iyyPSF", "arcsec^2", |_, p| of(p, |_| psf_moments(p))),
    some_float("ixyPSF", "arcsec^2", |_, p| of(p, |_| 0.0)),
    never!("shape_flag"),
    never!("shape_flag_no_pixels"),
    never!("shape_flag_not_contained"),
    never!("shape_flag_parent_source"),
    some_float("extendedness", "", |_, p| of(p, |d| d.extendedness)),
    some_float("reliability", "", |_, p| of(p, |d| d.real_bogus)),
    some_text("band", "", |_, p| Some(p.visit.band.letter())),
    some_boolean("isDipole", "", |_, p| flag(p, |d| d.dipole.is_some())),
    some_boolean("dipoleFitAttempted", "", |_, p| flag(p, |d| d.dipole.is_some())),
    double("timeProcessedMjdTai", "d", |_, p| processed(&p.visit)),
    null("timeWithdrawnMjdTai", "double"),
    int("bboxSize", "", |_, p| p.detection.as_ref().map_or(0, |d| (4.0 * d.fwhm_pixels * d.elongation) as i32)),
    never!("pixelFlags"),
    some_boolean("pixelFlags_bad", "", |_, p| flag(p, |d| d.bad_pixels > 0)),
    some_boolean("pixelFlags_cr", "", |_, p| flag(p, |d| d.cosmic_ray_flag)),
    some_boolean("pixelFlags_crCenter", "", |_, p| flag(p, |d| d.cosmic_ray_flag)),
    some_boolean("pixelFlags_edge", "", |_, p| flag(p, |d| at_edge(d, 20.0))),
    never!("pixelFlags_nodata"),
    never!("pixelFlags_nodataCenter"),
    some_boolean("pixelFlags_interpolated", "", |_, p| flag(p, |d| d.bad_pixels > 0)),
    never!("pixelFlags_interpolatedCenter"),
    never!("pixelFlags_offimage"),
    never!("pixelFlags_saturated"),
    never!("pixelFlags_saturatedCenter"),
    never!("pixelFlags_suspect"),
    never!("pixelFlags_suspectCenter"),
    some_boolean("pixelFlags_streak", "", |s, p| flag(p, |d| d.trail.is_some()).map(|trail| trail && glint(s))),
    never!("pixelFlags_streakCenter"),
    never!("pixelFlags_injected"),
    never!("pixelFlags_injectedCenter"),
    never!("pixelFlags_injected_template"),
    never!("pixelFlags_injected_templateCenter"),
    some_boolean("glint_trail", "", |s, p| flag(p, |d| d.trail.is_some()).map(|trail| trail && glint(s))),
];

fn glint(seen: &Seen) -> bool {
    seen.class == Class::SatelliteGlint
}

/// When the survey was done with a visit: about a minute after it.
pub(super) fn processed(visit: &Visit) -> f64 {
    visit.mjd_tai + 63.0 / 86_400.0
}

static DIA_FORCED_SOURCE: &[Field<Past>] = &[
    long("diaForcedSourceId", "", forced_id),
    long("diaObjectId", "", |s, _| object_id(s)),
    double("ra", "deg", |s, _| s.detection.ra_deg),
    double("dec", "deg", |s, _| s.detection.dec_deg),
    long("visit", "", |_, p| visit_id(&p.visit)),
    int("detector", "", |_, p| p.detector.into()),
    some_float("psfFlux", "nJy", |_, p| Some(p.forced.difference_njy as f32)),
    some_float("psfFluxErr", "nJy", |_, p| Some(p.forced.difference_error_njy as f32)),
    double("midpointMjdTai", "d", |_, p| p.visit.mjd_tai),
    some_float("scienceFlux", "nJy", |_, p| Some(p.forced.science_njy as f32)),
    some_float("scienceFluxErr", "nJy", |_, p| Some(p.forced.science_error_njy as f32)),
    some_text("band", "", |_, p| Some(p.visit.band.letter())),
    double("timeProcessedMjdTai", "d", |_, p| processed(&p.visit)),
    null("timeWithdrawnMjdTai", "double"),
];

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_dates() {
        assert_eq!(date(61366), [2026, 11, 22]);
        assert_eq!(date(51544), [2000, 1, 1]);
        assert_eq!(date(60369), [2024, 2, 29]);
    }
}
