//! What one alert of the synthetic sky says, before any survey's record is made of it: plain values, the same for all
//! surveys.
//!
//! The sky and the survey that looks at it make these (module `survey`); records, cutouts and the truth table are made
//! of them. Everything here is a pure function of the seed, the options and the alert's place in the stream:
//!
//! ```text
//! Survey::new(&SurveyOptions) -> Survey                 Clone + Send + Sync, a few ms; clones share bounded caches
//! survey.visit(visit: i64) -> Visit                     any visit, also before the stream's first
//! survey.visits_of(night_mjd, nights) -> Range<i64>     the visits of some nights
//! survey.seen(visit: i64, index: u32) -> Seen           any alert, in any order; index < alerts_per_visit
//! survey.number_of(partition, offset, partitions) -> u64, survey.place(number: u64) -> (visit, index)
//! ```
//!
//! # Where an alert stands in the stream
//! Every visit gives exactly [`SurveyOptions::alerts_per_visit`] alerts, `N`: what it really detects, and bogus
//! detections for the rest. So a stream can be entered anywhere: alert `k` of partition `p` of `P` is alert number
//! `k P + p` of the stream, which is alert `number mod N` of visit `first + number / N`. Visits are numbered without end in
//! both directions of time (a night of `n` visits takes `n` numbers, days take none); `first` is the first of
//! [`SurveyOptions::first_night_mjd`]. Histories reach back before it, as a survey had eyes before a stream began.
//!
//! # Which objects are followed
//! An object's alert in a visit must be the same whether it is sent or told of later, so which detections make it into a
//! visit must not depend on the other detections. Hence a field follows a fixed set of objects, few enough for `N`:
//! where the sky holds more (the galactic plane), the rest stay unobserved. At least a tenth of `N` is bogus.

use std::sync::Arc;

pub use super::class::Class;

/// What a survey looks at, and how; the alerts are a function of these and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct SurveyOptions {
    /// Which survey's telescope, camera, cadence and depth.
    pub telescope: Telescope,
    /// What all chance comes from. The same seed and number of objects is the same sky, whichever survey looks at it.
    pub seed: u64,
    /// How many lasting objects brighter than about magnitude 19 the whole sky has (at least 1,000).
    pub objects: u32,
    /// How many lasting objects between about 19 and 23 the whole sky has besides; a shallow survey does not look at them.
    pub faint_objects: u32,
    /// How many asteroids there are.
    pub asteroids: u32,
    /// How many alerts each visit gives (10 to 65,535).
    pub alerts_per_visit: u32,
    /// The night of the stream's first alert: the MJD (an integer) of the UTC date at the night's beginning by the observatory's
    /// clock, so that 2026-11-22 is 61366 for both observatories.
    pub first_night_mjd: i32,
    /// How many days of earlier visits an alert tells of (30 for ZTF, 365 for LSST).
    pub history_days: u32,
    /// At most how many earlier visits an alert tells of, the latest; bounds the size of an alert.
    pub history_visits: u32,
}

/// The surveys whose observatory, camera and cadence are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telescope {
    /// The Zwicky Transient Facility on Palomar: g r i, 47 square degrees, 30 s, about 20.5 mag.
    Ztf,
    /// The Vera C. Rubin Observatory's LSST on Cerro Pachon: u g r i z y, 9.6 square degrees, 30 s, about 24.5 mag.
    Lsst,
}

/// A filter, by its usual letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Band {
    U,
    G,
    R,
    I,
    Z,
    Y,
}

impl Band {
    /// All bands, from blue to red.
    pub const ALL: [Self; 6] = [Self::U, Self::G, Self::R, Self::I, Self::Z, Self::Y];

    /// The band's letter.
    #[must_use]
    pub fn letter(self) -> &'static str {
        ["u", "g", "r", "i", "z", "y"][self as usize]
    }
}

/// One exposure of the survey.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// Grows by one from visit to visit, without gaps; the same in all streams of a telescope. Never negative from 1980 on.
    pub number: i64,
    /// The night, as [`SurveyOptions::first_night_mjd`] counts.
    pub night_mjd: i32,
    /// Which visit of its night, from 0.
    pub in_night: u32,
    /// The middle of the exposure, MJD, TAI. (UTC is 37 s less.)
    pub mjd_tai: f64,
    /// Seconds.
    pub exposure_s: f64,
    /// The filter.
    pub band: Band,
    /// The field of the survey's grid, from 1.
    pub field: u32,
    /// Where the camera's middle points, degrees (J2000).
    pub ra_deg: f64,
    /// Where the camera's middle points, degrees (J2000).
    pub dec_deg: f64,
    /// Of the camera's middle.
    pub airmass: f64,
    /// Magnitude (AB) of a point source seen at 5 sigma in the difference image.
    pub depth_mag: f64,
    /// Full width at half maximum of a point source.
    pub seeing_fwhm_arcsec: f64,
    /// The sky's surface brightness, mag (AB) per square arcsecond.
    pub sky_mag_arcsec2: f64,
    /// Magnitude of a source of one count in the whole exposure (ADU for ZTF).
    pub zero_point_mag: f64,
    /// Whether the moon is up, and the illuminated share of its disc.
    pub moon_up: bool,
    /// 0 to 1.
    pub moon_illumination: f64,
    /// How many images the template is made of.
    pub template_visits: u32,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The object, the same number in all of its alerts (below 2^48; below 26^7 but for asteroids, glints and cosmic rays).
    /// An asteroid, as it moves, is another object in each alert, as ZTF has it; [`Moving::number`] lasts.
    pub object: u64,
    /// What it truly is.
    pub class: Class,
    /// The exposure.
    pub visit: Arc<Visit>,
    /// The detection that this alert is about.
    pub detection: Detection,
    /// What the forced photometry of this very visit says.
    pub forced: Forced,
    /// Earlier visits to the place, in order of time, within [`SurveyOptions::history_days`] and at most
    /// [`SurveyOptions::history_visits`]: detections are equal to the [`Seen::detection`] sent then.
    pub history: Vec<Past>,
    /// Detections of the object within [`SurveyOptions::history_days`], this one among them.
    pub detections: u32,
    /// Visits to its place within [`SurveyOptions::history_days`], this one among them.
    pub visits: u32,
    /// Time of the first detection within [`SurveyOptions::history_days`], MJD, TAI.
    pub first_mjd_tai: f64,
    /// Catalogued sources nearby, nearest first, three at most, within 30 arcseconds: host galaxy, or the star itself.
    pub neighbours: Vec<Neighbour>,
    /// The Solar System object expected here.
    pub moving: Option<Moving>,
    /// What the cutouts show.
    pub scene: Scene,
    /// The truth.
    pub truth: Truth,
}

/// An earlier visit to an object's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// The exposure.
    pub visit: Arc<Visit>,
    /// The CCD and quadrant on which the place lay, as [`Detection::detector`].
    pub detector: u16,
    /// The detection, as the alert sent then told of it; else [`Visit::depth_mag`] is the upper limit.
    pub detection: Option<Detection>,
    /// The forced photometry.
    pub forced: Forced,
}

/// A detection on a difference image.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The alert's number: unique, below 2^46, growing from visit to visit.
    pub alert: u64,
    /// Degrees (J2000), as measured.
    pub ra_deg: f64,
    /// Degrees (J2000), as measured.
    pub dec_deg: f64,
    /// One sigma of each coordinate.
    pub position_error_arcsec: f64,
    /// ZTF: readout quadrant (rcid) 0 to 63; LSST: CCD 0 to 188.
    pub detector: u16,
    /// Pixel on that detector.
    pub x: f64,
    /// Pixel on that detector.
    pub y: f64,
    /// PSF flux on the difference image, nJy; negative where it is fainter than in the template.
    pub difference_njy: f64,
    /// One sigma, nJy.
    pub difference_error_njy: f64,
    /// The same in an aperture, nJy.
    pub aperture_njy: f64,
    /// One sigma, nJy.
    pub aperture_error_njy: f64,
    /// PSF flux on the science image, nJy.
    pub science_njy: f64,
    /// One sigma, nJy.
    pub science_error_njy: f64,
    /// PSF flux on the template, nJy.
    pub template_njy: f64,
    /// One sigma, nJy.
    pub template_error_njy: f64,
    /// |difference| / error; at least 5.
    pub snr: f64,
    /// 0 (bogus) to 1 (real).
    pub real_bogus: f64,
    /// Of the source's profile, pixels.
    pub fwhm_pixels: f64,
    /// Longer over shorter axis, at least 1.
    pub elongation: f64,
    /// Direction of the longer axis, degrees from the x axis to the y axis.
    pub angle_deg: f64,
    /// 0 (a point) to 1 (extended).
    pub extendedness: f64,
    /// Negative pixels within 5 x 5 around.
    pub negative_pixels: u32,
    /// Bad pixels within 5 x 5 around.
    pub bad_pixels: u32,
    /// Positive and negative lobes, where the difference looks like that.
    pub dipole: Option<Dipole>,
    /// A streak, where it looks like that.
    pub trail: Option<Trail>,
    /// Whether the pixels were flagged as hit by a cosmic ray.
    pub cosmic_ray_flag: bool,
}

/// A dipole fitted to a bad subtraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dipole {
    /// Mean of the absolute fluxes of the lobes, nJy.
    pub mean_njy: f64,
    /// Difference of the absolute fluxes of the lobes, nJy.
    pub difference_njy: f64,
    /// Between the lobes.
    pub length_arcsec: f64,
    /// From the negative to the positive lobe, degrees from north through east.
    pub angle_deg: f64,
}

/// A streak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trail {
    /// Its whole flux, nJy.
    pub flux_njy: f64,
    /// From end to end.
    pub length_arcsec: f64,
    /// Degrees from north through east.
    pub angle_deg: f64,
}

/// Forced photometry at an object's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forced {
    /// Flux on the difference image, nJy; where there is a detection, the detection's.
    pub difference_njy: f64,
    /// One sigma, nJy.
    pub difference_error_njy: f64,
    /// Flux on the science image, nJy.
    pub science_njy: f64,
    /// One sigma, nJy.
    pub science_error_njy: f64,
}

/// A catalogued source near an alert: of the reference image and of catalogues made earlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its number in the catalogue, the same in all alerts.
    pub number: u64,
    /// From the alert's place as measured.
    pub distance_arcsec: f64,
    /// Degrees (J2000).
    pub ra_deg: f64,
    /// Degrees (J2000).
    pub dec_deg: f64,
    /// AB magnitudes in u g r i z y.
    pub magnitudes: [f64; 6],
    /// 0 (galaxy) to 1 (star).
    pub star_score: f64,
}

/// A Solar System object where the survey expected it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moving {
    /// From 1.
    pub number: u32,
    /// A provisional designation, as `2019 AB12`.
    pub designation: String,
    /// The orbit: osculating elements, heliocentric, ecliptic J2000.
    pub orbit: Orbit,
    /// The expected place, degrees (J2000).
    pub ra_deg: f64,
    /// The expected place, degrees (J2000).
    pub dec_deg: f64,
    /// The expected magnitude in V.
    pub magnitude_v: f64,
    /// Motion along right ascension, with the cosine of the declination, degrees a day.
    pub rate_ra_deg_day: f64,
    /// Motion along declination, degrees a day.
    pub rate_dec_deg_day: f64,
    /// From the expected place to the alert's.
    pub offset_arcsec: f64,
    /// Ecliptic longitude and latitude, degrees.
    pub ecliptic_deg: [f64; 2],
    /// Angle between sun and object as seen from here, degrees.
    pub elongation_deg: f64,
    /// Angle between sun and observer as seen from the object, degrees.
    pub phase_deg: f64,
    /// Heliocentric place (au) and velocity (au/day), equatorial J2000.
    pub heliocentric: [[f64; 3]; 2],
    /// The same as seen from the Earth.
    pub topocentric: [[f64; 3]; 2],
}

/// A Keplerian orbit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orbit {
    /// Perihelion distance, au.
    pub perihelion_au: f64,
    /// Eccentricity, below 1.
    pub eccentricity: f64,
    /// Inclination, degrees.
    pub inclination_deg: f64,
    /// Longitude of the ascending node, degrees.
    pub node_deg: f64,
    /// Argument of perihelion, degrees.
    pub perihelion_deg: f64,
    /// Time of perihelion, MJD, TT.
    pub perihelion_mjd: f64,
    /// Epoch of the elements, MJD, TT.
    pub epoch_mjd: f64,
    /// Absolute magnitude H.
    pub absolute_mag: f64,
    /// Slope G.
    pub slope: f64,
}

/// What the three cutouts show. East is to the left, north is up; (0, 0) is the detection's true place.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// What the noise of the pixels comes from, of this alert alone.
    pub noise_seed: u64,
    /// Size of a pixel.
    pub pixel_arcsec: f64,
    /// Where the middle of the stamp's middle pixel lies, east and north of (0, 0), arcseconds: less than a pixel.
    pub middle_arcsec: [f64; 2],
    /// The science image.
    pub science: Image,
    /// The template.
    pub template: Image,
    /// What is there, brightest first.
    pub sources: Vec<Source>,
}

/// The ground on which an image's sources stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Image {
    /// The sky's light, nJy per pixel.
    pub sky_njy: f64,
    /// One sigma of a pixel's noise, nJy, from sky and detector.
    pub noise_njy: f64,
    /// Full width at half maximum of a point.
    pub fwhm_arcsec: f64,
    /// Magnitude of a source of one count.
    pub zero_point_mag: f64,
}

/// A source in the cutouts. The difference image shows science minus template, of each source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// What it looks like.
    pub shape: Shape,
    /// East of the detection, arcseconds.
    pub east_arcsec: f64,
    /// North of the detection, arcseconds.
    pub north_arcsec: f64,
    /// Flux on the science image, nJy.
    pub science_njy: f64,
    /// Flux on the template, nJy.
    pub template_njy: f64,
    /// By how much it stands further east and north on the science image than on the template, arcseconds: what was not
    /// aligned leaves a dipole on the difference.
    pub shift_arcsec: [f64; 2],
}

/// What a source looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// As wide as the seeing.
    Point,
    /// A Sersic profile, widened by the seeing.
    Galaxy {
        /// Half of its light lies within, arcseconds along the longer axis.
        half_light_arcsec: f64,
        /// 1 (a disc) to 4 (an elliptical).
        index: f64,
        /// Shorter over longer axis.
        axis_ratio: f64,
        /// Of the longer axis, degrees from north through east.
        angle_deg: f64,
    },
    /// A line, widened by the seeing.
    Trail {
        /// From end to end.
        length_arcsec: f64,
        /// Degrees from north through east.
        angle_deg: f64,
    },
    /// A line of single pixels, not widened.
    CosmicRay {
        /// From end to end, pixels.
        length_pixels: f64,
        /// Degrees from north through east.
        angle_deg: f64,
    },
}

/// What is true of an alert's object.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// True place, degrees (J2000), at the alert's time.
    pub ra_deg: f64,
    /// True place, degrees (J2000), at the alert's time.
    pub dec_deg: f64,
    /// True flux on the difference image, nJy.
    pub difference_njy: f64,
    /// The parameters of its light curve or orbit, by name with the unit last (`period_days`, `peak_mjd`, `redshift`, …).
    pub parameters: Vec<(&'static str, f64)>,
}
