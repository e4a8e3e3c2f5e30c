//! ZTF's alert, as of schema 4.02: our own writing of its field names, types, nullability and units.
//!
//! What the simulated sky has nothing to say about is null, or where that may not be a value that means so at the survey
//! (-999 for a distance to nothing). Magnitudes are AB; counts (DN) follow from the visit's zero point.

use std::f64::consts::LN_10;
use std::sync::LazyLock;

use super::datum::Datum;
use super::field::{
    Field, array, double, float, int, long, null, or_null, record, schema, some_double, some_float, some_int, some_long, some_text, text,
    typed, write, write_array,
};
use super::shape::{magnitude, separation_arcsec};
use crate::simulator::dice::Dice;
use crate::simulator::seen::{Band, Detection, Forced, Neighbour, Past, Seen, Visit};

/// Pixels of a quadrant.
const QUADRANT: [f64; 2] = [3072.0, 3080.0];
const PIXEL_ARCSEC: f64 = 1.012;
/// MJD of the zeroth night (2017-01-01).
const NIGHT_ZERO: f64 = 57754.0;
const JD_OF_MJD: f64 = 2_400_000.5;
const TAI_LESS_UTC_S: f64 = 37.0;
/// Above every alert number that ZTF itself has given (below 2^46 of them).
const CANDID_FIRST: i64 = 3_000_000_000_000_000_000;
/// What ZTF writes for a distance to nothing.
const NOTHING: f32 = -999.0;
/// Relative error of a magnitude's error: 2.5 / ln 10.
const MAG_OF_RATIO: f64 = 2.5 / LN_10;

/// The schema as one line of JSON.
pub static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    let cutout = [typed("fileName", r#""string""#), typed("stampData", r#""bytes""#)];
    let fields = [
        typed("schemavsn", r#""string""#),
        typed("publisher", r#""string""#),
        typed("objectId", r#""string""#),
        typed("candid", r#""long""#),
        typed("candidate", &schema("ztf.alert", "candidate", CANDIDATE)),
        or_null("prv_candidates", &array(&schema("ztf.alert", "prv_candidate", PRV_CANDIDATE))),
        or_null("fp_hists", &array(&schema("ztf.alert", "fp_hist", FP_HIST))),
        or_null("cutoutScience", &record("ztf.alert", "cutout", &cutout)),
        or_null("cutoutTemplate", r#""ztf.alert.cutout""#),
        or_null("cutoutDifference", r#""ztf.alert.cutout""#),
    ];
    record("ztf", "alert", &fields)
});

/// Appends the alert's datum; `cutouts` (science, template, difference) are gzip'd FITS files.
pub(super) fn encode(seen: &Seen, cutouts: &[Vec<u8>; 3], out: &mut Vec<u8>) {
    let candid = candid(&seen.detection);
    let now =
        Past { visit: seen.visit.clone(), detector: seen.detection.detector, detection: Some(seen.detection.clone()), forced: seen.forced };
    let mut datum = Datum(out);
    datum.text("4.02");
    datum.text("fink simulator");
    datum.text(&object_id(seen));
    datum.long(candid);
    write(CANDIDATE, seen, &now, &mut datum);
    write_array(PRV_CANDIDATE, seen, seen.history.iter(), &mut datum);
    write_array(FP_HIST, seen, seen.history.iter(), &mut datum);
    for (kind, bytes) in ["sci", "ref", "diff"].into_iter().zip(cutouts) {
        datum.present();
        datum.text(&format!("candid{candid}_pid{}_targ_{kind}.fits.gz", pid(&now)));
        datum.bytes(bytes);
    }
}

/// The number by which the survey knows this detection.
pub(super) fn candid(detection: &Detection) -> i64 {
    CANDID_FIRST + detection.alert as i64
}

/// `SIM`, two digits as of a year, and letters: ZTF's pattern, and no object of ZTF's.
pub(super) fn object_id(seen: &Seen) -> String {
    let mut number = seen.object;
    let mut letters = Vec::new();
    while number > 0 || letters.len() < 7 {
        letters.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    let letters: String = letters.iter().rev().collect();
    format!("SIM{}{letters}", 18 + seen.object % 8)
}

fn jd(visit: &Visit) -> f64 {
    // The survey tells when the shutter opened, UTC.
    visit.mjd_tai - (TAI_LESS_UTC_S + visit.exposure_s / 2.0) / 86_400.0 + JD_OF_MJD
}

fn jd_of_tai(mjd_tai: f64) -> f64 {
    mjd_tai - (TAI_LESS_UTC_S + 15.0) / 86_400.0 + JD_OF_MJD
}

fn nid(visit: &Visit) -> i32 {
    (jd(visit) - JD_OF_MJD - NIGHT_ZERO) as i32
}

fn pid(past: &Past) -> i64 {
    let day = jd(&past.visit) - JD_OF_MJD - NIGHT_ZERO;
    (day * 1e6) as i64 * 1000 + 100 + i64::from(past.detector)
}

fn fid(visit: &Visit) -> i32 {
    match visit.band {
        Band::U | Band::G => 1,
        Band::R => 2,
        Band::I | Band::Z | Band::Y => 3,
    }
}

fn rfid(past: &Past) -> i64 {
    i64::from(past.visit.field) * 1_000_000 + i64::from(fid(&past.visit)) * 10_000 + 100 + i64::from(past.detector)
}

/// Counts of a flux in nJy.
fn counts(visit: &Visit, njy: f64) -> f64 {
    njy * libm::pow(10.0, 0.4 * (visit.zero_point_mag - 31.4))
}

fn sky(visit: &Visit) -> f32 {
    (libm::pow(10.0, 0.4 * (visit.zero_point_mag - visit.sky_mag_arcsec2)) * PIXEL_ARCSEC * PIXEL_ARCSEC) as f32
}

fn sigma_mag(flux: f64, error: f64) -> f32 {
    (MAG_OF_RATIO * error / flux.abs().max(1e-3)) as f32
}

/// What nothing else depends on and no one looks for: a number from 0 to 1 of this visit and quadrant.
fn chance(past: &Past, which: u64) -> f64 {
    Dice::new(&[past.visit.number as u64, u64::from(past.detector), which]).within(0.0, 1.0)
}

fn nearest(seen: &Seen) -> Option<&Neighbour> {
    seen.neighbours.first()
}

/// From where the detection was measured (else from where the object is) to a neighbour.
fn distance(seen: &Seen, past: &Past, neighbour: &Neighbour) -> f64 {
    let at = past.detection.as_ref().unwrap_or(&seen.detection);
    separation_arcsec([at.ra_deg, at.dec_deg], [neighbour.ra_deg, neighbour.dec_deg])
}

fn of_neighbour(seen: &Seen, index: usize, value: impl FnOnce(&Neighbour) -> f64) -> Option<f32> {
    Some(seen.neighbours.get(index).map_or(NOTHING, |neighbour| value(neighbour) as f32))
}

fn neighbour_id(seen: &Seen, index: usize) -> Option<i64> {
    seen.neighbours.get(index).map(|neighbour| neighbour.number as i64)
}

fn magnr(seen: &Seen, past: &Past) -> Option<f32> {
    past.detection.as_ref()?;
    of_neighbour(seen, 0, |neighbour| neighbour.magnitudes[past.visit.band as usize])
}

/// What a detection says; null where there was none.
fn of(past: &Past, value: impl FnOnce(&Detection) -> f64) -> Option<f32> {
    past.detection.as_ref().map(|detection| value(detection) as f32)
}

fn magpsf(detection: &Detection) -> f64 {
    magnitude(detection.difference_njy.abs())
}

fn magap(detection: &Detection) -> f64 {
    magnitude(detection.aperture_njy.abs())
}

fn edge(detection: &Detection) -> f64 {
    let [width, height] = QUADRANT;
    [detection.x, width - detection.x, detection.y, height - detection.y].into_iter().fold(width, f64::min).max(0.0)
}

fn isdiffpos(detection: &Detection) -> &'static str {
    if detection.difference_njy >= 0.0 { "t" } else { "f" }
}

/// The fields of candidate and prv_candidate; those in brackets are nullable in the history only, by the names given.
macro_rules! detected {
    ($kind:tt [$($rest:expr,)*]) => {
        &[
            double("jd", "d", |_, p| jd(&p.visit)),
            int("fid", "", |_, p| fid(&p.visit)),
            long("pid", "", |_, p| pid(p)),
            some_float("diffmaglim", "mag", |_, p| Some(p.visit.depth_mag as f32)),
            null("pdiffimfilename", "string"),
            null("programpi", "string"),
            int("programid", "", |_, _| 1),
            detected!(@ $kind long, some_long, "candid", "", candid),
            detected!(@ $kind text, some_text, "isdiffpos", "", isdiffpos),
            some_long("tblid", "", |_, p| p.detection.as_ref().map(|d| (d.alert % 1000) as i64)),
            some_int("nid", "", |_, p| Some(nid(&p.visit))),
            some_int("rcid", "", |_, p| Some(p.detector.into())),
            some_int("field", "", |_, p| Some(p.visit.field as i32)),
            some_float("xpos", "pixel", |_, p| of(p, |d| d.x)),
            some_float("ypos", "pixel", |_, p| of(p, |d| d.y)),
            detected!(@ $kind double, some_double, "ra", "deg", |d: &Detection| d.ra_deg),
            detected!(@ $kind double, some_double, "dec", "deg", |d: &Detection| d.dec_deg),
            detected!(@ $kind float, some_float, "magpsf", "mag", |d: &Detection| magpsf(d) as f32),
            detected!(@ $kind float, some_float, "sigmapsf", "mag", |d: &Detection| sigma_mag(d.difference_njy, d.difference_error_njy)),
            some_float("chipsf", "", |_, p| of(p, |d| 0.7 + d.elongation * chance(p, 1))),
            some_float("magap", "mag", |_, p| of(p, magap)),
            some_float("sigmagap", "mag", |_, p| p.detection.as_ref().map(|d| sigma_mag(d.aperture_njy, d.aperture_error_njy))),
            some_float("distnr", "pixel", |s, p| {
                let d = nearest(s).map_or(NOTHING, |n| (distance(s, p, n) / PIXEL_ARCSEC) as f32);
                p.detection.as_ref().map(|_| d)
            }),
            some_float("magnr", "mag", magnr),
            some_float("sigmagnr", "mag", |s, p| magnr(s, p).map(|m| 0.01 + 0.002 * m.max(0.0))),
            some_float("chinr", "", |_, p| of(p, |_| 0.5 + chance(p, 2))),
            some_float("sharpnr", "", |s, p| of(p, |_| nearest(s).map_or(0.0, |n| 0.2 * (1.0 - n.star_score)))),
            some_float("sky", "DN", |_, p| of(p, |_| f64::from(sky(&p.visit)))),
            some_float("magdiff", "mag", |_, p| of(p, |d| magap(d) - magpsf(d))),
            some_float("fwhm", "pixel", |_, p| of(p, |d| d.fwhm_pixels)),
            some_float("classtar", "", |_, p| of(p, |d| 1.0 - d.extendedness)),
            some_float("mindtoedge", "pixel", |_, p| of(p, edge)),
            some_float("magfromlim", "mag", |_, p| of(p, |d| p.visit.depth_mag - magap(d))),
            some_float("seeratio", "", |_, p| of(p, |d| d.fwhm_pixels * PIXEL_ARCSEC / p.visit.seeing_fwhm_arcsec.max(0.1))),
            some_float("aimage", "pixel", |_, p| of(p, |d| 0.42 * d.fwhm_pixels * d.elongation)),
            some_float("bimage", "pixel", |_, p| of(p, |d| 0.42 * d.fwhm_pixels)),
            some_float("aimagerat", "", |_, p| of(p, |d| 0.42 * d.elongation)),
            some_float("bimagerat", "", |_, p| of(p, |_| 0.42)),
            some_float("elong", "", |_, p| of(p, |d| d.elongation)),
            some_int("nneg", "", |_, p| p.detection.as_ref().map(|d| d.negative_pixels as i32)),
            some_int("nbad", "", |_, p| p.detection.as_ref().map(|d| d.bad_pixels as i32)),
            some_float("rb", "", |_, p| of(p, |d| (d.real_bogus + 0.1 * (chance(p, 3) - 0.5)).clamp(0.0, 1.0))),
            some_float("ssdistnr", "arcsec", |s, p| of(p, |_| s.moving.as_ref().map_or(NOTHING.into(), |m| m.offset_arcsec))),
            some_float("ssmagnr", "mag", |s, p| of(p, |_| s.moving.as_ref().map_or(NOTHING.into(), |m| m.magnitude_v))),
            some_text("ssnamenr", "", |s, p| {
                let name = s.moving.as_ref().map_or("null", |m| m.designation.as_str());
                p.detection.as_ref().map(|_| name)
            }),
            some_float("sumrat", "", |_, p| of(p, |d| 1.0 - f64::from(d.negative_pixels) / 12.5)),
            some_float("magapbig", "mag", |_, p| of(p, |d| magap(d) - 0.02)),
            some_float("sigmagapbig", "mag", |_, p| p.detection.as_ref().map(|d| 1.2 * sigma_mag(d.aperture_njy, d.aperture_error_njy))),
            $($rest,)*
        ]
    };
    (@ now $plain:ident, $some:ident, $name:expr, $unit:expr, $value:expr) => {
        $plain($name, $unit, |s, _| $value(&s.detection))
    };
    (@ past $plain:ident, $some:ident, $name:expr, $unit:expr, $value:expr) => {
        $some($name, $unit, |_, p| p.detection.as_ref().map($value))
    };
}

/// The detection that raised the alert.
static CANDIDATE: &[Field<Past>] = detected!(now [
    double("ranr", "deg", |s, _| nearest(s).map_or(s.detection.ra_deg, |n| n.ra_deg)),
    double("decnr", "deg", |s, _| nearest(s).map_or(s.detection.dec_deg, |n| n.dec_deg)),
    some_float("sgmag1", "mag", |s, _| of_neighbour(s, 0, |n| n.magnitudes[1])),
    some_float("srmag1", "mag", |s, _| of_neighbour(s, 0, |n| n.magnitudes[2])),
    some_float("simag1", "mag", |s, _| of_neighbour(s, 0, |n| n.magnitudes[3])),
    some_float("szmag1", "mag", |s, _| of_neighbour(s, 0, |n| n.magnitudes[4])),
    some_float("sgscore1", "", |s, _| of_neighbour(s, 0, |n| n.star_score)),
    some_float("distpsnr1", "arcsec", |s, p| of_neighbour(s, 0, |n| distance(s, p, n))),
    int("ndethist", "", |s, _| s.detections as i32),
    int("ncovhist", "", |s, _| s.visits as i32),
    some_double("jdstarthist", "d", |s, _| Some(jd_of_tai(s.first_mjd_tai))),
    some_double("jdendhist", "d", |_, p| Some(jd(&p.visit))),
    some_double("scorr", "", |s, _| Some(s.detection.snr)),
    some_int("tooflag", "", |_, _| Some(0)),
    some_long("objectidps1", "", |s, _| neighbour_id(s, 0)),
    some_long("objectidps2", "", |s, _| neighbour_id(s, 1)),
    some_float("sgmag2", "mag", |s, _| of_neighbour(s, 1, |n| n.magnitudes[1])),
    some_float("srmag2", "mag", |s, _| of_neighbour(s, 1, |n| n.magnitudes[2])),
    some_float("simag2", "mag", |s, _| of_neighbour(s, 1, |n| n.magnitudes[3])),
    some_float("szmag2", "mag", |s, _| of_neighbour(s, 1, |n| n.magnitudes[4])),
    some_float("sgscore2", "", |s, _| of_neighbour(s, 1, |n| n.star_score)),
    some_float("distpsnr2", "arcsec", |s, p| of_neighbour(s, 1, |n| distance(s, p, n))),
    some_long("objectidps3", "", |s, _| neighbour_id(s, 2)),
    some_float("sgmag3", "mag", |s, _| of_neighbour(s, 2, |n| n.magnitudes[1])),
    some_float("srmag3", "mag", |s, _| of_neighbour(s, 2, |n| n.magnitudes[2])),
    some_float("simag3", "mag", |s, _| of_neighbour(s, 2, |n| n.magnitudes[3])),
    some_float("szmag3", "mag", |s, _| of_neighbour(s, 2, |n| n.magnitudes[4])),
    some_float("sgscore3", "", |s, _| of_neighbour(s, 2, |n| n.star_score)),
    some_float("distpsnr3", "arcsec", |s, p| of_neighbour(s, 2, |n| distance(s, p, n))),
    int("nmtchps", "", |s, _| s.neighbours.len() as i32),
    long("rfid", "", |_, p| rfid(p)),
    double("jdstartref", "d", |_, p| JD_OF_MJD + 58_200.0 + f64::from(p.visit.field % 100)),
    double("jdendref", "d", |_, p| JD_OF_MJD + 58_400.0 + f64::from(p.visit.field % 100)),
    int("nframesref", "", |_, p| p.visit.template_visits as i32),
    text("rbversion", "", |_, _| "simulated"),
    some_float("dsnrms", "", |s, _| Some((s.detection.snr * 1.4) as f32)),
    some_float("ssnrms", "", |s, _| Some((s.detection.snr * 1.8) as f32)),
    some_float("dsdiff", "", |s, _| Some((s.detection.snr * -0.4) as f32)),
    some_float("magzpsci", "mag", |_, p| Some(p.visit.zero_point_mag as f32)),
    some_float("magzpsciunc", "mag", |_, p| Some((1e-5 * (1.0 + chance(p, 4))) as f32)),
    some_float("magzpscirms", "mag", |_, p| Some((0.03 + 0.01 * chance(p, 5)) as f32)),
    int("nmatches", "", |_, p| 200 + (800.0 * chance(p, 6)) as i32),
    some_float("clrcoeff", "", |_, p| Some((-0.05 + 0.1 * chance(p, 7)) as f32)),
    some_float("clrcounc", "", |_, p| Some((2e-5 * (1.0 + chance(p, 8))) as f32)),
    some_float("zpclrcov", "mag^2", |_, p| Some((-4e-6 * (1.0 + chance(p, 9))) as f32)),
    some_float("zpmed", "mag", |_, p| Some(p.visit.zero_point_mag as f32)),
    some_float("clrmed", "mag", |_, p| Some((0.6 + 0.2 * chance(p, 10)) as f32)),
    some_float("clrrms", "mag", |_, p| Some((0.2 + 0.1 * chance(p, 11)) as f32)),
    some_float("neargaia", "arcsec", |s, p| Some(nearest(s).map_or(NOTHING, |n| distance(s, p, n) as f32))),
    some_float("neargaiabright", "arcsec", |_, _| Some(NOTHING)),
    some_float("maggaia", "mag", |s, _| of_neighbour(s, 0, |n| n.magnitudes[2])),
    some_float("maggaiabright", "mag", |_, _| Some(NOTHING)),
    some_float("exptime", "s", |_, p| Some(p.visit.exposure_s as f32)),
    some_float("drb", "", |s, _| Some(s.detection.real_bogus as f32)),
    text("drbversion", "", |_, _| "simulated"),
]);

/// An earlier visit: a detection, or an upper limit.
static PRV_CANDIDATE: &[Field<Past>] = detected!(past [
    some_double("ranr", "deg", |s, p| p.detection.as_ref().map(|d| nearest(s).map_or(d.ra_deg, |n| n.ra_deg))),
    some_double("decnr", "deg", |s, p| p.detection.as_ref().map(|d| nearest(s).map_or(d.dec_deg, |n| n.dec_deg))),
    some_double("scorr", "", |_, p| p.detection.as_ref().map(|d| d.snr)),
    some_float("magzpsci", "mag", |_, p| of(p, |_| p.visit.zero_point_mag)),
    some_float("magzpsciunc", "mag", |_, p| of(p, |_| 1e-5 * (1.0 + chance(p, 4)))),
    some_float("magzpscirms", "mag", |_, p| of(p, |_| 0.03 + 0.01 * chance(p, 5))),
    some_float("clrcoeff", "", |_, p| of(p, |_| -0.05 + 0.1 * chance(p, 7))),
    some_float("clrcounc", "", |_, p| of(p, |_| 2e-5 * (1.0 + chance(p, 8)))),
    text("rbversion", "", |_, p| if p.detection.is_some() { "simulated" } else { "" }),
]);

/// Forced photometry at an earlier visit.
static FP_HIST: &[Field<Past>] = &[
    some_int("field", "", |_, p| Some(p.visit.field as i32)),
    some_int("rcid", "", |_, p| Some(p.detector.into())),
    int("fid", "", |_, p| fid(&p.visit)),
    long("pid", "", |_, p| pid(p)),
    long("rfid", "", |_, p| rfid(p)),
    some_float("sciinpseeing", "pixel", |_, p| Some((p.visit.seeing_fwhm_arcsec / PIXEL_ARCSEC) as f32)),
    some_float("scibckgnd", "DN", |_, p| Some(sky(&p.visit))),
    some_float("scisigpix", "DN", |_, p| Some(libm::sqrtf(sky(&p.visit).max(0.0) / 6.0))),
    some_float("magzpsci", "mag", |_, p| Some(p.visit.zero_point_mag as f32)),
    some_float("magzpsciunc", "mag", |_, p| Some((1e-5 * (1.0 + chance(p, 4))) as f32)),
    some_float("magzpscirms", "mag", |_, p| Some((0.03 + 0.01 * chance(p, 5)) as f32)),
    some_float("clrcoeff", "", |_, p| Some((-0.05 + 0.1 * chance(p, 7)) as f32)),
    some_float("clrcounc", "", |_, p| Some((2e-5 * (1.0 + chance(p, 8))) as f32)),
    some_float("exptime", "s", |_, p| Some(p.visit.exposure_s as f32)),
    some_float("adpctdif1", "arcsec", |_, p| Some((0.06 + 0.02 * chance(p, 12)) as f32)),
    some_float("adpctdif2", "arcsec", |_, p| Some((0.06 + 0.02 * chance(p, 13)) as f32)),
    some_float("diffmaglim", "mag", |_, p| Some(p.visit.depth_mag as f32)),
    int("programid", "", |_, _| 1),
    double("jd", "d", |_, p| jd(&p.visit)),
    some_float("forcediffimflux", "DN", |_, p| Some(forced(p, |f| f.difference_njy))),
    some_float("forcediffimfluxunc", "DN", |_, p| Some(forced(p, |f| f.difference_error_njy))),
    some_text("procstatus", "", |_, _| Some("0")),
    some_float("distnr", "arcsec", |s, p| Some(nearest(s).map_or(NOTHING, |n| distance(s, p, n) as f32))),
    double("ranr", "deg", |s, _| nearest(s).map_or(s.detection.ra_deg, |n| n.ra_deg)),
    double("decnr", "deg", |s, _| nearest(s).map_or(s.detection.dec_deg, |n| n.dec_deg)),
    some_float("magnr", "mag", |s, p| of_neighbour(s, 0, |n| n.magnitudes[p.visit.band as usize])),
    some_float("sigmagnr", "mag", |s, _| of_neighbour(s, 0, |n| 0.01 + 0.002 * n.magnitudes[2])),
    some_float("chinr", "", |_, p| Some((0.5 + chance(p, 2)) as f32)),
    some_float("sharpnr", "", |s, _| Some(nearest(s).map_or(0.0, |n| (0.2 * (1.0 - n.star_score)) as f32))),
];

fn forced(past: &Past, value: impl FnOnce(&Forced) -> f64) -> f32 {
    counts(&past.visit, value(&past.forced)) as f32
}
