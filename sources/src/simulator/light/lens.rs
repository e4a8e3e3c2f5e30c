//! Microlensing of a star by a single point mass: Paczynski 1986, ApJ 304, 1, eqs. 1 and 2:
//! A = (u^2 + 2) / (u sqrt(u^2 + 4)), u^2 = u0^2 + ((t - t0) / tE)^2.

use super::njy;
use crate::simulator::seen::Band;

/// A lensed star.
#[derive(Clone, Debug)]
pub(crate) struct Lens {
    /// Magnitudes without a lens in u g r i z y.
    pub(crate) means: [f64; 6],
    pub(crate) peak_mjd: f64,
    /// The time of crossing Einstein's radius.
    pub(crate) einstein_days: f64,
    /// The least distance, of Einstein's radius.
    pub(crate) impact: f64,
}

impl Lens {
    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        let since = (mjd - self.peak_mjd) / self.einstein_days;
        let u2 = self.impact * self.impact + since * since;
        njy(self.means[band as usize]) * (u2 + 2.0) / (u2 * (u2 + 4.0)).sqrt()
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![("peak_mjd", self.peak_mjd), ("einstein_days", self.einstein_days), ("impact", self.impact), ("mean_r_mag", self.means[2])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnifies_as_paczynski_says() {
        let lens = Lens { means: [18.0; 6], peak_mjd: 61_000.0, einstein_days: 20.0, impact: 0.1 };
        let magnified = |days: f64| lens.flux(61_000.0 + days, Band::R) / njy(18.0);
        // u = 1 gives 3 / sqrt 5.
        let at_one = 20.0 * (1.0f64 - 0.01).sqrt();
        assert!((magnified(at_one) - 3.0 / 5f64.sqrt()).abs() < 1e-12 && (magnified(-at_one) - magnified(at_one)).abs() < 1e-12);
        assert!((magnified(0.0) - 2.01 / (0.1 * 4.01f64.sqrt())).abs() < 1e-9);
        assert!((magnified(1e5) - 1.0).abs() < 1e-9);
    }
}
