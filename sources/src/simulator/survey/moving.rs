//! The asteroids that a visit sees.

use super::camera::Spot;
use super::instrument::Instrument;
use super::measure::{Exposed, Target};
use super::site::{TAI_UTC_DAYS, separation_deg};
use crate::simulator::heavens::Sky;
use crate::simulator::heavens::asteroids::Asteroid;
use crate::simulator::heavens::object::ONCE_KIND;
use crate::simulator::heavens::orbit::{Apparent, earth, ecliptic};
use crate::simulator::light::njy;
use crate::simulator::seen::{Moving, Visit};

/// TT less TAI, days.
const TT_TAI_DAYS: f64 = 32.184 / 86_400.0;

/// Where all asteroids are at a night's middle, roughly.
#[derive(Clone, Debug)]
pub(crate) struct Ephemeris {
    mjd_tai: f64,
    asteroids: Vec<Rough>,
}

#[derive(Clone, Copy, Debug)]
struct Rough {
    index: u32,
    ra_deg: f32,
    dec_deg: f32,
    /// Degrees a day, on the sky.
    speed: f32,
    magnitude: f32,
}

impl Ephemeris {
    /// Of as many asteroids, at a night's middle.
    pub(crate) fn new(sky: &Sky, count: u32, mjd_utc: f64) -> Self {
        let mjd_tai = mjd_utc + TAI_UTC_DAYS;
        let home = earth(mjd_tai + TT_TAI_DAYS);
        let rough = |index| {
            let asteroid = Asteroid::new(sky, index);
            let seen = asteroid.seen_from(&home, mjd_tai + TT_TAI_DAYS);
            let speed = (seen.rate_ra_deg_day * seen.rate_ra_deg_day + seen.rate_dec_deg_day * seen.rate_dec_deg_day).sqrt();
            Rough {
                index,
                ra_deg: seen.ra_deg as f32,
                dec_deg: seen.dec_deg as f32,
                speed: speed as f32,
                magnitude: asteroid.magnitude_v(&seen) as f32,
            }
        };
        Self { mjd_tai, asteroids: (0..count).map(rough).collect() }
    }
}

/// An asteroid before the camera.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    pub(crate) asteroid: Asteroid,
    pub(crate) seen: Apparent,
    pub(crate) magnitude_v: f64,
    pub(crate) spot: Spot,
    pub(crate) slot: u32,
}

impl Passing {
    /// Its light, which no template has.
    pub(crate) fn target(&self, exposed: &Exposed) -> Target {
        Target {
            // ZTF does not link what moves: each detection is an object of its own.
            number: exposed.alert(self.slot) << 2 | ONCE_KIND,
            ra_deg: self.seen.ra_deg,
            dec_deg: self.seen.dec_deg,
            spot: self.spot,
            difference_njy: njy(Asteroid::magnitudes(self.magnitude_v)[exposed.visit.band as usize]),
            template_njy: 0.0,
        }
    }

    /// How long its trail is, and where it points (from north through east).
    pub(crate) fn trail(&self, visit: &Visit) -> (f64, f64) {
        let (east, north) = (self.seen.rate_ra_deg_day, self.seen.rate_dec_deg_day);
        let length = (east * east + north * north).sqrt() * 3600.0 * visit.exposure_s / 86_400.0;
        let angle = libm::atan2(east, north).to_degrees();
        (length, if angle < 0.0 { angle + 180.0 } else { angle })
    }

    /// What the survey expected, detected at a place as measured.
    pub(crate) fn expected(&self, ra_deg: f64, dec_deg: f64) -> Moving {
        let Apparent { rate_ra_deg_day, rate_dec_deg_day, heliocentric, topocentric, phase_deg, elongation_deg, .. } = self.seen;
        Moving {
            number: self.asteroid.index + 1,
            designation: self.asteroid.designation(),
            orbit: self.asteroid.orbit,
            ra_deg: self.seen.ra_deg,
            dec_deg: self.seen.dec_deg,
            magnitude_v: self.magnitude_v,
            rate_ra_deg_day,
            rate_dec_deg_day,
            offset_arcsec: 3600.0 * separation_deg(self.seen.ra_deg, self.seen.dec_deg, ra_deg, dec_deg),
            ecliptic_deg: ecliptic(self.seen.ra_deg, self.seen.dec_deg),
            elongation_deg,
            phase_deg,
            heliocentric,
            topocentric,
        }
    }
}

/// The asteroids before the camera that may be bright enough, at most so many, each with a slot from `first_slot` on.
pub(crate) fn passing(instrument: &Instrument, sky: &Sky, night: &Ephemeris, visit: &Visit, most: u32, first_slot: u32) -> Vec<Passing> {
    let tt = visit.mjd_tai + TT_TAI_DAYS;
    let days = (visit.mjd_tai - night.mjd_tai).abs();
    let half = f64::from(instrument.detectors) * instrument.pitch_deg * 0.75;
    let cos = libm::cos(visit.dec_deg.to_radians()).max(0.05);
    let home = earth(tt);
    let mut all = Vec::new();
    for rough in &night.asteroids {
        let reach = half + f64::from(rough.speed) * days * 1.5 + 0.05;
        let across = f64::from(rough.ra_deg) - visit.ra_deg;
        let across = (across - 360.0 * (across / 360.0 + 0.5).floor()).abs() * cos;
        let up = (f64::from(rough.dec_deg) - visit.dec_deg).abs();
        if up > reach || across > reach * 1.2 || f64::from(rough.magnitude) > visit.depth_mag + 1.0 {
            continue;
        }
        let asteroid = Asteroid::new(sky, rough.index);
        let seen = asteroid.seen_from(&home, tt);
        let Some(spot) = instrument.spot((visit.ra_deg, visit.dec_deg), seen.ra_deg, seen.dec_deg) else { continue };
        let magnitude_v = asteroid.magnitude_v(&seen);
        all.push(Passing { asteroid, seen, magnitude_v, spot, slot: first_slot + all.len() as u32 });
        if all.len() as u32 == most {
            break;
        }
    }
    all
}
