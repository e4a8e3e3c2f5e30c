//! What shines once: supernovae, kilonovae, tidal disruptions, lensed stars; drawn by tile and span of 128 days.
//!
//! Redshifts fill the volume (the distance cubed) to where the class's usual peak is about as faint as the layer goes.
//! Distances follow Hubble's law to the second order (Visser 2004, CQG 21, 2603, eq. 37; 70 km/s/Mpc, q0 = -0.55). Hosts are
//! galaxies around -20.5 mag, 4 kpc to half of their light; supernovae lie within by an exponential disc, kilonovae farther
//! out (Fong & Berger 2013, ApJ 776, 18), disruptions in the middle.

use super::object::{Galaxy, Object, TRANSIENT_KIND, place};
use super::population::{Layer, Sky};
use crate::simulator::dice::Dice;
use crate::simulator::light::disruption::{Disruption, black_body};
use crate::simulator::light::explosion::{Draws, Explosion, Kind};
use crate::simulator::light::lens::Lens;
use crate::simulator::light::{Light, coloured};
use crate::simulator::seen::Class;

/// Dice of a transient.
const TRANSIENT: u64 = 0x41;
/// Dice of the number of transients.
const COUNT: u64 = 0x42;

/// Days of a span.
pub(crate) const SPAN_DAYS: f64 = 128.0;
/// A transient shines at most so long before and after the time that its span counts.
pub(crate) const BEFORE_DAYS: f64 = 240.0;
pub(crate) const AFTER_DAYS: f64 = 600.0;
/// At most so many in a tile and span: what its numbers have room for.
const TILE_SPAN: usize = 127;
/// Span 0 begins here: 2000-01-01.
const FIRST_MJD: f64 = 51_544.0;

/// The spans of which something may shine at `mjd`.
pub(crate) fn spans(mjd: f64) -> std::ops::RangeInclusive<i64> {
    let span = |mjd: f64| ((mjd - FIRST_MJD) / SPAN_DAYS).floor() as i64;
    span(mjd - AFTER_DAYS)..=span(mjd + BEFORE_DAYS)
}

/// The transients of a tile and span, in an order of their own.
pub(crate) fn transients(sky: &Sky, tile: u32, span: i64, faint: bool) -> Vec<Object> {
    let mut dice = Dice::new(&[sky.seed, COUNT, u64::from(tile), span as u64]);
    let mut all = Vec::new();
    for layer in [Layer::Bright, Layer::Faint].into_iter().take(if faint { 2 } else { 1 }) {
        for (class, expected) in sky.expected(tile, SPAN_DAYS, layer) {
            for _ in 0..dice.count(expected) {
                if all.len() < TILE_SPAN {
                    all.push(transient(sky, tile, span, all.len() as u64, (class, layer)));
                }
            }
        }
    }
    all
}

fn transient(sky: &Sky, tile: u32, span: i64, rank: u64, (class, layer): (Class, Layer)) -> Object {
    let mut dice = Dice::new(&[sky.seed, TRANSIENT, u64::from(tile), span as u64, rank]);
    let dice = &mut dice;
    let (ra_deg, dec_deg) = place(&sky.tiles.tile(tile), dice);
    let mjd = FIRST_MJD + SPAN_DAYS * (span as f64 + dice.within(0.0, 1.0));
    // 512 spans are 179 years.
    let number = ((span.rem_euclid(512) as u64 * u64::from(sky.tiles.tiles()) + u64::from(tile)) * 128 + rank) << 2 | TRANSIENT_KIND;
    let (light, host) = if class == Class::Microlensing {
        (Light::Lens(lens(layer, mjd, dice)), None)
    } else {
        let redshift = redshift(class, layer, dice);
        let light = match class {
            Class::TidalDisruption => Light::Disruption(disruption(redshift, mjd, dice)),
            class => Light::Explosion(explosion(class, redshift, mjd, dice)),
        };
        (light, Some(host(class, redshift, dice)))
    };
    Object { number, class, ra_deg, dec_deg, light, host }
}

/// Distance modulus, magnitudes, of the luminosity distance.
pub(crate) fn distance_modulus(z: f64) -> f64 {
    5.0 * libm::log10(luminosity_distance_mpc(z)) + 25.0
}

fn luminosity_distance_mpc(z: f64) -> f64 {
    299_792.458 / 70.0 * (z + 0.775 * z * z)
}

fn redshift(class: Class, layer: Layer, dice: &mut Dice) -> f64 {
    let (near, far) = match class {
        Class::SupernovaIa => (0.12, 0.9),
        Class::SupernovaIbc => (0.05, 0.4),
        Class::SupernovaII => (0.05, 0.35),
        Class::Kilonova => (0.02, 0.12),
        _ => (0.12, 0.8),
    };
    let (low, high): (f64, f64) = if layer == Layer::Bright { (0.0, near) } else { (near, far) };
    libm::cbrt(dice.within((low * low * low).max(1e-9), high * high * high))
}

fn explosion(class: Class, redshift: f64, reference_mjd: f64, dice: &mut Dice) -> Explosion {
    let (kind, absolute, scatter, rise_days) = match class {
        Class::SupernovaIa => (Kind::Ia, -19.2, 0.15, 3.5),
        Class::SupernovaIbc => (Kind::Ibc, -17.4, 0.6, 3.5),
        Class::SupernovaII => (Kind::II, -17.0, 0.8, 2.0),
        _ => (Kind::Kilonova, -15.8, 0.5, 0.5),
    };
    let shift = dice.gauss();
    // A brighter Ia is a slower one (Phillips 1993).
    let stretch = if kind == Kind::Ia { 1.0 - 0.08 * shift } else { libm::exp(0.15 * dice.gauss()) };
    let peak_r = absolute + scatter * shift + distance_modulus(redshift);
    let plateau_days = dice.within(60.0, 120.0);
    let stretch = stretch.clamp(0.7, 1.4);
    Explosion::new(Draws { kind, redshift, peak_r, reference_mjd, stretch, rise_days, plateau_days })
}

fn disruption(redshift: f64, peak_mjd: f64, dice: &mut Dice) -> Disruption {
    let temperature_k = dice.within(15_000.0, 35_000.0);
    let g = -19.3 + 0.7 * dice.gauss() + distance_modulus(redshift);
    Disruption {
        redshift,
        peak_mjd,
        peaks: black_body(temperature_k, redshift, g),
        rise_days: dice.within(6.0, 16.0) * (1.0 + redshift),
        decline_days: dice.within(25.0, 70.0) * (1.0 + redshift),
        temperature_k,
    }
}

fn lens(layer: Layer, peak_mjd: f64, dice: &mut Dice) -> Lens {
    let r = if layer == Layer::Bright { dice.within(16.0, 19.5) } else { dice.within(19.5, 23.0) };
    let red = dice.within(0.0, 1.0);
    Lens {
        means: coloured(r, [2.0 + red, 0.6 + 0.6 * red, -0.2 - 0.3 * red, -0.3 - 0.4 * red, -0.4 - 0.5 * red]),
        peak_mjd,
        einstein_days: libm::exp(3.0 + 0.5 * dice.gauss()).clamp(3.0, 45.0),
        impact: dice.within(0.02, 0.8),
    }
}

fn host(class: Class, redshift: f64, dice: &mut Dice) -> Galaxy {
    let r = -20.5 + dice.gauss() + distance_modulus(redshift);
    let angular_mpc = luminosity_distance_mpc(redshift) / ((1.0 + redshift) * (1.0 + redshift));
    // kpc over Mpc to arcseconds.
    let arcsec = 206.265 / angular_mpc;
    let half_light = (4.0 * libm::exp(0.4 * dice.gauss()) * arcsec).min(25.0);
    // An exponential disc's scale is its half-light radius over 1.678.
    let spread = match class {
        Class::TidalDisruption => 0.0,
        Class::Kilonova => 1.5,
        _ => 1.0,
    };
    let away = spread * half_light / 1.678 * -libm::log(dice.within(1e-3, 1.0) * dice.within(1e-3, 1.0)) * 0.8;
    let away = away.min(28.0);
    let angle = dice.within(0.0, std::f64::consts::TAU);
    Galaxy::draw(r, half_light, [away * libm::cos(angle), away * libm::sin(angle)], dice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::light::magnitude;
    use crate::simulator::seen::Band;

    #[test]
    fn distances_are_those_of_the_textbooks() {
        // Flat, 0.3 matter, 70 km/s/Mpc: 38.32 at 0.1, 42.27 at 0.5.
        assert!((distance_modulus(0.1) - 38.32).abs() < 0.03 && (distance_modulus(0.5) - 42.27).abs() < 0.12);
    }

    #[test]
    fn transients_come_at_their_rate_and_a_survey_can_see_them() {
        let sky = Sky::new(7, 1_000_000, 0);
        let all: Vec<Object> = (0..sky.tiles.tiles()).flat_map(|tile| transients(&sky, tile, 73, false)).collect();
        let of = |class: Class| all.iter().filter(move |object| object.class == class);
        let ia = of(Class::SupernovaIa).count();
        // 6,000 a year.
        assert!((1900..2300).contains(&ia), "{ia}");
        let peaks: Vec<f64> = of(Class::SupernovaIa).map(|sn| magnitude(sn.light.flux(sn.light.parameters()[1].1, Band::R))).collect();
        let seen = peaks.iter().filter(|mag| (14.0..20.5).contains(*mag)).count();
        assert!(seen as f64 > 0.9 * peaks.len() as f64, "{seen} of {}", peaks.len());
        let numbers: std::collections::BTreeSet<u64> = all.iter().map(|object| object.number).collect();
        assert_eq!(numbers.len(), all.len());
    }

    #[test]
    fn hosts_are_near_and_nothing_shines_outside_of_its_time() {
        let sky = Sky::new(7, 1_000_000, 0);
        for object in (0..2000).flat_map(|tile| transients(&sky, tile, 73, false)) {
            if let Some(host) = object.host {
                let [east, north] = host.offset_arcsec;
                assert!(east.hypot(north) < 28.001 && host.half_light_arcsec > 0.05);
                assert!(object.class != Class::TidalDisruption || east == 0.0);
            }
            // Whatever shines at a time is of one of its spans.
            let begin = FIRST_MJD + 73.0 * SPAN_DAYS;
            for mjd in [begin - BEFORE_DAYS - 1.0, begin + SPAN_DAYS + AFTER_DAYS + 1.0] {
                let left = object.difference(mjd, Band::R);
                assert!(left < 3000.0, "{:?}: {left} nJy", object.class);
            }
        }
    }
}
