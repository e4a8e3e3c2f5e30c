//! What the surveys differ in: observatory, camera, filters, sensitivity, cadence. One table for each.
//!
//! ZTF as Bellm et al. 2019, PASP 131, 018002 (tables 1 and 2) and Dekany et al. 2020, PASP 132, 038001; LSST as Ivezic et al.
//! 2019, ApJ 873, 111 (tables 1 and 2), whose formula for depths (eq. 6) is used for both, ZTF's constants chosen so that it gives
//! the median depths that they tell of.

use super::site::Site;
use crate::simulator::seen::{Band, Telescope};

/// A telescope with its camera and habits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instrument {
    pub(crate) telescope: Telescope,
    pub(crate) site: Site,
    /// From the beginning of an exposure to that of the next.
    pub(crate) interval_s: f64,
    pub(crate) exposure_s: f64,
    pub(crate) pixel_arcsec: f64,
    /// Detectors along a side of the camera, and how far apart.
    pub(crate) detectors: u16,
    pub(crate) pitch_deg: f64,
    /// Pixels of a detector.
    pub(crate) pixels: [f64; 2],
    /// Declinations of the middles of the fields.
    pub(crate) declinations_deg: [f64; 2],
    /// How far from the meridian fields are taken.
    pub(crate) hours_deg: f64,
    /// Visits of a field in a night that it is chosen for.
    pub(crate) rounds: u32,
    /// Median full width at half maximum at 500 nm in the zenith.
    pub(crate) seeing_arcsec: f64,
    /// Systematic error of places, arcseconds.
    pub(crate) place_error_arcsec: f64,
    /// The dark sky, the constants of the depth, the extinction per airmass; by band.
    pub(crate) dark_sky: [f64; 6],
    pub(crate) constants: [f64; 6],
    pub(crate) extinction: [f64; 6],
    pub(crate) zero_points: [f64; 6],
    /// Images in a template.
    pub(crate) template_visits: u32,
    /// The depth by which it is judged how many of a field's objects a visit may detect, magnitudes: that of good visits. LSST's
    /// best bands go deeper, for which a third of its alerts is room enough.
    pub(crate) good_depth_mag: f64,
}

impl Instrument {
    /// The instrument of a telescope.
    pub(crate) fn of(telescope: Telescope) -> Self {
        match telescope {
            Telescope::Ztf => Self {
                telescope,
                site: Site { longitude_deg: -116.8597, latitude_deg: 33.3573 },
                interval_s: 40.0,
                exposure_s: 30.0,
                pixel_arcsec: 1.012,
                detectors: 8,
                pitch_deg: 0.9375,
                pixels: [3072.0, 3080.0],
                declinations_deg: [-24.0, 88.0],
                hours_deg: 32.0,
                rounds: 3,
                seeing_arcsec: 1.85,
                place_error_arcsec: 0.08,
                dark_sky: [22.5, 22.0, 21.1, 20.2, 19.3, 18.3],
                constants: [21.2, 21.70, 21.95, 21.70, 21.2, 20.7],
                extinction: [0.45, 0.19, 0.11, 0.07, 0.05, 0.05],
                zero_points: [25.5, 26.3, 26.3, 25.7, 25.0, 24.5],
                template_visits: 25,
                good_depth_mag: 20.7,
            },
            Telescope::Lsst => Self {
                telescope,
                site: Site { longitude_deg: -70.7494, latitude_deg: -30.2446 },
                interval_s: 37.0,
                exposure_s: 30.0,
                pixel_arcsec: 0.2,
                detectors: 15,
                pitch_deg: 0.2343,
                pixels: [4072.0, 4000.0],
                declinations_deg: [-75.0, 10.0],
                hours_deg: 40.0,
                rounds: 2,
                seeing_arcsec: 0.72,
                place_error_arcsec: 0.01,
                dark_sky: [22.99, 22.26, 21.20, 20.48, 19.60, 18.61],
                constants: [23.09, 24.42, 24.44, 24.32, 24.16, 23.73],
                extinction: [0.491, 0.213, 0.126, 0.096, 0.069, 0.170],
                zero_points: [31.4; 6],
                template_visits: 30,
                good_depth_mag: 24.1,
            },
        }
    }

    /// The filters of a pair of rounds: by night, block of fields, and how bright the moon is; further rounds take turns.
    pub(crate) fn bands(&self, choice: u64, moon: f64) -> [Band; 2] {
        use Band::{G, I, R, U, Y, Z};
        let among = |pairs: &[[Band; 2]]| pairs[(choice % pairs.len() as u64) as usize];
        match self.telescope {
            Telescope::Ztf => among(&[[G, R], [R, G], [G, R], [R, I]]),
            Telescope::Lsst if moon < 0.3 => among(&[[U, G], [G, R], [R, I], [G, I], [I, Z]]),
            Telescope::Lsst if moon < 0.7 => among(&[[G, R], [R, I], [I, Z], [Z, Y]]),
            Telescope::Lsst => among(&[[R, I], [I, Z], [Z, Y], [Y, Z]]),
        }
    }
}
