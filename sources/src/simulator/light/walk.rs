//! Active galactic nuclei: a damped random walk in magnitudes (Kelly, Bechtold & Siemiginowska 2009, ApJ 698, 895, sec. 2),
//! with the times and amplitudes of MacLeod et al. 2010, ApJ 721, 1014, sec. 4 (amplitude falling with wavelength to the
//! power -0.479, eq. 7).
//!
//! The walk is an Ornstein-Uhlenbeck process, X, of width sigma and damping time tau. So that any time can be asked for
//! alone, it is drawn from the coarse to the fine. At the multiples of 8192 days, many tau apart, X is independent. Between
//! two known values, h before and h after, it is Gaussian (a Markov bridge) with
//! mean (X1 + X2) / (2 cosh(h / tau)) and variance sigma^2 tanh(h / tau),
//! halving down to 90 minutes, between which it runs straight. Each draw is hashed from the object and its place.

use std::sync::OnceLock;

use super::{WAVELENGTHS_NM, njy};
use crate::simulator::dice::Dice;
use crate::simulator::seen::Band;

/// Days between independent values.
const COARSE_DAYS: f64 = 8192.0;
/// Halvings down to 1/16 of a day.
const LEVELS: usize = 17;
/// Damping times that are tabulated: 50 days times 2 to the (k / 8), up to 570 days.
pub(crate) const TAUS: usize = 29;

/// A damped random walk.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// Which walk.
    pub(crate) seed: u64,
    /// Which damping time, below [`TAUS`].
    pub(crate) tau: u8,
    /// Its width in g, magnitudes (the structure function at long times is sqrt 2 of it).
    pub(crate) sigma_mag: f64,
    /// Mean magnitudes in u g r i z y.
    pub(crate) means: [f64; 6],
}

/// The damping time of an index, days.
pub(crate) fn tau_days(tau: u8) -> f64 {
    50.0 * libm::exp2(f64::from(tau) / 8.0)
}

/// Of each damping time and level: what multiplies the sum of the neighbours, and the width of the new draw.
fn bridges() -> &'static [[(f64, f64); LEVELS]; TAUS] {
    static BRIDGES: OnceLock<[[(f64, f64); LEVELS]; TAUS]> = OnceLock::new();
    BRIDGES.get_or_init(|| {
        std::array::from_fn(|tau| {
            std::array::from_fn(|level| {
                let h = COARSE_DAYS / libm::exp2(level as f64 + 1.0) / tau_days(tau as u8);
                (0.5 / libm::cosh(h), libm::tanh(h).sqrt())
            })
        })
    })
}

/// How much it varies in each band, of g.
fn strengths() -> &'static [f64; 6] {
    static STRENGTHS: OnceLock<[f64; 6]> = OnceLock::new();
    STRENGTHS.get_or_init(|| WAVELENGTHS_NM.map(|wavelength| libm::pow(wavelength / WAVELENGTHS_NM[1], -0.479)))
}

impl Walk {
    /// The walk at `mjd`, in units of its width.
    fn at(&self, mjd: f64) -> f64 {
        let draw = |level: u64, place: i64| Dice::new(&[self.seed, level, place as u64]).gauss();
        let place = mjd / COARSE_DAYS;
        let knot = place.floor();
        let mut rest = place - knot;
        let mut at = knot as i64;
        let (mut before, mut after) = (draw(0, at), draw(0, at + 1));
        for (level, (weight, width)) in bridges()[usize::from(self.tau)].iter().enumerate() {
            let middle = (before + after) * weight + width * draw(level as u64 + 1, at);
            rest *= 2.0;
            at *= 2;
            if rest < 1.0 {
                after = middle;
            } else {
                before = middle;
                rest -= 1.0;
                at += 1;
            }
        }
        before + (after - before) * rest
    }

    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        njy(self.means[band as usize] + self.sigma_mag * strengths()[band as usize] * self.at(mjd))
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![("damping_days", tau_days(self.tau)), ("sigma_g_mag", self.sigma_mag), ("mean_r_mag", self.means[2])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(seed: u64, tau: u8) -> Walk {
        Walk { seed, tau, sigma_mag: 0.2, means: [19.0; 6] }
    }

    #[test]
    fn has_the_width_and_correlation_of_a_damped_random_walk() {
        for tau in [0u8, 8, 16, 28] {
            let days = tau_days(tau);
            for lag in [0.05 * days, 0.5 * days, 2.0 * days] {
                // Many walks at a time of no special place in the halvings.
                let pairs: Vec<(f64, f64)> = (0..6000)
                    .map(|seed| {
                        let (walk, mjd) = (walk(seed, tau), 60_000.0 + seed as f64 * 1.37);
                        (walk.at(mjd), walk.at(mjd + lag))
                    })
                    .collect();
                let n = pairs.len() as f64;
                let variance = pairs.iter().map(|(a, _)| a * a).sum::<f64>() / n;
                let correlation = pairs.iter().map(|(a, b)| a * b).sum::<f64>() / n;
                assert!((variance - 1.0).abs() < 0.08, "tau {days}: variance {variance}");
                let expected = (-lag / days).exp();
                assert!((correlation - expected).abs() < 0.07, "tau {days}, lag {lag}: {correlation} for {expected}");
            }
        }
    }

    #[test]
    fn has_no_jumps() {
        let walk = walk(3, 8);
        // Also over the coarse knots.
        let times = [57_344.0, 65_536.0, 61_440.0, 61_003.1];
        assert!(times.iter().all(|mjd| (walk.at(mjd - 1e-6) - walk.at(mjd + 1e-6)).abs() < 1e-3));
    }
}
