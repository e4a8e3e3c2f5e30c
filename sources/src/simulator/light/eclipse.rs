//! Eclipsing binaries: two Gaussian dips and an ellipsoidal cosine, in magnitudes: the two-Gaussian model of Mowlavi et
//! al. 2017, A&A 606, A92, eq. 1:
//! m(p) = C + d1 exp(-(p - p1)^2 / 2 s1^2) + d2 exp(-(p - p2)^2 / 2 s2^2) + A cos(4 pi (p - p1)),
//! with the dips half a turn apart (circular orbits). Contact binaries are mostly the cosine, detached ones the dips.

use super::njy;
use crate::simulator::seen::Band;

/// An eclipsing binary.
#[derive(Clone, Debug)]
pub(crate) struct Eclipses {
    pub(crate) period_days: f64,
    /// A time of the middle of the deeper eclipse, MJD.
    pub(crate) epoch_mjd: f64,
    /// Magnitudes out of eclipse in u g r i z y.
    pub(crate) means: [f64; 6],
    /// Depths of the two eclipses, magnitudes.
    pub(crate) depths: [f64; 2],
    /// Half width (one sigma) of the eclipses, turns.
    pub(crate) width: f64,
    /// Half of the range of the ellipsoidal variation, magnitudes.
    pub(crate) ellipsoidal: f64,
}

impl Eclipses {
    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        let phase = (mjd - self.epoch_mjd) / self.period_days;
        let phase = phase - phase.floor();
        let dip = |depth: f64, from: f64| {
            let x = from / self.width;
            if x.abs() > 6.0 { 0.0 } else { depth * libm::exp(-0.5 * x * x) }
        };
        let first = dip(self.depths[0], if phase > 0.5 { phase - 1.0 } else { phase });
        let second = dip(self.depths[1], phase - 0.5);
        let ellipsoidal = self.ellipsoidal * libm::cos(2.0 * std::f64::consts::TAU * phase);
        njy(self.means[band as usize] + first + second + ellipsoidal)
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("period_days", self.period_days),
            ("eclipse_mjd", self.epoch_mjd),
            ("mean_r_mag", self.means[2]),
            ("depth_1_mag", self.depths[0]),
            ("depth_2_mag", self.depths[1]),
            ("ellipsoidal_mag", self.ellipsoidal),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::magnitude;
    use super::*;

    #[test]
    fn is_deepest_at_its_epoch_and_half_a_turn_later_second() {
        let star = Eclipses { period_days: 2.5, epoch_mjd: 61_000.0, means: [16.0; 6], depths: [0.8, 0.3], width: 0.02, ellipsoidal: 0.0 };
        let mag = |turns: f64| magnitude(star.flux(61_000.0 + 2.5 * turns, Band::R));
        assert!((mag(0.0) - 16.8).abs() < 1e-9 && (mag(7.5) - 16.3).abs() < 1e-9 && (mag(0.25) - 16.0).abs() < 1e-9);
        assert!((mag(-3.02) - (16.0 + 0.8 * (-0.5f64).exp())).abs() < 1e-6);
    }

    #[test]
    fn a_contact_binary_has_two_humps_a_period() {
        let star = Eclipses { period_days: 0.3, epoch_mjd: 0.0, means: [16.0; 6], depths: [0.1, 0.1], width: 0.05, ellipsoidal: 0.2 };
        let mag = |turns: f64| magnitude(star.flux(0.3 * turns, Band::G));
        assert!((mag(0.25) - 15.8).abs() < 1e-4 && (mag(0.75) - 15.8).abs() < 1e-4 && (mag(1.0) - 16.3).abs() < 1e-4);
    }
}
