//! The asteroids: each an orbit and a size, as a function of the seed and its number.
//!
//! Nineteen of twenty are of the main belt (semi-major axes 2.1 to 3.3 au without the widest Kirkwood gaps; eccentricities and
//! inclinations by Rayleigh's law, DeMeo & Carry 2013, Icarus 226, 723), one comes near the Earth. Their numbers grow with
//! absolute magnitude as 10 to the 0.4 H. Brightness by H and G (Bowell et al. 1989, Asteroids II, 524, eq. A4).

use super::orbit::{Apparent, Path, State, length};
use super::population::Sky;
use crate::simulator::dice::Dice;
use crate::simulator::seen::Orbit;

/// Dice of an asteroid.
const ASTEROID: u64 = 0x51;
/// Asteroids below this number are bright enough for a survey to magnitude 20.5; those beyond are fainter.
pub(crate) const BRIGHT: u32 = 50_000;

/// An asteroid.
#[derive(Clone, Debug)]
pub(crate) struct Asteroid {
    /// From 0.
    pub(crate) index: u32,
    pub(crate) orbit: Orbit,
    pub(crate) path: Path,
}

impl Asteroid {
    /// Asteroid `index` of the sky.
    pub(crate) fn new(sky: &Sky, index: u32) -> Self {
        let mut dice = Dice::new(&[sky.seed, ASTEROID, u64::from(index)]);
        let rayleigh = |scale: f64, dice: &mut Dice| scale * (-2.0 * libm::log(dice.within(1e-4, 1.0))).sqrt();
        let (perihelion_au, eccentricity) = if dice.below(20) == 0 {
            (dice.within(0.9, 1.3), dice.within(0.2, 0.6))
        } else {
            let a = loop {
                let a = dice.within(2.1, 3.3);
                if [2.5, 2.82, 2.96].iter().all(|gap: &f64| (a - gap).abs() > 0.02) {
                    break a;
                }
            };
            let e = rayleigh(0.1, &mut dice).min(0.35);
            (a * (1.0 - e), e)
        };
        let (low, high): (f64, f64) = if index < BRIGHT { (9.0, 17.5) } else { (17.5, 21.5) };
        let least = libm::exp10(0.4 * (low - high));
        let a = perihelion_au / (1.0 - eccentricity);
        let orbit = Orbit {
            perihelion_au,
            eccentricity,
            inclination_deg: rayleigh(6.5, &mut dice).min(35.0),
            node_deg: dice.within(0.0, 360.0),
            perihelion_deg: dice.within(0.0, 360.0),
            perihelion_mjd: 61_000.0 - 365.25 * a * a.sqrt() * dice.within(0.0, 1.0),
            epoch_mjd: 61_000.0,
            absolute_mag: high + libm::log10(dice.within(least, 1.0)) / 0.4,
            slope: 0.15,
        };
        let path = Path::new(&orbit);
        Self { index, orbit, path }
    }

    /// Its magnitude in V as seen so.
    pub(crate) fn magnitude_v(&self, seen: &Apparent) -> f64 {
        let tan = libm::tan(seen.phase_deg.to_radians() / 2.0);
        let (first, second) = (libm::exp(-3.33 * libm::pow(tan, 0.63)), libm::exp(-1.87 * libm::pow(tan, 1.22)));
        let phase = (1.0 - self.orbit.slope) * first + self.orbit.slope * second;
        let ranges = length(&seen.heliocentric[0]) * length(&seen.topocentric[0]);
        self.orbit.absolute_mag + 5.0 * libm::log10(ranges) - 2.5 * libm::log10(phase.max(1e-6))
    }

    /// What is seen of it from the Earth, of which the state is given.
    pub(crate) fn seen_from(&self, earth: &State, mjd: f64) -> Apparent {
        self.path.seen_from(earth, mjd)
    }

    /// Magnitudes in u g r i z y of one that has `v`: the sun's colours and a little redder.
    pub(crate) fn magnitudes(v: f64) -> [f64; 6] {
        [1.75, 0.27, -0.20, -0.37, -0.40, -0.40].map(|colour| v + colour)
    }

    /// A provisional designation: year, half-month, letter and number.
    pub(crate) fn designation(&self) -> String {
        const HALVES: &[u8] = b"ABCDEFGHJKLMNOPQRSTUVWXY";
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNOPQRSTUVWXYZ";
        let index = self.index as usize;
        let (second, rest) = (LETTERS[index % 25], index / 25);
        let (first, rest) = (HALVES[rest % 24], rest / 24);
        let (year, cycle) = (1995 + rest % 31, rest / 31);
        let cycle = if cycle == 0 { String::new() } else { cycle.to_string() };
        format!("{year} {}{}{cycle}", char::from(first), char::from(second))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::orbit::{earth, ecliptic};
    use super::*;

    #[test]
    fn they_crowd_to_the_ecliptic_move_and_can_be_seen() {
        let sky = Sky::new(3, 1000, 0);
        let mjd = 61_366.3;
        let home = earth(mjd);
        let (mut near, mut bright, mut rates, mut names) = (0, 0, Vec::new(), BTreeSet::new());
        for index in 0..2000 {
            let asteroid = Asteroid::new(&sky, index);
            let seen = asteroid.seen_from(&home, mjd);
            near += u32::from(ecliptic(seen.ra_deg, seen.dec_deg)[1].abs() < 20.0);
            bright += u32::from(asteroid.magnitude_v(&seen) < 20.5);
            assert!(names.insert(asteroid.designation()));
            if seen.elongation_deg > 160.0 && asteroid.orbit.perihelion_au > 1.5 {
                rates.push(seen.rate_ra_deg_day);
            }
        }
        assert!(near > 1800 && bright > 300, "{near} near, {bright} bright");
        // At opposition the belt goes back by a quarter of a degree a day.
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((-0.30..-0.15).contains(&mean), "{mean}");
    }
}
