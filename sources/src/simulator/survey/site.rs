//! Sun, moon and stars over an observatory.
//!
//! The sun is opposite to [`orbit::earth`]; the moon by the low-precision formulae of the Astronomical Almanac (sec. D, 0.3
//! degrees); the Earth turns by the rotation angle of IAU 2000 (Capitaine et al. 2000, A&A 355, 398), places being J2000.

use crate::simulator::heavens::orbit::{self, positive_degrees};

/// TAI less UTC, days: 37 s, since 2017; also taken before.
pub(crate) const TAI_UTC_DAYS: f64 = 37.0 / 86_400.0;
/// At this altitude of the sun observations begin and end, degrees (nautical twilight).
const DUSK_DEG: f64 = -12.0;

/// An observatory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// East, degrees.
    pub(crate) longitude_deg: f64,
    /// North, degrees.
    pub(crate) latitude_deg: f64,
}

/// Where the moon is, and how much of it is lit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moon {
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    /// 0 to 1.
    pub(crate) illumination: f64,
}

/// An angle as -180 to 180 degrees.
fn around_zero(degrees: f64) -> f64 {
    degrees - 360.0 * (degrees / 360.0 + 0.5).floor()
}

/// Right ascension and declination of the sun, degrees.
pub(crate) fn sun(mjd: f64) -> (f64, f64) {
    let [x, y, z] = orbit::earth(mjd)[0];
    (positive_degrees(libm::atan2(-y, -x)), libm::atan2(-z, (x * x + y * y).sqrt()).to_degrees())
}

/// The moon at a time.
pub(crate) fn moon(mjd: f64) -> Moon {
    let t = (mjd - 51_544.5) / 36_525.0;
    let sin = |degrees: f64| libm::sin((degrees - 360.0 * (degrees / 360.0).floor()).to_radians());
    let longitude = 218.32 + 481_267.881 * t + 6.29 * sin(135.0 + 477_198.87 * t) - 1.27 * sin(259.3 - 413_335.36 * t)
        + 0.66 * sin(235.7 + 890_534.22 * t)
        + 0.21 * sin(269.9 + 954_397.74 * t)
        - 0.19 * sin(357.5 + 35_999.05 * t)
        - 0.11 * sin(186.5 + 966_404.03 * t);
    // The Almanac's equinox is that of date; precession is 1.397 degrees a century.
    let longitude = longitude - 1.397 * t;
    let latitude = 5.13 * sin(93.3 + 483_202.02 * t) + 0.28 * sin(228.2 + 960_400.89 * t)
        - 0.28 * sin(318.3 + 6_003.15 * t)
        - 0.17 * sin(217.6 - 407_332.21 * t);
    let ((sl, cl), (sb, cb)) = (libm::sincos(longitude.to_radians()), libm::sincos(latitude.to_radians()));
    let (se, ce) = libm::sincos(23.439_291_1f64.to_radians());
    let (x, y, z) = (cb * cl, cb * sl * ce - sb * se, cb * sl * se + sb * ce);
    let (ra_deg, dec_deg) = (positive_degrees(libm::atan2(y, x)), libm::asin(z.clamp(-1.0, 1.0)).to_degrees());
    let (sun_ra, sun_dec) = sun(mjd);
    let illumination = 0.5 * (1.0 - libm::cos(separation_deg(ra_deg, dec_deg, sun_ra, sun_dec).to_radians()));
    Moon { ra_deg, dec_deg, illumination }
}

/// The angle between two places, degrees.
pub(crate) fn separation_deg(ra1: f64, dec1: f64, ra2: f64, dec2: f64) -> f64 {
    // The haversine formula, good for small angles too.
    let (dec, ra) = (libm::sin((dec2 - dec1).to_radians() / 2.0), libm::sin((ra2 - ra1).to_radians() / 2.0));
    let h = dec * dec + libm::cos(dec1.to_radians()) * libm::cos(dec2.to_radians()) * ra * ra;
    2.0 * libm::asin(h.sqrt().min(1.0)).to_degrees()
}

impl Site {
    /// The right ascension that culminates, degrees.
    pub(crate) fn sidereal_deg(&self, mjd_utc: f64) -> f64 {
        let days = mjd_utc - 51_544.5;
        let turns = 0.779_057_273_264 + 0.002_737_811_911_354_48 * days + (days - days.floor());
        let degrees = 360.0 * (turns - turns.floor()) + self.longitude_deg;
        degrees - 360.0 * (degrees / 360.0).floor()
    }

    /// How high a place stands, degrees.
    pub(crate) fn altitude_deg(&self, ra_deg: f64, dec_deg: f64, mjd_utc: f64) -> f64 {
        let hour = (self.sidereal_deg(mjd_utc) - ra_deg).to_radians();
        let ((sp, cp), (sd, cd)) = (libm::sincos(self.latitude_deg.to_radians()), libm::sincos(dec_deg.to_radians()));
        libm::asin((sp * sd + cp * cd * libm::cos(hour)).clamp(-1.0, 1.0)).to_degrees()
    }

    /// From dusk to dawn of the night that begins on the local date `night_mjd`: MJD, UTC.
    pub(crate) fn night(&self, night_mjd: i32) -> (f64, f64) {
        let midnight = f64::from(night_mjd) + 1.0 - self.longitude_deg / 360.0;
        let (sp, cp) = libm::sincos(self.latitude_deg.to_radians());
        let crossing = |guess: f64, side: f64| {
            let mut mjd = guess;
            for _ in 0..4 {
                let (ra, dec) = sun(mjd);
                let (sd, cd) = libm::sincos(dec.to_radians());
                let target = libm::acos(((libm::sin(DUSK_DEG.to_radians()) - sp * sd) / (cp * cd)).clamp(-1.0, 1.0)).to_degrees();
                let hour = around_zero(self.sidereal_deg(mjd) - ra);
                mjd += around_zero(side * target - hour) / 360.985_6;
            }
            mjd
        };
        (crossing(midnight - 0.23, 1.0), crossing(midnight + 0.23, -1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::instrument::Instrument;
    use super::*;
    use crate::simulator::seen::Telescope;

    #[test]
    fn nights_begin_and_end_as_almanacs_have_it() {
        // Palomar, 2026-11-22: nautical dusk about 17:39 and dawn about 05:33 PST, to some minutes.
        let palomar = Instrument::of(Telescope::Ztf).site;
        let (dusk, dawn) = palomar.night(61_366);
        assert!((dusk - 61_367.0 - (1.0 + 39.0 / 60.0) / 24.0).abs() < 0.006, "{dusk}");
        assert!((dawn - 61_367.0 - (13.0 + 33.0 / 60.0) / 24.0).abs() < 0.006, "{dawn}");
        // Cerro Pachon, the same date: southern spring, shorter.
        let pachon = Instrument::of(Telescope::Lsst).site;
        let (dusk, dawn) = pachon.night(61_366);
        assert!((7.0..8.6).contains(&((dawn - dusk) * 24.0)), "{dusk} {dawn}");
        for site in [palomar, pachon] {
            for night in (61_041..61_406).step_by(7) {
                let (dusk, dawn) = site.night(night);
                for (mjd, name) in [(dusk, "dusk"), (dawn, "dawn")] {
                    let (ra, dec) = sun(mjd);
                    assert!((site.altitude_deg(ra, dec, mjd) + 12.0).abs() < 0.01, "{name} of {night}");
                }
                let midnight = f64::from(night) + 1.0 - site.longitude_deg / 360.0;
                assert!(dusk < midnight && midnight < dawn && dawn - dusk < 0.6);
            }
        }
    }

    #[test]
    fn the_moon_is_new_at_an_eclipse_of_the_sun_and_full_at_one_of_the_moon() {
        // 2026-08-12 17:46 UTC, and 2026-03-03 11:34 UTC.
        let eclipse = moon(61_264.740);
        let (ra, dec) = sun(61_264.740);
        assert!(separation_deg(eclipse.ra_deg, eclipse.dec_deg, ra, dec) < 1.5 && eclipse.illumination < 0.001);
        assert!(moon(61_102.482).illumination > 0.999);
    }

    #[test]
    fn separations_are_those_of_the_sphere() {
        assert!((separation_deg(10.0, 0.0, 350.0, 0.0) - 20.0).abs() < 1e-9);
        assert!((separation_deg(0.0, 89.0, 180.0, 89.0) - 2.0).abs() < 1e-9);
        assert!((separation_deg(5.0, 60.0, 5.0 + 2.0 / 3600.0, 60.0) * 3600.0 - 1.0).abs() < 1e-6);
    }
}
