//! Places of the Earth and of bodies on Keplerian orbits around the sun, as vectors in au, equatorial J2000.
//!
//! Two-body motion without perturbations (Danby 1988, Fundamentals of Celestial Mechanics, ch. 6); the Earth by Standish's
//! approximate elements of the Earth-Moon barycentre (JPL, "Keplerian elements for approximate positions of the major
//! planets", table 1), good to an arcminute. What is seen is seen from the Earth's centre, light taking its time.

use crate::simulator::seen::Orbit;

/// The Gaussian gravitational constant, au^1.5 / day.
const GAUSS: f64 = 0.017_202_098_95;
/// Obliquity of the ecliptic at J2000, degrees.
const OBLIQUITY_DEG: f64 = 23.439_291_1;
/// The Earth's mean distance, au.
const EARTH_AU: f64 = 1.000_002_61;
/// Days that light needs for an au.
const LIGHT_DAYS_AU: f64 = 0.005_775_518_3;

/// Place (au) and velocity (au/day).
pub(crate) type State = [[f64; 3]; 2];

/// What an observer sees of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apparent {
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    /// With the cosine of the declination, degrees a day.
    pub(crate) rate_ra_deg_day: f64,
    /// Degrees a day.
    pub(crate) rate_dec_deg_day: f64,
    pub(crate) heliocentric: State,
    pub(crate) topocentric: State,
    pub(crate) phase_deg: f64,
    pub(crate) elongation_deg: f64,
}

/// Elements made ready to be moved along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Of the ellipse's axes, au: towards perihelion and 90 degrees on.
    axes: [[f64; 3]; 2],
    eccentricity: f64,
    /// Radians a day.
    mean_motion: f64,
    perihelion_mjd: f64,
}

impl Path {
    pub(crate) fn new(orbit: &Orbit) -> Self {
        let a = orbit.perihelion_au / (1.0 - orbit.eccentricity);
        let b = a * (1.0 - orbit.eccentricity * orbit.eccentricity).sqrt();
        let turn = |degrees: f64| libm::sincos(degrees.to_radians());
        let ((si, ci), (sn, cn), (sp, cp)) = (turn(orbit.inclination_deg), turn(orbit.node_deg), turn(orbit.perihelion_deg));
        let p = [cn * cp - sn * sp * ci, sn * cp + cn * sp * ci, sp * si];
        let q = [-cn * sp - sn * cp * ci, -sn * sp + cn * cp * ci, cp * si];
        Self {
            axes: [equatorial(p).map(|x| x * a), equatorial(q).map(|x| x * b)],
            eccentricity: orbit.eccentricity,
            mean_motion: GAUSS / (a * a.sqrt()),
            perihelion_mjd: orbit.perihelion_mjd,
        }
    }

    /// Heliocentric place and velocity.
    pub(crate) fn state(&self, mjd: f64) -> State {
        let e = self.eccentricity;
        let anomaly = eccentric_anomaly(self.mean_motion * (mjd - self.perihelion_mjd), e);
        let (sin, cos) = libm::sincos(anomaly);
        let speed = self.mean_motion / (1.0 - e * cos);
        let [p, q] = &self.axes;
        [std::array::from_fn(|k| p[k] * (cos - e) + q[k] * sin), std::array::from_fn(|k| speed * (q[k] * cos - p[k] * sin))]
    }

    /// What is seen of it from the Earth, of which the state is given.
    pub(crate) fn seen_from(&self, earth: &State, mjd: f64) -> Apparent {
        let first = self.state(mjd);
        let away = length(&minus(&first[0], &earth[0]));
        let heliocentric = self.state(mjd - away * LIGHT_DAYS_AU);
        let topocentric = [minus(&heliocentric[0], &earth[0]), minus(&heliocentric[1], &earth[1])];
        let ([x, y, z], [vx, vy, vz]) = (topocentric[0], topocentric[1]);
        let (range, flat) = (length(&topocentric[0]), (x * x + y * y).sqrt());
        let to_sun = earth[0].map(|x| -x);
        let rate_dec = (vz * flat - z * (x * vx + y * vy) / flat) / (range * range);
        Apparent {
            ra_deg: positive_degrees(libm::atan2(y, x)),
            dec_deg: libm::atan2(z, flat).to_degrees(),
            rate_ra_deg_day: ((x * vy - y * vx) / (flat * range)).to_degrees(),
            rate_dec_deg_day: rate_dec.to_degrees(),
            heliocentric,
            topocentric,
            phase_deg: angle_deg(&heliocentric[0], &topocentric[0]),
            elongation_deg: angle_deg(&to_sun, &topocentric[0]),
        }
    }
}

/// The Earth's heliocentric place and velocity.
pub(crate) fn earth(mjd: f64) -> State {
    let centuries = (mjd - 51_544.5) / 36_525.0;
    let perihelion = 102.937_681_93 + 0.323_273_64 * centuries;
    let longitude = 100.464_571_66 + 35_999.372_449_81 * centuries;
    let path = Path::new(&Orbit {
        perihelion_au: EARTH_AU * (1.0 - 0.016_711_23),
        eccentricity: 0.016_711_23,
        inclination_deg: 0.0,
        node_deg: 0.0,
        perihelion_deg: perihelion,
        // The mean anomaly now is the mean longitude less that of the perihelion.
        perihelion_mjd: mjd - (longitude - perihelion).to_radians() / (GAUSS / (EARTH_AU * EARTH_AU.sqrt())),
        epoch_mjd: mjd,
        absolute_mag: 0.0,
        slope: 0.0,
    });
    path.state(mjd)
}

/// Solves Kepler's equation, E - e sin E = M.
fn eccentric_anomaly(mean: f64, e: f64) -> f64 {
    let turn = std::f64::consts::TAU;
    let mean = mean - turn * (mean / turn + 0.5).floor();
    // Danby's start; Newton's steps from there always arrive.
    let mut anomaly = mean + 0.85 * e * if mean < 0.0 { -1.0 } else { 1.0 };
    for _ in 0..20 {
        let (sin, cos) = libm::sincos(anomaly);
        let step = (anomaly - e * sin - mean) / (1.0 - e * cos);
        anomaly -= step;
        if step.abs() < 1e-13 {
            break;
        }
    }
    anomaly
}

/// From ecliptic to equatorial axes.
fn equatorial([x, y, z]: [f64; 3]) -> [f64; 3] {
    let (sin, cos) = libm::sincos(OBLIQUITY_DEG.to_radians());
    [x, y * cos - z * sin, y * sin + z * cos]
}

/// Ecliptic longitude and latitude (degrees) of a place in equatorial degrees.
pub(crate) fn ecliptic(ra_deg: f64, dec_deg: f64) -> [f64; 2] {
    let (sin, cos) = libm::sincos(OBLIQUITY_DEG.to_radians());
    let ((sr, cr), (sd, cd)) = (libm::sincos(ra_deg.to_radians()), libm::sincos(dec_deg.to_radians()));
    let (x, y, z) = (cd * cr, cd * sr, sd);
    let (y, z) = (y * cos + z * sin, z * cos - y * sin);
    [positive_degrees(libm::atan2(y, x)), libm::asin(z.clamp(-1.0, 1.0)).to_degrees()]
}

/// An angle of radians as degrees from 0 to 360.
pub(crate) fn positive_degrees(radians: f64) -> f64 {
    let degrees = radians.to_degrees();
    if degrees < 0.0 { degrees + 360.0 } else { degrees }
}

fn minus(a: &[f64; 3], b: &[f64; 3]) -> [f64; 3] {
    std::array::from_fn(|k| a[k] - b[k])
}

pub(crate) fn length(a: &[f64; 3]) -> f64 {
    (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]).sqrt()
}

fn angle_deg(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    libm::acos((dot / (length(a) * length(b))).clamp(-1.0, 1.0)).to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An orbit like that of Ceres.
    fn ceres() -> Orbit {
        let (a, e): (f64, f64) = (2.7670, 0.078_91);
        Orbit {
            perihelion_au: a * (1.0 - e),
            eccentricity: e,
            inclination_deg: 10.587,
            node_deg: 80.255,
            perihelion_deg: 73.429,
            perihelion_mjd: 59_919.5,
            epoch_mjd: 60_200.0,
            absolute_mag: 3.34,
            slope: 0.12,
        }
    }

    #[test]
    fn the_earth_is_where_the_almanac_has_it() {
        // At the March equinox of 2026 (20 March 14:46 UTC) the sun is at 0 h, seen from here.
        let [place, velocity] = earth(61_119.6153);
        let ra = libm::atan2(-place[1], -place[0]).to_degrees();
        // Precession since J2000 turned the equinox by 0.33 degrees.
        assert!((ra + 0.336).abs() < 0.02, "{ra}");
        assert!((length(&place) - 0.9960).abs() < 0.0005 && (length(&velocity) - 0.01728).abs() < 0.0001);
        // Perihelion in the first days of January.
        let nearest = (0..3650).map(|step| 61_041.0 + f64::from(step) * 0.1);
        let nearest = nearest.min_by(|a, b| length(&earth(*a)[0]).total_cmp(&length(&earth(*b)[0]))).unwrap();
        assert!((61_042.0..61_047.0).contains(&nearest), "{nearest}");
    }

    #[test]
    fn an_orbit_keeps_its_energy_and_returns_after_its_period() {
        let path = Path::new(&ceres());
        let period = std::f64::consts::TAU * 2.7670f64.powf(1.5) / GAUSS;
        let energy = |mjd| {
            let [place, velocity] = path.state(mjd);
            length(&velocity).powi(2) / 2.0 - GAUSS * GAUSS / length(&place)
        };
        for step in 0..50 {
            let mjd = 60_000.0 + 37.0 * f64::from(step);
            assert!((energy(mjd) / energy(60_000.0) - 1.0).abs() < 1e-9);
            let (now, later) = (path.state(mjd)[0], path.state(mjd + period)[0]);
            assert!(length(&minus(&now, &later)) < 1e-8);
        }
        let far = length(&path.state(59_919.5)[0]);
        assert!((far - 2.7670 * (1.0 - 0.078_91)).abs() < 1e-12);
    }

    #[test]
    fn velocities_and_rates_are_the_slopes_of_the_places() {
        let path = Path::new(&ceres());
        let mjd = 61_366.3;
        let (before, now, after) = (path.state(mjd - 0.01), path.state(mjd), path.state(mjd + 0.01));
        for k in 0..3 {
            assert!(((after[0][k] - before[0][k]) / 0.02 - now[1][k]).abs() < 1e-9);
        }
        let seen = |mjd| path.seen_from(&earth(mjd), mjd);
        let (before, now, after) = (seen(mjd - 0.01), seen(mjd), seen(mjd + 0.01));
        let ra = (after.ra_deg - before.ra_deg) / 0.02 * now.dec_deg.to_radians().cos();
        assert!((ra - now.rate_ra_deg_day).abs() < 1e-3, "{ra} {}", now.rate_ra_deg_day);
        assert!(((after.dec_deg - before.dec_deg) / 0.02 - now.rate_dec_deg_day).abs() < 1e-3);
    }

    #[test]
    fn ecliptic_places_turn_by_the_obliquity() {
        let [longitude, latitude] = ecliptic(90.0, 23.439_291_1);
        assert!((longitude - 90.0).abs() < 1e-9 && latitude.abs() < 1e-9);
        let [_, latitude] = ecliptic(0.0, 90.0);
        assert!((latitude - 66.560_708_9).abs() < 1e-6);
    }
}
